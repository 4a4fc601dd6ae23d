"""What other thresholds of the exclusion criteria would change: one criterion at a time, the others as they are."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crowd_imi.study import ExclusionSection


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One criterion with another limit."""

    criterion: str
    limit: str
    """In words."""
    in_force: bool
    """The limit of study.toml."""
    counted: int
    """Submissions that would count."""
    change: int
    """By how many more that is than with the limits of study.toml as they are now."""
    mean: float | None
    """Mean over arms of the mean of unit means, null units left out; None when no answer would be left."""


@dataclass(frozen=True, slots=True)
class _Limit:
    criterion: str
    limit: str
    in_force: bool
    low: float
    high: float


def what_ifs(visits: pd.DataFrame, answers: pd.DataFrame, limits: ExclusionSection) -> tuple[WhatIf, ...]:
    """Count and score anew with other limits.

    Surplus submissions stay out. Whoever failed practice never came to the trials, so no limit brings them in; and with a looser
    limit some of them would not have been replaced, so that units have more answers here than they would have had.

    Args:
        visits: from ``store.answers.visits``.
        answers: from ``store.answers.main_answers``.
        limits: of study.toml.
    """
    judged = visits[visits["checks"].notna() & ~visits["surplus"].fillna(True).astype(bool)]
    if judged.empty:
        return ()
    checks = judged["checks"].tolist()
    real = answers[~answers["unit"].str.endswith("~null")]
    passed = {
        name: np.array([check.get(name, {}).get("passed") is not False for check in checks])
        for name in dict.fromkeys(name for check in checks for name in check)
    }
    now = _counted(passed)
    found = []
    for limit in _limits(limits):
        if limit.criterion not in passed:
            continue
        measured = np.array([_measured(check, limit.criterion) for check in checks])
        with_it = np.isnan(measured) | ((measured >= limit.low) & (measured <= limit.high))
        if limit.criterion == "practice_blocks":
            with_it &= passed[limit.criterion]  # who failed practice never came to the trials
        if limit.in_force:
            with_it = passed[limit.criterion]  # as it was judged at the time
        counted = _counted({**passed, limit.criterion: with_it})
        mean = _mean(real[real["visit"].isin(judged["visit"][counted])])
        change = int(counted.sum() - now.sum())
        found.append(WhatIf(limit.criterion, limit.limit, limit.in_force, int(counted.sum()), change, mean))
    return tuple(found)


def _counted(passed: dict[str, np.ndarray]) -> np.ndarray:
    every: np.ndarray = np.logical_and.reduce(list(passed.values()))
    return every


def _measured(checks: dict[str, dict[str, float | None]], criterion: str) -> float:
    value = checks.get(criterion, {}).get("measured")
    return np.nan if value is None else float(value)


def _mean(answers: pd.DataFrame) -> float | None:
    if answers.empty:
        return None
    units = answers.groupby(["arm", "unit"], observed=True)["correct"].mean()
    return float(units.groupby("arm", observed=True).mean().mean())


def _limits(limits: ExclusionSection) -> Iterator[_Limit]:
    """Looser and stricter ones beside those in force."""
    share = limits.min_catch_ratio
    for each in sorted({0.0, 0.6, 0.8, 1.0, share}):
        yield _Limit("catch_trials", f"at least {each:.0%}", each == share, each, np.inf)
    least, most = limits.min_total_seconds, limits.max_total_seconds
    for low in dict.fromkeys((0, round(least / 2), least, round(least * 1.5))):
        yield _Limit("total_time", f"{low} to {most} s", low == least, low, most)
    for high in dict.fromkeys((round(most / 2), most * 2)):
        yield _Limit("total_time", f"{least} to {high} s", False, least, high)
    told = limits.min_instruction_seconds
    for low in dict.fromkeys((0, told, told * 2, told * 4)):
        yield _Limit("instruction_time", f"at least {low} s", low == told, low, np.inf)
    rows = limits.min_row_choices
    for low in dict.fromkeys((0, rows, rows * 2)):
        yield _Limit("row_choices", f"each row at least {low} time{'' if low == 1 else 's'}", low == rows, low, np.inf)
    for high in range(1, limits.max_practice_blocks + 1):
        last = high == limits.max_practice_blocks
        yield _Limit("practice_blocks", f"within {high} block{'' if high == 1 else 's'}", last, -np.inf, high)
