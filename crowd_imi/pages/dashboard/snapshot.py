"""Everything that the dashboard shows, counted at one moment."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from sqlalchemy.orm import Session

from crowd_imi.ledger import books
from crowd_imi.lifecycle import OWED, UNDER_WAY, PlatformStatus, VisitState
from crowd_imi.pages.dashboard.problems import problems
from crowd_imi.platforms.base import PostingState
from crowd_imi.platforms.opening import PlatformName, choice_of, price_on
from crowd_imi.promises import Promised, promised_at
from crowd_imi.records import Money, Record
from crowd_imi.stock import (
    ArmStatus,
    Stock,
    TaskStatus,
    all_complete,
    arm_status,
    committed,
    excluded_by,
    take_stock,
    task_statuses,
    waits_for_a_verdict,
)
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.money import current_cap, current_price
from crowd_imi.store.postings import MAIN, PILOT, postings
from crowd_imi.store.progress import VisitProgress, count_strays, reaction_times, units_so_far, visits_so_far
from crowd_imi.store.submissions import NEVER_SHOWN, verdicts, visits_of
from crowd_imi.store.tables import Visit
from crowd_imi.study import Study

HOUR_MS = 3_600_000
TRIALS_PER_PAGE = 10
"""Trials are pages for drop-out, so many at a time."""

_LEFT = frozenset({VisitState.DECLINED, VisitState.FAILED_PRACTICE, VisitState.RETURNED, VisitState.TIMED_OUT})


class UnitStatus(Record):
    """One unit's valid answers."""

    unit: str
    valid: int
    planned: int


class Flow(Record):
    """How far an arm's visits came; each number includes those after it."""

    arrived: int
    consented: int
    instructed: int
    practised: int
    submitted: int
    left_at: dict[str, int]
    """Page → visits that ended there without submitting, in the order of the visit."""


class Times(Record):
    """Reaction times of an arm's answers in milliseconds, by the browser's clock."""

    answers: int
    lower_quartile: int
    median: int
    upper_quartile: int


class ArmView(Record):
    """All about one arm."""

    status: ArmStatus
    tasks: tuple[TaskStatus, ...]
    units: tuple[UnitStatus, ...]
    flow: Flow
    times: Times | None
    """None while there is no answer."""
    excluded_by: dict[str, int]


class Pay(Record):
    """What an hour is paid, over the submissions that are paid or will be: reward over time from arrival to submission."""

    submissions: int
    minutes: float
    """Median from arrival to submission, by the server's clock."""
    estimated_minutes: float
    hourly: Money
    """Median."""
    lowest_tenth: Money
    """One in ten is paid this much an hour or less."""
    promised: Money
    """At the estimated duration."""


class MoneyView(Record):
    """Money against the cap; fees included."""

    spent: Money
    owed: Money
    """To who is done, or at it and may finish, with the bonuses that they may earn."""
    held: Money
    """Owed, but over the cap."""
    cap: Money


class Snapshot(Record):
    """``GET /progress.json``."""

    study: str
    title: str
    platform: str
    kind: str
    """study or rehearsal."""
    posting: str
    """none, or the state of the newest posting."""
    complete: bool
    """As ``status`` says: nobody is at a task, and each has its valid response, or is short, or the study was stopped."""
    at: int
    """Milliseconds since 1970, by the server's clock."""
    arms: tuple[ArmView, ...]
    excluded_by: dict[str, int]
    money: MoneyView
    pay: Pay | None
    """None while nobody has submitted."""
    problems: tuple[str, ...]


def take_snapshot(study: Study, store: Store, now: int) -> Snapshot:
    """Count everything.

    Args:
        study: whose arms and pay these are.
        store: read only.
        now: milliseconds since 1970.
    """
    pay, tasks, platform = study.file.pay, study.file.tasks, choice_of(store).name
    with store.read() as session:
        price = Money(amount=current_price(session, pay.reward), currency=pay.currency)
        cap = current_cap(session, pay.cap)
        visits, units, times = visits_so_far(session), units_so_far(session), reaction_times(session)
        judged, ledger, strays = verdicts(session), books(session), count_strays(session)
        posted = postings(session)
        bonuses = _bonuses(session, study, platform)
    stock, pilots = (
        take_stock(study, store, price, label, beside=bonuses.beside, each_beside=bonuses.each) for label in (MAIN, PILOT)
    )
    moment = _study_time(store, visits, now)
    with store.read() as session:
        promised = committed(session, stock, price, bonuses.beside)
        complete = _is_complete(session, {MAIN: stock, PILOT: pilots})
    places = task_statuses(stock)
    return Snapshot(
        study=study.file.study.name,
        title=study.file.study.title,
        platform=platform,
        kind=store.kind.value,
        posting=posted[-1].state if posted else "none",
        complete=complete,
        at=now,
        arms=tuple(
            ArmView(
                status=arm_status(arm.id, stock, judged),
                tasks=tuple(task for task in places if task.arm == arm.id),
                units=tuple(UnitStatus(unit=u.unit, valid=u.valid, planned=u.planned) for u in units if u.arm == arm.id),
                flow=_flow([visit for visit in visits if visit.arm == arm.id], tasks.trials + tasks.catch),
                times=_times(times.get(arm.id, {})),
                excluded_by=excluded_by(verdict for of, verdict in judged if of == arm.id),
            )
            for arm in study.file.arms
        ),
        excluded_by=excluded_by(verdict for _, verdict in judged),
        money=MoneyView(
            spent=Money(amount=ledger.spent, currency=pay.currency),
            owed=Money(amount=max(0, promised - ledger.spent - ledger.held_of_owed), currency=pay.currency),
            held=Money(amount=ledger.held, currency=pay.currency),
            cap=Money(amount=cap, currency=pay.currency),
        ),
        pay=_pay(study, visits),
        problems=problems(study, store, stock, ledger, visits, strays, moment),
    )


def _bonuses(session: Session, study: Study, platform: PlatformName) -> Promised:
    """What the rule's bonus takes, at the fee that the platform is known to take."""
    pay = study.file.pay
    one = price_on(study, platform, Money(amount=pay.bonus, currency=pay.currency)) if pay.bonus else None
    return promised_at(session, study, platform, 0 if one is None else one.amount)


def _is_complete(session: Session, stocks: Mapping[str, Stock]) -> bool:
    """As ``status`` reckons it, by what the last harvest read of the platform."""
    posted = [posting for posting in postings(session) if posting.platform_id is not None]
    if not all_complete(stocks, {posting.label: PostingState(posting.state) for posting in posted}):
        return False
    visits = [(posting.platform, visit) for posting in posted for visit in visits_of(session, posting.id)]
    return not any(
        visit.state in UNDER_WAY or waits_for_a_verdict(visit, shown_up=_shown_up(platform, visit)) for platform, visit in visits
    )


def _shown_up(platform: str, visit: Visit) -> bool:
    """Only Mechanical Turk doesn't list who is at it: who isn't known to have handed in may never do."""
    return platform != "mturk" or visit.platform_state not in (None, PlatformStatus.ACTIVE, NEVER_SHOWN)


def _study_time(store: Store, visits: Sequence[VisitProgress], now: int) -> int:
    """A rehearsal's time is simulated, and as late as what happened last."""
    if store.kind is not StoreKind.REHEARSAL:
        return now
    return max((visit.submitted_at or visit.arrived_at for visit in visits), default=now)


def _flow(visits: Sequence[VisitProgress], trials: int) -> Flow:
    left: Counter[tuple[int, str]] = Counter(_page(visit, trials) for visit in visits if visit.state in _LEFT)
    return Flow(
        arrived=len(visits),
        consented=sum(visit.consented_at is not None for visit in visits),
        instructed=sum(visit.instructed_at is not None for visit in visits),
        practised=sum(visit.practised_at is not None for visit in visits),
        submitted=sum(visit.submitted_at is not None for visit in visits),
        left_at={page: count for (_, page), count in sorted(left.items())},
    )


def _page(visit: VisitProgress, trials: int) -> tuple[int, str]:
    """Where a visit ended: a number to sort by, and the page's name."""
    if visit.consented_at is None:
        return 0, "declined" if visit.state == VisitState.DECLINED else "consent"
    if visit.instructed_at is None:
        return 1, f"instructions after “{visit.page}”" if visit.page else "instructions"
    if visit.practised_at is None:
        failed = visit.state == VisitState.FAILED_PRACTICE
        return 2, "failed practice" if failed else f"practice, block {max(1, visit.block)}"
    if visit.answers >= trials:
        return 10_000, "feedback"
    first = visit.answers // TRIALS_PER_PAGE * TRIALS_PER_PAGE + 1
    return 10 + first, f"trials {first}–{min(trials, first + TRIALS_PER_PAGE - 1)}"


def _times(counts: Mapping[int, int]) -> Times | None:
    total = sum(counts.values())
    if not total:
        return None
    low, middle, high = (_quantile(counts, share * total) for share in (0.25, 0.5, 0.75))
    return Times(answers=total, lower_quartile=low, median=middle, upper_quartile=high)


def _quantile(counts: Mapping[int, int], rank: float) -> int:
    """The lower end of the step that holds the answer of this rank."""
    before = 0
    for step, count in sorted(counts.items()):
        before += count
        if before >= rank:
            return step
    return max(counts)


def _pay(study: Study, visits: Iterable[VisitProgress]) -> Pay | None:
    pay = study.file.pay
    spans = sorted(v.submitted_at - v.arrived_at for v in visits if v.submitted_at is not None and v.state in OWED)
    spans = [max(1, span) for span in spans]
    if not spans:
        return None
    slow = spans[min(len(spans) - 1, len(spans) * 9 // 10)]
    return Pay(
        submissions=len(spans),
        minutes=round(median(spans) / 60_000, 2),
        estimated_minutes=pay.estimated_minutes,
        hourly=Money(amount=round(pay.reward * HOUR_MS / median(spans)), currency=pay.currency),
        lowest_tenth=Money(amount=round(pay.reward * HOUR_MS / slow), currency=pay.currency),
        promised=Money(amount=round(pay.reward * 60 / pay.estimated_minutes), currency=pay.currency),
    )
