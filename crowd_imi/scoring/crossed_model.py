"""The crossed model: units, participants and panels within units at once, and half of what isn't known is guessed right.

    P(right) = ½ + ½ · σ(μ + unit + participant + panel),    each effect normal about 0 with a spread of its own.

Panels are integrated out by Gauss–Hermite quadrature, units and participants by Laplace's approximation, and the three spreads
maximise what is left, under a weak prior; intervals know that the spreads are estimated (Kass & Steffey 1989). Why not
statsmodels' variational fit: docs/decisions/0011-crossed-model.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm

from crowd_imi.progress import Track, silent
from crowd_imi.scoring.intervals import LEVEL
from crowd_imi.scoring.mis import Scores
from crowd_imi.study import NULL

GUESS = 0.5
PRIOR_MEAN_SD = 2.0
"""Prior standard deviation of μ in logits; statsmodels' default for mixed models (``fe_p``)."""
PRIOR_SPREAD_SD = 1.0
"""Of the logarithm of a spread about 0, i.e. about a spread of 1 logit; statsmodels' default (``vcp_p``)."""
BOUNDS = (np.log(0.05), np.log(4.5))
"""Of the logarithm of a spread: beyond, answers look alike."""
LEAST = 2
"""Units, and participants, that it takes."""

_NODES, _weights = np.polynomial.hermite_e.hermegauss(11)
_LOG_WEIGHTS = np.log(_weights / _weights.sum())
_STEP = 0.02
"""Of finite differences in the logarithm of a spread."""
_FAR = 30.0
"""Logits beyond which σ is taken as 0 or 1."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Marginal:
    """Probabilities of a right answer, averaged over participants and panels like these, with 95 % intervals."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class CrossedFit:
    """One arm's model."""

    units: pd.Index
    """Keys, in the order of ``of_units``."""
    of_units: Marginal
    """Shape (n_units,). Drawn towards the arm's mean, the more the fewer answers there are."""
    of_arm: Marginal
    """Shape (1,): averaged over units, too."""
    intercept: float
    """μ in logits."""
    unit_sd: float
    """Spread of units in logits, the guess rate taken out."""
    participant_sd: float
    panel_sd: float
    log_likelihood: float
    """Laplace's approximation, of the answers, without the prior."""


def with_crossed(scores: Scores, track: Track = silent) -> Scores:
    """The same scores with the columns ``crossed…`` of units and groups filled, arm by arm; null units stay empty.

    Args:
        scores: from ``score``.
        track: shows how it is getting on: half a second an arm of 2,520 answers.
    """
    units = scores.units.copy()
    groups = {(group.model, group.arm): group for group in scores.groups}
    real = scores.units.loc[~scores.units["null"], ["arm", "unit"]]
    given = scores.counted.merge(real, on=["arm", "unit"])
    arms = [(str(arm), answers) for arm, answers in given.groupby("arm", sort=False, observed=True)]
    for arm, answers in track(arms, "crossed model", len(arms)):
        fit = fit_crossed(answers)
        if fit is None:
            continue
        rows = units.index[(units["arm"] == arm) & ~units["null"] & (units["responses"] > 0)]
        place = fit.units.get_indexer(pd.Index(units.loc[rows, "unit"]))
        for name, values in (("", fit.of_units.value), ("_low", fit.of_units.low), ("_high", fit.of_units.high)):
            units.loc[rows, f"crossed{name}"] = values[place]
        for key, group in groups.items():
            if group.arm == arm and group.model != NULL:
                groups[key] = group.model_copy(
                    update={
                        "crossed": float(fit.of_arm.value[0]),
                        "crossed_low": float(fit.of_arm.low[0]),
                        "crossed_high": float(fit.of_arm.high[0]),
                        "unit_sd": fit.unit_sd,
                        "participant_sd": fit.participant_sd,
                        "panel_sd": fit.panel_sd,
                    }
                )
    ordered = tuple(groups[group.model, group.arm] for group in scores.groups)
    return replace(scores, units=units, groups=ordered)


def fit_crossed(answers: pd.DataFrame, guess: float = GUESS) -> CrossedFit | None:
    """Fit the model to one arm.

    Args:
        answers: ``unit``, ``batch``, ``visit`` (a participant) and ``correct``; a row per answer.
        guess: probability of a right answer by who knows nothing. With 0 it is a plain logistic mixed model.

    Returns:
        The fit; None for fewer than two units or participants. All right or all wrong gives a fit, too: the priors keep it
        finite, and intervals don't close.

    Source:
        Kass & Steffey 1989, Journal of the American Statistical Association 84 (Laplace's approximation, and intervals that
        know that the spreads are estimated); Pinheiro & Chao 2006, Journal of Computational and Graphical Statistics 15
        (quadrature within Laplace).
    """
    model = _Model.of(answers, guess)
    if min(model.units, model.people) < LEAST:
        return None
    mode = _Mode(model)
    best = minimize(
        mode.objective,
        np.zeros(3),
        method="L-BFGS-B",
        bounds=[BOUNDS] * 3,
        options={"ftol": 1e-7, "gtol": 0.02, "eps": 1e-3, "maxiter": 30},
    )
    spreads = np.asarray(best.x, dtype=np.float64)
    value, precision = mode.at(spreads)
    covariance = np.linalg.inv(precision)
    effects = mode.effects.copy()
    count = 1 + model.units
    centre = effects[0] + np.where(np.arange(count), effects[:count], 0)
    deviation = np.sqrt(covariance[0, 0] + np.where(np.arange(count), np.diag(covariance)[:count] + 2 * covariance[0, :count], 0))
    whole = _Line(mode, centre, deviation, spreads)
    ends = whole.interval(_of_spreads(mode.objective, spreads))
    prior = 0.5 * float((spreads**2).sum()) / PRIOR_SPREAD_SD**2
    return CrossedFit(
        units=model.keys,
        of_units=Marginal(*(part[1:] for part in ends)),
        of_arm=Marginal(*(part[:1] for part in ends)),
        intercept=float(effects[0]),
        unit_sd=float(np.exp(spreads[0])),
        participant_sd=float(np.exp(spreads[1])),
        panel_sd=float(np.exp(spreads[2])),
        log_likelihood=prior - value,
    )


@dataclass(frozen=True, slots=True)
class _Model:
    """The answers of an arm, sorted by panel, and which effects each of them has."""

    correct: NDArray[np.bool_]
    places: NDArray[np.intp]
    """Shape (n, 3): where an answer's effects stand: the intercept, its unit's and its participant's."""
    panel: NDArray[np.intp]
    """Which panel each answer is to."""
    begins: NDArray[np.intp]
    """Where each panel's answers begin."""
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]]
    """Every pair of answers to one panel, an answer with itself among them."""
    cells: NDArray[np.intp]
    """Shape (9 · pairs,): the cells of the Hessian that a pair adds to."""
    keys: pd.Index
    people: int
    guess: float

    @property
    def units(self) -> int:
        return len(self.keys)

    @property
    def size(self) -> int:
        """How many effects there are, panels' aside."""
        return 1 + self.units + self.people

    @classmethod
    def of(cls, answers: pd.DataFrame, guess: float) -> "_Model":
        unit, keys = pd.factorize(answers["unit"])
        person, people = pd.factorize(answers["visit"])
        panel, _panels = pd.factorize(pd.MultiIndex.from_arrays([unit, answers["batch"]]))
        order = np.argsort(panel, kind="stable")
        unit, person, panel = unit[order], person[order], panel[order]
        counts = np.bincount(panel)
        begins = np.cumsum(counts) - counts
        first = np.repeat(np.arange(len(panel)), counts[panel])
        within = np.arange(len(first)) - np.repeat(np.cumsum(counts[panel]) - counts[panel], counts[panel])
        second = np.repeat(begins[panel], counts[panel]) + within
        places = np.column_stack((np.zeros_like(unit), 1 + unit, 1 + len(keys) + person)).astype(np.intp)
        size = 1 + len(keys) + len(people)
        cells = (places[first][:, :, None] * size + places[second][:, None, :]).reshape(len(first), 9).T.ravel()
        correct = answers["correct"].to_numpy(dtype=bool)[order]
        return cls(correct, places, panel, begins, (first, second), cells, pd.Index(keys), len(people), guess)

    def prior_precision(self, spreads: Floats) -> Floats:
        precision = np.exp(-2 * spreads)
        of_effects = [np.full(self.units, precision[0]), np.full(self.people, precision[1])]
        return np.concatenate(([PRIOR_MEAN_SD**-2], *of_effects))


@dataclass(frozen=True, slots=True)
class _Likelihood:
    """Of the effects, with panels integrated out."""

    height: float
    share: Floats
    """Shape (n, nodes): σ of each answer's logits, were its panel's effect at the node."""
    weight: Floats
    """Shape (panels, nodes): how probable a panel's effect is at each node, given its answers."""


class _Mode:
    """Where the effects' density is highest, given the spreads; each search begins where the last one ended."""

    def __init__(self, model: _Model) -> None:
        self.model = model
        self.effects: Floats = np.zeros(model.size)
        self._curvature: Floats | None = None

    def objective(self, spreads: Floats) -> float:
        return self.at(np.asarray(spreads, dtype=np.float64))[0]

    def at(self, spreads: Floats) -> tuple[float, Floats]:
        """Minus the log posterior of the spreads by Laplace's approximation, and the effects' precision."""
        prior = self.model.prior_precision(spreads)
        found = self._likelihood(self.effects, spreads[2])
        density = found.height - 0.5 * float(prior @ self.effects**2)
        curvature = self._bend(found) if self._curvature is None else self._curvature
        factor, last = _factor(curvature + np.diag(prior))[0], np.inf
        for _ in range(100):
            step = cho_solve(factor, self._slope(found) - prior * self.effects)
            length = float(np.abs(step).max())
            if length > last / 4:  # the last curvature serves as long as steps shrink quickly
                factor = _factor(self._bend(found) + np.diag(prior))[0]
                step = cho_solve(factor, self._slope(found) - prior * self.effects)
                length = float(np.abs(step).max())
            last = length
            step *= min(1.0, 3.0 / max(length, 1e-12))
            # Halved until it leads upwards: with a guess rate the likelihood isn't concave everywhere.
            for _half in range(8):
                effects = self.effects + step
                found = self._likelihood(effects, spreads[2])
                there = found.height - 0.5 * float(prior @ effects**2)
                if there >= density - 1e-7:
                    break
                step = step / 2
            self.effects, density = effects, there
            if length < 1e-4:
                break
        self._curvature = self._bend(found)
        factor, precision = _factor(self._curvature + np.diag(prior))
        volume = float(np.log(np.diag(factor[0])).sum())  # half the logarithm of the determinant
        density += 0.5 * float(np.log(prior).sum())
        return volume - density + 0.5 * float((spreads**2).sum()) / PRIOR_SPREAD_SD**2, precision

    def _likelihood(self, effects: Floats, log_panel_sd: float) -> _Likelihood:
        model = self.model
        linear = effects[model.places].sum(axis=1)[:, None] + np.exp(log_panel_sd) * _NODES
        share = expit(np.clip(linear, -_FAR, _FAR))
        right = np.where(model.correct[:, None], model.guess + (1 - model.guess) * share, (1 - model.guess) * (1 - share))
        of_panel = np.add.reduceat(np.log(right), model.begins, axis=0) + _LOG_WEIGHTS
        highest = of_panel.max(axis=1, keepdims=True)
        weight = np.exp(of_panel - highest)
        total = weight.sum(axis=1, keepdims=True)
        return _Likelihood(float((np.log(total) + highest).sum()), share, weight / total)

    def _first(self, found: _Likelihood) -> Floats:
        """Derivative of each answer's log-likelihood in its logits, at every node."""
        guess, share = self.model.guess, found.share
        rise = (1 - guess) * share * (1 - share)
        return np.where(self.model.correct[:, None], rise / (guess + (1 - guess) * share), -share)

    def _slope(self, found: _Likelihood) -> Floats:
        """The gradient of the log-likelihood in the effects."""
        mean = (found.weight[self.model.panel] * self._first(found)).sum(axis=1)
        summed = np.bincount(self.model.places.ravel(), np.repeat(mean, 3), self.model.size)
        return np.asarray(summed, dtype=np.float64)

    def _bend(self, found: _Likelihood) -> Floats:
        """Minus the Hessian of the log-likelihood in the effects."""
        model, first = self.model, self._first(found)
        weighed = found.weight[model.panel] * first
        mean = weighed.sum(axis=1)
        one, other = model.pairs
        # A panel's answers share its effect, so that their slopes vary together over it.
        together = np.einsum("ij,ij->i", weighed[one], first[other]) - mean[one] * mean[other]
        together[one == other] += (weighed * (1 - 2 * found.share - first)).sum(axis=1)
        curved = np.bincount(model.cells, np.tile(together, 9), model.size**2)
        return np.asarray(-curved.reshape(model.size, model.size), dtype=np.float64)


def _factor(precision: Floats) -> tuple[tuple[Floats, bool], Floats]:
    """Cholesky's factor, and the matrix that it is of: one that isn't positive definite has its diagonal raised."""
    ridge = 0.0
    while True:
        raised = precision + ridge * np.eye(len(precision))
        try:
            return cho_factor(raised, lower=True, check_finite=False), raised
        except LinAlgError:
            ridge = max(4 * ridge, 1e-3 * float(np.abs(np.diag(precision)).mean()))


def _marginal(centre: Floats, spread: Floats | float, guess: float) -> Floats:
    """Probability of a right answer when a normal effect of this spread is averaged out."""
    deviates = norm.ppf((np.arange(200) + 0.5) / 200)
    averaged: Floats = expit(centre[..., None] + np.asarray(spread)[..., None] * deviates).mean(axis=-1)
    probability: Floats = guess + (1 - guess) * averaged
    return probability


@dataclass(frozen=True, slots=True)
class _Line:
    """The arm and its units in logits: the arm first."""

    mode: _Mode
    centre: Floats
    deviation: Floats
    spreads: Floats

    def interval(self, of_spreads: Floats) -> tuple[Floats, Floats, Floats]:
        """Value, low and high; ``of_spreads`` is the covariance of the logarithms of the spreads."""
        guess = self.mode.model.guess
        value = self._probability(self.spreads, self.centre)
        moved = []
        for place in range(3):
            ends = []
            for sign in (1, -1):
                there = self.spreads + sign * _STEP * np.eye(3)[place]
                self.mode.at(there)
                count, effects = len(self.centre), self.mode.effects
                ends.append(self._probability(there, effects[0] + np.where(np.arange(count), effects[:count], 0)))
            moved.append((ends[0] - ends[1]) / (2 * _STEP))
        by_spreads = np.stack(moved, axis=1)
        step = 1e-3
        averaged = self._averaged(self.spreads)
        slope = (_marginal(self.centre + step, averaged, guess) - _marginal(self.centre - step, averaged, guess)) / (2 * step)
        # What the spreads add, in probability, is brought to logits, where ends keep within guess and 1.
        added = np.einsum("ij,jk,ik->i", by_spreads, of_spreads, by_spreads) / np.maximum(slope, 1e-6) ** 2
        half = norm.ppf((1 + LEVEL) / 2) * np.sqrt(self.deviation**2 + np.maximum(added, 0))
        low, high = (_marginal(self.centre + sign * half, averaged, guess) for sign in (-1, 1))
        return value, low, high

    def _averaged(self, spreads: Floats) -> Floats:
        """What is averaged over: participants and panels, and for the arm units, too."""
        unit, participant, panel = np.exp(2 * spreads)
        spread: Floats = np.sqrt(participant + panel + np.where(np.arange(len(self.centre)), 0, unit))
        return spread

    def _probability(self, spreads: Floats, centre: Floats) -> Floats:
        return _marginal(centre, self._averaged(spreads), self.mode.model.guess)


def _of_spreads(objective: Callable[[Floats], float], best: Floats, step: float = 0.1) -> Floats:
    """Covariance of the logarithms of the spreads: the inverse of the objective's Hessian, by finite differences.

    Directions in which it isn't curved upwards, as at a bound, keep the prior's variance.
    """
    axes = step * np.eye(3)
    hessian = np.empty((3, 3))
    centre = objective(best)
    ends = [(objective(best + axis), objective(best - axis)) for axis in axes]
    for one in range(3):
        hessian[one, one] = (sum(ends[one]) - 2 * centre) / step**2
        for other in range(one):
            both = objective(best + axes[one] + axes[other]) + objective(best - axes[one] - axes[other])
            hessian[one, other] = hessian[other, one] = (both - sum(ends[one]) - sum(ends[other]) + 2 * centre) / (2 * step**2)
    values, vectors = np.linalg.eigh(hessian)
    return np.asarray((vectors / np.maximum(values, PRIOR_SPREAD_SD**-2)) @ vectors.T)
