"""Effect sizes of rank tests with bootstrap intervals over units."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crowd_imi.scoring.resampling import Floats, Interval, percentiles, ratio, weights

RESAMPLES = 2_000


def epsilon_squared(groups: Sequence[Floats]) -> float | None:
    """Share of the variance of ranks that lies between groups: H / (n − 1), with H corrected for ties.

    Returns:
        In [0, 1]; None when all values are equal.

    Source:
        Tomczak & Tomczak 2014, Trends in Sport Sciences 21.
    """
    value = _epsilon_squared(groups, [np.ones((1, len(group))) for group in groups])[0]
    return None if np.isnan(value) else float(value)


def epsilon_squared_interval(groups: Sequence[Floats], rng: np.random.Generator) -> Interval | None:
    """Units are drawn anew within their group. As epsilon² can't be negative, small ones come out too large."""
    return percentiles(_epsilon_squared(groups, [weights(len(group), rng, RESAMPLES) for group in groups]))


def _epsilon_squared(groups: Sequence[Floats], drawn: Sequence[Floats]) -> Floats:
    """In every draw; ``drawn`` says how often each unit of a group is drawn, shape (draws, units of the group)."""
    _values, value = np.unique(np.concatenate(groups), return_inverse=True)
    of_group = np.split(value, np.cumsum([len(group) for group in groups])[:-1])
    counts = [_summed(times, places, value.max() + 1) for times, places in zip(drawn, of_group, strict=True)]
    every = np.sum(counts, axis=0)
    ranks = _mid_ranks(every) - (len(value) + 1) / 2
    between = sum(((count * ranks).sum(axis=1) ** 2 / len(group) for count, group in zip(counts, groups, strict=True)))
    return ratio(np.asarray(between), (every * ranks**2).sum(axis=1))


def _summed(times: Floats, value: NDArray[np.intp], values: int) -> Floats:
    """How often each value comes in every draw; shape (draws, values)."""
    here = np.zeros((len(value), values))
    here[np.arange(len(value)), value] = 1
    summed: Floats = times @ here
    return summed


def _mid_ranks(counts: Floats) -> Floats:
    """The rank that every copy of a value has, ties at their mean; values ascend, each comes so often in a draw.

    No draw is sorted: a value that comes c times behind b smaller ones has the rank b + (c + 1) / 2.
    """
    ranks: Floats = counts.cumsum(axis=1) - (counts - 1) / 2
    return ranks


def rank_biserial(differences: Floats) -> float | None:
    """Matched-pairs rank-biserial correlation: (W⁺ − W⁻) / (W⁺ + W⁻), differences of zero left out.

    Returns:
        In [−1, 1], 1 when every difference is above zero; None when all are zero.

    Source:
        Kerby 2014, Comprehensive Psychology 3.
    """
    value = _rank_biserial(differences, np.ones((1, len(differences))))[0]
    return None if np.isnan(value) else float(value)


def rank_biserial_interval(differences: Floats, rng: np.random.Generator) -> Interval | None:
    """Pairs are drawn anew."""
    return percentiles(_rank_biserial(differences, weights(len(differences), rng, RESAMPLES)))


def _rank_biserial(differences: Floats, drawn: Floats) -> Floats:
    there = differences != 0
    _sizes, size = np.unique(np.abs(differences[there]), return_inverse=True)
    if not len(size):
        return np.full(len(drawn), np.nan)
    drawn = drawn[:, there]
    ranks = drawn * _mid_ranks(_summed(drawn, size, size.max() + 1))[:, size]
    return ratio(ranks @ np.sign(differences[there]), ranks.sum(axis=1))


def spearman_interval(first: Floats, second: Floats, rng: np.random.Generator) -> Interval | None:
    """Of Spearman's rank correlation: pairs are drawn anew; draws in which one side is constant don't count."""
    drawn = weights(len(first), rng, RESAMPLES)
    return percentiles(_spearman(first, second, drawn))


def _spearman(first: Floats, second: Floats, drawn: Floats) -> Floats:
    one, other = (_ranked(side, drawn) for side in (first, second))
    spread = np.sqrt((drawn * one**2).sum(axis=1) * (drawn * other**2).sum(axis=1))
    return ratio((drawn * one * other).sum(axis=1), spread)


def _ranked(values: Floats, drawn: Floats) -> Floats:
    """Each thing's rank in every draw, from the mean rank."""
    _values, value = np.unique(values, return_inverse=True)
    ranks: Floats = _mid_ranks(_summed(drawn, value, value.max() + 1))[:, value] - (len(values) + 1) / 2
    return ranks
