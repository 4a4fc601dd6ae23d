"""Tests of means that know that participants differ: Welch's tests with the participants' part in the standard error.

The variance of a mean of unit means is taken apart, as by two-way cluster-robust covariances: what units spread by (with their
panels and the noise of answers), and what the answers of one participant to several units have in common. Rank tests over unit
means, as published, see the first alone, and where participants differ they find what isn't there:
docs/decisions/0013-tests-that-know-participants.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import f, t

from crowd_imi.scoring.resampling import Crossing, Floats


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean, and the two parts of its squared standard error."""

    mean: float
    of_units: float
    """Variance of the unit scores over their number."""
    of_people: float
    """Covariance of one participant's answers to different units, at least 0."""
    units: int
    people: int

    @property
    def variance(self) -> float:
        """The squared standard error."""
        return self.of_units + self.of_people

    @property
    def freedom(self) -> float:
        """Welch and Satterthwaite's degrees of freedom; with the units' part alone, units − 1."""
        return self.variance**2 / (self.of_units**2 / (self.units - 1) + self.of_people**2 / (self.people - 1))


@dataclass(frozen=True, slots=True)
class Found:
    """A test's result."""

    statistic: float
    """Welch's F, or t."""
    p: float


def spread(answers: Crossing) -> Spread | None:
    """Of the mean of unit means of one arm.

    Args:
        answers: every unit has at least one.

    Returns:
        None for fewer than two units or participants, as nothing says then how they differ.

    Source:
        Cameron, Gelbach & Miller 2011, Journal of Business & Economic Statistics 29 (two-way clustering), with the units' part
        from the unit scores themselves.
    """
    if min(answers.asked.shape) < 2:
        return None
    means = answers.means
    of_units = float(means.var(ddof=1)) / len(means)
    return Spread(float(means.mean()), of_units, _of_people(answers), *answers.asked.shape)


def paired_spread(first: Crossing, second: Crossing) -> Spread | None:
    """Of the mean difference of the same units in two arms, whose participants are others."""
    if min(*first.asked.shape, *second.asked.shape) < 2:
        return None
    differences = first.means - second.means
    people = first.asked.shape[1] + second.asked.shape[1] - 1  # so that people − 1 is what both leave free together
    of_units = float(differences.var(ddof=1)) / len(differences)
    return Spread(float(differences.mean()), of_units, _of_people(first) + _of_people(second), len(differences), people)


def _of_people(answers: Crossing) -> float:
    """What participants add to the variance of the mean of unit means.

    An answer's residual is what it deviates by from its unit's mean; those of one participant to different units have nothing
    in common but the participant. The square of their sum, less the squares of the single ones, is what they share.
    """
    asked = answers.asked.sum(axis=1, keepdims=True)
    residuals = (answers.right - answers.means[:, None] * answers.asked) / (asked * len(asked))
    # A unit's mean has drawn its answers' residuals towards 0: Bessel's correction.
    residuals *= np.sqrt(asked / np.maximum(asked - 1, 1))
    return max(0.0, float((residuals.sum(axis=0) ** 2).sum() - (residuals**2).sum()))


def between(spreads: Sequence[Spread | None]) -> Found | None:
    """Do these means differ? Welch's one-way analysis of variance; of two, the square of his t.

    Returns:
        None when one has no spread: units that are all equal don't say how far others would be.

    Source:
        Welch 1951, Biometrika 38.
    """
    known = [one for one in spreads if one is not None and one.of_units > 0]
    groups = len(known)
    if groups < len(spreads) or groups < 2:
        return None
    weights: Floats = np.array([1 / one.variance for one in known])
    shares = weights / weights.sum()
    means = np.array([one.mean for one in known])
    among = float((weights * (means - shares @ means) ** 2).sum()) / (groups - 1)
    lack = float(sum((1 - share) ** 2 / one.freedom for share, one in zip(shares, known, strict=True)))
    statistic = among / (1 + 2 * (groups - 2) / (groups**2 - 1) * lack)
    return Found(statistic, float(f.sf(statistic, groups - 1, (groups**2 - 1) / (3 * lack))))


def against_zero(difference: Spread | None) -> Found | None:
    """Is this mean difference other than 0? Two-sided t; None when all differences are equal."""
    if difference is None or difference.of_units == 0:
        return None
    statistic = difference.mean / float(np.sqrt(difference.variance))
    return Found(statistic, float(2 * t.sf(abs(statistic), difference.freedom)))
