"""Intervals of 95 %: thin calls of statsmodels and scipy, with the degenerate cases written down."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and, where there is enough to say so, its interval."""

    mean: float
    low: float | None
    high: float | None


def wilson(correct: NDArray[np.int_], responses: NDArray[np.int_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wilson's interval for a unit's proportion correct.

    It takes a unit's answers as independent. They aren't quite: thirty answers share at most eleven panels, so that it is
    somewhat too narrow where panels of a unit differ in difficulty.

    Args:
        correct: shape (n_units,); how many answers are right.
        responses: shape (n_units,); how many there are. One is enough: the interval is then wide, never empty.

    Returns:
        Lower and upper ends, shape (n_units,) each; NaN for a unit without responses. All right (or all wrong) gives an
        upper end of 1 (a lower end of 0) and another end that isn't.

    Source:
        Wilson 1927; statsmodels ``proportion_confint(method="wilson")``.
    """
    low = np.full(len(responses), np.nan)
    high = np.full(len(responses), np.nan)
    asked = responses > 0
    if asked.any():
        low[asked], high[asked] = proportion_confint(correct[asked], responses[asked], alpha=1 - LEVEL, method="wilson")
    return np.clip(low, 0, 1), np.clip(high, 0, 1)


def bootstrap_mean(values: NDArray[np.float64], rng: np.random.Generator) -> Estimate:
    """Mean over units with a percentile bootstrap interval: units are drawn anew with replacement.

    Args:
        values: shape (n_units,), at least one; no NaN.
        rng: the same state gives the same interval.

    Returns:
        The mean and its interval; no interval for a single unit, as nothing says how units differ. When all units are
        equal the interval has no width: that is the bootstrap seeing no spread, not certainty.

    Source:
        The published analysis: 10,000 resamples over units (Zimmermann, Klein & Brendel 2023, arXiv:2307.05471).
    """
    mean = float(values.mean())
    if len(values) == 1:
        return Estimate(mean, None, None)
    if np.ptp(values) == 0:
        return Estimate(mean, mean, mean)
    result = bootstrap((values,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile", rng=rng)
    return Estimate(mean, float(result.confidence_interval.low), float(result.confidence_interval.high))
