"""Stores filled by hand: visits, answers, verdicts and pay without pages or platforms."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from crowd_imi.criteria import Check
from crowd_imi.lifecycle import Payment, VisitState
from crowd_imi.plan import Plan
from crowd_imi.records import Unit
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.store.tables import Answer, Intent, Posting, Task, Trial, Verdict, Visit
from crowd_imi.store.tasks import load_tasks
from crowd_imi.study import Study

BEGIN = 1_750_000_000_000
MINUTE = 60_000

LIMITS = {
    "catch_trials": "at least 80% of the catch trials right",
    "total_time": "60 to 2500 s from consent to submission",
    "instruction_time": "at least 15 s on the instructions",
    "row_choices": "each row chosen at least 5 times",
    "practice_blocks": "all right within 3 practice blocks",
}

Ability = Callable[[str, Unit], float]
"""(arm, unit) → probability of a right answer."""


def make_store(study: Study, plan: Plan, folder: Path, *, pack_sha256: str = "0" * 64) -> Store:
    """A rehearsal's store with the plan's tasks and one posting."""
    about = {"study": study.file.study.name, "plan_sha256": plan.sha256, "pack_sha256": pack_sha256}
    store = Store.create(*database_urls(folder), StoreKind.REHEARSAL, about)
    with store.write() as session:
        load_tasks(session, plan)
        session.add(Posting(id="p", platform="local", platform_id="1", places=99, state="open", created_at=BEGIN))
    return store


def add_visit(session: Session, task: Task, number: int, state: VisitState, **changes: Any) -> Visit:
    """A visit; by default it went all the way in ten minutes."""
    arrived = BEGIN + number * MINUTE
    visit = Visit(
        id=f"v{number}",
        participant=f"hash{number}",
        posting_id="p",
        task_id=task.id,
        holds_task=state is VisitState.VALID,
        state=state.value,
        payment=Payment.PAID.value,
        platform_state="approved",
        generation=1,
        layout_seed=number,
        label="main",
        arrived_at=arrived,
        consented_at=arrived + MINUTE // 2,
        consent_version="1",
        instructed_at=arrived + 2 * MINUTE,
        practised_at=arrived + 3 * MINUTE,
        submitted_at=arrived + 10 * MINUTE,
        left_at=None,
        feedback=None,
        browser=None,
    )
    for name, value in changes.items():
        setattr(visit, name, value)
    session.add(visit)
    session.flush()
    return visit


def add_answers(session: Session, visit: Visit, correct: Mapping[int, bool], confidence: int = 2, rt_ms: float = 900.0) -> None:
    """An answer at each of these positions."""
    for position, right in correct.items():
        session.add(
            Answer(
                visit_id=visit.id,
                position=position,
                row="upper",
                choice="max" if right else "min",
                correct=right,
                confidence=confidence,
                rt_ms=rt_ms,
                shown_ms=rt_ms + 1500,
                saving_ms=None,
                at=visit.arrived_at + (4 + position) * 1000,
            )
        )


def judge(session: Session, visit: Visit, *failed: str, surplus: bool = False) -> None:
    """A verdict: excluded when a criterion is named, or when the task had its valid response already."""
    checks = {
        name: Check(criterion=name, passed=name not in failed, measured=1.0, limit=limit).model_dump()
        for name, limit in LIMITS.items()
    }
    session.add(Verdict(visit_id=visit.id, valid=not failed and not surplus, surplus=surplus, checks=checks, at=visit.arrived_at))


def fill(session: Session, study: Study, ability: Ability, rng: np.random.Generator) -> None:
    """A valid submission for every task, and beside them some of everything else that happens."""
    number = 0
    for task in session.query(Task).order_by(Task.id).all():
        trials = session.query(Trial).filter_by(task_id=task.id).order_by(Trial.position).all()
        endings = [None]
        if rng.random() < 0.35:
            endings.insert(0, str(rng.choice(["returned", "timed_out", "declined", "practice", "rows", "fast", "catch"])))
        for ending in endings:
            number += 1
            _take_part(session, study, task, trials, number=number, ending=ending, ability=ability, rng=rng)
    session.add(
        Intent(
            id="post",
            operation="post",
            subject="p",
            amount=0,
            currency="USD",
            state="done",
            outcome="1",
            opened_at=BEGIN,
            closed_at=BEGIN,
        )
    )


def _take_part(session, study, task, trials, *, number, ending, ability, rng) -> None:
    minutes = float(np.clip(rng.lognormal(np.log(8.5), 0.3), 3, 35)) if ending != "fast" else 1.2
    arrived = BEGIN + number * MINUTE
    steps = {"consented_at": 0.03, "instructed_at": 0.2, "practised_at": 0.35, "submitted_at": 1.0}
    times = {step: arrived + int(share * minutes * MINUTE) for step, share in steps.items()}
    match ending:
        case "declined":
            none = dict.fromkeys(("consented_at", "instructed_at", "practised_at", "submitted_at"))
            add_visit(session, task, number, VisitState.DECLINED, **none)
            return
        case "returned" | "timed_out":
            none = dict.fromkeys(("submitted_at",))
            add_visit(session, task, number, VisitState(ending), **none, left_at=arrived + 3 * MINUTE)
            return
        case "practice":
            none = dict.fromkeys(("submitted_at", "practised_at"))
            visit = add_visit(session, task, number, VisitState.EXCLUDED, **none)
            judge(session, visit, "practice_blocks")
        case None:
            visit = add_visit(session, task, number, VisitState.VALID, **times)
            judge(session, visit)
        case _:
            visit = add_visit(session, task, number, VisitState.EXCLUDED, **times)
            failed = {"rows": ("row_choices", "catch_trials"), "fast": ("total_time",), "catch": ("catch_trials",)}
            judge(session, visit, *failed[ending])
    if ending != "practice":
        careless = ending is not None
        for trial in trials:
            unit = Unit.from_key(trial.unit)
            chance = 0.95 if trial.kind == "catch" else ability(task.arm, unit)
            right = bool(rng.random() < (0.5 if careless else chance))
            add_answers(session, visit, {trial.position: right}, int(rng.integers(1, 4)), float(rng.lognormal(np.log(1800), 0.5)))
    pay = study.file.pay
    session.add(
        Intent(
            id=f"i{number}",
            operation="approve",
            subject=visit.id,
            amount=pay.reward,
            currency=pay.currency,
            state="done",
            outcome="approved",
            opened_at=BEGIN,
            closed_at=BEGIN,
        )
    )
