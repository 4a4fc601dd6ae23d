"""How long images climb, and how much their diversity weighs: the procedures of ``[visualisation]``.

Each takes several sides of units of one layer, and gives nine images for each: eight that are unlike one another, and one that
was made for the unit alone.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from statistics import fmean

import torch
from torch import Tensor

from crowd_imi.factory.visualize.ascent import Ascent, Looks, Target, Visualiser
from crowd_imi.records import REFERENCES
from crowd_imi.seeds import seed_for


@dataclass(frozen=True, slots=True)
class Found:
    """Nine images of one side of one unit."""

    images: Tensor
    """Shape (9, 3, size, size), values in 0–1."""
    weight: float
    """Of diversity; 0 when nothing but the unit counted."""
    steps: int
    """Of the optimisation that they come from."""
    passes: int
    """Forward and backward passes of one image through the network, over the whole search."""


@dataclass(frozen=True, slots=True)
class Climbed:
    """The images of one set after one optimisation."""

    images: Tensor
    looks: Looks
    steps: int


def fixed(visualiser: Visualiser, targets: Sequence[Target], seeds: Sequence[int]) -> list[Found]:
    """So many steps, with one weight, as study.toml states them."""
    settings = visualiser.settings
    ascent = Ascent(visualiser, targets, seeds, REFERENCES, alone=1)
    for _ in range(settings.steps):
        ascent.step([settings.diversity] * len(targets))
    ascent.check()
    images = ascent.images()
    return [Found(each, settings.diversity, settings.steps, REFERENCES * settings.steps) for each in images]


@dataclass(frozen=True, slots=True)
class Patience:
    """When an optimisation has converged, as published."""

    after: int = 2500
    """Steps before it may stop."""
    window: int = 2000
    """The last steps that are looked at."""
    ratio: float = 1.1
    """It stops when the gradient's mean over the window's first half is at most so many times that over its second half."""
    smoothing: float = 0.99
    """Of the exponential mean."""
    every: int = 10
    """Steps between two looks: a GPU would have to be waited for at every one."""


WEIGHTS = tuple(10.0**power for power in range(6))
"""That the published search tries, until one is too much."""
BISECTIONS = 7
"""Between the largest that wasn't too much and the one that was, in the middle of their logarithms."""


def published(
    visualiser: Visualiser,
    targets: Sequence[Target],
    seeds: Sequence[int],
    patience: Patience = Patience(),
    bisections: int = BISECTIONS,
) -> list[Found]:
    """The largest weight for which the weakest of eight images still drives the unit more than the best natural image.

    Activations count as they are, whatever the unit's range. Where even the smallest weight is too much, the images are those of
    the optimisation without diversity, and else its strongest is the ninth.

    Source: Zimmermann, Klein & Brendel 2023, arXiv:2307.05471.
    """
    plain = [replace(target, span=1.0) for target in targets]
    searches = [_weights(target, bisections) for target in plain]
    asked = {place: next(search) for place, search in enumerate(searches)}
    found: dict[int, Found] = {}
    for number in range(1 + len(WEIGHTS) + bisections):
        if not asked:
            break
        places = list(asked)
        drawn = [seed_for(seeds[place], "render", number) for place in places]
        images = REFERENCES if number == 0 else REFERENCES - 1
        climbed = _climb(
            Ascent(visualiser, [plain[place] for place in places], drawn, images), list(asked.values()), visualiser, patience
        )
        for place, each in zip(places, climbed, strict=True):
            try:
                asked[place] = searches[place].send(each)
            except StopIteration as end:
                del asked[place]
                found[place] = end.value
    return [found[place] for place in range(len(targets))]


def _weights(target: Target, bisections: int) -> Generator[float, Climbed, Found]:
    """The search of one set: gives a weight, is sent what was reached with it."""
    alone = yield 0.0
    passes = REFERENCES * alone.steps
    best: tuple[float, Climbed] | None = None
    failed: float | None = None
    for weight in WEIGHTS:
        climbed = yield weight
        passes += (REFERENCES - 1) * climbed.steps
        if not _feasible(target, climbed.looks):
            failed = weight
            break
        best = weight, climbed
    if best is None:
        return Found(alone.images, 0.0, alone.steps, passes)
    for _ in range(bisections):
        if failed is None:
            break
        middle = sqrt(best[0] * failed)
        climbed = yield middle
        passes += (REFERENCES - 1) * climbed.steps
        if _feasible(target, climbed.looks):
            best = middle, climbed
        else:
            failed = middle
    strongest = max(range(REFERENCES), key=lambda place: target.sign * alone.looks.activations[place])
    images = torch.cat([alone.images[strongest : strongest + 1], best[1].images])
    return Found(images, best[0], best[1].steps, passes)


def _feasible(target: Target, looks: Looks) -> bool:
    return all(target.reaches(activation) for activation in looks.activations)


def _climb(ascent: Ascent, weights: list[float], visualiser: Visualiser, patience: Patience) -> list[Climbed]:
    """Until every set has converged, or is out of steps."""
    places = list(range(len(weights)))
    watches = [_Watch(patience) for _ in weights]
    climbed: dict[int, Climbed] = {}
    while places:
        gradients = ascent.step([weights[place] for place in places])
        norms = gradients.flatten(2).norm(dim=2).amax(1)
        last = ascent.steps == visualiser.settings.steps
        for row, place in enumerate(places):
            watches[place].norms.append(norms[row])
        if last or ascent.steps % patience.every == 0:
            ended = [row for row, place in enumerate(places) if watches[place].converged() or last]
            if ended:
                ascent.check()
                images, looks = ascent.look()
                for row in ended:
                    climbed[places[row]] = Climbed(images[row], looks[row], ascent.steps)
                ascent.drop(ended)
                places = [place for row, place in enumerate(places) if row not in ended]
    return [climbed[place] for place in range(len(weights))]


@dataclass
class _Watch:
    """One set's gradients."""

    patience: Patience
    norms: list[Tensor] = field(default_factory=list)
    """Since the last look."""
    _smooth: list[float] = field(default_factory=list)

    def converged(self) -> bool:
        patience = self.patience
        for norm in torch.stack(self.norms).tolist():
            before = self._smooth[-1] if self._smooth else norm
            self._smooth.append(patience.smoothing * before + (1 - patience.smoothing) * norm)
        self.norms = []
        if len(self._smooth) <= patience.after:
            return False
        window, half = self._smooth[-patience.window :], patience.window // 2
        return sum(window[:half]) <= patience.ratio * sum(window[half:])


FIRST_WEIGHT = 0.1
"""In units of the unit's range over the photographs."""
LOWEST_WEIGHT, HIGHEST_WEIGHT = 0.01, 10.0
LOOKS = 40
"""In the course of one adaptive optimisation."""
FACTOR = 1.4
"""By which a look changes the weight."""
SETBACK = 4
"""By which it shrinks where an image doesn't reach the photographs."""
NEAR = 0.98
"""The eight are to drive the unit so much, on average, as the one does that was made for the unit alone."""
END = 6
"""The last one in so many steps is without diversity."""


def adaptive(visualiser: Visualiser, targets: Sequence[Target], seeds: Sequence[int]) -> list[Found]:
    """One optimisation in which diversity weighs as much as activation allows, and nothing at the end.

    The weight grows while all eight images reach the best natural one and come near, on average, to the image that was made for
    the unit alone; else it shrinks. Of the moments at which it was looked at, that with the most different images is kept among
    those where they reach the best natural image and come near to the strongest that was ever made for the unit alone; where
    there is none, the strongest.
    """
    settings = visualiser.settings
    ascent = Ascent(visualiser, targets, seeds, REFERENCES, alone=1)
    controls = [_Control(target) for target in targets]
    every = max(1, settings.steps // LOOKS)
    end = settings.steps - settings.steps // END
    for step in range(1, settings.steps + 1):
        ascent.step([control.weight if step <= end else 0.0 for control in controls])
        if step % every == 0 or step == settings.steps:
            ascent.check()
            images, looks = ascent.look()
            for row, control in enumerate(controls):
                control.see(Climbed(images[row], looks[row], step))
                if step <= end:
                    control.steer()
    passes = REFERENCES * settings.steps
    return [control.found(passes) for control in controls]


class _Control:
    """Of one set's weight, and of which of its moments is kept."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.weight = FIRST_WEIGHT
        self._seen: _Moment | None = None
        """The last one."""
        self._best: _Moment | None = None
        self._alone: _Moment | None = None
        """With the strongest image so far that was made for the unit alone."""

    def see(self, climbed: Climbed) -> None:
        seen = self._seen = _Moment(climbed, self.target, self.weight)
        if self._alone is None or seen.alone > self._alone.alone:
            self._alone = seen
        # What came near to a weaker image may not come near to this one, so that the best is judged anew.
        if self._best is None or seen.worth(self._alone.alone) >= self._best.worth(self._alone.alone):
            self._best = seen

    def steer(self) -> None:
        """Choose the weight of the next steps by what was seen last."""
        if self._seen is None:
            return
        shrinks = 1 / FACTOR if self._seen.reaches else 1 / SETBACK
        factor = FACTOR if self._seen.reaches and self._seen.near(self._seen.alone) else shrinks
        self.weight = min(max(self.weight * factor, LOWEST_WEIGHT), HIGHEST_WEIGHT)

    def found(self, passes: int) -> Found:
        best, alone = self._best, self._alone
        if best is None or alone is None:
            raise ValueError(f"{self.target.name}: its images were never looked at")
        images = torch.cat([alone.climbed.images[:1], best.climbed.images[1:]])
        return Found(images, best.weight, best.climbed.steps, passes)


class _Moment:
    """One set's images at one moment."""

    def __init__(self, climbed: Climbed, target: Target, weight: float) -> None:
        self.climbed = climbed
        self.weight = weight
        """Of diversity, by which they came about."""
        self.alone, *others = map(target.drive, climbed.looks.activations)
        self._mean, self._weakest = fmean(others), min(others)
        self.reaches = all(map(target.reaches, climbed.looks.activations[1:]))

    def near(self, alone: float) -> bool:
        """Whether the eight come near, on average, to the drive of an image that was made for the unit alone."""
        return self._mean >= NEAR * alone

    def worth(self, alone: float) -> tuple[bool, bool, float]:
        """Larger is better."""
        if not self.reaches:
            return False, False, self._weakest
        return (True, True, -self.climbed.looks.alike) if self.near(alone) else (True, False, self._mean)
