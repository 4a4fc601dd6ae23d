"""How far unit scores can be trusted: split halves, the noise ceiling, and scores drawn towards their group's mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import betaln
from scipy.stats import beta

from crowd_imi.records import Condition, Difficulty, Record
from crowd_imi.scoring.intervals import LEVEL
from crowd_imi.scoring.mis import Group, Scores
from crowd_imi.scoring.resampling import Crossing, Interval, percentiles, ratio
from crowd_imi.seeds import generator
from crowd_imi.study import NULL

SPLITS = 1_000
LEAST = 3
"""Units that a correlation takes."""
_MOST = 5_000.0
"""Of a + b: as good as no difference between units."""

Floats = NDArray[np.float64]


class Reliability(Record):
    """Do other participants order the units of a group in the same way?"""

    model: str
    condition: Condition
    difficulty: Difficulty
    units: int
    """Units with an answer."""
    halves: float | None
    """Mean correlation (Pearson) of unit scores between random halves of the participants; None where it can't be had."""
    reliability: float | None
    """The same stepped up to all participants by Spearman and Brown: how unit scores would correlate with those of as many
    other participants. Below 0 where halves disagree by more than chance would make them."""
    low: float | None
    """The middle 95 % of the splits, stepped up: how much the figure depends on the split, not on the sample of units."""
    high: float | None
    ceiling: float | None
    """√reliability: what a perfect predictor of the units' true scores would correlate with the measured ones. None when
    reliability isn't above 0."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Shrunk:
    """Scores drawn towards their group's mean: the mean and middle 95 % of Beta(a + right, b + wrong)."""

    a: float
    """Of the group's Beta distribution of true scores."""
    b: float
    value: Floats
    low: Floats
    high: Floats


def reliabilities(scores: Scores, seed: int) -> tuple[Reliability, ...]:
    """Of every group's unit scores; null units have none to tell apart, and are left out.

    Args:
        scores: from ``score``.
        seed: of the study; the same seed makes the same splits.
    """
    groups = [group for group in scores.groups if group.model != NULL and group.units]
    by_arm = {str(arm): answers for arm, answers in scores.counted.groupby("arm", observed=True)} if groups else {}
    return tuple(_reliability(scores, by_arm[group.arm], group, seed) for group in groups)


def _reliability(scores: Scores, answers: pd.DataFrame, group: Group, seed: int) -> Reliability:
    members = scores.members(group)
    answered = pd.Index(members.loc[members["responses"] > 0, "unit"])
    crossing = Crossing.of(answers, answered)
    found = split_half(crossing, generator(seed, "halves", group.model, group.condition, group.difficulty))
    halves, stepped = found if found else (None, None)
    whole = None if halves is None else spearman_brown(halves)
    told = Reliability(
        model=group.model,
        condition=group.condition,
        difficulty=group.difficulty,
        units=len(answered),
        halves=halves,
        reliability=whole,
        low=stepped.low if stepped else None,
        high=stepped.high if stepped else None,
        ceiling=noise_ceiling(whole),
        sentence="",
    )
    return told.model_copy(update={"sentence": _sentence(told)})


def split_half(answers: Crossing, rng: np.random.Generator, splits: int = SPLITS) -> tuple[float, Interval | None] | None:
    """Correlation of unit scores between halves of the participants.

    Participants are split, not answers: a careful one lifts the units that they saw in one half alone, which is part of what
    makes scores differ. Units without an answer in one of the halves are left out of that split.

    Args:
        answers: of one arm.
        rng: makes the splits.
        splits: how many.

    Returns:
        The mean over splits, and the middle 95 % of the splits, each stepped up by Spearman and Brown; None for fewer than
        three units or two participants, or when most splits have no spread of scores in one half.

    Source:
        Spearman 1910 and Brown 1910, British Journal of Psychology 3.
    """
    units, people = answers.asked.shape
    if units < LEAST or people < 2:
        return None
    half = rng.permuted(np.tile(np.arange(people) < people // 2, (splits, 1)), axis=1).astype(np.float32)
    # Counts are exact in single precision, and the other half is what is left of the whole.
    asked, right = ((half @ counted.T.astype(np.float32)).astype(np.float64) for counted in (answers.asked, answers.right))
    rest, rest_right = answers.asked.sum(axis=1) - asked, answers.right.sum(axis=1) - right
    scores = [np.nan_to_num(ratio(right, asked)), np.nan_to_num(ratio(rest_right, rest))]
    there = ((asked > 0) & (rest > 0)).astype(np.float64)
    found = _correlations(scores[0], scores[1], there)
    known = found[np.isfinite(found)]
    if 2 * len(known) < splits:
        return None
    return float(known.mean()), percentiles(np.array([spearman_brown(each) for each in known]))


def _correlations(one: Floats, other: Floats, there: Floats) -> Floats:
    """Pearson's correlation row by row, over the columns that are there; NaN where a side has no spread."""
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    one, other = ((side - (side * there).sum(axis=1, keepdims=True) / count) * there for side in (one, other))
    spread = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    enough = (there.sum(axis=1) >= LEAST) & (spread > 1e-12)
    return ratio((one * other).sum(axis=1), np.where(enough, spread, 0))


def spearman_brown(halves: float) -> float:
    """Reliability of the whole from the correlation of its halves: 2r / (1 + r); −1 gives minus infinity."""
    return 2 * halves / (1 + halves) if halves > -1 else -np.inf


def noise_ceiling(reliability: float | None) -> float | None:
    """What a perfect predictor of true scores correlates with measured ones: √reliability; None when that isn't above 0.

    Source:
        Spearman 1904, American Journal of Psychology 15: attenuation by unreliability.
    """
    return None if reliability is None or reliability <= 0 else float(np.sqrt(reliability))


def _sentence(found: Reliability) -> str:
    from crowd_imi.scoring import wording

    where = f"{found.model}, {wording.setting(found.condition, found.difficulty)}"
    if found.reliability is None or found.halves is None:
        return f"{where}: too few units, participants or differences to say how reliable unit scores are."
    said = f"{where}: unit scores correlate by {wording.signed(found.halves)} between halves of the participants"
    if found.ceiling is None:
        return f"{said}, so they say nothing yet about which unit is the better one."
    return (
        f"{said}, hence have a reliability of {wording.share(found.reliability)}; a perfect prediction would correlate with "
        f"them by {wording.share(found.ceiling)}."
    )


def shrunk(correct: Sequence[int] | NDArray[np.int_], responses: Sequence[int] | NDArray[np.int_]) -> Shrunk | None:
    """Draw units' scores towards the mean of their group, the further the fewer answers they have: empirical Bayes.

    True scores are taken to follow a Beta distribution about the mean of all answers (with half a right and half a wrong one
    added); its a + b, how much alike units are, maximises the beta-binomial likelihood of all units' counts. The intervals take
    both as known, and answers as independent.

    Args:
        correct: shape (n_units,); right answers.
        responses: shape (n_units,); answers, at least one.

    Returns:
        Scores and intervals; None for fewer than three units with two answers, as nothing then tells units from chance. Units
        that differ by no more than chance get (nearly) the same score. All right in all units: close to 1, below it.

    Source:
        Efron & Morris 1975, Journal of the American Statistical Association 70; Skellam 1948 (beta-binomial).
    """
    right, asked = np.asarray(correct, dtype=np.float64), np.asarray(responses, dtype=np.float64)
    if (asked > 1).sum() < LEAST:
        return None
    mean = (right.sum() + 0.5) / (asked.sum() + 1)

    def objective(log_size: float) -> float:
        a, b = np.exp(log_size) * mean, np.exp(log_size) * (1 - mean)
        return -float((betaln(a + right, b + asked - right) - betaln(a, b)).sum())

    # Neither parameter below ½, where Jeffreys' prior has them: else units that are all right would be certain.
    bounds = (np.log(0.5 / min(mean, 1 - mean)), np.log(_MOST))
    size = float(np.exp(minimize_scalar(objective, bounds=bounds, method="bounded").x)) if bounds[0] < bounds[1] else _MOST
    a, b = size * mean, size * (1 - mean)
    ends = beta.ppf([[(1 - LEVEL) / 2], [(1 + LEVEL) / 2]], a + right, b + asked - right)
    return Shrunk(a, b, (a + right) / (a + b + asked), ends[0], ends[1])


def with_shrunk(scores: Scores) -> pd.DataFrame:
    """The unit table with ``shrunk`` and the ends of its interval: NaN for null and unanswered units, and in small groups."""
    units = scores.units.copy()
    units[["shrunk", "shrunk_low", "shrunk_high"]] = np.nan
    answered = units[~units["null"] & (units["responses"] > 0)]
    for _arm, rows in answered.groupby("arm"):
        found = shrunk(rows["correct"].to_numpy(), rows["responses"].to_numpy())
        if found:
            units.loc[rows.index, ["shrunk", "shrunk_low", "shrunk_high"]] = np.column_stack((found.value, found.low, found.high))
    return units
