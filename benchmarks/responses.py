"""Responses to score: a store with 23 arms, and the published chain's tables of the same size.

Abilities are drawn as people's: units, panels within units and participants spread, and half of the rest is guessed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from sqlalchemy import insert

from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.store.tables import Answer, Posting, Task, Trial, Verdict, Visit
from crowd_imi.study import ArmSection, Study, load_study
from crowd_imi.study_templates import TemplateName, template

UNITS, MAIN, CATCH, PANELS = 84, 40, 5, 11
CHECKS = ("practice_blocks", "catch_trials", "total_time", "row_choices", "instruction_time")
BEGIN = 1_750_000_000_000
TILES = {"references": {"min": list(range(9)), "max": list(range(9, 18))}, "queries": {"min": 18, "max": 19}}


@dataclass(frozen=True, slots=True)
class Filled:
    """A study whose participants are through."""

    study: Study
    store: Store
    responses: int
    """Answers to main trials in valid submissions."""


def fill(folder: Path, tasks: int, seed: int = 0) -> Filled:
    """The published experiment's 23 arms with so many tasks each, all done; every eighth of them excluded somebody before.

    Args:
        folder: where the study comes to lie; empty.
        tasks: of an arm, of 40 main and 5 catch trials each.
        seed: of everything random.
    """
    (folder / "study.toml").write_text(template(TemplateName.IMI), encoding="utf-8")
    study = load_study(folder)
    store = Store.create(*database_urls(folder), StoreKind.STUDY, {"study": "imi", "plan_sha256": "0", "pack_sha256": "0"})
    rng = np.random.default_rng(seed)
    with store.write() as session:
        posting = {"id": "p", "platform": "local", "platform_id": "1", "places": 1, "state": "open", "created_at": BEGIN}
        session.execute(insert(Posting), [posting])
        for place, arm in enumerate(study.file.arms):
            rows = _arm(arm, 1 + place * tasks, tasks, rng)
            for table in (Task, Trial, Visit, Verdict, Answer):
                session.execute(insert(table), rows[table])
    return Filled(study, store, len(study.file.arms) * tasks * MAIN)


def _arm(arm: ArmSection, first: int, tasks: int, rng: np.random.Generator) -> dict[type, list[dict[str, Any]]]:
    """Every table's rows of one arm."""
    units = [f"{arm.model}/layer{place % 12}/{place}" for place in range(UNITS)]
    ease = rng.normal(1.2, 1.0, UNITS)
    panels = rng.normal(0, 1.0, (UNITS, PANELS))
    rows: dict[type, list[dict[str, Any]]] = {table: [] for table in (Task, Trial, Visit, Verdict, Answer)}
    shown = np.zeros(UNITS, dtype=int)
    for task in range(first, first + tasks):
        rows[Task].append({"id": task, "arm": arm.id, "number": task - first + 1, "draw": task - first})
        chosen = np.lexsort((rng.random(UNITS), shown))[:MAIN]
        batches = shown[chosen] % PANELS
        shown[chosen] += 1
        trials = [("main", int(unit), int(batch)) for unit, batch in zip(chosen, batches, strict=True)]
        trials += [("catch", int(unit), 0) for unit in rng.choice(UNITS, CATCH)]
        order = rng.permutation(len(trials))
        for position, index in enumerate(order):
            kind, unit, batch = trials[index]
            common = {"task_id": task, "position": position, "kind": kind, "unit": units[unit], "null_unit": False}
            rows[Trial].append({**common, "batch": batch, "sprite": f"{task:040d}{position:03d}", "tiles": TILES})
        visits = ["valid"] if task % 8 else ["excluded", "valid"]
        for state in visits:
            visit = f"{task:08d}-{state}-{'0' * 16}"
            rows[Visit].append(_visit(visit, task, state))
            passed = state == "valid"
            rows[Verdict].append(_verdict(visit, passed))
            person = rng.normal(0, 0.7)
            for position, index in enumerate(order):
                _kind, unit, batch = trials[index]
                chance = 0.5 + 0.5 * expit(ease[unit] + panels[unit, batch] + person) * passed
                rows[Answer].append(_answer(visit, position, bool(rng.random() < chance), rng))
    return rows


def _visit(visit: str, task: int, state: str) -> dict[str, Any]:
    times = {"arrived_at": 0, "consented_at": 30, "instructed_at": 90, "practised_at": 150, "submitted_at": 600}
    return {
        "id": visit,
        "participant": visit,
        "posting_id": "p",
        "task_id": task,
        "holds_task": state == "valid",
        "state": state,
        "payment": "paid",
        "platform_state": "approved",
        "generation": 1,
        "layout_seed": task,
        "label": "main",
        **{name: BEGIN + 1000 * seconds for name, seconds in times.items()},
        "consent_version": "1",
        "left_at": None,
        "feedback": None,
        "browser": None,
    }


def _verdict(visit: str, passed: bool) -> dict[str, Any]:
    checks = {name: {"criterion": name, "passed": passed, "measured": 1.0, "limit": "at least 0.8"} for name in CHECKS}
    return {"visit_id": visit, "valid": passed, "surplus": False, "checks": checks, "at": BEGIN}


def _answer(visit: str, position: int, right: bool, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "visit_id": visit,
        "position": position,
        "row": "upper",
        "choice": "max" if right else "min",
        "correct": right,
        "confidence": int(rng.integers(1, 4)),
        "rt_ms": float(rng.lognormal(7.5, 0.5)),
        "shown_ms": 4000.0,
        "saving_ms": 20.0,
        "at": BEGIN + 10_000 * position,
    }
