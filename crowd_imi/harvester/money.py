"""What a person does about money by hand: bonuses and compensation, rejections, and both books side by side."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from crowd_imi.errors import HarvestError
from crowd_imi.harvester.settle import note_compensated
from crowd_imi.ledger import Bonus, IntentState, lease, pay_bonus
from crowd_imi.lifecycle import PAYABLE, Payment, PlatformStatus, VisitState, move
from crowd_imi.platforms.base import Capability, Platform, price
from crowd_imi.records import Money, Record
from crowd_imi.store import Store
from crowd_imi.store.money import COMPENSATION, all_intents, find_intent
from crowd_imi.store.people import submission_of
from crowd_imi.store.submissions import count_payable, submission_ids
from crowd_imi.store.tables import Intent, Verdict, Visit
from crowd_imi.store.visits import find_visit
from crowd_imi.study import Study

SHORTEST_REASON = 100
"""Characters: a person who isn't paid is owed a reason."""


class Entry(Record):
    """One paid call in our books and what the platform says of it, or one on the platform that our books don't have."""

    intent: str | None
    """None where it isn't in our books."""
    operation: str
    subject: str
    """The posting's or the visit's id."""
    amount: Money
    """Fees included; of post and places, what they may come to cost."""
    state: str
    outcome: str | None
    there: str | None
    """The platform's word; None where it isn't asked."""
    differs: bool


class Ledger(Record):
    """What ``ledger --json`` prints."""

    study: str
    platform: str
    entries: tuple[Entry, ...]
    spent: Money
    held: Money
    unknown: Money
    """Of calls whose outcome isn't known yet."""
    cap: Money
    balance: Money | None
    """The platform's, where it has one."""
    differences: int


@dataclass(frozen=True, slots=True)
class Compensation:
    """Money for one visit beside the reward."""

    visit: str
    money: Money
    name: str
    reason: str


def pay(study: Study, store: Store, platform: Platform, compensation: Compensation) -> str:
    """Pay a bonus or a compensation to one participant, once for each name.

    Returns:
        The outcome that the books keep.

    Raises:
        HarvestError: there is no such visit, its ids were deleted, or the platform pays no bonuses.
        LedgerError: the cap forbids it, or it can't be told whether an earlier try arrived.
        PlatformError: the platform said no.
    """
    if Capability.BONUS not in platform.capabilities:
        raise HarvestError(f"{platform.name} pays no bonuses; pay this participant in another way")
    if compensation.money.amount <= 0:
        raise HarvestError(f"{compensation.money} can't be paid; give an amount above 0, in minor units")
    submission = _submission(store, compensation.visit)
    bonus = Bonus(compensation.visit, submission, compensation.name, compensation.money, compensation.reason)
    with lease(store, "pay", study.file.pay.cap_money) as held:
        if compensation.name == COMPENSATION:
            _require_compensable(store, platform, compensation.visit, submission)
        outcome = pay_bonus(held, platform, bonus, _reserved(study, store, platform, compensation))
    if compensation.name == COMPENSATION:
        note_compensated(store, compensation.visit)
    return outcome


def _require_compensable(store: Store, platform: Platform, visit_id: str, submission: str) -> None:
    """Whoever can be approved is paid by a harvest; compensation is for who gave the place back, or ran out of time, there."""
    with store.read() as session:
        visit = session.get_one(Visit, visit_id)
        before = find_intent(session, "bonus", f"{visit_id}/{COMPENSATION}")
    if visit.payment != Payment.UNPAID and before is None:
        raise HarvestError(f"visit {visit_id} is {visit.payment} already; a bonus that comes on top wants a --name of its own")
    status = platform.submission(submission).status
    if status not in (PlatformStatus.RETURNED, PlatformStatus.TIMED_OUT):
        raise HarvestError(
            f"visit {visit_id} is {status.replace('_', ' ')} on {platform.name}, so `crowd-imi harvest` pays its reward; a bonus "
            "that comes on top wants a --name of its own"
        )


def _reserved(study: Study, store: Store, platform: Platform, compensation: Compensation) -> int:
    """What the cap must hold for everybody else who may have to be paid."""
    with store.read() as session:
        unpaid = count_payable(session, PAYABLE, unpaid_only=True)
        own = session.get_one(Visit, compensation.visit)
    itself = compensation.name == COMPENSATION and own.payment == Payment.UNPAID and own.state in PAYABLE
    return (unpaid - itself) * price(platform, study.file.pay.reward_money).amount


def reject(study: Study, store: Store, platform: Platform, visit_id: str, reason: str) -> None:
    """Refuse one participant's reward: a person's explicit decision, never made by itself.

    Raises:
        HarvestError: there is no such visit, it is paid or not handed in, or the reason is too short to be one.
        PlatformError: the platform said no.
    """
    if Capability.REJECT not in platform.capabilities:
        raise HarvestError(f"{platform.name} can't reject submissions")
    if len(reason.strip()) < SHORTEST_REASON:
        raise HarvestError(
            f"a rejected participant reads the reason, which has {len(reason.strip())} characters; write {SHORTEST_REASON} or "
            "more that say what was asked for and what was done"
        )
    submission = _submission(store, visit_id)
    with lease(store, "reject", study.file.pay.cap_money) as held:
        _require_rejectable(store, visit_id)
        platform.reject(submission, reason.strip())
        with store.write() as session:
            held.renew(session)
            visit = session.get_one(Visit, visit_id)
            visit.payment, visit.platform_state = Payment.REJECTED.value, PlatformStatus.REJECTED.value
            _leave_out(session, visit, store.now())


def _leave_out(session: Session, visit: Visit, now: int) -> None:
    """What was rejected counts no more, and its task is offered again."""
    if visit.state == VisitState.VALID:
        move(visit, VisitState.EXCLUDED, now)
        session.get_one(Verdict, visit.id).valid = False


def ledger(study: Study, store: Store, platform: Platform) -> Ledger:
    """Our books next to the platform's, entry by entry.

    Raises:
        PlatformError: the platform can't be read.
    """
    with store.people() as people:
        submissions = submission_ids(people, platform.name)
    with store.read() as session:
        intents = all_intents(session)
    posted = {intent.subject: intent.outcome for intent in intents if intent.operation == "post" and intent.outcome}
    statuses = {
        found.id: found.status
        for intent_posting in posted.values()
        if intent_posting is not None
        for found in platform.submissions(intent_posting)
    }
    paid = _bonuses_paid(intents)
    ours = (_entry(platform, intent, submissions, statuses, paid) for intent in intents)
    entries = (*ours, *_not_ours(study, platform, intents, submissions, statuses))
    currency = study.file.pay.currency

    def total(*states: IntentState) -> Money:
        spending = [i for i in intents if i.operation in ("approve", "bonus") and i.state in states]
        return Money(amount=sum(i.amount for i in spending), currency=currency)

    return Ledger(
        study=study.file.study.name,
        platform=platform.name,
        entries=entries,
        spent=total(IntentState.DONE),
        held=total(IntentState.HELD),
        unknown=total(IntentState.OPEN),
        cap=study.file.pay.cap_money,
        balance=platform.account().balance,
        differences=sum(entry.differs for entry in entries),
    )


def _not_ours(
    study: Study, platform: Platform, intents: Sequence[Intent], submissions: dict[str, str], statuses: dict[str, str]
) -> Iterator[Entry]:
    """What was paid on the platform without an intent of ours: by hand there, or from another copy of the study."""
    visits = {submission: visit for visit, submission in submissions.items()}
    approvals = {_visit_of(intent) for intent in intents if intent.operation == "approve"}
    bonuses = {(_visit_of(intent), intent.amount) for intent in intents if intent.operation == "bonus"}
    for submission, status in statuses.items():
        visit = visits.get(submission)
        if status == PlatformStatus.APPROVED and visit not in approvals:
            yield _unknown_here("approve", visit, price(platform, study.file.pay.reward_money), status)
        if Capability.BONUS not in platform.capabilities:
            continue
        for bonus in platform.bonuses(submission):
            cost = price(platform, bonus.amount)
            if (visit, cost.amount) not in bonuses:
                yield _unknown_here("bonus", visit, cost, str(bonus.amount))


def _unknown_here(operation: str, visit: str | None, amount: Money, there: str) -> Entry:
    return Entry(
        intent=None,
        operation=operation,
        subject=visit or "no visit of ours",
        amount=amount,
        state="not in our books",
        outcome=None,
        there=there,
        differs=True,
    )


def _visit_of(intent: Intent) -> str:
    return intent.subject.partition("/")[0]


def _bonuses_paid(intents: Sequence[Intent]) -> Counter[tuple[str, int]]:
    """(visit, amount with the fee) → how many bonuses our books say were paid."""
    return Counter(
        (_visit_of(intent), intent.amount)
        for intent in intents
        if intent.operation == "bonus" and intent.state == IntentState.DONE
    )


def _entry(
    platform: Platform,
    intent: Intent,
    submissions: dict[str, str],
    statuses: dict[str, str],
    paid: Counter[tuple[str, int]],
) -> Entry:
    there, differs = None, intent.state == IntentState.OPEN
    visit = _visit_of(intent)
    submission = submissions.get(visit)
    if intent.operation == "post" and intent.state == IntentState.DONE:
        there = str(platform.state(intent.outcome)) if intent.outcome else None
    elif intent.operation == "approve":
        there = statuses.get(submission or "", "not listed")
        differs = differs or (intent.state == IntentState.DONE) != (there == PlatformStatus.APPROVED)
    elif intent.operation == "bonus" and submission is not None:
        shown = platform.bonuses(submission)
        there = ", ".join(str(bonus.amount) for bonus in shown) or "none shown"
        alike = sum(price(platform, bonus.amount).amount == intent.amount for bonus in shown)
        differs = differs or alike != paid[visit, intent.amount]
    return Entry(
        intent=intent.id,
        operation=intent.operation,
        subject=intent.subject,
        amount=Money(amount=intent.amount, currency=intent.currency),
        state=intent.state,
        outcome=intent.outcome,
        there=there,
        differs=differs,
    )


def _submission(store: Store, visit_id: str) -> str:
    with store.read() as session:
        if find_visit(session, visit_id) is None:
            raise HarvestError(f"{store.url}: there is no visit {visit_id}; `crowd-imi export --format csv` lists them")
    with store.people() as people:
        submission = submission_of(people, visit_id)
    if submission is None:
        raise HarvestError(f"visit {visit_id}: its platform ids were deleted, so nothing can be paid or refused any more")
    return submission


def _require_rejectable(store: Store, visit_id: str) -> None:
    with store.read() as session:
        visit = session.get_one(Visit, visit_id)
    if visit.payment == Payment.PAID:
        raise HarvestError(f"visit {visit_id} is paid, and what is paid can't be taken back")
    if visit.state not in {VisitState.SUBMITTED, VisitState.EXCLUDED, VisitState.VALID}:
        raise HarvestError(f"visit {visit_id} is {visit.state.replace('_', ' ')}: only who handed in can be rejected")
