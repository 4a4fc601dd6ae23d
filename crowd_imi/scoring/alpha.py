"""From Δ to a probability: how strongly a machine's similarity has to be taken to answer as people do.

A machine's answer to a panel is right with probability σ(α · Δ); α is fitted to people's answers by maximum likelihood: a
logistic regression on Δ without an intercept. People share units, so units are what cross-validation leaves out and what
the bootstrap draws.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, log_expit

from crowd_imi.errors import ScoringError
from crowd_imi.scoring.intervals import LEVEL

FOLDS = 5
RESAMPLES = 1_000

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alpha:
    """α with what is known of its uncertainty."""

    value: float
    """Fitted to all responses. Below 0, people answer against the similarity."""
    low: float | None
    """Ends of the 95 % bootstrap interval over units; None for an end that isn't finite, as some draws have no finite α."""
    high: float | None
    responses: int
    units: int
    folds: tuple[float, ...]
    """α fitted without each part of the units."""
    held_out: float
    """Mean log-likelihood, in nats per response, of the units left out each time; ln 0.5 = −0.693 is chance."""


def machine_mis(deltas: Numbers, alpha: float) -> float:
    """A unit's machine MIS: the mean of σ(α · Δ).

    Args:
        deltas: shape (n_panels,); of the unit's panels.
        alpha: as fitted.

    Returns:
        In (0, 1); 0.5 is chance. The greater α, the nearer it is to the share of Δ > 0.

    Raises:
        ScoringError: there is no panel.

    Source:
        The MIS paper, see ``scoring.machine``.
    """
    if not len(deltas):
        raise ScoringError("machine MIS of no panel: a unit needs one at least")
    return float(expit(alpha * deltas).mean())


def fit_alpha(deltas: Numbers, correct: NDArray[np.bool_], units: NDArray[np.str_], rng: np.random.Generator) -> Alpha:
    """Fit α to people's answers.

    Args:
        deltas: shape (n_responses,); Δ of the panel that each response is to.
        correct: shape (n_responses,); whether it was right.
        units: shape (n_responses,); the key of its unit.
        rng: deals units into folds and draws them; the same state gives the same figures.

    Raises:
        ScoringError: there are responses to fewer than ``FOLDS`` units, a Δ isn't finite or all are 0, or no α is finite
            because each response (of some fold's rest) agrees with the sign of Δ, or none does.
    """
    if not len(deltas) == len(correct) == len(units):
        raise ScoringError(f"α: {len(deltas)} Δ, {len(correct)} answers and {len(units)} units; each response has one of each")
    names, unit = np.unique(units, return_inverse=True)
    if len(names) < FOLDS:
        raise ScoringError(f"α: responses to {len(names)} units; it takes {FOLDS} at least, collect more")
    if not np.isfinite(deltas).all() or not deltas.any():
        raise ScoringError("α: every Δ has to be finite, and one at least has to differ from 0")
    panels = _Panels.of(np.asarray(deltas, dtype=np.float64), np.asarray(correct, dtype=np.bool_), unit)
    value = _finite(panels.alpha(np.ones(len(names))), "of all responses")
    fold = rng.permutation(len(names)) % FOLDS
    without = tuple(
        _finite(panels.alpha((fold != each).astype(float)), "with a fifth of the units left out") for each in range(FOLDS)
    )
    likelihoods = [panels.log_likelihood(alpha, (fold == each).astype(float)) for each, alpha in enumerate(without)]
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    # Order statistics, not means of two: between an infinite draw and another there is nothing.
    ends = np.quantile([panels.alpha(draw) for draw in draws], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    low, high = (float(end) if np.isfinite(end) else None for end in ends)
    return Alpha(value, low, high, len(deltas), len(names), without, float(sum(likelihoods) / len(deltas)))


@dataclass(frozen=True, slots=True)
class _Panels:
    """Responses counted by unit and Δ."""

    deltas: Numbers
    right: Numbers
    wrong: Numbers
    unit: NDArray[np.intp]

    @classmethod
    def of(cls, deltas: Numbers, correct: NDArray[np.bool_], unit: NDArray[np.intp]) -> "_Panels":
        panels, of_response = np.unique(np.column_stack((unit, deltas)), axis=0, return_inverse=True)
        right, wrong = np.zeros(len(panels)), np.zeros(len(panels))
        np.add.at(right, of_response, correct)
        np.add.at(wrong, of_response, ~correct)
        return cls(panels[:, 1].astype(np.float64), right, wrong, panels[:, 0].astype(np.intp))

    def alpha(self, weights: Numbers) -> float:
        """The α of greatest likelihood when units count this often; infinite where there is none."""
        each = weights[self.unit]
        right, wrong = each * self.right * self.deltas, each * self.wrong * self.deltas
        # With σ(−z) = 1 − σ(z), the likelihood's slope falls from one of these limits to the other.
        at_minus_infinity = np.clip(right, 0, None).sum() - np.clip(wrong, None, 0).sum()
        at_infinity = np.clip(right, None, 0).sum() - np.clip(wrong, 0, None).sum()
        if at_minus_infinity == 0 or at_infinity == 0:
            return np.inf if at_minus_infinity else -np.inf

        def slope(alpha: float) -> float:
            chance = expit(alpha * self.deltas)
            return float((right * (1 - chance) - wrong * chance).sum())

        step = 1 / float(np.abs(self.deltas).max())
        end = step if slope(0.0) > 0 else -step
        while slope(end) * step * end > 0:
            end *= 2
        return float(brentq(slope, min(0.0, end), max(0.0, end)))

    def log_likelihood(self, alpha: float, weights: Numbers) -> float:
        each = weights[self.unit]
        z = alpha * self.deltas
        return float((each * (self.right * log_expit(z) + self.wrong * log_expit(-z))).sum())


def _finite(alpha: float, what: str) -> float:
    if not np.isfinite(alpha):
        how = "each" if alpha > 0 else "none"
        raise ScoringError(f"α {what} isn't finite: {how} of the responses agrees with the sign of Δ; collect more")
    return alpha
