"""The plan in the store: tasks and trials, and what came after it."""

from collections.abc import Collection, Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from crowd_imi.plan import Amendment, Plan, PlannedTask, Replaced, VoidedUnit
from crowd_imi.records import Unit
from crowd_imi.seeds import generator
from crowd_imi.store.tables import Amendment as AmendmentRow
from crowd_imi.store.tables import Task, Trial


def load_tasks(session: Session, plan: Plan) -> None:
    """Write every task of the plan; ``draw`` is a random order within each arm, from the plan's seed."""
    arms: dict[str, int] = {}
    for planned in plan.tasks:
        arms[planned.arm] = arms.get(planned.arm, 0) + 1
    draws = {arm: generator(plan.seed, "draw", arm).permutation(count) for arm, count in arms.items()}
    seen = dict.fromkeys(arms, 0)
    for task_id, planned in enumerate(plan.tasks, 1):
        draw = int(draws[planned.arm][seen[planned.arm]])
        seen[planned.arm] += 1
        _add(session, task_id, planned, draw)


def add_tasks(session: Session, tasks: Sequence[PlannedTask], seed: int, name: str) -> None:
    """Write an amendment's tasks; an arm hands them out behind its earlier ones, in a random order of their own.

    Args:
        session: in a transaction that writes.
        tasks: new ones.
        seed: the plan's.
        name: the amendment's.
    """
    following = (session.scalar(select(func.max(Task.id))) or 0) + 1
    for arm in dict.fromkeys(task.arm for task in tasks):
        own = [task for task in tasks if task.arm == arm]
        behind = (session.scalar(select(func.max(Task.draw)).where(Task.arm == arm)) or 0) + 1
        for planned, draw in zip(own, generator(seed, "draw", arm, name).permutation(len(own)), strict=True):
            _add(session, following, planned, behind + int(draw))
            following += 1


def retire(session: Session, replaced: Sequence[Replaced], now: int) -> None:
    """Hand these tasks out to nobody new; who is at one goes on."""
    for one in replaced:
        where = (Task.arm == one.arm, Task.label == one.label, Task.number == one.number)
        session.execute(update(Task).where(*where, Task.retired_at.is_(None)).values(retired_at=now))


def set_aside(session: Session, *, units: Sequence[VoidedUnit] = (), tasks: Sequence[Replaced] = ()) -> None:
    """Mark trials as void, so that answers to them, of now and of later, are left out of the analysis.

    Args:
        session: in a transaction that writes.
        units: every trial that shows panels of them made before their revision.
        tasks: all trials of these.
    """
    for unit in units:
        of_arm = select(Task.id).where(Task.arm == unit.arm)
        where = (Trial.task_id.in_(of_arm), Trial.unit == unit.unit, Trial.revision < unit.revision)
        session.execute(update(Trial).where(*where).values(voided=True))
    for task in tasks:
        found = select(Task.id).where(Task.arm == task.arm, Task.label == task.label, Task.number == task.number)
        session.execute(update(Trial).where(Trial.task_id.in_(found)).values(voided=True))


def amendments(session: Session) -> tuple[Amendment, ...]:
    """What came after the plan, the oldest first."""
    rows = session.scalars(select(AmendmentRow.content).order_by(AmendmentRow.number))
    return tuple(Amendment.model_validate(content) for content in rows)


def keep_amendment(session: Session, amendment: Amendment) -> None:
    """Write down what came after the plan, in the transaction in which it comes."""
    number = (session.scalar(select(func.max(AmendmentRow.number))) or 0) + 1
    session.add(AmendmentRow(number=number, name=amendment.name, content=amendment.model_dump(mode="json")))


def shows(session: Session, sprite: str) -> bool:
    """Whether a task has this sprite."""
    return session.scalar(select(Trial.task_id).where(Trial.sprite == sprite).limit(1)) is not None


def added_sprites(session: Session, planned: Collection[str]) -> frozenset[str]:
    """Sprites of all tasks beside those of the plan."""
    return frozenset(session.scalars(select(Trial.sprite))) - set(planned)


def _add(session: Session, task_id: int, planned: PlannedTask, draw: int) -> None:
    session.add(Task(id=task_id, arm=planned.arm, number=planned.number, label=planned.label, draw=draw))
    session.flush()
    session.add_all(
        Trial(
            task_id=task_id,
            position=position,
            kind=trial.kind,
            unit=trial.unit,
            null_unit=Unit.from_key(trial.unit).null,
            batch=trial.batch,
            revision=trial.revision,
            sprite=trial.sprite,
            tiles=trial.tiles.model_dump(),
        )
        for position, trial in enumerate(planned.trials)
    )
