"""What the dashboard counts: visits by how far they came, answers by unit and by reaction time. No one query names a person."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Float, Integer, and_, case, cast, func, select
from sqlalchemy.orm import Session

from crowd_imi.store.submissions import NEVER_SHOWN
from crowd_imi.store.tables import Answer, PageTime, PracticeAnswer, Stray, Task, Trial, Visit

BIN_MS = 50
"""Reaction times are counted in steps of so many milliseconds."""
SLOWEST_MS = 60_000
"""Slower ones are counted as this slow."""


@dataclass(frozen=True, slots=True)
class VisitProgress:
    """How far one visit came; times are milliseconds since 1970."""

    arm: str
    state: str
    payment: str
    arrived_at: int
    consented_at: int | None
    instructed_at: int | None
    practised_at: int | None
    submitted_at: int | None
    answers: int
    block: int
    """Of the practice, from 1; 0 before it."""
    page: str | None
    """The last page of the instructions that was left."""
    never_shown: bool
    """Ended here, and the platform never showed it."""


@dataclass(frozen=True, slots=True)
class UnitProgress:
    """One unit's answers in an arm."""

    arm: str
    unit: str
    planned: int
    valid: int
    """Answers in submissions that count."""


def visits_so_far(session: Session) -> Sequence[VisitProgress]:
    """Every visit but previews, in the order of arrival."""
    answers = select(Answer.visit_id, func.count().label("answers")).group_by(Answer.visit_id).subquery()
    latest = select(PracticeAnswer.visit_id, func.max(PracticeAnswer.block).label("block"))
    blocks = latest.group_by(PracticeAnswer.visit_id).subquery()
    last = select(func.max(PageTime.id)).group_by(PageTime.visit_id)
    pages = select(PageTime.visit_id, PageTime.page).where(PageTime.id.in_(last)).subquery()
    chosen = (
        select(
            Task.arm,
            Visit.state,
            Visit.payment,
            Visit.arrived_at,
            Visit.consented_at,
            Visit.instructed_at,
            Visit.practised_at,
            Visit.submitted_at,
            func.coalesce(answers.c.answers, 0),
            func.coalesce(blocks.c.block, 0),
            pages.c.page,
            Visit.platform_state.is_not_distinct_from(NEVER_SHOWN),
        )
        .join(Task, Task.id == Visit.task_id)
        .outerjoin(answers, answers.c.visit_id == Visit.id)
        .outerjoin(blocks, blocks.c.visit_id == Visit.id)
        .outerjoin(pages, pages.c.visit_id == Visit.id)
        .where(Visit.label != "preview")
        .order_by(Visit.arrived_at, Visit.id)
    )
    return [VisitProgress(*row) for row in session.execute(chosen)]


def units_so_far(session: Session) -> Sequence[UnitProgress]:
    """Every unit of every arm with its planned and its valid answers, by arm and unit."""
    good = and_(Answer.position == Trial.position, Answer.visit_id == Visit.id)
    held = and_(Visit.task_id == Trial.task_id, Visit.state == "valid")
    chosen = (
        select(
            Task.arm,
            Trial.unit,
            # Each trial of a task has one valid answer at most, so joining doesn't count one twice.
            func.count(),
            func.sum(case((Answer.visit_id.is_not(None), 1), else_=0)),
        )
        .join(Task, Task.id == Trial.task_id)
        .outerjoin(Visit, held)
        .outerjoin(Answer, good)
        .where(Trial.kind == "main")
        .group_by(Task.arm, Trial.unit)
        .order_by(Task.arm, Trial.unit)
    )
    return [UnitProgress(*row) for row in session.execute(chosen)]


def reaction_times(session: Session) -> dict[str, dict[int, int]]:
    """Arm → (lower end of a step of ``BIN_MS`` → answers), over all answers but those of previews."""
    capped = case((Answer.rt_ms > SLOWEST_MS, float(SLOWEST_MS)), else_=Answer.rt_ms)
    step = cast(func.floor(cast(capped, Float) / BIN_MS), Integer)
    chosen = (
        select(Task.arm, step, func.count())
        .select_from(Answer)
        .join(Visit, Visit.id == Answer.visit_id)
        .join(Task, Task.id == Visit.task_id)
        .where(Visit.label != "preview")
        .group_by(Task.arm, step)
        .order_by(Task.arm, step)
    )
    found: dict[str, dict[int, int]] = {}
    for arm, number, count in session.execute(chosen):
        found.setdefault(arm, {})[int(number) * BIN_MS] = count
    return found


def count_strays(session: Session) -> int:
    """Places on the platform that somebody took without a visit here, as the last harvest saw them."""
    return session.scalar(select(func.count()).select_from(Stray)) or 0
