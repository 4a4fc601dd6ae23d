"""The panels of one arm: exemplars and visualisations put into their roles, their images stored in the pack."""

import hashlib
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from crowd_imi.errors import FactoryError
from crowd_imi.factory import exemplars
from crowd_imi.factory.exemplars import Choice, Looks, PanelRanks, Ranks
from crowd_imi.factory.pack import Kept, PackWriter, key_of
from crowd_imi.factory.sample import Sample
from crowd_imi.factory.units import null_of, permuted
from crowd_imi.pack import ArmPack, Skip, UnitPanels
from crowd_imi.progress import Track, silent
from crowd_imi.records import Exemplar, Panel, Record, Side, SidePair, Unit
from crowd_imi.seeds import generator, seed_for
from crowd_imi.study import ArmSection, Study
from crowd_imi.vision.preprocess import decode_image

EXTREMES = 20
"""Most extreme natural images per side that a pack keeps of every unit, for catch trials."""

References = SidePair[tuple[Exemplar, ...]]


class KeptVisualisations(Record):
    """One unit's visualisations as an earlier run made them."""

    references: References


class PanelMaker:
    """Makes the panels of one model's arms."""

    def __init__(self, study: Study, sample: Sample, writer: PackWriter, looks: Looks) -> None:
        self._study = study
        self._sample = sample
        self._writer = writer
        self._looks = looks
        self._kept = Kept(writer.folder, "visualisations")
        self._seed = study.file.study.seed
        self._stored: dict[int, str] = {}
        """Place of an image in the recording → its digest."""
        self._skips: dict[Skip, None] = {}

    @property
    def skips(self) -> tuple[Skip, ...]:
        """Images that the arms made so far passed over, each named once for every unit, side and rank."""
        return tuple(self._skips)

    def arm_pack(self, arm: ArmSection, track: Track = silent) -> ArmPack:
        """All units of an arm, null units last."""
        units = [*self._sample.units[: arm.units], *(null_of(unit) for unit in self._sample.units[: arm.null])]
        what = f"{'visualising' if arm.condition == 'synthetic' else 'panels of'} {arm.id}"
        return ArmPack(
            arm=arm.id,
            model=arm.model,
            condition=arm.condition,
            difficulty=arm.difficulty,
            units=tuple(self._unit_panels(arm, unit) for unit in track(units, what)),
        )

    def _unit_panels(self, arm: ArmSection, unit: Unit) -> UnitPanels:
        column = self._column(unit)
        order = self._sample.recording.order(unit, column)
        batches = self._study.file.panels.batches
        choice = exemplars.choose(order, self._looks, batches, arm.difficulty)
        self._note(unit, order, choice)
        ranks = exemplars.panels(choice, batches, generator(self._seed, "exemplars", unit.key))
        seen = _Seen(self, column, order)
        visualised = self._visualised(unit) if arm.condition == "synthetic" else None
        return UnitPanels(
            unit=unit,
            panels=tuple(self._panel(batch, panel, seen, visualised) for batch, panel in enumerate(ranks)),
            extremes=SidePair(
                min=tuple(map(seen.exemplar, self._unblocked(order, range(len(order))))),
                max=tuple(map(seen.exemplar, self._unblocked(order, range(len(order) - 1, -1, -1)))),
            ),
            activation_range=SidePair(min=float(column.min()), max=float(column.max())),
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

    def _panel(self, batch: int, ranks: PanelRanks, seen: "_Seen", visualised: References | None) -> Panel:
        return Panel(
            batch=batch,
            references=visualised
            or SidePair(
                min=tuple(seen.exemplar(rank) for rank in ranks.references.min),
                max=tuple(seen.exemplar(rank) for rank in ranks.references.max),
            ),
            queries=SidePair(min=seen.exemplar(ranks.queries.min), max=seen.exemplar(ranks.queries.max)),
        )

    def _column(self, unit: Unit) -> NDArray[np.float32]:
        column = self._sample.column(_real(unit))
        return permuted(column, unit, self._seed) if unit.null else column

    def image(self, place: int) -> str:
        """Store a natural image once; its digest."""
        if place not in self._stored:
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
            self._stored[place] = self._writer.store(decode_image(content, self._study.file.panels.image_size, name), name)
        return self._stored[place]

    def _visualised(self, unit: Unit) -> References:
        """Nine visualisations per side; a null unit shows its real unit's."""
        unit = _real(unit)
        key = self._key(unit)
        kept = self._kept.get(key, KeptVisualisations)
        if kept is None or not self._all_there(kept.references):
            kept = KeptVisualisations(references=SidePair(min=self._visualise(unit, "min"), max=self._visualise(unit, "max")))
            self._kept.put(key, kept)
        for side in ("min", "max"):
            for exemplar in kept.references.side(side):
                self._writer.name_source(exemplar.image, _source(unit, side))
        return kept.references

    def _visualise(self, unit: Unit, side: Side) -> tuple[Exemplar, ...]:
        from crowd_imi.factory.visualize import Target, Visualiser, visualise

        visualiser = Visualiser(self._sample.model, self._study.file.visualisation)
        seed = seed_for(self._seed, "visualisation", unit.key, side)
        span = float(np.ptp(self._sample.column(unit)))
        made = visualise(visualiser, Target(self._sample.layers[unit.layer], unit.channel, side, span), seed)
        return tuple(
            Exemplar(image=self._writer.store(pixels, _source(unit, side)), activation=activation)
            for pixels, activation in zip(made.pixels, made.activations, strict=True)
        )

    def _key(self, unit: Unit) -> str:
        model, readout = self._sample.model, self._sample.layers[unit.layer].readout
        return key_of(
            {
                "weights": model.weights_sha256,
                "model": [model.source, model.input_size, model.mean, model.std],
                "unit": [unit.key, float(np.ptp(self._sample.column(unit)))],
                "readout": None if readout is None else readout.sha256,
                "settings": self._study.file.visualisation.model_dump(),
                "seed": self._seed,
                "versions": [version("torch"), version("torch-lucent"), version("crowd-imi")],
            }
        )

    def _all_there(self, references: References) -> bool:
        return all(self._writer.holds(exemplar.image) for exemplar in (*references.min, *references.max))


class _Seen:
    """One unit's exemplars by rank."""

    def __init__(self, maker: PanelMaker, column: NDArray[np.float32], order: Ranks) -> None:
        self._maker = maker
        self._column = column
        self._order = order

    def exemplar(self, rank: int) -> Exemplar:
        place = int(self._order[rank])
        return Exemplar(image=self._maker.image(place), rank=rank, activation=float(self._column[place]))


def _real(unit: Unit) -> Unit:
    return unit.model_copy(update={"null": False})


def _source(unit: Unit, side: Side) -> str:
    return f"visualisation of {unit.key}, {side}"
