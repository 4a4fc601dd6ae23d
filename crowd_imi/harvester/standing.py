"""Where a study stands: read only, and without the right to spend."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain

from crowd_imi.harvester.comparison import Reported, compare
from crowd_imi.harvester.context import OCCUPYING, held_by_unknown
from crowd_imi.harvester.elsewhere import count_elsewhere, noticed
from crowd_imi.harvester.progress import (
    attrition,
    next_steps,
    surplus_visits,
    unit_statuses,
)
from crowd_imi.harvester.records import ClosingRemark, ClosingRemarks, Status
from crowd_imi.harvester.rules import top_up
from crowd_imi.harvester.undecided import undecided
from crowd_imi.keys import study_key
from crowd_imi.ledger import Books, books
from crowd_imi.lifecycle import UNDER_WAY, VisitState
from crowd_imi.platforms.base import Platform, price
from crowd_imi.promises import promised
from crowd_imi.records import Money
from crowd_imi.stock import (
    ArmStatus,
    Stock,
    all_complete,
    arm_status,
    committed,
    excluded_by,
    posting_state,
    take_stock,
    task_statuses,
    together,
)
from crowd_imi.store import Store
from crowd_imi.store.money import is_paused_below_floor
from crowd_imi.store.postings import MAIN, PILOT, postings
from crowd_imi.store.submissions import submission_ids, verdicts, visits_of, visits_with_remarks
from crowd_imi.store.tables import Posting
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
        told = noticed(session, store.now())
    said = {one.id: {found.id: found.status for found in platform.submissions(str(one.platform_id))} for one in every}
    statuses = said.get(posting.id, {}) if posting else {}
    places = platform.places(str(posting.platform_id)) if posting and posted else 0
    states = {one.label: posting_state(store, platform, one) for one in every}
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
        pay = {
            "below_floor": proposal is not None,
            "paused_by_harvest": posting is not None and is_paused_below_floor(session, posting.id),
        }
        promised_in_all = committed(session, stock, each, bonuses.beside)
    compared = compare(platform, everybody, Reported(said, submissions))
    at_it = any(visit.state in UNDER_WAY for visit in everybody)
    taken = sum(status in OCCUPYING for status in statuses.values())
    if posting is not None and posting.platform_id is not None:
        taken += held_by_unknown(platform, posting.platform_id, statuses)
    free = max(0, places - taken)
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
        places_free=free,
        reward=study.file.pay.reward_money,
        spent=_money(study, ledger.spent),
        committed=_money(study, promised_in_all - ledger.held_of_owed),
        held=_money(study, ledger.held),
        cap=study.file.pay.cap_money,
        left_over=_money(study, max(0, study.file.pay.cap - promised_in_all + ledger.held_of_owed)),
        top_up=proposal,
        differences=compared.differences,
        strays=sum(compared.strays.values()),
        strays_are=compared.strays,
        events_elsewhere=_elsewhere(study, told, {*chain(*said.values()), *submissions.values()}),
        remarks=_remarks(ledger, compared.missing, platform.name),
        closing_remarks=wrote,
        next=() if state is None else tuple(next_steps(going_on, compared.judging, compared.to_pay, free, state, label, **pay)),
        complete=all_complete({MAIN: stock, PILOT: pilots}, states) and not compared.judging and not at_it,
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


def _elsewhere(study: Study, told: Collection[str], ours: Collection[str]) -> int:
    return count_elsewhere(told, study_key(study.key), ours) if told else 0


def _remarks(ledger: Books, missing: Sequence[str], platform: str) -> tuple[str, ...]:
    """What a person should look at; ``missing`` are visits that ended here and whose submission the platform never showed."""
    remarks = list(ledger.refused)
    if missing:
        remarks.append(
            f"{len(missing)} ended here and weren't handed in on {platform} in time (visits {', '.join(missing)}): their tasks "
            "are free and no money is kept for them; who hands in after all is paid from what is left"
        )
    if ledger.open_intents:
        remarks.append(f"{ledger.open_intents} paid calls were cut off; the next harvest reads them back")
    if ledger.held_of_owed:
        remarks.append("some who are owed can't be paid below the cap; raise pay.cap in study.toml and harvest again")
    if ledger.held_by_hand:
        remarks.append("a payment by hand went over the cap; raise pay.cap in study.toml and run the same `crowd-imi pay` again")
    return tuple(remarks)


def _money(study: Study, amount: int) -> Money:
    return Money(amount=amount, currency=study.file.pay.currency)
