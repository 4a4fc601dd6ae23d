"""Queries on visits, their answers and their pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, Connection, Integer, bindparam, case, cast, func, insert, select
from sqlalchemy.orm import Session

from crowd_imi.records import Tiles
from crowd_imi.store.tables import Answer, Event, PageTime, Posting, PracticeAnswer, Task, Trial, Visit


@dataclass(frozen=True, slots=True)
class ShownTrial:
    """What is needed to show a trial and to tell whether an answer is right; a task's never change."""

    sprite: str
    tiles: Tiles


@dataclass(frozen=True, slots=True)
class TaskTrials:
    """A task as its participant meets it."""

    arm: str
    trials: tuple[ShownTrial, ...]


def find_visit(session: Session, visit_id: str, *, lock: bool = False) -> Visit | None:
    """One visit; with ``lock`` nobody else changes it before this transaction ends."""
    return session.get(Visit, visit_id, with_for_update=True if lock else None)


@dataclass(frozen=True, slots=True)
class AtTrial:
    """What an answer to one trial has to know of its visit."""

    id: str
    generation: int
    state: str
    task_id: int
    layout_seed: int
    arrived_at: int
    practised_at: int | None
    submitted_at: int | None
    answered: int
    """Trials that are answered."""
    right: int
    """Those of them that are answered right."""
    row: str | None
    """What this trial was answered with before; None, as the next two are, where it wasn't."""
    confidence: int | None
    correct: bool | None


_visit, _answer = Visit.__table__.c, Answer.__table__.c
_there = _answer.position == bindparam("at_position")
# One pass over the visit's answers: how many there are, how many are right, and this trial's own, of which there is one at most.
_given = (
    select(
        _answer.visit_id,
        func.count().label("answered"),
        func.sum(case((_answer.correct, 1), else_=0)).label("right"),
        func.max(case((_there, _answer.row))).label("row"),
        func.max(case((_there, _answer.confidence))).label("confidence"),
        func.max(case((_there, cast(_answer.correct, Integer)))).label("correct"),
    )
    .where(_answer.visit_id == bindparam("of_visit"))
    .group_by(_answer.visit_id)
    .subquery()
)
_AT_TRIAL = (
    select(
        *(_visit[name] for name in ("id", "generation", "state", "task_id", "layout_seed")),
        *(_visit[name] for name in ("arrived_at", "practised_at", "submitted_at")),
        func.coalesce(_given.c.answered, 0),
        func.coalesce(_given.c.right, 0),
        *(_given.c[name] for name in ("row", "confidence", "correct")),
    )
    .select_from(Visit.__table__.outerjoin(_given, _given.c.visit_id == _visit.id))
    .where(_visit.id == bindparam("of_visit"))
    .with_for_update(of=Visit.__table__)
)
_ADD_ANSWER = insert(Answer)


def visit_at_trial(connection: Connection, visit_id: str, position: int) -> AtTrial | None:
    """A visit, locked, and how far it is; None where there is none.

    One narrow read: as objects, the visit and its answers take most of the time that storing an answer takes.
    """
    found = connection.execute(_AT_TRIAL, {"of_visit": visit_id, "at_position": position}).one_or_none()
    if found is None:
        return None
    values = [*found]
    values[-1] = None if values[-1] is None else bool(values[-1])
    return AtTrial(*values)


def add_answer(connection: Connection, answer: Mapping[str, object]) -> None:
    """Store one answer: a value for every column."""
    connection.execute(_ADD_ANSWER, dict(answer))


def visit_of_participant(session: Session, participant: str) -> Visit | None:
    """The participant's only visit, locked."""
    return session.scalars(select(Visit).where(Visit.participant == participant).with_for_update()).one_or_none()


def posting_of(session: Session, platform: str, platform_id: str) -> Posting | None:
    """The posting that a platform calls ``platform_id``."""
    query = select(Posting).where(Posting.platform == platform, Posting.platform_id == platform_id)
    return session.scalars(query).one_or_none()


def count_trials(reading: Session | Connection, task_id: int) -> int:
    """How many questions a task asks, catch trials among them."""
    return reading.scalar(select(func.count()).where(Trial.task_id == task_id)) or 0


def load_task(session: Session, task_id: int) -> TaskTrials:
    """A task's arm and its trials in order."""
    arm = session.scalars(select(Task.arm).where(Task.id == task_id)).one()
    trials = session.execute(select(Trial.sprite, Trial.tiles).where(Trial.task_id == task_id).order_by(Trial.position))
    return TaskTrials(arm, tuple(ShownTrial(sprite, Tiles.model_validate(tiles)) for sprite, tiles in trials))


def answers_of(session: Session, visit_id: str) -> Sequence[Answer]:
    """A visit's answers in order; position ``i`` is element ``i``."""
    return session.scalars(select(Answer).where(Answer.visit_id == visit_id).order_by(Answer.position)).all()


def has_answered_all() -> ColumnElement[bool]:
    """The condition that every question of a visit's task is answered."""
    answers = select(func.count()).where(Answer.visit_id == Visit.id).correlate(Visit).scalar_subquery()
    trials = select(func.count()).where(Trial.task_id == Visit.task_id).correlate(Visit).scalar_subquery()
    return answers == trials


def finished_at(session: Session, visit_id: str) -> int | None:
    """When the last question of a visit was answered; None while one of them isn't."""
    last = select(func.max(Answer.at)).where(Answer.visit_id == Visit.id).correlate(Visit).scalar_subquery()
    return session.scalar(select(last).where(Visit.id == visit_id, has_answered_all()))


def practice_answers_of(session: Session, visit_id: str, block: int | None = None) -> Sequence[PracticeAnswer]:
    """A visit's practice answers in order, of one block or of the latest one."""
    if block is None:
        latest = select(func.max(PracticeAnswer.block)).where(PracticeAnswer.visit_id == visit_id)
        block = session.scalar(latest) or 1
    query = select(PracticeAnswer).where(PracticeAnswer.visit_id == visit_id, PracticeAnswer.block == block)
    return session.scalars(query.order_by(PracticeAnswer.position)).all()


def count_remarks(session: Session, visit_id: str, of: Literal["events", "pages"]) -> int:
    """How many events or page times a visit has."""
    table = Event if of == "events" else PageTime
    return session.scalar(select(func.count()).select_from(table).where(table.visit_id == visit_id)) or 0
