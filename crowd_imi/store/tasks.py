"""The plan in the store: tasks and trials."""

from sqlalchemy.orm import Session

from crowd_imi.plan import Plan
from crowd_imi.records import Unit
from crowd_imi.seeds import generator
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
        session.add(Task(id=task_id, arm=planned.arm, number=planned.number, draw=draw))
        session.flush()
        session.add_all(
            Trial(
                task_id=task_id,
                position=position,
                kind=trial.kind,
                unit=trial.unit,
                null_unit=Unit.from_key(trial.unit).null,
                batch=trial.batch,
                sprite=trial.sprite,
                tiles=trial.tiles.model_dump(),
            )
            for position, trial in enumerate(planned.trials)
        )
