"""A model's sample of units: drawn, recorded, and freed of those that nobody could be asked about."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from crowd_imi.errors import FactoryError
from crowd_imi.factory.images import check_count
from crowd_imi.factory.looker import Column
from crowd_imi.factory.network import Network
from crowd_imi.factory.record import Recorder, Recording, hold_together
from crowd_imi.factory.units import candidates
from crowd_imi.pack import Replacement
from crowd_imi.progress import Track, silent
from crowd_imi.records import Unit
from crowd_imi.study import ModelSection, Study

SPARE = 0.25
"""Share of units recorded beyond those needed, so that a unit without use rarely costs a second pass."""

Judge = Callable[[Unit, Recording], str | None]
"""Why nobody can be asked about a recorded unit, or None."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A model's units and how they answered to the images."""

    network: Network
    units: tuple[Unit, ...]
    """In sampling order; an arm of n units asks about the first n."""
    recordings: dict[str, Recording]
    """Unit key → the pass that holds its column."""
    replacements: tuple[Replacement, ...]

    @property
    def recording(self) -> Recording:
        """The pass that the first unit comes from; what it says of the images holds for all."""
        return self.recordings[self.units[0].key]

    def column(self, unit: Unit) -> Column:
        """A unit's activations, shape (usable images,)."""
        return self.recordings[unit.key].column(unit)


def draw_sample(  # noqa: PLR0913 (what a render holds)
    study: Study, network: Network, recorder: Recorder, judge: Judge, track: Track = silent, *, more: int = 0
) -> Sample:
    """Draw the units that a model's arms need and record them; one that can't be asked about is replaced.

    Args:
        study: the study.
        network: the model.
        recorder: of the study's images.
        judge: says which unit can't be asked about.
        track: shows progress.
        more: units behind those that are needed; which come before them doesn't depend on it.

    Raises:
        VisionError: the network fails.
        FactoryError: usable images or usable units run out.
    """
    model_name, section = network.name, study.file.models[network.name]
    order = candidates(model_name, section, network.layers, study.file.study.seed)
    wanted = max(max(arm.units, arm.null) for arm in study.file.arms if arm.model == model_name)
    recordings: dict[str, Recording] = {}

    def record(units: Sequence[Unit]) -> Recording:
        recording = recorder.record(network, units, track)
        hold_together(next(iter(recordings.values()), recording), recording)
        usable = len(recording.usable)
        check_count(study, usable, len(recording.images.names) - usable)
        return recording

    filled: dict[int, Unit] = {}
    failed: dict[int, list[tuple[Unit, str]]] = defaultdict(list)
    places = deque(range(wanted))
    for recording, unit in _recorded(record, order, wanted, track):
        place = places.popleft()
        reason = judge(unit, recording)
        if reason is None:
            filled[place] = unit
            recordings[unit.key] = recording
        else:
            failed[place].append((unit, reason))
            places.append(place)
        if not places and len(filled) == wanted + more:
            break
        if not places:
            places.append(len(filled))
    if places:
        raise FactoryError(_too_few(model_name, section, wanted + more, len(filled), failed))
    return Sample(
        network=network,
        units=tuple(filled[place] for place in range(wanted + more)),
        recordings=recordings,
        replacements=tuple(
            Replacement(unit=unit.key, reason=reason, replaced_by=filled[place].key)
            for place in sorted(failed)
            for unit, reason in failed[place]
        ),
    )


def _recorded(
    record: Callable[[Sequence[Unit]], Recording], order: Iterator[Unit], wanted: int, track: Track
) -> Iterator[tuple[Recording, Unit]]:
    """Candidates in order, recorded as many at a time as are likely to be needed."""
    count = wanted + max(4, round(SPARE * wanted))
    while drawn := list(islice(order, count)):
        recording = record(drawn)
        yield from ((recording, unit) for unit in track(drawn, f"ranking images for units of {drawn[0].model}"))
        count *= 2  # where most units are of no use, a pass over all images for a few more each would never end


def _too_few(model_name: str, section: ModelSection, wanted: int, usable: int, failed: dict[int, list[tuple[Unit, str]]]) -> str:
    faults = [fault for place in sorted(failed) for fault in failed[place]]
    example = f"{faults[0][0].key}: {faults[0][1]}" if faults else "there are fewer than that"
    key, remedy = ("units", "list more units") if section.units else ("layers", "name more layers")
    return (
        f"models.{model_name}.{key}: {wanted} units are needed and only {usable} can be asked about (e.g. {example}); "
        f"{remedy} or lower the arms' units"
    )
