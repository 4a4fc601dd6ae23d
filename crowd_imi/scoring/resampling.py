"""Bootstrap draws with units alone, or with units and participants crossed, all at once in numpy."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crowd_imi.scoring.intervals import LEVEL

RESAMPLES = 2_500
"""Of units and participants; Monte Carlo error of an end is then about a fortieth of the interval's width."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % percentile interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Crossing:
    """Who answered what in one arm."""

    right: Floats
    """Shape (n_units, n_participants): right answers."""
    asked: Floats
    """The same shape: answers. Zero where a participant didn't see a unit."""

    @classmethod
    def of(cls, answers: pd.DataFrame, units: pd.Index) -> "Crossing":
        """The answers to these units, in their order; ``answers`` has ``unit``, ``visit`` and ``correct`` of one arm."""
        rows = units.get_indexer(pd.Index(answers["unit"]))
        here = rows >= 0
        columns, people = pd.factorize(answers.loc[here, "visit"])
        cells = rows[here] * len(people) + columns
        size, shape = len(units) * len(people), (len(units), len(people))
        right = np.bincount(cells, answers.loc[here, "correct"].to_numpy(dtype=np.float64), size)
        asked = np.bincount(cells, minlength=size)
        return cls(right.astype(np.float64).reshape(shape), asked.astype(np.float64).reshape(shape))

    @property
    def means(self) -> Floats:
        """Proportion correct per unit."""
        means: Floats = self.right.sum(axis=1) / self.asked.sum(axis=1)
        return means


def weights(things: int, rng: np.random.Generator, resamples: int = RESAMPLES) -> Floats:
    """How often each thing is drawn when as many are drawn with replacement; shape (resamples, things).

    Counting drawn places takes a fifth of the time of multinomial draws, which have the same distribution.
    """
    drawn = rng.integers(0, things, (resamples, things)) + things * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * things).reshape(resamples, things).astype(np.float64)


def over_units(means: Floats, units: Floats) -> Floats:
    """Mean of unit means in every draw of units; ``units`` as from ``weights``."""
    drawn: Floats = units @ means / units.sum(axis=1)
    return drawn


def crossed(answers: Crossing, units: Floats, rng: np.random.Generator) -> Floats:
    """Mean of unit means in every draw, with participants drawn anew beside the units.

    An answer weighs what its unit's and its participant's weights come to multiplied. A unit of which a draw has no
    participant is left out of that draw's mean; NaN in the rare draw that has no answer at all.

    Args:
        answers: of one arm.
        units: shape (resamples, n_units), from ``weights``; pairs of arms that show the same units share it.
        rng: draws the participants.

    Returns:
        Shape (resamples,).

    Source:
        Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1: it covers at least what it says, as the noise
        of single answers counts more than once (McCullagh 2000: no bootstrap of crossed effects is exact).
    """
    # Counts of answers are exact in single precision, which multiplies twice as fast.
    people = weights(answers.asked.shape[1], rng, len(units)).astype(np.float32)
    asked, right = ((people @ counted.T.astype(np.float32)).astype(np.float64) for counted in (answers.asked, answers.right))
    shares = np.nan_to_num(ratio(right, asked))
    counts = units * (asked > 0)
    total = counts.sum(axis=1)
    return ratio((counts * shares).sum(axis=1), total)


def ratio(above: Floats, below: Floats) -> Floats:
    """NaN where there is nothing below, and no warning."""
    result: Floats = np.divide(above, below, where=below > 0, out=np.full(below.shape, np.nan))
    return result


def percentiles(draws: Floats) -> Interval | None:
    """The middle 95 % of the draws in which the statistic exists; None where it exists in fewer than half of them."""
    there = draws[np.isfinite(draws)]
    if 2 * len(there) < len(draws):
        return None
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
