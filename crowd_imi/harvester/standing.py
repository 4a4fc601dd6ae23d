"""Where a study stands: read only, and without the right to spend."""

from collections import Counter
from collections.abc import Mapping, Sequence

from crowd_imi.harvester.context import OCCUPYING, held_by_unknown
from crowd_imi.harvester.progress import (
    attrition,
    is_complete,
    next_steps,
    surplus_visits,
    unit_statuses,
    waits_for_a_verdict,
)
from crowd_imi.harvester.records import ClosingRemark, ClosingRemarks, Difference, Status
from crowd_imi.harvester.rules import top_up
from crowd_imi.harvester.strays import strays_of
from crowd_imi.harvester.undecided import undecided
from crowd_imi.ledger import Books, books
from crowd_imi.lifecycle import UNDER_WAY, Action, Payment, PlatformStatus, VisitState, action_for
from crowd_imi.platforms.base import Capability, Platform, PostingState, price
from crowd_imi.promises import promised
from crowd_imi.records import Money
from crowd_imi.stock import ArmStatus, Stock, arm_status, excluded_by, take_stock, task_statuses, together
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
    with store.read() as session:
        every = [one for one in postings(session) if one.platform == platform.name and one.platform_id is not None]
    said = {one.id: {found.id: found.status for found in platform.submissions(str(one.platform_id))} for one in every}
    statuses = said.get(posting.id, {}) if posting else {}
    places = platform.places(str(posting.platform_id)) if posting and posted else 0
    states = {one.label: _state(platform, one) for one in every}
    state = states.get(label)
    each = price(platform, study.file.pay.reward_money)
    with store.read() as session:
        bonuses = promised(session, study, platform)
    with store.people() as people:
        submissions = submission_ids(people, platform.name)
    waiting = sum(undecided(store, platform, str(one.platform_id), submissions, said[one.id]) for one in every)
    stock, pilots = (
        take_stock(study, store, each, of, beside=bonuses.beside, each_beside=bonuses.each, undecided=waiting)
        for of in (MAIN, PILOT)
    )
    with store.read() as session:
        everybody = [visit for one in every for visit in visits_of(session, one.id)]
        visits = [visit for visit in everybody if posting and visit.posting_id == posting.id]
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
    there = {visit.id: said[visit.posting_id].get(submissions.get(visit.id, ""), unlisted) for visit in everybody}
    ours = [visit for visit in everybody if unlisted and visit.id in submissions]
    unseen = {visit.id for visit in ours if submissions[visit.id] not in said[visit.posting_id]}
    judging = sum(waits_for_a_verdict(study, visit, store.now(), shown_up=visit.id not in unseen) for visit in everybody)
    paying = _to_pay(everybody, there)
    at_it = any(visit.state in UNDER_WAY for visit in everybody)
    strays = strays_of(statuses, submissions, {visit.id for visit in visits})
    taken = sum(status in OCCUPYING for status in statuses.values())
    if posting is not None and posting.platform_id is not None:
        taken += held_by_unknown(platform, posting.platform_id, statuses)
    going_on = stock if label == MAIN else pilots
    ended = Counter(visit.state for visit in visits)
    return Status(
        study=study.file.study.name,
        platform=platform.name,
        posted=posted and label == MAIN,
        state=state,
        arms=tuple(arm_status(arm.id, stock, judged) for arm in study.file.arms),
        pilot=_pilot(study, store, pilots),
        tasks=task_statuses(stock),
        units=units,
        attrition=left,
        excluded_by=excluded_by(verdict for _, verdict in shown),
        left={state.value: ended[state] for state in _LEFT if ended[state]},
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
        next=() if state is None else tuple(next_steps(going_on, judging, paying, max(0, places - taken), state, label)),
        complete=_complete({MAIN: stock, PILOT: pilots}, states) and not judging and not at_it,
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


def _pilot(study: Study, store: Store, stock: Stock) -> ArmStatus | None:
    """The pilot's tasks, all arms together."""
    with store.read() as session:
        if not postings(session, PILOT):
            return None
        judged = verdicts(session, PILOT)
    return together("pilot", [arm_status(arm.id, stock, judged) for arm in study.file.arms])


def _state(platform: Platform, posting: Posting) -> PostingState:
    """The platform knows, also of what was done on its website; but what we stopped stays so."""
    return PostingState.STOPPED if posting.state == PostingState.STOPPED else platform.state(str(posting.platform_id))


def _to_pay(visits: Sequence[Visit], there: Mapping[str, str | None]) -> int:
    """How many are owed their reward, with a verdict or before it."""
    return sum(visit.payment == Payment.UNPAID and action_for(visit.state, there[visit.id]) is Action.PAY for visit in visits)


def _complete(stocks: Mapping[str, Stock], states: Mapping[str, PostingState]) -> bool:
    """As a harvest says of all the postings that there are; without the study's own, nothing is."""
    return MAIN in states and all(is_complete(stocks[label], state) for label, state in states.items())


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
