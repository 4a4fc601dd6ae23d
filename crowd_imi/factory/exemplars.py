"""The published scheme that turns one unit's activations into panels: which image plays which role, by rank.

Source: Zimmermann, Klein & Brendel 2023, arXiv:2307.05471, appendix and released code, scaled to the number of images
as ``study.images_needed`` says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crowd_imi.records import DIFFICULTY_PERCENTILE, REFERENCES, Difficulty, SidePair

Ranks = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class QueryWindows:
    """The ranks from which a side's queries are drawn."""

    min: range
    max: range


@dataclass(frozen=True, slots=True)
class PanelRanks:
    """The ranks of one panel's images, 0 being the lowest activation."""

    references: SidePair[tuple[int, ...]]
    """The most extreme first, the other eight in random order."""
    queries: SidePair[int]


def ranked(column: NDArray[np.float32], keys: Sequence[str]) -> Ranks:
    """Indices of the images from the lowest activation to the highest; ties are ordered by image key.

    Args:
        column: activations, shape (images,).
        keys: ``images.image_key`` of each.
    """
    return np.lexsort((np.asarray(keys), column)).astype(np.int64)


def query_windows(count: int, batches: int, difficulty: Difficulty) -> QueryWindows:
    """Ranks from which queries are drawn: right behind the references when easy, else from a share of all images on.

    Args:
        count: images, N.
        batches: B; each window has as many ranks.
        difficulty: easy begins at 9·B, the others at ⌊p·N⌋ as published, counted from either end.
    """
    share = DIFFICULTY_PERCENTILE[difficulty]
    begin = REFERENCES * batches if share is None else int(share * count)
    return QueryWindows(min=range(begin, begin + batches), max=range(count - begin - batches, count - begin))


def panels(count: int, batches: int, difficulty: Difficulty, rng: np.random.Generator) -> tuple[PanelRanks, ...]:
    """One panel per batch.

    The 9·B most extreme ranks of a side are cut into nine bins of B by rank; each bin is shuffled, and batch i takes
    element i of every bin. Its image from the outermost bin comes first. References don't depend on the difficulty.

    Args:
        count: images, N.
        batches: B.
        difficulty: which windows the queries come from.
        rng: of the unit.
    """
    low = _references(np.arange(REFERENCES * batches), batches, rng)
    high = _references(count - 1 - np.arange(REFERENCES * batches), batches, rng)
    windows = query_windows(count, batches, difficulty)
    low_queries = rng.permutation(np.array(windows.min))
    high_queries = rng.permutation(np.array(windows.max))
    return tuple(
        PanelRanks(
            references=SidePair(min=low[batch], max=high[batch]),
            queries=SidePair(min=int(low_queries[batch]), max=int(high_queries[batch])),
        )
        for batch in range(batches)
    )


def _references(ranks: Ranks, batches: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Per batch nine ranks; ``ranks`` begins with the most extreme."""
    bins = rng.permuted(ranks.reshape(REFERENCES, batches), axis=1)
    return [(int(column[0]), *(int(rank) for rank in rng.permutation(column[1:]))) for column in bins.T]


def flaw(ordered: NDArray[np.float32], batches: int, difficulties: Sequence[Difficulty]) -> str | None:
    """Why nobody can be asked about a unit, or None.

    Args:
        ordered: its activations in ascending order.
        batches: B.
        difficulties: those that the unit is asked at.
    """
    if ordered[0] == ordered[-1]:
        return "its activation never varies"
    if not np.isfinite(ordered).all():
        return "its activation isn't a finite number on every image"
    for difficulty in difficulties:
        windows = query_windows(len(ordered), batches, difficulty)
        if ordered[windows.min[-1]] >= ordered[windows.max[0]]:
            return f"its activation is the same on min and max queries at {difficulty}, so neither is right"
    return None
