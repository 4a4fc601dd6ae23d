"""Perceptual observers: they answer by what the pictures look like, each a little differently.

An observer pays attention to what tells the right examples from the left ones, and judges how similar each central
image is to either side. Similarity falls exponentially with the distance between two pictures.

Source: Shepard 1987 (similarity), Nosofsky 1986 (attention): the generalised context model of categorisation.
"""

from dataclasses import dataclass

import numpy as np

from crowd_imi.rehearsal.eyes import Features, Pixels
from crowd_imi.rehearsal.records import Row


@dataclass(frozen=True, slots=True)
class Choice:
    """One click: which query, and how sure."""

    row: Row
    confidence: int
    """1 to 3."""


@dataclass(frozen=True, slots=True)
class Places:
    """Which tiles of a sprite play which role, as the page is told."""

    left: tuple[int, ...]
    """Examples on the left: they drive the unit least."""
    right: tuple[int, ...]
    """Examples on the right: they drive it most."""
    upper: int
    lower: int


@dataclass(frozen=True, slots=True)
class Observer:
    """One person's way of looking."""

    weights: dict[str, float]
    """Kind of feature → how much it counts; they add up to 1."""
    noise: float
    """Standard deviation added to Δ, in units of similarity."""
    lapse: float
    """Share of trials at which attention is elsewhere and the click is a guess."""
    sure: tuple[float, float]
    """|Δ| from which confidence is 2, and 3."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Observer":
        """A person: who looks at what, how steadily, how boldly."""
        kinds = ("colour", "layout", "contours", "texture")
        raw = rng.lognormal(0.0, 0.4, len(kinds)) * np.array([1.0, 0.6, 1.0, 0.8])
        bold = rng.lognormal(0.0, 0.3)
        return cls(
            weights=dict(zip(kinds, (raw / raw.sum()).tolist(), strict=True)),
            noise=float(rng.uniform(0.01, 0.04)),
            lapse=float(rng.uniform(0.0, 0.02)),
            sure=(0.08 * bold, 0.2 * bold),
        )

    def decide(self, features: Features, places: Places, rng: np.random.Generator) -> Choice:
        """Which central image goes with the examples on the right."""
        delta = self.difference(features, places) + rng.normal(0.0, self.noise)
        if rng.random() < self.lapse:
            return Choice("upper" if rng.random() < 0.5 else "lower", 1)
        confidence = 1 + sum(abs(delta) >= limit for limit in self.sure)
        return Choice("upper" if delta > 0 else "lower", confidence)

    def difference(self, features: Features, places: Places) -> float:
        """Δ = [s(upper, right) − s(upper, left)] − [s(lower, right) − s(lower, left)]; above 0 speaks for the upper row."""
        total = 0.0
        for kind, weight in self.weights.items():
            upper, lower = (
                similarity(features[kind], query, places.left, places.right) for query in (places.upper, places.lower)
            )
            total += weight * ((upper[1] - upper[0]) - (lower[1] - lower[0]))
        return total


def similarity(features: Pixels, query: int, left: tuple[int, ...], right: tuple[int, ...]) -> tuple[float, float]:
    """Mean similarity of one tile to the examples on the left and on the right, each in (0, 1].

    Each feature is measured in its own spread within a side and counts by how well it separates the two sides. Both
    come from the examples alone, so that the other query has no say.

    Args:
        features: shape (n_tiles, n_features).
        query: index of the tile.
        left: indices of the examples on the left.
        right: indices of the examples on the right.
    """
    low, high = features[list(left)], features[list(right)]
    within = low.var(axis=0) + high.var(axis=0)
    spread = within / 2 + 0.05 * features.var(axis=0) + 1e-6
    separation = (high.mean(axis=0) - low.mean(axis=0)) ** 2 / spread
    attention = separation / (separation.sum() + 1e-9)

    def to(examples: Pixels) -> float:
        distance = np.sqrt((((features[query] - examples) ** 2 / spread) * attention).sum(axis=1))
        return float(np.exp(-distance / 2).mean())

    return to(low), to(high)
