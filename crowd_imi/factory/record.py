"""Recording: one pass over the images, for all layers at once, that can be killed at any moment and goes on.

Kept are the whole columns of the sampled units (for windows of ranks anywhere) and, of every unit of the layers, the k lowest and
k highest activations. So memory is bounded by the batch and by k, whatever the number of images; columns grow on the disk.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from crowd_imi import __version__
from crowd_imi.errors import FactoryError
from crowd_imi.factory.cluster.crew import Crew
from crowd_imi.factory.crops import FACTS, CropReader, Status
from crowd_imi.factory.extremes import drawn_ties, values
from crowd_imi.factory.looker import Column
from crowd_imi.factory.network import Network
from crowd_imi.factory.passes import Computed, Pass
from crowd_imi.factory.shards import SHARDS_FOLDER, run_in_shards
from crowd_imi.image_sets import ImageSet
from crowd_imi.progress import Track, silent
from crowd_imi.records import Unit
from crowd_imi.seeds import generator
from crowd_imi.study import RecordingSection
from crowd_imi.vision.layers import UnitLayer

CHECKPOINT_SECONDS = 20.0
"""After this long a pass writes down how far it is; a killed one repeats at most so much."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    """What one pass over the images left on the disk; columns are read when they are asked for."""

    folder: Path
    images: ImageSet
    units: tuple[Unit, ...]
    """Those with columns."""
    layers: tuple[UnitLayer, ...]
    seed: int
    computed: Computed

    @cached_property
    def facts(self) -> NDArray[np.void]:
        """Of every image of the set, shape (files,), as ``crops.FACTS``."""
        return np.fromfile(self.folder / "images", dtype=FACTS)

    @cached_property
    def usable(self) -> NDArray[np.int64]:
        """Places in the set of the images that could be read: what ranks count."""
        return np.flatnonzero(self.facts["status"] == Status.USABLE)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Names of the files that couldn't be read."""
        return tuple(as_text(self.images.names[int(place)]) for place in np.flatnonzero(self.facts["status"] != Status.USABLE))

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """Perceptual hashes, shape (usable images,)."""
        hashes: NDArray[np.uint64] = self.facts["hash"][self.usable].astype(np.uint64)
        return hashes

    @property
    def ties(self) -> NDArray[np.int64]:
        """What orders images of equal activation in ``extremes``, shape (usable images,)."""
        return drawn_ties(self.seed, len(self.images.names))[self.usable]

    def order(self, unit: Unit, column: Column) -> NDArray[np.int64]:
        """Usable images from the unit's lowest activation to its highest; equal ones in an order of the unit's own.

        A unit that is zero on most images would otherwise show the same ones as every other such unit, its null unit too, and
        whoever has met a picture before would know which side it is on.

        Args:
            unit: a null unit has another order than its unit.
            column: its activations; a null unit's are permuted.
        """
        ties = generator(self.seed, "ties", unit.key).permutation(len(column))
        return np.lexsort((ties, column)).astype(np.int64)

    def constant(self, layer: str) -> int:
        """How many of a layer's units are the same on every image: nobody can be asked about them."""
        kept = self.extremes(layer)
        return int((values(kept["lowest"])[:, 0] == values(kept["highest"])[:, 0]).sum())

    def name(self, index: int) -> str:
        """Of a usable image."""
        return as_text(self.images.names[self.usable[index]])

    def column(self, unit: Unit) -> Column:
        """One unit's activations, shape (usable images,).

        Raises:
            KeyError: the unit wasn't among those recorded.
        """
        place = {each.key: place for place, each in enumerate(self.units)}[unit.key]
        count = len(self.images.names)
        return np.fromfile(self.folder / "columns", dtype="<f4", count=count, offset=4 * count * place)[self.usable]

    def extremes(self, layer: str) -> dict[str, NDArray[np.int64]]:
        """``lowest`` and ``highest`` of every unit of a layer, as ``extremes.values`` and ``extremes.ties`` read them."""
        place = next(place for place, each in enumerate(self.layers) if each.name == layer)
        with np.load(self.folder / "state.npz") as state:
            return {side: state[f"{place}.{side}"] for side in ("lowest", "highest")}

    @cached_property
    def image_set_sha256(self) -> str:
        """Digest of the usable images' names and file digests."""
        digest = hashlib.sha256()
        for place, sha256 in zip(self.usable, self.facts["sha256"][self.usable], strict=True):
            digest.update(f"{sha256.tobytes().hex()}  {as_text(self.images.names[place])}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Recorder:
    """What a study's passes share."""

    folder: Path
    """Where recordings are kept, each in a folder of its own."""
    crops: CropReader
    settings: RecordingSection
    seed: int
    k: int
    """How many of a unit's lowest and highest activations are kept."""
    checkpoint_seconds: float = field(default_factory=lambda: CHECKPOINT_SECONDS)
    crew: Crew | None = None
    """Workers that record shards of the images; None lets this process do everything."""

    def record(self, network: Network, units: Sequence[Unit], track: Track = silent) -> Recording:
        """Send every image through a model once, or go on where a killed pass stopped.

        Args:
            network: what looks; all units of its layers have their extremes kept.
            units: of its layers, whose whole columns are kept.
            track: shows progress in images.

        Raises:
            VisionError: the network fails, or answers in another way than it did when its layers were described.
            FactoryError: the computer's memory is too small for a batch, or no worker is left.
        """
        images = self.crops.images
        batch = min(self.settings.batch, len(images.names))
        device = network.model.device.type if self.crew is None else self.crew.kind
        computed = Computed(device, torch.get_num_threads(), batch, self.settings.precision)
        folder = self.folder / network.name / self._key(network, units, computed)[:16]
        log.info("recording %s in %s", network.name, folder)
        whole = Pass(
            *(folder, self.crops, network, tuple(units), computed),
            *(self.seed, self.k, self.checkpoint_seconds, range(len(images.names))),
        )
        what = f"recording {network.name}"
        if self.crew is None:
            whole.run(track, what)
        else:
            run_in_shards(whole, self.crew, track, what)
        shutil.rmtree(folder / SHARDS_FOLDER, ignore_errors=True)
        return Recording(folder, images, tuple(units), network.layers, self.seed, computed)

    def forget_all_but(self, kept: Collection[Path]) -> None:
        """Delete what earlier runs recorded of other units, with other settings or of images that have changed."""
        for folder in self.folder.glob("*/*"):
            if folder not in kept and folder.is_dir():
                shutil.rmtree(folder)

    def _key(self, network: Network, units: Sequence[Unit], computed: Computed) -> str:
        model = network.model
        parts = [
            self.crops.digest, self.crops.size, self.k, self.seed, torch.__version__, PIL.__version__, __version__,
            model.source, model.weights_sha256, model.input_size, model.mean, model.std,
            [[layer.name, layer.axis, layer.readout.sha256 if layer.readout else None] for layer in network.layers],
            [unit.key for unit in units],
            [computed.device, computed.threads if computed.device == "cpu" else 0, computed.batch, computed.precision],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def hold_together(first: Recording, other: Recording) -> None:
    """Make sure that two passes saw the same images.

    Raises:
        FactoryError: images changed between them.
    """
    if not np.array_equal(first.facts, other.facts):
        raise FactoryError(
            f"{first.folder.parents[1]}: images were changed, added or taken away while they were recorded; run the same "
            "command again"
        )


def as_text(name: str) -> str:
    """A file's name as it can be written down; a manifest can't hold bytes that are no UTF-8, so these are spelt out."""
    return os.fsencode(name).decode(errors="backslashreplace")
