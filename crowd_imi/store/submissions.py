"""Queries of the harvest: tasks and where they stand, visits to judge and to pay, places that nobody used."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select
from sqlalchemy.orm import Session

from crowd_imi.store.tables import Answer, Event, Person, PracticeAnswer, Stray, Task, Trial, Verdict, Visit

NEVER_SHOWN = "never_shown"
"""A ``platform_state`` in our words: ended here, and the platform hasn't shown it for as long as a visit may take.

It keeps no task, no attempt, no place and no money. Should it show up after all, it is late, and paid from what is left.
"""


@dataclass(frozen=True, slots=True)
class TaskStanding:
    """Where one task stands."""

    task: int
    arm: str
    label: str
    """main or pilot."""
    number: int
    holder: str | None
    """State of the visit that holds it; None while nobody does."""
    attempts: int
    """Visits that ended in one of the states asked for, and that the platform knows of."""


@dataclass(frozen=True, slots=True)
class AnsweredTrial:
    """One answer beside what was asked."""

    kind: str
    null_unit: bool
    row: str
    correct: bool
    at: int
    saving_ms: float | None
    confidence: int
    rt_ms: float


def task_standings(session: Session, attempt_states: Collection[str]) -> Sequence[TaskStanding]:
    """Every task, in the order in which an arm's free ones are handed out; one that was retired, while somebody is at it."""
    ended = and_(Visit.state.in_(sorted(attempt_states)), Visit.platform_state.is_distinct_from(NEVER_SHOWN))
    attempts = func.sum(case((ended, 1), else_=0))
    holder = func.max(case((Visit.holds_task, Visit.state), else_=None))
    chosen = (
        select(Task.id, Task.arm, Task.label, Task.number, holder, func.coalesce(attempts, 0))
        .outerjoin(Visit, Visit.task_id == Task.id)
        .group_by(Task.id, Task.arm, Task.label, Task.number, Task.draw, Task.retired_at)
        .having(or_(Task.retired_at.is_(None), and_(holder.is_not(None), holder != "valid")))
        .order_by(Task.arm, func.count(Visit.id), Task.draw)
    )
    return [TaskStanding(*row) for row in session.execute(chosen)]


def visits_of(session: Session, posting: str) -> Sequence[Visit]:
    """Every visit that came through a posting, in the order of arrival."""
    return session.scalars(select(Visit).where(Visit.posting_id == posting).order_by(Visit.arrived_at, Visit.id)).all()


def visits_with_remarks(session: Session) -> Sequence[tuple[Visit, str]]:
    """Visits whose participant wrote something at the end, each with its arm, in the order of submission; previews aside."""
    chosen = select(Visit, Task.arm).join(Task, Visit.task_id == Task.id).where(Visit.feedback.is_not(None))
    query = chosen.where(Visit.label != "preview").order_by(Visit.submitted_at, Visit.id)
    return [(visit, arm) for visit, arm in session.execute(query)]


def visits_to_judge(session: Session, posting: str, states: Collection[str]) -> Sequence[str]:
    """Ids of visits in these states: first those that hold their task, then the others, each in the order of submission."""
    chosen = select(Visit.id).where(Visit.posting_id == posting, Visit.state.in_(sorted(states)))
    return session.scalars(chosen.order_by(Visit.holds_task.desc(), Visit.submitted_at, Visit.id)).all()


def visits_to_pay(session: Session, posting: str, states: Collection[str]) -> Sequence[Visit]:
    """Unpaid visits in these states: first who was in time, then late ones, each in the order of submission."""
    chosen = select(Visit).where(Visit.posting_id == posting, Visit.state.in_(sorted(states)), Visit.payment == "unpaid")
    return session.scalars(chosen.order_by(Visit.left_at.is_not(None), Visit.submitted_at, Visit.arrived_at, Visit.id)).all()


def settled_visits(session: Session) -> frozenset[str]:
    """Ids of visits that are paid here and approved there, so that nothing more can happen to them."""
    return frozenset(session.scalars(select(Visit.id).where(Visit.payment == "paid", Visit.platform_state == "approved")))


def count_payable(session: Session, states: Collection[str], *, unpaid_only: bool = False, in_time_only: bool = False) -> int:
    """Visits that are paid, or will have to be when they end in one of these states.

    Args:
        session: any.
        states: in which a visit may have to be paid.
        unpaid_only: leave out who is paid already.
        in_time_only: leave out late ones that aren't paid: they wait for what is left.
    """
    chosen = select(func.count()).select_from(Visit).where(Visit.label != "preview")
    chosen = chosen.where(_is_owed(states, in_time_only) if unpaid_only else is_payable(states, in_time_only))
    return session.scalar(chosen) or 0


def is_payable(states: Collection[str], in_time_only: bool = False) -> ColumnElement[bool]:
    """The condition by which ``count_payable`` counts a visit."""
    return or_(_is_owed(states, in_time_only), Visit.payment == "paid")


def _is_owed(states: Collection[str], in_time_only: bool) -> ColumnElement[bool]:
    owed = and_(Visit.state.in_(sorted(states)), Visit.payment == "unpaid", Visit.platform_state.is_distinct_from(NEVER_SHOWN))
    return and_(owed, Visit.left_at.is_(None)) if in_time_only else owed


def are_payable(session: Session, states: Collection[str]) -> dict[str, bool]:
    """Visit id → whether ``count_payable`` counts it, with these states."""
    chosen = select(Visit.id, is_payable(states)).where(Visit.label != "preview")
    return {visit: bool(payable) for visit, payable in session.execute(chosen)}


def answered_trials(session: Session, visit: str) -> Sequence[AnsweredTrial]:
    """A visit's answers in order, main and catch trials alike."""
    chosen = (
        select(
            Trial.kind,
            Trial.null_unit,
            Answer.row,
            Answer.correct,
            Answer.at,
            Answer.saving_ms,
            Answer.confidence,
            Answer.rt_ms,
        )
        .select_from(Answer)
        .join(Visit, Visit.id == Answer.visit_id)
        .join(Trial, and_(Trial.task_id == Visit.task_id, Trial.position == Answer.position))
        .where(Answer.visit_id == visit)
        .order_by(Answer.position)
    )
    return [AnsweredTrial(*row) for row in session.execute(chosen)]


def events_of(session: Session, visit: str) -> Sequence[Event]:
    """What the browser reported in a visit, in the order in which it came."""
    return session.scalars(select(Event).where(Event.visit_id == visit).order_by(Event.at, Event.id)).all()


def practice_blocks_of(session: Session, visit: str) -> int:
    """How many practice blocks a visit began."""
    return session.scalar(select(func.count(PracticeAnswer.block.distinct())).where(PracticeAnswer.visit_id == visit)) or 0


def verdicts(session: Session, label: str = "main") -> Sequence[tuple[str, Verdict]]:
    """Every verdict on the study's visits, or on its pilot's, with its arm."""
    chosen = select(Task.arm, Verdict).join(Visit, Visit.id == Verdict.visit_id).join(Task, Task.id == Visit.task_id)
    chosen = chosen.where(Visit.label == label)
    return [(arm, verdict) for arm, verdict in session.execute(chosen)]


def judged_visits(session: Session, label: str | None = "main") -> Sequence[tuple[str, Visit, Verdict]]:
    """Arm, visit and verdict of every submission that was judged, in the order of arrival.

    Args:
        session: any.
        label: whose: those of the study, which are analysed, or of its pilot; None for both.
    """
    chosen = select(Task.arm, Visit, Verdict).join(Visit, Visit.id == Verdict.visit_id).join(Task, Task.id == Visit.task_id)
    if label is not None:
        chosen = chosen.where(Visit.label == label)
    found = session.execute(chosen.order_by(Visit.arrived_at, Visit.id))
    return [(arm, visit, verdict) for arm, visit, verdict in found]


def main_trials(session: Session) -> Sequence[tuple[int, str, str]]:
    """Task, arm and unit of every main trial."""
    chosen = select(Task.id, Task.arm, Trial.unit).join(Trial, Trial.task_id == Task.id).where(Trial.kind == "main")
    return [(task, arm, unit) for task, arm, unit in session.execute(chosen)]


def arms_of_tasks(session: Session) -> dict[int, str]:
    """Task → its arm."""
    return {task: arm for task, arm in session.execute(select(Task.id, Task.arm))}  # noqa: C416 (rows aren't pairs for mypy)


def submission_ids(people: Session, platform: str) -> dict[str, str]:
    """Visit id → the platform's id of its submission, from people.db; some visits may never have come about."""
    chosen = select(Person.visit_id, Person.platform_submission).where(Person.platform == platform)
    return {row.visit_id: row.platform_submission for row in people.execute(chosen)}


def participants_of(session: Session) -> dict[str, str]:
    """Visit id → its participant's hash, of every visit but previews."""
    chosen = select(Visit.id, Visit.participant).where(Visit.label != "preview")
    return {row.id: row.participant for row in session.execute(chosen)}


def see_strays(session: Session, posting: str, submissions: Iterable[str], now: int) -> dict[str, int]:
    """Note the places that somebody took without a visit here.

    Args:
        session: in a transaction that writes.
        posting: our id.
        submissions: hashes of all such submissions now; others that were noted are forgotten.
        now: milliseconds since 1970.

    Returns:
        Hash → when it was first seen.
    """
    current = set(submissions)
    seen = {row.submission: row.seen_at for row in session.scalars(select(Stray).where(Stray.posting_id == posting))}
    gone = sorted(seen.keys() - current)
    if gone:
        session.execute(delete(Stray).where(Stray.submission.in_(gone)))
    session.add_all(Stray(submission=stray, posting_id=posting, seen_at=now) for stray in sorted(current - seen.keys()))
    return {stray: seen.get(stray, now) for stray in current}
