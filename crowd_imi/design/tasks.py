"""Which unit stands in which task, and with which of its panels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crowd_imi.errors import DesignError

Indices = NDArray[np.int64]


def draw_tasks(units: int, responses: int, trials: int, rng: np.random.Generator, null: Sequence[bool] | None = None) -> Indices:
    """Every unit exactly ``responses`` times, never twice in a task, in random company and order.

    Each task takes its units by systematic sampling in a fresh random order: a unit that is wanted ``w`` more times with
    ``t`` tasks to go gets in with probability ``w / t``. So nobody can be wanted more often than there are tasks left,
    and the last task comes out even. Null units stand behind the others in that order, so every task has its share of
    each, give or take one: criteria look at real units alone, and a task with few of them couldn't be passed.

    Args:
        units: number of units.
        responses: how often each is shown.
        trials: main trials of a task, at most ``units``.
        rng: where chance comes from.
        null: which units are null units, shape (units,); none of them when it is left out.

    Returns:
        Unit indices, shape (units × responses / trials, trials).

    Raises:
        DesignError: a task would need a unit twice, or the trials don't fill whole tasks.
    """
    if trials > units:
        raise DesignError(f"a task of {trials} trials needs {trials} different units, but there are {units}; lower tasks.trials")
    if units * responses % trials:
        raise DesignError(
            f"{units} units × {responses} responses can't be cut into tasks of {trials} trials; change tasks.trials or responses"
        )
    wanted = np.full(units, responses, dtype=np.int64)
    behind = np.zeros(units, dtype=np.bool_) if null is None else np.asarray(null, dtype=np.bool_)
    tasks = []
    for left in range(units * responses // trials, 0, -1):
        order = rng.permutation(units)
        order = order[np.argsort(behind[order], kind="stable")]
        marks = rng.integers(left) + left * np.arange(trials)
        chosen = order[np.searchsorted(np.cumsum(wanted[order]), marks, side="right")]
        wanted[chosen] -= 1
        tasks.append(rng.permutation(chosen))
    return np.stack(tasks)


def take_turns(tasks: Indices, panels: Sequence[int], rng: np.random.Generator) -> Indices:
    """Each unit's panels in turn over its appearances, from a random one on.

    Args:
        tasks: unit indices, shape (tasks, trials), no unit twice in a row.
        panels: how many panels each unit has.
        rng: where chance comes from.

    Returns:
        Panel indices, of the same shape; a unit's panels are used equally often, give or take one.
    """
    return go_on(tasks, panels, rng.integers(np.asarray(panels, dtype=np.int64)))


def go_on(tasks: Indices, panels: Sequence[int], following: Indices) -> Indices:
    """As ``take_turns``, from given panels on.

    Args:
        tasks: unit indices, shape (tasks, trials), no unit twice in a row.
        panels: how many panels each unit has.
        following: the panel that each unit shows next, shape (units,).
    """
    counts, following = np.asarray(panels, dtype=np.int64), following.copy()
    turns = np.empty_like(tasks)
    for number, units in enumerate(tasks):
        turns[number] = following[units]
        following[units] = (following[units] + 1) % counts[units]
    return turns
