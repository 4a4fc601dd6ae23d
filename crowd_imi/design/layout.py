"""A task's trials in their order, and each trial's twenty tiles in theirs."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from crowd_imi.design.catch import CatchKey, CatchMaker
from crowd_imi.design.pictures import Picture
from crowd_imi.design.tasks import draw_tasks, take_turns
from crowd_imi.errors import DesignError
from crowd_imi.pack import ArmPack, Pack, UnitPanels
from crowd_imi.records import REFERENCES, Exemplar, Panel, SidePair, Tiles, TrialKind
from crowd_imi.seeds import generator
from crowd_imi.study import ArmSection, StudyFile

CATCH_BATCH = -1
"""What catch trials carry as their batch, as in the published tables."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaidOutTrial:
    """One trial: what it shows, and on which tile."""

    kind: TrialKind
    unit: str
    batch: int
    pictures: tuple[Picture, ...]
    """The twenty tiles, row by row."""
    tiles: Tiles
    revision: int = 1
    """Of the unit's panels."""


@dataclass(frozen=True, slots=True)
class LaidOutTask:
    """One task's trials in the order in which they are asked."""

    arm: str
    number: int
    trials: tuple[LaidOutTrial, ...]
    label: Literal["main", "pilot"] = "main"


def lay_out(study: StudyFile, arm: ArmSection, pack: Pack) -> Iterator[LaidOutTask]:
    """An arm's tasks; the same study file, pack and seed lead to the same ones.

    Raises:
        DesignError: the pack doesn't hold this arm as study.toml asks for it, or can't fill its tasks.
    """
    units = usable_units(pack.manifest.arm(arm.id), arm)
    seed = study.study.seed
    null = [unit.unit.null for unit in units]
    tasks = draw_tasks(len(units), arm.responses, study.tasks.trials, generator(seed, "tasks", arm.id), null)
    turns = take_turns(tasks, [len(unit.panels) for unit in units], generator(seed, "turns", arm.id))
    composer = Composer(study, arm, pack, Material(units))
    for number, (row, turn) in enumerate(zip(tasks, turns, strict=True), 1):
        main = {units[u].unit.key: units[u].panels[p] for u, p in zip(row, turn, strict=True)}
        try:
            trials = composer.trials(main)
        except DesignError as error:
            raise DesignError(f"arm {arm.id}, task {number} of {len(tasks)}: {error}") from None
        yield LaidOutTask(arm.id, number, trials)


@dataclass(frozen=True, slots=True)
class Material:
    """What an arm's tasks are put together from."""

    units: Sequence[UnitPanels]
    purpose: tuple[str, ...] = ()
    """What chance is for, beside the arm: nothing for the plan, the amendment's name after it."""
    used: frozenset[CatchKey] = frozenset()
    """Catch trials of earlier tasks, which aren't shown again."""
    revisions: Mapping[str, int] = field(default_factory=dict)
    """Unit → revision of its panels, where it isn't the first."""


class Composer:
    """Puts an arm's tasks together from panels and catch trials, trial by trial and tile by tile in random order."""

    def __init__(self, study: StudyFile, arm: ArmSection, pack: Pack, material: Material) -> None:
        self._study, self._pack = study, pack
        self._pictures: dict[str, Picture] = {}
        self._revisions = material.revisions
        seed, purpose = study.study.seed, material.purpose
        rng = generator(seed, "catch", arm.id, *purpose)
        self._catch = CatchMaker(arm.condition, material.units, self._picture, study.panels.image_size, rng)
        self._catch.leave_out(material.used)
        self._order, self._places = generator(seed, "order", arm.id, *purpose), generator(seed, "tiles", arm.id, *purpose)

    def trials(self, main: Mapping[str, Panel]) -> tuple[LaidOutTrial, ...]:
        """A task's trials; ``main`` says which units it asks about, with which of their panels.

        Raises:
            DesignError: there aren't enough different catch trials.
        """
        trials = [self._main_trial(key, panel) for key, panel in main.items()]
        made = self._catch.take(self._study.tasks.catch, main)
        trials += [
            LaidOutTrial("catch", c.unit, CATCH_BATCH, *arrange(c.references, c.queries, self._places), self._revision(c.unit))
            for c in made
        ]
        return tuple(trials[index] for index in self._order.permutation(len(trials)))

    def _main_trial(self, unit: str, panel: Panel) -> LaidOutTrial:
        shown, picture = panel.references, self._picture
        references = SidePair[tuple[Picture, ...]](min=tuple(map(picture, shown.min)), max=tuple(map(picture, shown.max)))
        queries = SidePair[Picture](min=picture(panel.queries.min), max=picture(panel.queries.max))
        return LaidOutTrial("main", unit, panel.batch, *arrange(references, queries, self._places), self._revision(unit))

    def _revision(self, unit: str) -> int:
        return self._revisions.get(unit, 1)

    def _picture(self, exemplar: Exemplar) -> Picture:
        picture = self._pictures.get(exemplar.image)
        if picture is None:  # an image is shown in many trials
            picture = self._pictures[exemplar.image] = Picture(self._pack.image(exemplar.image), exemplar.image)
        return picture


def arrange(
    references: SidePair[tuple[Picture, ...]], queries: SidePair[Picture], rng: np.random.Generator
) -> tuple[tuple[Picture, ...], Tiles]:
    """Put a trial's twenty images on tiles in random order; every order is equally likely.

    Returns:
        The images row by row, and which tile plays which role.
    """
    roles = (*references.min, *references.max, queries.min, queries.max)
    places = [int(place) for place in rng.permutation(len(roles))]
    pictures = dict(zip(places, roles, strict=True))
    tiles = Tiles(
        references=SidePair(min=tuple(places[:REFERENCES]), max=tuple(places[REFERENCES : 2 * REFERENCES])),
        queries=SidePair(min=places[-2], max=places[-1]),
    )
    return tuple(pictures[place] for place in range(len(roles))), tiles


def usable_units(packed: ArmPack, arm: ArmSection) -> list[UnitPanels]:
    """The arm's units with the panels whose twenty images all differ; an image set may hold an image twice."""
    null = sum(unit.unit.null for unit in packed.units)
    if (len(packed.units) - null, null) != (arm.units, arm.null):
        raise DesignError(
            f"arm {arm.id}: study.toml asks for {arm.units} units and {arm.null} null ones, but the pack holds "
            f"{len(packed.units) - null} and {null}; run `crowd-imi render` again"
        )
    units = []
    for unit in packed.units:
        usable = tuple(panel for panel in unit.panels if _all_differ(panel))
        if not usable:
            raise DesignError(
                f"arm {arm.id}: every panel of {unit.unit.key} shows an image twice; take doubles out of the images"
            )
        if len(usable) < len(unit.panels):
            logger.warning("%s: left out %d panels that show an image twice", unit.unit.key, len(unit.panels) - len(usable))
        units.append(unit.model_copy(update={"panels": usable}))
    return units


def _all_differ(panel: Panel) -> bool:
    exemplars = (*panel.references.min, *panel.references.max, panel.queries.min, panel.queries.max)
    return len({exemplar.image for exemplar in exemplars}) == len(exemplars)
