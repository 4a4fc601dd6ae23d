"""A model's sample of units: drawn, recorded, and freed of those that nobody could be asked about."""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from crowd_imi.errors import FactoryError
from crowd_imi.factory.exemplars import flaw
from crowd_imi.factory.images import ImageFiles, check_count
from crowd_imi.factory.record import Recording, record
from crowd_imi.factory.units import candidates
from crowd_imi.pack import Replacement
from crowd_imi.progress import Track, silent
from crowd_imi.records import Difficulty, Unit
from crowd_imi.study import Study, images_needed
from crowd_imi.vision.layers import UnitLayer, describe_layers, unit_layers
from crowd_imi.vision.models import LoadedModel, load_model

SPARE = 0.25
"""Share of units recorded beyond those needed, so that a unit without use rarely costs a second pass."""

Column = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sample:
    """A model's units and how they answered to the images."""

    model: LoadedModel
    layers: dict[str, UnitLayer]
    units: tuple[Unit, ...]
    """In sampling order; an arm of n units asks about the first n."""
    columns: dict[str, Column]
    """Unit key → activations, shape (images,)."""
    recording: Recording
    replacements: tuple[Replacement, ...]


def draw_sample(study: Study, model_name: str, images: ImageFiles, track: Track = silent) -> Sample:
    """Draw the units that a model's arms need and record them; one that can't be asked about is replaced.

    Args:
        study: the study.
        model_name: as in ``[models.NAME]``.
        images: the study's.
        track: shows progress.

    Raises:
        VisionError: the model or its layers can't be used.
        FactoryError: usable images or usable units run out.
    """
    section = study.file.models[model_name]
    model = load_model(section, study.folder, study.file.study.seed)
    layers = describe_layers(model.module, unit_layers(model.module, section.layers), model.input_size)
    arms = [arm for arm in study.file.arms if arm.model == model_name]
    wanted = max(max(arm.units, arm.null) for arm in arms)
    judge = _Judge(study, model, layers, tuple(dict.fromkeys(arm.difficulty for arm in arms)), images, track)
    judged = judge.judged(candidates(model_name, layers, study.file.study.seed), wanted)
    filled: dict[int, tuple[Unit, Column]] = {}
    failed: dict[int, list[tuple[Unit, str]]] = defaultdict(list)
    places = deque(range(wanted))
    for unit, column, reason in judged:
        place = places.popleft()
        if reason is None:
            filled[place] = (unit, column)
        else:
            failed[place].append((unit, reason))
            places.append(place)
        if not places:
            break
    if places:
        raise FactoryError(
            f"models.{model_name}.layers: {wanted} units are needed and only {len(filled)} of all channels can be asked about "
            f"(e.g. {_example(failed)}); name more layers or lower units"
        )
    return Sample(
        model=model,
        layers={layer.name: layer for layer in layers},
        units=tuple(filled[place][0] for place in range(wanted)),
        columns={unit.key: column for unit, column in filled.values()},
        recording=judge.recording,
        replacements=tuple(
            Replacement(unit=unit.key, reason=reason, replaced_by=filled[place][0].key)
            for place in sorted(failed)
            for unit, reason in failed[place]
        ),
    )


@dataclass
class _Judge:
    """Records candidates, as many at a time as are likely to be needed, and says which can be used."""

    study: Study
    model: LoadedModel
    layers: Sequence[UnitLayer]
    difficulties: Sequence[Difficulty]
    images: ImageFiles
    track: Track
    recording: Recording = field(init=False)
    """Of the last pass."""

    def judged(self, order: Iterator[Unit], wanted: int) -> Iterator[tuple[Unit, Column, str | None]]:
        """Every candidate in order with its activations and, when it can't be used, the reason."""
        panels = self.study.file.panels
        count = wanted + max(4, round(SPARE * wanted))
        while drawn := list(islice(order, count)):
            self.recording = record(self.model, self.layers, drawn, self.images, self.track)
            usable = len(self.recording.names)
            check_count(self.images.folder, usable, len(self.images.names) - usable, images_needed(self.study.file))
            for unit, column in zip(drawn, self.recording.columns.T, strict=True):
                yield unit, column, flaw(np.sort(column), panels.batches, self.difficulties)
            count *= 2  # where most units are of no use, a pass over all images for a few more each would never end


def _example(failed: dict[int, list[tuple[Unit, str]]]) -> str:
    for faults in failed.values():
        unit, reason = faults[0]
        return f"{unit.key}: {reason}"
    return "there are fewer channels than that"
