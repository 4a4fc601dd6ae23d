"""Methods of explanation: how a unit is explained to participants, by images of either side.

A method that joins these is a class with ``explain``. ``render(study, methods={"synthetic": it})`` shows its images in the arms
of a condition; a condition of its own needs a value of ``records.Condition``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from crowd_imi.factory.cluster.crew import Crew
from crowd_imi.factory.exemplars import PanelRanks
from crowd_imi.factory.groups import SIDES, Group, cut
from crowd_imi.factory.pack import Kept, PackWriter, key_of
from crowd_imi.pack import Visualised
from crowd_imi.progress import Track, silent
from crowd_imi.records import Condition, Exemplar, Record, Side, SidePair, Unit
from crowd_imi.study import ModelSection, VisualisationSection

if TYPE_CHECKING:  # torch takes seconds to load
    from crowd_imi.factory.network import Network
    from crowd_imi.factory.visualize import Diverged, Target, Visualisations
    from crowd_imi.vision.preprocess import Pixels

References = SidePair[tuple[Exemplar, ...]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A unit that is to be explained, what is known of it, and where its images go."""

    network: "Network"
    """The model, and those of its layers that the study asks about."""
    unit: Unit
    """A null unit is explained as its unit, if by something other than photographs."""
    column: NDArray[np.float32]
    """Its recorded activations, shape (usable images,); a null unit's are permuted."""
    ranks: tuple[PanelRanks, ...]
    """The recorded exemplars of each batch of its panels."""
    photograph: "Callable[[int], Pixels]"
    """A rank's, shape (size, size, 3), to be looked at; 0 drives the unit least."""
    exemplar: Callable[[int], Exemplar]
    """Stores the photograph of a rank, to be shown."""
    store: "Callable[[Pixels, str], str]"
    """Stores an image that the method made, with what the manifest is to say of where it comes from; its SHA-256."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Images of both sides of a unit, nine of each, the most extreme first."""

    batches: tuple[References, ...]
    """For each batch of panels; the pack's manifest tells of each image where it comes from."""
    made: SidePair[Visualised] | None = None
    """How they were made, if by gradient ascent."""


class Method(Protocol):
    """One way to explain units of one model."""

    def explain(self, asked: Iterable[Asked]) -> Iterator[Explanation]:
        """Explain units, in their order.

        Args:
            asked: units of one model, of any layers, each read from its recording when it is taken. A method may take as many
                as it wants to work on at once before it gives the first explanation.
        """


Methods = Mapping[Condition, Method]
"""Those that stand in for natural exemplars, or for feature visualisation."""
NO_OTHERS: Methods = MappingProxyType({})


def named(methods: Methods, condition: Condition) -> str | None:
    """The method that stands in for a condition's own, by its class; None where none does."""
    return type(methods[condition]).__name__ if condition in methods else None


class NaturalExemplars:
    """Photographs: those that drove the unit most and least."""

    def explain(self, asked: Iterable[Asked]) -> Iterator[Explanation]:
        """Each batch has photographs of its own."""
        for one in asked:
            yield Explanation(
                tuple(
                    SidePair(
                        min=tuple(one.exemplar(rank) for rank in panel.references.min),
                        max=tuple(one.exemplar(rank) for rank in panel.references.max),
                    )
                    for panel in one.ranks
                )
            )


class KeptVisualisations(Record):
    """``pack/kept/visualisations/KEY.json``: one unit's visualisations, as they were finished."""

    unit: Unit
    references: References
    made: SidePair[Visualised]


class Wanted(Record):
    """``pack/kept/wanted/KEY.json``: what the last render by some settings visualises of one model."""

    visualisations: tuple[str, ...]
    """Keys of ``KeptVisualisations``, whether they are finished or not."""


class FeatureVisualisation:
    """Images made from noise by gradient ascent; all batches share them, and a null unit shows its unit's.

    Units of a layer are made together, in groups that follow from the study alone, so that a unit's images are the same whoever
    makes them and after whatever interruption. Each unit is kept as soon as its group is finished.
    """

    def __init__(  # noqa: PLR0913, PLR0917 (what images depend on)
        self,
        network: "Network",
        columns: dict[Unit, NDArray[np.float32]],
        settings: VisualisationSection,
        seed: int,
        writer: PackWriter,
        crew: Crew | None = None,
        wanted: str | None = None,
    ) -> None:
        """Begin.

        Args:
            network: whose units.
            columns: of all units that the study visualises, in its order, with their activations.
            settings: how.
            seed: the study's.
            writer: of the pack.
            crew: workers that make groups; None lets this process make them.
            wanted: ``wanted_key``, for the gallery to find what is finished.
        """
        self._network, self._columns = network, columns
        self._settings, self._seed, self._writer, self._crew = settings, seed, writer, crew
        self._kept = Kept(writer.folder, KEPT_KIND)
        self._groups = {unit: group for group in map(self._group, cut(tuple(columns), settings.at_once)) for unit in group.units}
        self._diverged: dict[Group, Diverged] = {}
        self._wanted = wanted

    @property
    def units(self) -> tuple[Unit, ...]:
        """All that are visualised."""
        return tuple(self._columns)

    def explain(self, asked: Iterable[Asked]) -> Iterator[Explanation]:
        """Every unit has one set of images a side."""
        for one in asked:
            kept = self.visualised(real(one.unit))
            for side in SIDES:
                for exemplar in kept.references.side(side):
                    self._writer.name_source(exemplar.image, source(kept.unit, side))
            yield Explanation((kept.references,) * len(one.ranks), kept.made)

    def make_all(self, track: Track = silent) -> None:
        """Make what isn't there yet; each unit is kept as soon as its group is finished."""
        self._announce()
        missing = [
            group
            for group in dict.fromkeys(self._groups.values())
            if group not in self._diverged and any(self._find(unit, group) is None for unit in group.units)
        ]
        units = [unit for group in missing for unit in group.units]
        for _ in track(self._units_of(missing), "visualising", len(units)):
            pass

    def _units_of(self, groups: Sequence[Group]) -> Iterator[Unit]:
        """Units of finished groups."""
        for place, made in self._done(groups):
            self._keep(groups[place], made)
            yield from groups[place].units

    def _done(self, groups: Sequence[Group]) -> "Iterator[tuple[int, list[Visualisations] | Diverged]]":
        if self._crew is None:
            return ((place, group.made(self._network, self._settings)) for place, group in enumerate(groups))
        return self._crew.do(groups)

    def unbeaten(self, track: Track = silent) -> dict[Unit, str]:
        """Units without a visualisation, or whose strongest one photographs surpass, with what is to be said of them."""
        self.make_all(track)
        found: dict[Unit, str] = {}
        for unit, group in self._groups.items():
            if group in self._diverged:
                error = self._diverged[group]
                if (unit.layer, unit.channel) == (error.layer, error.channel):
                    found[unit] = "its visualisation gives values that aren't finite"
            elif (reason := short_of(self.visualised(unit))) is not None:
                found[unit] = reason
        return found

    def visualised(self, unit: Unit) -> KeptVisualisations:
        """A unit's visualisations, made with its whole group unless they are there already.

        Raises:
            Diverged: one isn't made of numbers any more.
        """
        group = self._groups[unit]
        kept = self._find(unit, group)
        if kept is None and group not in self._diverged:
            self._announce()
            self._keep(group, group.made(self._network, self._settings))
            kept = self._find(unit, group)
        if kept is None:
            raise self._diverged[group]
        return kept

    def _announce(self) -> None:
        """Say which visualisations are this render's: others may be there, by other settings or in other groups."""
        if self._wanted is not None:
            keys = tuple(self._key(unit, group) for unit, group in self._groups.items())
            Kept(self._writer.folder, WANTED_KIND).put(self._wanted, Wanted(visualisations=keys))
            self._wanted = None

    def _find(self, unit: Unit, group: Group) -> KeptVisualisations | None:
        kept = self._kept.get(self._key(unit, group), KeptVisualisations)
        if kept is None or not all(self._writer.holds(e.image) for side in SIDES for e in kept.references.side(side)):
            return None
        return kept

    def _keep(self, group: Group, made: "list[Visualisations] | Diverged") -> None:
        if not isinstance(made, list):
            self._diverged[group] = made
            return
        stored = [self._stored(*each) for each in zip(group.wanted, group.targets(self._network), made, group.seeds, strict=True)]
        for unit, low, high in zip(group.units, stored[::2], stored[1::2], strict=True):
            references: References = SidePair(min=low[0], max=high[0])
            told: SidePair[Visualised] = SidePair(min=low[1], max=high[1])
            self._kept.put(self._key(unit, group), KeptVisualisations(unit=unit, references=references, made=told))

    def _group(self, units: tuple[Unit, ...]) -> Group:
        columns = [self._columns[unit] for unit in units]
        natural: tuple[SidePair[float], ...] = tuple(
            SidePair(min=float(column.min()), max=float(column.max())) for column in columns
        )
        return Group(self._network.name, self._network.model.weights_sha256, units, natural, self._seed)

    def _stored(
        self, wanted: tuple[Unit, Side], target: "Target", made: "Visualisations", seed: int
    ) -> tuple[tuple[Exemplar, ...], Visualised]:
        images = tuple(
            Exemplar(image=self._writer.store(pixels, source(*wanted)), activation=activation)
            for pixels, activation in zip(made.pixels, made.activations, strict=True)
        )
        told = Visualised(
            engine=self._settings.engine,
            procedure=self._settings.procedure,
            seed=seed,
            steps=made.steps,
            passes=made.passes,
            diversity=made.weight,
            alike=made.alike,
            best_natural=target.best,
            beats_natural=target.reaches(made.activations[0]),
        )
        return images, told

    def _key(self, unit: Unit, group: Group) -> str:
        model, readout = self._network.model, self._network.by_name[unit.layer].readout
        return key_of(
            {
                "weights": model.weights_sha256,
                "model": [model.source, model.input_size, model.mean, model.std],
                "unit": unit.key,
                "group": [[one.key, ends.min, ends.max] for one, ends in zip(group.units, group.natural, strict=True)],
                "readout": None if readout is None else readout.sha256,
                "settings": _shaping(self._settings),
                "seed": self._seed,
                "versions": [version("torch"), version("torch-lucent"), version("crowd-imi")],
            }
        )


KEPT_KIND = "visualisations"
WANTED_KIND = "wanted"


def wanted_key(model: str, section: ModelSection, settings: VisualisationSection, seed: int) -> str:
    """Under which a model's ``Wanted`` is kept: by what study.toml says, so that it is found without loading the model."""
    return key_of(model, section.model_dump(mode="json"), _shaping(settings), seed)


def _shaping(settings: VisualisationSection) -> dict[str, object]:
    """Those on which images depend."""
    return settings.model_dump(exclude={"unbeaten"})


def short_of(kept: KeptVisualisations) -> str | None:
    """What is to be said of a unit whose strongest visualisation doesn't reach the best photograph; None where both sides do."""
    for side in SIDES:
        made = kept.made.side(side)
        if not made.beats_natural:
            reached = kept.references.side(side)[0].activation
            return f"its {side} visualisations reach {reached:.4g} at most, and a photograph {made.best_natural:.4g}"
    return None


def real(unit: Unit) -> Unit:
    """The unit that a null unit was made of; any other unit is its own."""
    return unit.model_copy(update={"null": False})


def source(unit: Unit, side: Side) -> str:
    """What the manifest says of a visualisation's image."""
    return f"visualisation of {unit.key}, {side}"
