"""How far each unit is, who left in which arm, and what the next harvest will do."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from sqlalchemy.orm import Session

from crowd_imi.harvester.records import ArmAttrition, Surplus, UnitStatus
from crowd_imi.lifecycle import VisitState
from crowd_imi.platforms.base import PostingState
from crowd_imi.stock import Stock
from crowd_imi.store.postings import MAIN, PILOT
from crowd_imi.store.submissions import TaskStanding, arms_of_tasks, judged_visits, main_trials
from crowd_imi.store.tables import Task, Verdict, Visit

PAY_TOP_UP = "`crowd-imi pay STUDY --from STUDY/top-up.csv`"
"""The command that pays the list which a harvest writes when people are paid too little."""
_SHOWN = 6
"""Names in a sentence; the others are counted."""


def unit_statuses(
    session: Session, stock: Stock, visits: Sequence[Visit], judged: Sequence[tuple[str, Verdict]]
) -> tuple[UnitStatus, ...]:
    """Every unit that some task asks about: the same task asks about a unit once."""
    where = {
        task.task: name
        for name, tasks in (("valid", stock.valid), ("under_way", stock.pending), ("open", stock.open), ("short", stock.short))
        for task in tasks
    }
    task_of = {visit.id: visit.task_id for visit in visits}
    excluded = Counter(task_of[v.visit_id] for _, v in judged if not v.valid and not v.surplus and v.visit_id in task_of)
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for task, arm, unit in main_trials(session):
        if task in where:
            counts[arm, unit].update({"wanted": 1, where[task]: 1, "excluded": excluded[task]})
    names = [name for name in UnitStatus.model_fields if name not in ("arm", "unit")]
    return tuple(
        UnitStatus(arm=arm, unit=unit, **{name: count[name] for name in names}) for (arm, unit), count in sorted(counts.items())
    )


def attrition(session: Session, visits: Sequence[Visit]) -> tuple[ArmAttrition, ...]:
    """Who came and who left, by arm."""
    arms = arms_of_tasks(session)
    counts: dict[str, Counter[str]] = {arm: Counter() for arm in sorted(set(arms.values()))}
    for visit in visits:
        counts[arms[visit.task_id]]["came"] += 1
        counts[arms[visit.task_id]][_how_it_ended(visit)] += 1
    names = [name for name in ArmAttrition.model_fields if name != "arm"]
    return tuple(ArmAttrition(arm=arm, **{name: count[name] for name in names}) for arm, count in counts.items())


def surplus_visits(session: Session) -> tuple[Surplus, ...]:
    """Who was good and came when the task was done, in the order of arrival; the pilot's too."""
    return tuple(
        Surplus(visit=visit.id, task=_name(session.get_one(Task, visit.task_id)), payment=visit.payment)
        for _, visit, verdict in judged_visits(session, label=None)
        if verdict.surplus
    )


def _name(task: Task) -> str:
    return f"{'' if task.label == MAIN else f'{task.label} '}{task.arm}/{task.number}"


def _how_it_ended(visit: Visit) -> str:
    judged = visit.state in {VisitState.VALID, VisitState.EXCLUDED}
    if visit.state == VisitState.FAILED_PRACTICE or (judged and visit.practised_at is None):
        return "failed_practice"
    return "finished" if judged or visit.state == VisitState.SUBMITTED else visit.state


def next_steps(  # noqa: PLR0913, PLR0917 (what a sentence may speak of)
    stock: Stock,
    judging: int,
    paying: int,
    free: int,
    state: PostingState,
    label: str,
    *,
    below_floor: bool = False,
    paused_by_harvest: bool = False,
) -> Iterator[str]:
    """What the next harvest will do, and what it waits for, a sentence each.

    Args:
        stock: where the posting's tasks stand.
        judging: visits of any posting that wait for a verdict.
        paying: those that are owed, and not paid yet.
        free: places that nobody has taken.
        state: whether the posting lets new participants in.
        label: main or pilot.
        below_floor: whether people are paid too little, so that no more places are offered.
        paused_by_harvest: whether a harvest paused the posting for that.
    """
    waiting = judging + paying > 0
    if waiting:
        yield f"the next harvest judges {judging} and pays {paying}"
    under_way = sum(task.holder not in (VisitState.SUBMITTED, None) for task in stock.pending)
    if state is PostingState.STOPPED:
        yield _stopped(stock, under_way, waiting=waiting)
        return
    if state is PostingState.PAUSED:
        yield _paused(under_way, below_floor=below_floor, by_harvest=paused_by_harvest)
    else:
        yield from _coming(stock, free, under_way, more=not below_floor)
    if stock.unaffordable:
        which = _named(stock.unaffordable)
        but = " but who comes to a free place" if stock.to_come and state is PostingState.OPEN else ""
        yield f"{len(stock.unaffordable)} tasks get nobody below the cap{but}: raise pay.cap in study.toml ({which})"
    if label == PILOT and stock.complete and not waiting:
        people = len(stock.valid) + len(stock.exhausted)
        yield f"nothing more: the pilot has had its {people} people, and {len(stock.valid)} of them would count in the study"
        return
    if stock.exhausted and label == MAIN:
        yield f"{len(stock.exhausted)} tasks have no attempt left and stay short ({_named(stock.exhausted)})"
    if label == MAIN and stock.complete and not waiting:
        yield "nothing more: every task has its valid response" if not stock.short else "nothing more: the rest is short"


def _paused(under_way: int, *, below_floor: bool, by_harvest: bool) -> str:
    """Who may finish, and what opens the posting again."""
    if by_harvest and below_floor:
        why, then = ", as people are paid too little", f"once the top-up is paid ({PAY_TOP_UP}), the next harvest opens it again"
    elif by_harvest:
        why, then = ", as people were paid too little", "they aren't any more, and the next harvest opens it again"
    else:
        why, then = "", "`crowd-imi resume` opens it again, `crowd-imi stop` ends it"
    return f"paused{why}: nobody new is let in{_may_finish(under_way)}; {then}"


def _coming(stock: Stock, free: int, under_way: int, *, more: bool) -> Iterator[str]:
    """What an open posting waits for."""
    missing = len(stock.open) - free
    if missing > 0 and not more:
        yield f"no more places are offered until the top-up is paid ({PAY_TOP_UP}); the harvest after that goes on"
    elif missing > 0:
        yield f"the next harvest offers {missing} more {'place' if missing == 1 else 'places'}"
    coming = min(free, len(stock.open) + (len(stock.unaffordable) if stock.to_come else 0))
    awaited = [f"{coming} to come"] * bool(coming) + [f"{under_way} at it"] * bool(under_way)
    if awaited:
        yield f"waiting for {' and '.join(awaited)}"


def _stopped(stock: Stock, under_way: int, *, waiting: bool) -> str:
    """A stopped posting: who may finish, and how much of it there is when they have."""
    lists = (stock.valid, stock.pending, stock.open, stock.short)
    done = f"{len(stock.valid)} of {sum(map(len, lists))} tasks have their valid response"
    if under_way:
        return f"stopped: nobody new comes{_may_finish(under_way)}, and harvests judge and pay them; {done}"
    if stock.pending or waiting:
        return f"stopped: nobody new comes, nobody is at it; {done}"
    return f"nothing more: it was stopped; {done}"


def _may_finish(under_way: int) -> str:
    return f", {under_way} at it may finish" if under_way else ""


def _named(tasks: Sequence[TaskStanding]) -> str:
    names = [f"{task.arm}/{task.number}" for task in tasks]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
