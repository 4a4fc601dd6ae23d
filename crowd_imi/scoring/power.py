"""What a planned arm can show, from simulated ones: how wide intervals will be, and which difference between models is found.

A formula with units and answers alone is wrong here: a participant answers many units, and a unit's answers share panels. So
arms with the planned numbers are simulated, with effects as in the published experiment, and analysed as real ones are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from crowd_imi.errors import ScoringError
from crowd_imi.records import Record
from crowd_imi.scoring.intervals import clustered
from crowd_imi.scoring.resampling import Crossing, Floats, Interval, crossed, percentiles, weights
from crowd_imi.seeds import generator
from crowd_imi.study import StudyFile

POWER = 0.8
DRAWS = 400
"""Of each simulated arm's bootstrap; real ones take more, which makes their ends steadier and no narrower."""
_CELLS = 40_000_000
"""Answers that are simulated at most, so that it ends in seconds."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """What is taken for true. Spreads are in logits: P = ½ + ½ · σ(μ + unit + participant + panel)."""

    mean: float = 0.83
    """Of the arm's proportion correct; the published models with natural references have .78 to .88."""
    unit_sd: float = 1.0
    participant_sd: float = 0.7
    panel_sd: float = 1.0


class Precision(Record):
    """What to expect of one arm, and of two that are compared."""

    participants: int
    """Valid ones that the planned answers take."""
    unit_width: float | None
    """Mean width of a unit's 95 % interval (the one that knows panels); None with a single panel, which has none."""
    model_width: float
    """Mean width of a model's 95 % interval, units and participants drawn anew."""
    difference_width: float
    """The same of the difference between two models."""
    detectable: float
    """The true difference between two models whose interval leaves out 0 in 80 % of studies."""
    simulations: int
    sentence: str


def expected_precision(  # noqa: PLR0913 - all by name
    *,
    units: int,
    responses: int,
    trials: int,
    panels: int,
    seed: int,
    assumed: Assumed | None = None,
    simulations: int = 200,
) -> Precision:
    """Simulate arms with the planned numbers and analyse them.

    Args:
        units: of the arm, null units left out.
        responses: planned valid answers to each.
        trials: main trials of a task: what one participant answers; no unit comes twice, so at most ``units`` count.
        panels: batches of images per unit, used in turn.
        seed: of the study; the same seed gives the same figures.
        assumed: about the people and units; by default about as in the published experiment.
        simulations: arms that are simulated; fewer where they are very large.

    Returns:
        Expected widths, and the detectable difference. Figures of 200 simulated arms are good to a few percent of themselves.

    Raises:
        ScoringError: fewer than two units or participants, or a mean was assumed that isn't between chance and 1.
    """
    assumed = assumed or Assumed()
    each = min(trials, units)
    people = ceil(units * responses / each) if each > 0 else 0
    if units < 2 or people < 2 or panels < 1 or not 0.5 < assumed.mean < 1:
        raise ScoringError(
            f"expected precision of {units} units, {people} participants, {panels} panels and a mean of {assumed.mean}: it "
            "takes two units, two participants, one panel, and a mean between .5 and 1"
        )
    number = max(20, min(simulations, _CELLS // (units * people)))
    rng = generator(seed, "precision", units, responses, trials, panels)
    shown = _shown(units, people, each, units * responses)
    centre = _centre(assumed)
    found, unit_widths, draws = [], [], []
    for _ in range(number):
        right, batch = _answers(rng, shown, panels, centre, assumed)
        answers = Crossing(right, shown)
        found.append(float(answers.means.mean()))
        unit_widths.append(_unit_width(right, shown, batch, panels))
        draws.append(crossed(answers, weights(units, rng, DRAWS), rng))
    models = [_width(percentiles(drawn)) for drawn in draws]
    pairs = [_width(percentiles(one - other)) for one, other in zip(draws[::2], draws[1::2], strict=False)]
    # The interval leaves out 0 when the estimate is further from it than half its width; the estimate spreads by √2 of an arm's.
    spread = float(np.sqrt(2) * np.std(found, ddof=1))
    detectable = float(np.mean(pairs)) / 2 + float(norm.ppf(POWER)) * spread
    precision = Precision(
        participants=people,
        unit_width=None if np.isnan(unit_widths).any() else float(np.mean(unit_widths)),
        model_width=float(np.mean(models)),
        difference_width=float(np.mean(pairs)),
        detectable=detectable,
        simulations=number,
        sentence="",
    )
    return precision.model_copy(update={"sentence": _sentence(precision, assumed)})


def of_arms(file: StudyFile) -> Iterator[str]:
    """What the planned numbers of each kind of arm promise, a sentence each; none for arms that are too small to compare."""
    for units, responses in dict.fromkeys((arm.units, arm.responses) for arm in file.arms):
        try:
            found = expected_precision(
                units=units, responses=responses, trials=file.tasks.trials, panels=file.panels.batches, seed=file.study.seed
            )
        except ScoringError:
            continue
        yield f"with {units} units and {responses} responses each: {found.sentence[:1].lower()}{found.sentence[1:]}"


def _sentence(found: Precision, assumed: Assumed) -> str:
    unit = f"± {found.unit_width / 2:.2f} for a unit, " if found.unit_width else ""
    missing = "" if found.unit_width else " Single units have no interval that knows panels, as there is one panel each."
    return (
        f"Expect 95 % intervals of {unit}± {found.model_width / 2:.3f} for a model and ± {found.difference_width / 2:.3f} for "
        f"a difference of models; a true difference of {found.detectable:.3f} would be found in {100 * POWER:.0f} % of such "
        f"studies ({found.simulations} simulated arms, about a mean of {assumed.mean:.2f}).{missing}"
    )


def _width(interval: Interval | None) -> float:
    return interval.high - interval.low if interval else float("nan")


def _shown(units: int, people: int, each: int, answers: int) -> Floats:
    """Who answers what, shape (units, people): units in a circle, so that all are answered equally often."""
    places = np.arange(min(people * each, answers))
    shown = np.zeros((units, people))
    shown[places % units, places // each] = 1
    return shown


def _centre(assumed: Assumed) -> float:
    """μ, so that the mean over units, participants and panels is the one assumed."""
    spread = np.sqrt(assumed.unit_sd**2 + assumed.participant_sd**2 + assumed.panel_sd**2)
    effects = spread * norm.ppf((np.arange(1000) + 0.5) / 1000)
    return float(brentq(lambda centre: float(np.mean(0.5 + 0.5 * expit(centre + effects))) - assumed.mean, -40, 40))


def _answers(
    rng: np.random.Generator, shown: Floats, panels: int, centre: float, assumed: Assumed
) -> tuple[Floats, NDArray[np.intp]]:
    """Right answers, and which panel each was to; participants come in any order, so panels are dealt by it."""
    units, people = shown.shape
    order = rng.permutation(people)
    turn = np.empty_like(shown)
    turn[:, order] = np.cumsum(shown[:, order], axis=1) - 1
    batch = turn.astype(np.intp) % panels
    logits = centre + rng.normal(0, assumed.unit_sd, (units, 1)) + rng.normal(0, assumed.participant_sd, people)
    logits = logits + np.take_along_axis(rng.normal(0, assumed.panel_sd, (units, panels)), batch, axis=1)
    return shown * (rng.random(shown.shape) < 0.5 + 0.5 * expit(logits)), batch


def _unit_width(right: Floats, shown: Floats, batch: NDArray[np.intp], panels: int) -> float:
    """Mean width of the intervals that know panels; NaN when there is one panel."""
    units = len(shown)
    unit, person = np.nonzero(shown)
    cell = unit * panels + batch[unit, person]
    asked = np.bincount(cell, minlength=units * panels)
    correct = np.bincount(cell, right[unit, person], units * panels)
    there = asked > 0
    owner = np.repeat(np.arange(units), panels)[there]
    low, high = clustered(correct[there].astype(np.int64), asked[there], owner, units)
    known = np.isfinite(high - low)
    return float((high - low)[known].mean()) if known.any() else float("nan")
