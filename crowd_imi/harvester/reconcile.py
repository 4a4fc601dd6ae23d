"""First step: what the platform says against what we say, by the table in ``lifecycle``."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from crowd_imi.allocation import release_expired, time_out
from crowd_imi.errors import PlatformError
from crowd_imi.harvester.context import Round
from crowd_imi.harvester.strays import book_found, stray_name, strays_of
from crowd_imi.keys import keyed_hash, study_key
from crowd_imi.ledger import IntentState, PaidCall, give_up, note
from crowd_imi.lifecycle import Action, Payment, PlatformStatus, VisitState, action_for, move
from crowd_imi.platforms.base import Capability
from crowd_imi.stock import JUDGED_FROM
from crowd_imi.store.money import COMPENSATION, find_intent, intents_in
from crowd_imi.store.submissions import NEVER_SHOWN, see_strays, visits_of
from crowd_imi.store.tables import Visit
from crowd_imi.store.transactions import transact
from crowd_imi.store.visits import find_visit

_MOVES = frozenset({Action.RETURN, Action.TIME_OUT})
_ENDED_UNPAID = frozenset(
    {PlatformStatus.REJECTED, PlatformStatus.RETURNED, PlatformStatus.TIMED_OUT, PlatformStatus.SCREENED_OUT}
)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How many visits ended, and how many places were taken back."""

    returned: int
    timed_out: int
    released: int


def reconcile(this: Round) -> Reconciled:
    """Time out who took too long, follow what the platform says, and take back places that nobody uses."""
    minutes, now = this.study.file.pages.visit_minutes, this.store.now()
    expired = transact(this.store, lambda session: release_expired(session, minutes, now))
    with this.store.read() as session:
        visits = visits_of(session, this.posting)
    moved = [_follow(this, visit.id) for visit in visits if _has_news(this, visit)]
    _close_lost_payments(this, visits)
    for visit in visits if this.whole else ():
        if visit.state in JUDGED_FROM and not this.has_shown_up(visit.id) and visit.platform_state != NEVER_SHOWN:
            _give_up_waiting(this, visit.id, now - minutes * 60_000)
    book_found(this)
    left = [visit.id for visit in visits if _action(this, visit) is Action.RELEASE]
    released = sum(_release(this, this.submissions[visit]) for visit in left if visit in this.submissions)
    released += sum(_release(this, stray) for stray in _old_strays(this, _ids(visits)))
    return Reconciled(moved.count(Action.RETURN), len(expired) + moved.count(Action.TIME_OUT), released)


def _action(this: Round, visit: Visit) -> Action:
    return action_for(visit.state, this.status_of(visit.id))


def _has_news(this: Round, visit: Visit) -> bool:
    action = _action(this, visit)
    unnoted = action is Action.NOTE_PAID and visit.payment != Payment.PAID
    return unnoted or action in _MOVES or visit.platform_state != _said(this, visit)


def _said(this: Round, visit: Visit) -> str | None:
    """What the platform says of a visit; of whom it never showed, that, until it does."""
    given_up = visit.platform_state == NEVER_SHOWN and not this.has_shown_up(visit.id)
    return NEVER_SHOWN if given_up else this.status_of(visit.id)


def _follow(this: Round, visit_id: str) -> Action:
    """Bring one visit up to what the platform says, by the state that it has now."""
    status = this.status_of(visit_id)
    with this.store.write() as session:
        visit = find_visit(session, visit_id, lock=True)
        if visit is None:
            return Action.NOTHING
        action = action_for(visit.state, status)
        visit.platform_state = _said(this, visit)
        if action is Action.RETURN:
            move(visit, VisitState.RETURNED, this.store.now())
        elif action is Action.TIME_OUT and not time_out(session, visit, this.store.now()):
            action = Action.PAY
        if status == PlatformStatus.REJECTED and visit.payment == Payment.UNPAID:
            visit.payment = Payment.REJECTED.value  # by a person, here or there
    if action is Action.NOTE_PAID:
        _note_paid(this, visit_id)
    return action


def _note_paid(this: Round, visit_id: str) -> None:
    with this.store.read() as session:
        booked = find_intent(session, "approve", visit_id)
    if booked is None or booked.state != IntentState.DONE:
        paid = this.price_of(this.submissions.get(visit_id))
        note(this.lease, PaidCall("approve", visit_id, paid), "approved on the platform")
    with this.store.write() as session:
        session.get_one(Visit, visit_id).payment = Payment.PAID.value


def _close_lost_payments(this: Round, visits: Sequence[Visit]) -> None:
    """A payment that was cut off never arrived if its submission has ended unpaid: nobody sends it again, and its money is free.

    What is still to be paid is read back when it is sent again.
    """
    with this.store.read() as session:
        left_open = {intent.subject: intent.id for intent in intents_in(session, IntentState.OPEN, "approve")}
        compensated = {subject for subject in left_open if _is_compensated(session, subject)}
    if not left_open:
        return
    key = study_key(this.study.key)
    ended = {stray_name(key, stray): this.statuses[stray] for stray in strays_of(this.statuses, this.submissions, _ids(visits))}
    for visit in visits:
        if _action(this, visit) is not Action.PAY or this.is_stranded(visit.id) or visit.id in compensated:
            ended[visit.id] = str(this.status_of(visit.id))
    lost = {intent: ended[subject] for subject, intent in left_open.items() if ended.get(subject) in _ENDED_UNPAID}
    if lost:
        give_up(this.lease, {intent: f"it never arrived: {status} on the platform" for intent, status in lost.items()})


def _is_compensated(session: Session, visit: str) -> bool:
    compensation = find_intent(session, "bonus", f"{visit}/{COMPENSATION}")
    return compensation is not None and compensation.state == IntentState.DONE


def _ids(visits: Sequence[Visit]) -> set[str]:
    return {visit.id for visit in visits}


def _give_up_waiting(this: Round, visit_id: str, before: int) -> None:
    """Whose submission doesn't show up for as long as a visit may take has, it seems, made it up: the task is free again.

    Should it show up after all, it is late: it gets the task back unless somebody else has it, and is paid from what is left.
    """
    with this.store.write() as session:
        visit = find_visit(session, visit_id, lock=True)
        if visit is not None and visit.state in JUDGED_FROM and visit.arrived_at < before:
            visit.holds_task, visit.left_at, visit.platform_state = False, this.store.now(), NEVER_SHOWN


def _release(this: Round, submission: str) -> bool:
    if Capability.RELEASE not in this.platform.capabilities:
        return False
    try:
        this.platform.release(submission)
    except PlatformError as error:
        this.refused.append(f"release: {str(error).replace(submission, 'of somebody who left')}")
        return False
    return True


def _old_strays(this: Round, visits: set[str]) -> list[str]:
    """Active submissions that stay without a visit for as long as a visit may take: refused at arrival, or never arrived."""
    key = study_key(this.study.key)
    strays = strays_of(this.statuses, this.submissions, visits)
    hashes = {keyed_hash(key, "stray", s): s for s in strays if this.statuses[s] == PlatformStatus.ACTIVE}
    now = this.store.now()
    with this.store.write() as session:
        seen = see_strays(session, this.posting, hashes, now)
    limit = this.study.file.pages.visit_minutes * 60_000
    return sorted(hashes[stray] for stray, since in seen.items() if now - since >= limit)
