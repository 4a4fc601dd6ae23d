"""Rejections: a person's explicit decision, with a reason, and with what speaks against it."""

import statistics
from collections.abc import Sequence

from sqlalchemy.orm import Session

from crowd_imi.errors import HarvestError
from crowd_imi.harvester.approvals import WITHOUT_FINISHING
from crowd_imi.harvester.money import submission_to_settle
from crowd_imi.ledger import HeldLease, IntentState, close, lease
from crowd_imi.lifecycle import Payment, PlatformStatus, VisitState, move
from crowd_imi.platforms.base import Capability, Platform
from crowd_imi.store import Store
from crowd_imi.store.money import find_intent
from crowd_imi.store.submissions import verdicts
from crowd_imi.store.tables import Verdict, Visit
from crowd_imi.store.visits import find_visit
from crowd_imi.study import Study

SHORTEST_REASON = 100
"""Characters: a person who isn't paid is owed a reason."""
_PACE = ("total_time", "instruction_time")
_ENOUGH = 10
"""Others without whom nobody can be called exceptionally fast."""


def reject(  # noqa: PLR0913, PLR0917 (whom, and why)
    study: Study, store: Store, platform: Platform, visit_id: str, reason: str, category: str | None = None
) -> None:
    """Refuse one participant's reward: a person's explicit decision, never made by itself.

    Args:
        study: whose.
        store: of the study.
        platform: where it was handed in.
        visit_id: ours.
        reason: what the participant reads.
        category: of Prolific's, as ``TOO_QUICKLY``; None leaves it to the adapter.

    Raises:
        HarvestError: there is no such visit, it is paid or not handed in, the reason is too short to be one, or the platform
            knows no categories.
        PlatformError: the platform said no.
    """
    require_reason(platform, reason)
    message = with_category(platform, reason.strip(), category)
    submission = submission_to_settle(store, visit_id)
    with lease(store, "reject", study.file.pay.cap_money) as held:
        _require_rejectable(store, platform, visit_id, submission)
        platform.reject(submission, message)
        with store.write() as session:
            held.renew(session)
            visit = session.get_one(Visit, visit_id)
            visit.payment, visit.platform_state = Payment.REJECTED.value, PlatformStatus.REJECTED.value
            _leave_out(session, visit, store.now())
        forget_meant(held, visit_id)


def forget_meant(held: HeldLease, subject: str) -> None:
    """Close the approval that a crash left open: the platform took a rejection, so it had never arrived."""
    with held.store.read() as session:
        meant = find_intent(session, "approve", subject)
    if meant is not None and meant.state == IntentState.OPEN:
        close(held, meant.id, IntentState.REFUSED, "rejected by a person")


def require_reason(platform: Platform, reason: str) -> None:
    """Make sure that somebody may be rejected with this reason.

    Raises:
        HarvestError: the platform can't reject, or the reason is too short to be one.
    """
    if Capability.REJECT not in platform.capabilities:
        raise HarvestError(f"{platform.name} can't reject submissions")
    if len(reason.strip()) < SHORTEST_REASON:
        raise HarvestError(
            f"a rejected participant reads the reason, which has {len(reason.strip())} characters; write {SHORTEST_REASON} or "
            "more that say what was asked for and what was done"
        )


def with_category(platform: Platform, reason: str, category: str | None) -> str:
    """The reason as the platform's adapter takes it.

    Raises:
        HarvestError: there are no categories on this platform.
    """
    if category is None:
        return reason
    if platform.name != "prolific":
        raise HarvestError(f"{platform.name} knows no categories of rejections; leave --category out")
    return f"{category}: {reason}"


def unfairness(store: Store, visit_id: str) -> tuple[str, ...]:
    """What speaks against rejecting a visit, a sentence each; Prolific overturns such rejections, and people lose by them.

    Raises:
        HarvestError: there is no such visit.
    """
    with store.read() as session:
        visit = find_visit(session, visit_id)
        if visit is None:
            raise HarvestError(f"{store.url}: there is no visit {visit_id}; `crowd-imi export --format csv` lists them")
        verdict = session.get(Verdict, visit_id)
        others = [each for _, each in verdicts(session, visit.label) if each.visit_id != visit_id]
    if verdict is None:
        return ("no harvest has judged it yet",)
    if verdict.valid or verdict.surplus:
        return ("it passed every criterion",)
    failed = {name for name, check in verdict.checks.items() if check["passed"] is False}
    return tuple(sentence for name in sorted(failed) if (sentence := _excuse(name, verdict, others)) is not None)


def _excuse(name: str, verdict: Verdict, others: Sequence[Verdict]) -> str | None:
    """Why having failed one criterion is no ground for a rejection; None where it may be one."""
    if name == "practice_blocks":
        return "failing the practice is never a ground: nobody is to be punished for not understanding the instructions"
    if name == "catch_trials":
        return "catch trials look like the others, so that failing them isn't clearly a failed attention check"
    if name not in _PACE:
        return None if name == "row_choices" else f"{name.replace('_', ' ')} says nothing of how hard somebody tried"
    measured = [check["measured"] for each in others if (check := each.checks.get(name)) and check["measured"] is not None]
    if len(measured) < _ENOUGH:
        return f"too few others are there to tell whether its {name.replace('_', ' ')} is three standard deviations below theirs"
    bound = statistics.mean(measured) - 3 * statistics.stdev(measured)
    own = verdict.checks[name]["measured"]
    if own <= bound:
        return None
    return (
        f"its {name.replace('_', ' ')} of {own:.0f} s isn't three standard deviations below the others' ({max(0, bound):.0f} s)"
    )


def _leave_out(session: Session, visit: Visit, now: int) -> None:
    """What was rejected counts no more, and its task is offered again."""
    if visit.state == VisitState.VALID:
        move(visit, VisitState.EXCLUDED, now)
        session.get_one(Verdict, visit.id).valid = False


def _require_rejectable(store: Store, platform: Platform, visit_id: str, submission: str) -> None:
    with store.read() as session:
        visit = session.get_one(Visit, visit_id)
    if visit.payment == Payment.PAID:
        raise HarvestError(f"visit {visit_id} is paid, and what is paid can't be taken back")
    if visit.state in {VisitState.SUBMITTED, VisitState.EXCLUDED, VisitState.VALID}:
        return
    if platform.submission(submission).status not in WITHOUT_FINISHING:
        raise HarvestError(f"visit {visit_id} is {visit.state.replace('_', ' ')}: only who handed in can be rejected")
