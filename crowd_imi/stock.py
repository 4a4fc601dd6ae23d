"""Where every task stands, and what the money still allows: for harvests, ``status`` and the dashboard alike."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from crowd_imi.allocation import ATTEMPTS, affords_one_more, most_attempts
from crowd_imi.lifecycle import PAYABLE, VisitState
from crowd_imi.platforms.base import Platform, PostingState
from crowd_imi.records import Money, Record
from crowd_imi.store import Store
from crowd_imi.store.money import count_free_places, count_undecided, spending_beside
from crowd_imi.store.postings import MAIN, is_stopped_here, postings
from crowd_imi.store.submissions import NEVER_SHOWN, TaskStanding, count_payable, task_standings
from crowd_imi.store.tables import Posting, Verdict, Visit
from crowd_imi.study import Study

JUDGED_FROM = frozenset({VisitState.SUBMITTED, VisitState.FAILED_PRACTICE})
"""Who is in one of these waits for a verdict."""


class ArmStatus(Record):
    """Where an arm's tasks are: every one is in exactly one of valid, submitted, under_way, open and short."""

    arm: str
    tasks: int
    valid: int
    submitted: int
    """Waiting for a verdict."""
    under_way: int
    open: int
    short: int
    """No attempt or no money left."""
    excluded: int
    """Submissions, not tasks; their tasks were offered again."""


class TaskStatus(Record):
    """Where one task is."""

    arm: str
    number: int
    where: str
    """A field of ``ArmStatus``: valid, submitted, under_way, open or short."""


@dataclass(frozen=True, slots=True)
class Stock:
    """Every task, in exactly one of the lists."""

    valid: tuple[TaskStanding, ...]
    pending: tuple[TaskStanding, ...]
    """Somebody is at it, or it waits for a verdict."""
    open: tuple[TaskStanding, ...]
    """Nobody's, and there is money for it."""
    unaffordable: tuple[TaskStanding, ...]
    """Nobody's, with attempts left, but the cap allows no more visits."""
    exhausted: tuple[TaskStanding, ...]
    """No attempt left: a pilot's task has one, whoever comes."""
    payable: int
    """Visits that are paid or may have to be."""
    unpaid: int
    """Those of them that aren't paid yet."""
    undecided: int
    """Submissions that the platform may still pay, though nothing is owed here: money for them is kept all the same."""
    elsewhere: int = 0
    """Open tasks of the study's other posting, the pilot or the study itself: promised just as much."""
    to_come: int = 0
    """Places that nobody used, by harvest's last word, when whoever comes is let in: late ones don't stand in their way."""

    @property
    def short(self) -> tuple[TaskStanding, ...]:
        return self.unaffordable + self.exhausted

    @property
    def complete(self) -> bool:
        return not self.open and not self.pending and not (self.to_come and self.unaffordable)


def take_stock(  # noqa: PLR0913 (whose tasks, and what the money is promised for)
    study: Study,
    store: Store,
    price: Money,
    label: str = MAIN,
    *,
    beside: int = 0,
    each_beside: int = 0,
    undecided: int | None = None,
) -> Stock:
    """Count tasks and visits as they are now.

    Args:
        study: for the cap and the attempts.
        store: the run's.
        price: what one paid submission costs, fees included.
        label: main or pilot: whose tasks. Money is one for both, and the pilot, which is small, has it first.
        beside: minor units promised beside rewards, and not spent yet.
        each_beside: what one more submission may cost beside its price.
        undecided: submissions that the platform may still pay though nothing is owed here; None for the last harvest's word.
    """
    pay = study.file.pay
    with store.read() as session:
        every = task_standings(session, ATTEMPTS)
        posted = [one for one in postings(session) if one.platform_id and not is_stopped_here(session, one.id)]
        offered = {one.label for one in posted}
        places = count_free_places(session, [one.id for one in posted if one.label == label])
        lets_in = affords_one_more(session, pay.cap, price.amount)
        payable = count_payable(session, PAYABLE)
        waiting = count_undecided(session) if undecided is None else undecided
        left = pay.cap - spending_beside(session, PAYABLE, price.amount) - beside
        unpaid = count_payable(session, PAYABLE, unpaid_only=True)
    standings = [task for task in every if task.label == label]
    nobodys = [task for task in standings if task.holder is None]
    free = [task for task in nobodys if task.attempts < most_attempts(study, label)]
    elsewhere = sum(
        task.label != label and task.label in offered and task.holder is None and task.attempts < most_attempts(study, task.label)
        for task in every
    )
    each = price.amount + each_beside
    affordable = max(0, (left - (payable + waiting) * price.amount) // each) if each else len(every)
    if label == MAIN:
        affordable = max(0, affordable - elsewhere)
    else:
        elsewhere = min(elsewhere, max(0, affordable - len(free)))
    return Stock(
        valid=tuple(task for task in standings if task.holder == VisitState.VALID),
        pending=tuple(task for task in standings if task.holder not in (None, VisitState.VALID)),
        open=tuple(free[:affordable]),
        unaffordable=tuple(free[affordable:]),
        exhausted=tuple(task for task in nobodys if task.attempts >= most_attempts(study, label)),
        payable=payable,
        unpaid=unpaid,
        undecided=waiting,
        elsewhere=elsewhere,
        to_come=places if lets_in else 0,
    )


def committed(session: Session, stock: Stock, price: Money, beside: int) -> int:
    """Minor units that are spent, or owed to who is under way or done, those that are held by the cap among them.

    Args:
        session: only read.
        stock: of either label: visits and money are one for both.
        price: what one paid submission costs, fees included.
        beside: promised beside rewards, and not spent yet.
    """
    return stock.payable * price.amount + spending_beside(session, PAYABLE, price.amount) + beside


def posting_state(store: Store, platform: Platform, posting: Posting) -> PostingState:
    """Whether people are let in: the platform knows, also of what was done on its website; but what we stopped stays so.

    Args:
        store: the run's.
        platform: is asked unless we stopped it.
        posting: one that has the platform's id.
    """
    with store.read() as session:
        for_good = is_stopped_here(session, posting.id)
    return PostingState.STOPPED if for_good else platform.state(str(posting.platform_id))


def is_complete(stock: Stock, state: PostingState | None) -> bool:
    """Whether nobody is at a posting's tasks, and nobody is to come."""
    return stock.complete or (state is PostingState.STOPPED and not stock.pending)


def all_complete(stocks: Mapping[str, Stock], states: Mapping[str, PostingState]) -> bool:
    """Whether every posting that there is is complete; without the study's own, nothing is.

    Args:
        stocks: main and pilot → its tasks.
        states: those of them that are posted → whether they let new participants in.
    """
    return MAIN in states and all(is_complete(stocks[label], state) for label, state in states.items())


def waits_for_a_verdict(visit: Visit, *, shown_up: bool) -> bool:
    """Whether somebody is to be judged, or given up by a harvest, as the platform doesn't know of the submission."""
    return visit.state in JUDGED_FROM and (shown_up or visit.platform_state != NEVER_SHOWN)


def task_statuses(stock: Stock) -> tuple[TaskStatus, ...]:
    """Every task, by arm and number."""
    found = [(task, name) for name in ("valid", "open", "short") for task in getattr(stock, name)]
    found += [(task, "submitted" if task.holder == VisitState.SUBMITTED else "under_way") for task in stock.pending]
    every = (TaskStatus(arm=task.arm, number=task.number, where=where) for task, where in found)
    return tuple(sorted(every, key=lambda task: (task.arm, task.number)))


def arm_status(arm: str, stock: Stock, judged: Sequence[tuple[str, Verdict]]) -> ArmStatus:
    """Count one arm's tasks; ``judged`` is every verdict with its arm."""
    submitted = sum(task.arm == arm and task.holder == VisitState.SUBMITTED for task in stock.pending)
    pending = sum(task.arm == arm for task in stock.pending)
    lists = {name: sum(task.arm == arm for task in getattr(stock, name)) for name in ("valid", "open", "short")}
    return ArmStatus(
        arm=arm,
        tasks=sum(lists.values()) + pending,
        submitted=submitted,
        under_way=pending - submitted,
        excluded=sum(of == arm and not verdict.valid and not verdict.surplus for of, verdict in judged),
        **lists,
    )


def together(name: str, arms: Iterable[ArmStatus]) -> ArmStatus:
    """Several arms' counts added up."""
    every = list(arms)
    counts = [field for field in ArmStatus.model_fields if field != "arm"]
    return ArmStatus(arm=name, **{field: sum(getattr(arm, field) for arm in every) for field in counts})


def excluded_by(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Criterion → submissions that failed it, the most frequent first; one submission may fail several."""
    failed = Counter(criterion for verdict in verdicts for criterion, check in verdict.checks.items() if check["passed"] is False)
    return dict(failed.most_common())
