"""Where a study stands: read only, and without the right to spend."""

from collections import Counter
from collections.abc import Mapping, Sequence

from crowd_imi.harvester.context import OCCUPYING, held_by_unknown
from crowd_imi.harvester.progress import attrition, next_steps, surplus_visits, unit_statuses
from crowd_imi.harvester.records import ClosingRemark, ClosingRemarks, Difference, Status
from crowd_imi.harvester.rules import top_up
from crowd_imi.harvester.strays import strays_of
from crowd_imi.ledger import Books, books
from crowd_imi.lifecycle import PAYABLE, Action, Payment, PlatformStatus, VisitState, action_for
from crowd_imi.platforms.base import Capability, Platform, PostingState, price
from crowd_imi.promises import Promised, promised
from crowd_imi.records import Money
from crowd_imi.stock import ArmStatus, Stock, arm_status, excluded_by, take_stock, together
from crowd_imi.store import Store
from crowd_imi.store.money import bonus_spending
from crowd_imi.store.postings import MAIN, PILOT, postings
from crowd_imi.store.submissions import submission_ids, verdicts, visits_of, visits_with_remarks
from crowd_imi.store.tables import Posting, Visit
from crowd_imi.study import Study

_LEFT = (VisitState.DECLINED, VisitState.RETURNED, VisitState.TIMED_OUT)


def status(study: Study, store: Store, platform: Platform) -> Status:
    """Count tasks, visits and money, and compare them with what the platform says now.

    Raises:
        PlatformError: the platform can't be read.
    """
    posting = _shown_posting(store, platform.name)
    posted = posting is not None and posting.platform_id is not None
    label = MAIN if posting is None else posting.label
    statuses, places = _read_platform(platform, posting)
    state = _state(platform, posting)
    each = price(platform, study.file.pay.reward_money)
    with store.read() as session:
        bonuses = promised(session, study, platform)
    with store.people() as people:
        submissions = submission_ids(people, platform.name)
    kept = bonuses.beside + _undecided(store, submissions, statuses) * each.amount
    stock = take_stock(study, store, each, beside=kept, each_beside=bonuses.each)
    with store.read() as session:
        visits = visits_of(session, posting.id) if posting else []
        judged = verdicts(session)
        shown = judged if label == MAIN else verdicts(session, label)
        ledger = books(session)
        units = unit_statuses(session, stock, visits, judged)
        left = attrition(session, visits)
        surplus = surplus_visits(session)
        proposal = top_up(session, study, store, platform)
        wrote = len(visits_with_remarks(session))
        committed = stock.payable * each.amount + bonus_spending(session) + bonuses.beside
    # Where only those are listed who handed in, others are at it.
    unlisted = None if Capability.LISTS_ACTIVE in platform.capabilities else PlatformStatus.ACTIVE.value
    there = {visit.id: statuses.get(submissions.get(visit.id, ""), unlisted) for visit in visits}
    strays = strays_of(statuses, submissions, {visit.id for visit in visits})
    taken = sum(status in OCCUPYING for status in statuses.values())
    if posting is not None and posting.platform_id is not None:
        taken += held_by_unknown(platform, posting.platform_id, statuses)
    states = Counter(visit.state for visit in visits)
    going_on = stock if label == MAIN else _pilot_stock(study, store, each, bonuses)
    return Status(
        study=study.file.study.name,
        platform=platform.name,
        posted=posted and label == MAIN,
        state=state,
        arms=tuple(arm_status(arm.id, stock, judged) for arm in study.file.arms),
        pilot=_pilot(study, store, each, bonuses),
        units=units,
        attrition=left,
        excluded_by=excluded_by(verdict for _, verdict in shown),
        left={state.value: states[state] for state in _LEFT if states[state]},
        surplus=surplus,
        places=places,
        places_free=max(0, places - taken),
        reward=study.file.pay.reward_money,
        spent=_money(study, ledger.spent),
        committed=_money(study, committed - ledger.held),
        held=_money(study, ledger.held),
        cap=study.file.pay.cap_money,
        left_over=_money(study, max(0, study.file.pay.cap - committed + ledger.held)),
        top_up=proposal,
        differences=_differences(visits, there),
        strays=sum(statuses[stray] in OCCUPYING for stray in strays),
        remarks=_remarks(ledger),
        closing_remarks=wrote,
        next=() if state is None else tuple(next_steps(going_on, visits, there, max(0, places - taken), state, label)),
        complete=stock.complete or (posted and label == MAIN and state is PostingState.STOPPED and not stock.pending),
    )


def closing_remarks(study: Study, store: Store) -> ClosingRemarks:
    """What participants wrote on the last page, the pilot's too."""
    with store.read() as session:
        remarks = tuple(
            ClosingRemark(visit=visit.id, label=visit.label, arm=arm, state=visit.state, text=visit.feedback or "")
            for visit, arm in visits_with_remarks(session)
        )
    return ClosingRemarks(study=study.file.study.name, remarks=remarks)


def _shown_posting(store: Store, platform: str) -> Posting | None:
    """The study's posting; until that is out, its pilot's, where people are."""
    with store.read() as session:
        ours = [posting for label in (MAIN, PILOT) for posting in postings(session, label) if posting.platform == platform]
    return next((posting for posting in ours if posting.platform_id is not None), ours[0] if ours else None)


def _pilot(study: Study, store: Store, each: Money, bonuses: Promised) -> ArmStatus | None:
    """The pilot's tasks, all arms together."""
    with store.read() as session:
        if not postings(session, PILOT):
            return None
        judged = verdicts(session, PILOT)
    stock = _pilot_stock(study, store, each, bonuses)
    return together("pilot", [arm_status(arm.id, stock, judged) for arm in study.file.arms])


def _pilot_stock(study: Study, store: Store, each: Money, bonuses: Promised) -> Stock:
    return take_stock(study, store, each, PILOT, beside=bonuses.beside, each_beside=bonuses.each)


def _read_platform(platform: Platform, posting: Posting | None) -> tuple[dict[str, str], int]:
    if posting is None or posting.platform_id is None:
        return {}, 0
    statuses = {submission.id: submission.status for submission in platform.submissions(posting.platform_id)}
    return statuses, platform.places(posting.platform_id)


def _undecided(store: Store, submissions: Mapping[str, str], statuses: Mapping[str, str]) -> int:
    """Who handed in and isn't owed anything: a person may approve them there all the same, so their money is kept."""
    with store.read() as session:
        every = {visit.id: visit for posting in postings(session) for visit in visits_of(session, posting.id)}
    ours = {submissions[visit]: every[visit].state in PAYABLE for visit in every.keys() & submissions.keys()}
    waiting = (PlatformStatus.AWAITING_REVIEW, PlatformStatus.WRONG_CODE)
    return sum(status in waiting and not ours.get(submission, False) for submission, status in statuses.items())


def _state(platform: Platform, posting: Posting | None) -> PostingState | None:
    """The platform knows, also of what was done on its website; but what we stopped stays so."""
    if posting is None or posting.platform_id is None:
        return None
    return PostingState.STOPPED if posting.state == PostingState.STOPPED else platform.state(posting.platform_id)


def _differences(visits: Sequence[Visit], there: Mapping[str, str | None]) -> tuple[Difference, ...]:
    """Pairs that don't fit and won't by themselves, and who was paid here and isn't approved there."""
    found: Counter[tuple[str, str, str]] = Counter()
    for visit in visits:
        status = there[visit.id]
        unpaid_there = visit.payment == Payment.PAID and status != PlatformStatus.APPROVED
        if unpaid_there or action_for(visit.state, status) is Action.SHOW:
            found[visit.state, visit.payment, status or "unknown"] += 1
    return tuple(
        Difference(visits=count, here=here, payment=payment, there=status)
        for (here, payment, status), count in sorted(found.items())
    )


def _remarks(ledger: Books) -> tuple[str, ...]:
    remarks = list(ledger.refused)
    if ledger.open_intents:
        remarks.append(f"{ledger.open_intents} paid calls were cut off; the next harvest reads them back")
    if ledger.held:
        remarks.append("some who are owed can't be paid below the cap; raise pay.cap in study.toml and harvest again")
    return tuple(remarks)


def _money(study: Study, amount: int) -> Money:
    return Money(amount=amount, currency=study.file.pay.currency)
