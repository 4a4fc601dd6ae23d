"""Answers by confidence, and how long they took."""

import numpy as np
import pandas as pd

from crowd_imi.scoring.intervals import wilson
from crowd_imi.scoring.mis import Scores
from crowd_imi.study import NULL


def by_confidence(scores: Scores) -> pd.DataFrame:
    """How often people are right when they are more or less sure.

    Returns:
        A row per group and confidence that was used: ``model`` (or null), ``condition``, ``difficulty``, ``confidence`` (1 to 3),
        ``answers``, ``correct``, ``proportion_correct``, and ``low`` and ``high`` of Wilson's interval, which takes answers as
        independent.
    """
    keys = ["model", "condition", "difficulty", "confidence"]
    grouped = _described(scores).groupby(keys, sort=False, observed=True)["correct"]
    table = grouped.agg(answers="size", correct="sum").reset_index().sort_values(keys, ignore_index=True)
    table["proportion_correct"] = table["correct"] / table["answers"]
    table["low"], table["high"] = wilson(table["correct"].to_numpy(dtype=np.int64), table["answers"].to_numpy(dtype=np.int64))
    return table


def by_time(scores: Scores) -> pd.DataFrame:
    """Reaction times of right and wrong answers.

    Returns:
        A row per arm and ``correct``: ``answers``, and the quantiles ``p10`` … ``p90`` of reaction times in seconds, from the
        painted frame to the click, by the browser; null units among them.
    """
    answers = scores.counted
    grouped = (answers["rt_ms"] / 1000).groupby([answers["arm"], answers["correct"]], sort=False, observed=True)
    table = (
        grouped.quantile(np.array([0.1, 0.25, 0.5, 0.75, 0.9])).unstack().set_axis(["p10", "p25", "p50", "p75", "p90"], axis=1)
    )
    table.insert(0, "answers", grouped.size())
    return table.reset_index().sort_values(["arm", "correct"], ignore_index=True)


def _described(scores: Scores) -> pd.DataFrame:
    """The answers that count, with their group."""
    about = scores.units[["arm", "unit", "model", "null", "condition", "difficulty"]]
    table = scores.counted.merge(about, on=["arm", "unit"])
    return table.assign(model=table["model"].where(~table["null"], NULL))
