"""The panels of one arm: exemplars and visualisations put into their roles, their images stored in the pack."""

import hashlib
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crowd_imi.errors import FactoryError
from crowd_imi.factory import exemplars
from crowd_imi.factory.cluster.crew import Crew
from crowd_imi.factory.exemplars import Choice, Looks, PanelRanks, Ranks
from crowd_imi.factory.methods import (
    NO_OTHERS,
    Asked,
    Explanation,
    FeatureVisualisation,
    Method,
    Methods,
    NaturalExemplars,
    named,
    real,
    wanted_key,
)
from crowd_imi.factory.network import Network
from crowd_imi.factory.pack import PackWriter
from crowd_imi.factory.sample import Sample
from crowd_imi.factory.units import null_of, permuted
from crowd_imi.pack import ArmPack, Skip, UnitPanels
from crowd_imi.progress import Track, silent
from crowd_imi.records import REFERENCES, Condition, Exemplar, Panel, SidePair, Unit
from crowd_imi.seeds import generator
from crowd_imi.study import ArmSection, Study
from crowd_imi.vision.preprocess import Pixels, decode_image

EXTREMES = 20
"""Most extreme natural images per side that a pack keeps of every unit, for catch trials."""


class PanelMaker:
    """Makes the panels of one model's arms."""

    def __init__(  # noqa: PLR0913, PLR0917 (what a render holds)
        self,
        study: Study,
        sample: Sample,
        writer: PackWriter,
        looks: Looks,
        crew: Crew | None = None,
        methods: Methods = NO_OTHERS,
    ) -> None:
        self._study = study
        self._sample = sample
        self._writer = writer
        self._looks = looks
        self._crew = crew
        self._methods = methods
        self._seed = study.file.study.seed
        self._stored: dict[int, str] = {}
        """Place of an image in the recording → its digest."""
        self._skips: dict[Skip, None] = {}
        self._synthetic = sample.units
        """Those that synthetic arms ask about, in their order."""

    @property
    def skips(self) -> tuple[Skip, ...]:
        """Images that the arms made so far passed over, each named once for every unit, side and rank."""
        return tuple(self._skips)

    def leave_out(self, units: Collection[Unit]) -> None:
        """Units that synthetic arms pass over."""
        self._synthetic = tuple(unit for unit in self._sample.units if unit not in units)

    def visualise_only(self, units: Iterable[Unit]) -> None:
        """The units that synthetic arms ask about, in their order, on which groups depend."""
        self._synthetic = tuple(units)

    def _method(self, condition: Condition) -> Method:
        if condition in self._methods:
            return self._methods[condition]
        return NaturalExemplars() if condition == "natural" else self.visualisation

    @cached_property
    def visualisation(self) -> FeatureVisualisation:
        """Of all units that synthetic arms of the model ask about."""
        arms = [arm for arm in self._study.file.arms if arm.model == self._sample.units[0].model]
        count = max((max(arm.units, arm.null) for arm in arms if arm.condition == "synthetic"), default=0)
        columns = {unit: self._sample.column(unit) for unit in self._synthetic[:count]}
        name, settings = self._sample.network.name, self._study.file.visualisation
        wanted = wanted_key(name, self._study.file.models[name], settings, self._seed)
        return FeatureVisualisation(self._sample.network, columns, settings, self._seed, self._writer, self._crew, wanted)

    def arm_pack(self, arm: ArmSection, track: Track = silent) -> ArmPack:
        """All units of an arm, null units last."""
        of_arm = self._sample.units if arm.condition == "natural" else self._synthetic
        units = [*of_arm[: arm.units], *(null_of(unit) for unit in of_arm[: arm.null])]
        return ArmPack(
            arm=arm.id,
            model=arm.model,
            condition=arm.condition,
            difficulty=arm.difficulty,
            method=named(self._methods, arm.condition),
            units=tuple(track(self._explained(arm, units), f"panels of {arm.id}", len(units))),
        )

    def anew(self, arm: ArmSection, unit: Unit, revision: int) -> UnitPanels:
        """A unit's panels in an arm under another revision: its images are drawn into others."""
        (made,) = self._explained(arm, [unit], revision)
        return made

    def _explained(self, arm: ArmSection, units: Sequence[Unit], revision: int = 1) -> Iterator[UnitPanels]:
        method = self._method(arm.condition)
        waiting: deque[_Seen] = deque()
        done = 0

        def asked() -> Iterator[Asked]:
            for unit in units:
                waiting.append(self._seen(arm, unit, revision))
                yield waiting[-1].asked()

        for done, explanation in enumerate(method.explain(asked()), 1):  # noqa: B007 (counts)
            if not waiting:
                raise FactoryError(
                    f"{arm.id}: {type(method).__name__} gives an explanation of no unit; it must give one for each"
                )
            seen = waiting.popleft()
            _hold_to_nine(method, seen, explanation)
            yield self._unit_panels(seen, explanation)
        if done != len(units):
            raise FactoryError(f"{arm.id}: {type(method).__name__} explains {done} of {len(units)} units; it must explain all")

    def _seen(self, arm: ArmSection, unit: Unit, revision: int) -> "_Seen":
        column = self._column(unit)
        order = self._sample.recording.order(unit, column)
        batches = self._study.file.panels.batches
        choice = exemplars.choose(order, self._looks, batches, arm.difficulty)
        self._note(unit, order, choice)
        again = () if revision == 1 else (revision,)
        ranks = exemplars.panels(choice, batches, generator(self._seed, "exemplars", unit.key, *again))
        return _Seen(self, self._sample.network, unit, column, order, ranks)

    def _unit_panels(self, seen: "_Seen", explanation: Explanation) -> UnitPanels:
        column, order = seen.column, seen.order
        return UnitPanels(
            unit=seen.unit,
            panels=tuple(
                Panel(
                    batch=batch,
                    references=references,
                    queries=SidePair(min=seen.exemplar(panel.queries.min), max=seen.exemplar(panel.queries.max)),
                )
                for batch, (panel, references) in enumerate(zip(seen.ranks, explanation.batches, strict=True))
            ),
            extremes=SidePair(
                min=tuple(map(seen.exemplar, self._unblocked(order, range(len(order))))),
                max=tuple(map(seen.exemplar, self._unblocked(order, range(len(order) - 1, -1, -1)))),
            ),
            activation_range=SidePair(min=float(column.min()), max=float(column.max())),
            visualised=explanation.made,
        )

    def _note(self, unit: Unit, order: Ranks, choice: Choice) -> None:
        """Keep what was passed over; arms of one model share most of it."""

        def name(rank: int) -> str:
            return self._sample.recording.name(int(order[rank]))

        for passed in choice.passed_over:
            resembles = None if passed.resembles is None else name(passed.resembles)
            skip = Skip(
                unit=unit.key,
                side=passed.side,
                rank=passed.rank,
                image=name(passed.rank),
                reason="veto" if resembles is None else "near-duplicate",
                resembles=resembles,
            )
            self._skips[skip] = None

    def _unblocked(self, order: Ranks, inwards: range) -> Iterator[int]:
        """The first ranks whose images nobody vetoed. Near-duplicates may stay: a catch trial shows one image of a side."""
        found = (rank for rank in inwards if not self._looks.blocked[order[rank]])
        return (rank for rank, _ in zip(found, range(EXTREMES), strict=False))

    def _column(self, unit: Unit) -> NDArray[np.float32]:
        column = self._sample.column(real(unit))
        return permuted(column, unit, self._seed) if unit.null else column

    def image(self, place: int) -> str:
        """Store a natural image once; its digest."""
        if place not in self._stored:
            self._stored[place] = self.store(self.pixels(place), self._sample.recording.name(place))
        return self._stored[place]

    def pixels(self, place: int) -> Pixels:
        """Of a natural image.

        Raises:
            FactoryError: it isn't the one that was recorded.
        """
        recording = self._sample.recording
        name = recording.name(place)
        at = int(recording.usable[place])
        try:
            content = recording.images.read(at)
        except (FileNotFoundError, FactoryError):
            content = b""
        if hashlib.sha256(content).digest() != recording.facts["sha256"][at].tobytes():
            path = self._study.images / name
            raise FactoryError(f"{path}: this image changed while it was recorded; run the same command again")
        return decode_image(content, self._study.file.panels.image_size, name)

    def store(self, pixels: Pixels, source: str) -> str:
        """Store any image; its digest."""
        return self._writer.store(pixels, source)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One unit's exemplars by rank."""

    maker: PanelMaker
    network: Network
    unit: Unit
    column: NDArray[np.float32]
    order: Ranks
    ranks: tuple[PanelRanks, ...]

    def exemplar(self, rank: int) -> Exemplar:
        place = int(self.order[rank])
        return Exemplar(image=self.maker.image(place), rank=rank, activation=float(self.column[place]))

    def photograph(self, rank: int) -> Pixels:
        return self.maker.pixels(int(self.order[rank]))

    def asked(self) -> Asked:
        return Asked(self.network, self.unit, self.column, self.ranks, self.photograph, self.exemplar, self.maker.store)


def _hold_to_nine(method: Method, seen: _Seen, explanation: Explanation) -> None:
    """Pages have room for so many, and a missing one would be found by participants."""
    if len(explanation.batches) != len(seen.ranks):
        raise FactoryError(
            f"{seen.unit.key}: {type(method).__name__} gives {len(explanation.batches)} batches of images; the study has "
            f"{len(seen.ranks)} (panels.batches)"
        )
    for references in explanation.batches:
        low, high = len(references.min), len(references.max)
        if not low == high == REFERENCES:
            raise FactoryError(
                f"{seen.unit.key}: {type(method).__name__} gives {low} images of the lower side and {high} of the upper one; a "
                f"panel shows {REFERENCES} of each"
            )
