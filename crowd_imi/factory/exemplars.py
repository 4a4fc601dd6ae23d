"""The published scheme that turns one unit's activations into panels: which image plays which role, by rank.

Images are taken from either end of the ranking inwards. One that is vetoed, or that looks like one already taken for the
unit, is passed over, and the next rank takes its place.

Source: Zimmermann, Klein & Brendel 2023, arXiv:2307.05471, appendix and released code, scaled to the number of images
as ``study.images_needed`` says. Passing over near-duplicates is ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

import numpy as np
from numpy.typing import NDArray

from crowd_imi.errors import FactoryError
from crowd_imi.factory.likeness import near
from crowd_imi.records import REFERENCES, Difficulty, Side, SidePair, query_share

Ranks = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PanelRanks:
    """The ranks of one panel's images, 0 being the lowest activation."""

    references: SidePair[tuple[int, ...]]
    """The most extreme first, the other eight in random order."""
    queries: SidePair[int]


@dataclass(frozen=True, slots=True)
class Looks:
    """What is known of the images, whatever the unit."""

    hashes: NDArray[np.uint64]
    """``likeness.perceptual_hash`` of each, shape (images,)."""
    blocked: NDArray[np.bool_]
    """Vetoed by a person, shape (images,)."""
    bits: int
    """Near-duplicates differ in at most so many bits; ``panels.near_duplicate_bits``."""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A rank whose image wasn't taken."""

    side: Side
    rank: int
    resembles: int | None
    """The rank, taken before, whose image looks the same; None when a person vetoed the image."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The ranks that one unit's panels are made of, on either side from the most extreme inwards."""

    references: SidePair[tuple[int, ...]]
    """9·B a side."""
    queries: SidePair[tuple[int, ...]]
    """B a side."""
    passed_over: tuple[PassedOver, ...]


def choose(order: Ranks, looks: Looks, batches: int, difficulty: Difficulty) -> Choice:
    """Walk the ranking from both ends inwards and take the images of a unit's panels.

    References are taken first, a rank of either side in turn, so that neither side gives way to the other and that they
    don't depend on the difficulty. Then come the queries: from the first rank behind the references when easy, else from
    ⌊p·N⌋ (or from behind the references, where those reach further).

    Args:
        order: the unit's images from the lowest activation to the highest, as ``Recording.order`` gives them.
        looks: of the images.
        batches: B.
        difficulty: where the queries come from.

    Raises:
        FactoryError: one side's ranks ran out at the middle of the ranking.
    """
    walk = _Walk(order, looks)
    low, high = _Side(walk, "min"), _Side(walk, "max")
    for _ in range(REFERENCES * batches):
        low.take()
        high.take()
    references: SidePair[tuple[int, ...]] = SidePair(min=tuple(low.taken), max=tuple(high.taken))
    share = query_share(difficulty)
    for side in (low, high):
        side.begin_anew(0 if share is None else floor(Fraction(str(share)) * len(order)))
    for _ in range(batches):
        low.take()
        high.take()
    return Choice(references, SidePair(min=tuple(low.taken), max=tuple(high.taken)), tuple(walk.passed_over))


def panels(choice: Choice, batches: int, rng: np.random.Generator) -> tuple[PanelRanks, ...]:
    """One panel per batch.

    The 9·B references of a side are cut into nine bins of B by rank; each bin is shuffled, and batch i takes element i of
    every bin. Its image from the outermost bin comes first.

    Args:
        choice: the unit's.
        batches: B.
        rng: of the unit; references don't depend on the difficulty when it begins the same.
    """
    low = _references(np.array(choice.references.min), batches, rng)
    high = _references(np.array(choice.references.max), batches, rng)
    # Sorted by rank, so that the order of the walk doesn't change what a seed gives.
    low_queries = rng.permutation(np.sort(choice.queries.min))
    high_queries = rng.permutation(np.sort(choice.queries.max))
    return tuple(
        PanelRanks(
            references=SidePair(min=low[batch], max=high[batch]),
            queries=SidePair(min=int(low_queries[batch]), max=int(high_queries[batch])),
        )
        for batch in range(batches)
    )


def flaw(column: NDArray[np.float32], order: Ranks, looks: Looks, batches: int, difficulties: Sequence[Difficulty]) -> str | None:
    """Why nobody can be asked about a unit, or None.

    Args:
        column: its activations, shape (images,).
        order: ``Recording.order`` of them.
        looks: of the images.
        batches: B.
        difficulties: those that the unit is asked at.
    """
    if column[order[0]] == column[order[-1]]:
        return "its activation never varies"
    if not np.isfinite(column).all():
        return "its activation isn't a finite number on every image"
    for difficulty in difficulties:
        try:
            queries = choose(order, looks, batches, difficulty).queries
        except FactoryError as error:
            return f"at {difficulty}, {error}"
        if column[order[queries.min[-1]]] >= column[order[queries.max[-1]]]:
            return f"its activation is the same on min and max queries at {difficulty}, so neither is right"
    return None


@dataclass(slots=True)
class _Walk:
    """What both sides of a walk share: what was taken, which nothing taken later may look like."""

    order: Ranks
    looks: Looks
    passed_over: list[PassedOver] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    """Taken so far, on either side."""
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.empty(64, dtype=np.uint64))
    """Theirs, in the same order; the array is longer than what is used of it."""

    def fits(self, side: Side, rank: int) -> bool:
        image = self.order[rank]
        if self.looks.blocked[image]:
            self.passed_over.append(PassedOver(side, rank, None))
            return False
        one = self.looks.hashes[image]
        alike = near(one, self.hashes[: len(self.ranks)], self.looks.bits)
        if alike.any():
            self.passed_over.append(PassedOver(side, rank, self.ranks[int(alike.argmax())]))
            return False
        if len(self.ranks) == len(self.hashes):
            self.hashes = np.concatenate([self.hashes, np.empty_like(self.hashes)])
        self.hashes[len(self.ranks)] = one
        self.ranks.append(rank)
        return True


class _Side:
    """One side of a walk: from its end of the ranking to the middle."""

    def __init__(self, walk: _Walk, side: Side) -> None:
        self._walk = walk
        self._side = side
        self._next = 0
        """Counted from this side's end."""
        self.taken: list[int] = []

    def begin_anew(self, at_least: int) -> None:
        """What was taken so far stays taken; go on from here or, if that is further in, from the given rank."""
        self._next = max(self._next, at_least)
        self.taken = []

    def take(self) -> None:
        self.taken.append(next(rank for rank in self._inwards() if self._walk.fits(self._side, rank)))

    def _inwards(self) -> Iterator[int]:
        count = len(self._walk.order)
        while self._next < count // 2:
            at = self._next
            self._next += 1
            yield at if self._side == "min" else count - 1 - at
        skipped = len(self._walk.passed_over)
        raise FactoryError(
            f"the ranking runs out on the {self._side} side: {count} images, of which {skipped} were passed over as vetoed or "
            "near-duplicates; add images, or lower panels.batches or panels.near_duplicate_bits"
        )


def _references(ranks: Ranks, batches: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Per batch nine ranks; ``ranks`` begins with the most extreme."""
    bins = rng.permuted(ranks.reshape(REFERENCES, batches), axis=1)
    return [(int(column[0]), *(int(rank) for rank in rng.permutation(column[1:]))) for column in bins.T]
