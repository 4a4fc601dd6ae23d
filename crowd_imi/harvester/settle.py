"""Third step: everybody who is owed is paid, valid or not, through the ledger."""

from dataclasses import dataclass
from typing import Literal

from crowd_imi.errors import CapReached, PlatformError
from crowd_imi.harvester.approvals import approve_once
from crowd_imi.harvester.context import Round
from crowd_imi.ledger import IntentState, PaidCall
from crowd_imi.lifecycle import PAYABLE, Action, Payment, PlatformStatus, VisitState, action_for
from crowd_imi.store import Store
from crowd_imi.store.money import COMPENSATION, count_in_flight, find_intent
from crowd_imi.store.submissions import visits_to_pay
from crowd_imi.store.tables import Visit

JUDGED = frozenset({VisitState.VALID, VisitState.EXCLUDED})

Outcome = Literal["paid", "held", "not now"]


@dataclass(frozen=True, slots=True)
class Settled:
    """How many were paid, and how many wait for a higher cap."""

    paid: int
    held: int


def settle(this: Round, unpaid: int, promised: int) -> Settled:
    """Pay who has a verdict.

    Who submitted late isn't among those that places were counted for: they are paid from what is left beside
    everybody else's pay.

    Args:
        this: the round.
        unpaid: visits under way or done that aren't paid.
        promised: free places that may still bring a visit.
    """
    with this.store.read() as session:
        waiting = visits_to_pay(session, this.posting, JUDGED)
    late = [visit for visit in waiting if visit.left_at is not None]
    outcomes = [_pay(this, visit, 0) for visit in waiting if visit.left_at is None]
    with this.store.read() as session:
        in_flight = count_in_flight(session, PAYABLE, in_time_only=True)
    others = unpaid - outcomes.count("paid") - len(late) - in_flight + promised
    outcomes += [_pay(this, visit, others * this.price.amount) for visit in late]
    return Settled(outcomes.count("paid"), outcomes.count("held"))


def _pay(this: Round, visit: Visit, reserved: int) -> Outcome:
    submission = this.submissions.get(visit.id)
    if submission is None:
        this.refused.append(f"approve {visit.id}: its platform ids were deleted, so it can't be paid any more")
        return "not now"
    if action_for(visit.state, this.status_of(visit.id)) is not Action.PAY or not this.can_be_approved(submission):
        return "not now"
    if _is_set_aside(this, visit.id):
        return "not now"
    try:
        call = PaidCall("approve", visit.id, this.price)
        approve_once(this.lease, this.platform, call, submission, known_as=f"of visit {visit.id}", reserved=reserved)
    except CapReached:
        return "held"
    except PlatformError as error:
        this.refused.append(f"approve {visit.id}: {error}")
        return "not now"
    this.statuses[submission] = PlatformStatus.APPROVED
    with this.store.write() as session:
        row = session.get_one(Visit, visit.id)
        row.payment, row.platform_state = Payment.PAID.value, PlatformStatus.APPROVED.value
    return "paid"


def _is_set_aside(this: Round, visit: str) -> bool:
    """Whether a compensation stands in for the reward, or has to, as the platform doesn't pay this submission any more."""
    compensation = _compensation(this, visit)
    if compensation == IntentState.DONE:
        note_compensated(this.store, visit)
    if compensation is not None:
        return True
    if this.is_stranded(visit):
        this.stranded.append(visit)
        return True
    return False


def note_compensated(store: Store, visit_id: str) -> None:
    """A compensation stands in for the reward, which is never paid beside it."""
    with store.write() as session:
        visit = session.get_one(Visit, visit_id)
        if visit.payment == Payment.UNPAID:
            visit.payment = Payment.PAID.value


def _compensation(this: Round, visit: str) -> str | None:
    """The state of a visit's compensation that was, or may have been, sent."""
    with this.store.read() as session:
        intent = find_intent(session, "bonus", f"{visit}/{COMPENSATION}")
    return intent.state if intent is not None and intent.state in (IntentState.OPEN, IntentState.DONE) else None
