"""Queries on visits, their answers and their pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, func, select
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


def visit_of_participant(session: Session, participant: str) -> Visit | None:
    """The participant's only visit, locked."""
    return session.scalars(select(Visit).where(Visit.participant == participant).with_for_update()).one_or_none()


def posting_of(session: Session, platform: str, platform_id: str) -> Posting | None:
    """The posting that a platform calls ``platform_id``."""
    query = select(Posting).where(Posting.platform == platform, Posting.platform_id == platform_id)
    return session.scalars(query).one_or_none()


def load_task(session: Session, task_id: int) -> TaskTrials:
    """A task's arm and its trials in order."""
    arm = session.get_one(Task, task_id).arm
    trials = session.scalars(select(Trial).where(Trial.task_id == task_id).order_by(Trial.position))
    return TaskTrials(arm, tuple(ShownTrial(trial.sprite, Tiles.model_validate(trial.tiles)) for trial in trials))


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
