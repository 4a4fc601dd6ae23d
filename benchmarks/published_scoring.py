"""The published scoring chain in its own shape, written anew: what ``benchmarks.score`` compares with.

As in the published analysis, the structure of trials is joined row by row, the results of the checks with one mask over the
arm's table per submission and column, and every unit's mean takes two masks.
"""

import random
from typing import Any

import pandas as pd

from benchmarks.responses import CATCH, CHECKS, MAIN, PANELS, UNITS

Structure = dict[int, list[dict[str, Any]]]


def simulate(tasks: int, seed: int) -> tuple[pd.DataFrame, Structure, pd.DataFrame]:
    """One arm: a row per answer, the structure of its tasks, and a row of check results per submission."""
    rng = random.Random(seed)
    units = [(f"layer{place % 12}", place) for place in range(UNITS)]
    rows, checks = [], []
    structure: Structure = {}
    for task in range(1, tasks + 1):
        trials: list[dict[str, Any]] = [
            {"layer": layer, "channel": channel, "batch": rng.randrange(PANELS), "mode": "natural"}
            for layer, channel in rng.sample(units, MAIN)
        ]
        trials += [{"layer": "catch", "channel": place, "batch": -1, "mode": "catch_trial"} for place in range(CATCH)]
        rng.shuffle(trials)
        structure[task] = trials
        whose = {"task_number": task, "participant_id": f"P{task:04d}"}
        rows += [
            {
                **whose,
                "position": position,
                "correct": rng.random() < 0.83,
                "confidence": rng.randrange(1, 4),
                "rt": 3000.0,
                "catch_trial": trial["mode"] == "catch_trial",
            }
            for position, trial in enumerate(trials)
        ]
        checks.append({**whose, "passed_checks": True, **{f"{name}_{part}": True for name in CHECKS for part in _PARTS}})
    return pd.DataFrame(rows), structure, pd.DataFrame(checks)


_PARTS = ("result", "details")


def published(responses: pd.DataFrame, structure: Structure, checks: pd.DataFrame) -> dict[tuple[str, int], float]:
    """Unit means, the published way."""
    return _unit_means(_join_checks(_join_structure(responses, structure), checks))


def _join_structure(responses: pd.DataFrame, structure: Structure) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {name: [] for name in ("layer", "channel", "batch", "mode")}
    for index in responses.index:
        trial = structure[responses.loc[index, "task_number"]][responses.loc[index, "position"]]
        for name, values in columns.items():
            values.append(trial[name])
    return responses.assign(**columns)


def _join_checks(responses: pd.DataFrame, checks: pd.DataFrame) -> pd.DataFrame:
    responses = responses.copy()
    for column in checks.columns.difference(["task_number", "participant_id"]):
        responses[column] = None
        for _, row in checks.iterrows():
            mask = (responses["participant_id"] == row["participant_id"]) & (responses["task_number"] == row["task_number"])
            responses.loc[mask, column] = row[column]
    return responses


def _unit_means(responses: pd.DataFrame) -> dict[tuple[str, int], float]:
    main = responses[~responses["catch_trial"]]
    means = {}
    for layer in main["layer"].unique():
        for channel in main[main["layer"] == layer]["channel"].unique():
            unit = main[main["layer"] == layer]
            unit = unit[unit["channel"] == channel]
            means[layer, channel] = float(unit["correct"].to_numpy().mean())
    return means
