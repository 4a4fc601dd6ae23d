"""Catch trials: obvious ones, made from the arm's own real units, none of them shown in two tasks.

Natural: both queries are another crop of what one of the panel's references of that side shows. Synthetic: the
references are the unit's visualisations as in every trial, the queries are its most extreme photographs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crowd_imi.design.pictures import CORNERS, Picture, differs_visibly, pixels
from crowd_imi.errors import DesignError
from crowd_imi.pack import UnitPanels
from crowd_imi.records import REFERENCES, Condition, Exemplar, Panel, SidePair

MainPanels = Mapping[str, Panel]
"""A task's main trials: unit key → the panel that it is shown with."""
ToPicture = Callable[[Exemplar], Picture]
CatchKey = tuple[str, str, str]
"""What makes a catch trial another one: its unit, and SHA-256 of what its min and its max query show."""


@dataclass(frozen=True, slots=True)
class CatchTrial:
    """One catch trial's images."""

    unit: str
    references: SidePair[tuple[Picture, ...]]
    queries: SidePair[Picture]


@dataclass(frozen=True, slots=True)
class _Option:
    """A catch trial that could be made."""

    unit: str
    panel: Panel
    """Whose references are shown."""
    sources: SidePair[Exemplar]
    """What the queries show."""

    @property
    def key(self) -> CatchKey:
        return self.unit, self.sources.min.image, self.sources.max.image


class CatchMaker:
    """Hands out an arm's catch trials, every one of them once."""

    def __init__(
        self,
        condition: Condition,
        units: Sequence[UnitPanels],
        picture: ToPicture,
        tile: int,
        rng: np.random.Generator,
    ) -> None:
        """Look at what can be made.

        Args:
            condition: the arm's.
            units: the arm's units with the panels that can be used; null ones are passed over.
            picture: where an exemplar's image is.
            tile: pixels on a side, at which a crop must differ visibly from the image that it shows.
            rng: where chance comes from.
        """
        self._picture = picture
        self._tile = tile
        self._rng = rng
        self._cropped = condition == "natural"
        real = [unit for unit in units if not unit.unit.null]
        rounds = _natural_rounds(real, rng) if self._cropped else _synthetic_rounds(real)
        # A panel's second use, or a pair of photographs with a smaller margin, comes after all the first ones.
        self._left = [options[index] for options in rounds for index in rng.permutation(len(options))]
        self.made = 0

    def leave_out(self, used: frozenset[CatchKey]) -> None:
        """Don't make those that earlier tasks show."""
        self._left = [option for option in self._left if option.key not in used]

    def take(self, count: int, main: MainPanels) -> tuple[CatchTrial, ...]:
        """The catch trials of one task, preferably of units that the task doesn't show already.

        Raises:
            DesignError: there aren't enough different ones.
        """
        trials: list[CatchTrial] = []
        while len(trials) < count:
            option = self._best({trial.unit for trial in trials}, main)
            if option is None:
                raise DesignError(
                    f"only {self.made + len(trials)} different catch trials can be made from these units and more are needed; "
                    "lower tasks.catch or arms.responses, or raise arms.units or panels.batches"
                )
            self._left.remove(option)
            trial = self._realise(option)
            if trial is not None:
                trials.append(trial)
        self.made += count
        return tuple(trials)

    def _best(self, taken: set[str], main: MainPanels) -> _Option | None:
        best: tuple[int, _Option] | None = None
        for option in self._left:
            shown = main.get(option.unit)
            if shown is not None and _repeats(option, shown, self._cropped):
                continue
            repeats = 2 * (option.unit in taken) + (shown is not None)
            if best is None or repeats < best[0]:
                best = (repeats, option)
            if repeats == 0:
                break
        return None if best is None else best[1]

    def _realise(self, option: _Option) -> CatchTrial | None:
        low, high = self._query(option.sources.min), self._query(option.sources.max)
        if low is None or high is None:
            return None
        return CatchTrial(
            unit=option.unit,
            references=SidePair(
                min=tuple(map(self._picture, option.panel.references.min)),
                max=tuple(map(self._picture, option.panel.references.max)),
            ),
            queries=SidePair(min=low, max=high),
        )

    def _query(self, source: Exemplar) -> Picture | None:
        """The image as it is or, among references, a crop that differs from it; None when no crop does."""
        whole = self._picture(source)
        if not self._cropped:
            return whole
        shown = pixels(whole, self._tile)
        for index in self._rng.permutation(len(CORNERS)):
            crop = whole.at(CORNERS[index])
            if differs_visibly(pixels(crop, self._tile), shown):
                return crop
        return None


def _natural_rounds(units: Sequence[UnitPanels], rng: np.random.Generator) -> list[list[_Option]]:
    """In each round every panel once, with another pair of its references."""
    rounds: list[list[_Option]] = [[] for _ in range(REFERENCES)]
    for unit in units:
        for panel in unit.panels:
            low, high = rng.permutation(REFERENCES), rng.permutation(REFERENCES)
            for options, i, j in zip(rounds, low, high, strict=True):
                sources = SidePair[Exemplar](min=panel.references.min[i], max=panel.references.max[j])
                options.append(_Option(unit.unit.key, panel, sources))
    return rounds


def _synthetic_rounds(units: Sequence[UnitPanels]) -> list[list[_Option]]:
    """In each round every unit once: first with the photographs that are furthest apart, then with the next ones."""
    rounds: list[list[_Option]] = []
    for unit in units:
        if not unit.panels:
            continue
        for place, (low, high) in enumerate(zip(unit.extremes.min, unit.extremes.max, strict=False)):
            if place == len(rounds):
                rounds.append([])
            rounds[place].append(_Option(unit.unit.key, unit.panels[0], SidePair(min=low, max=high)))
    return rounds


def _repeats(option: _Option, shown: Panel, cropped: bool) -> bool:
    """Whether the task would show the unit with the same images twice."""
    if cropped and option.panel.batch == shown.batch:
        return True
    queries = {shown.queries.min.image, shown.queries.max.image}
    return option.sources.min.image in queries or option.sources.max.image in queries
