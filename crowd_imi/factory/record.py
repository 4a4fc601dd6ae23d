"""Recording: one pass over the images, for all layers at once, that can be killed at any moment and goes on.

Kept are the whole columns of the sampled units (for windows of ranks anywhere) and, of every unit of the layers, the k lowest and
k highest activations. So memory is bounded by the batch and by k, whatever the number of images; columns grow on the disk.
"""

import hashlib
import io
import json
import logging
import os
import shutil
import time
import zlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowd_imi import __version__
from crowd_imi.errors import FactoryError, VisionError
from crowd_imi.factory.crops import FACTS, Crop, CropReader, Status
from crowd_imi.factory.extremes import Extremes, values
from crowd_imi.files import write_atomically
from crowd_imi.image_sets import ImageSet
from crowd_imi.progress import Track, silent
from crowd_imi.records import Unit
from crowd_imi.seeds import generator
from crowd_imi.study import RecordingSection
from crowd_imi.vision.layers import REPEATED, UnitLayer, is_out_of_memory, run, watched
from crowd_imi.vision.models import LoadedModel
from crowd_imi.vision.preprocess import Pixels, to_input

CHECKPOINT_SECONDS = 20.0
"""After this long a pass writes down how far it is; a killed one repeats at most so much."""

Column = NDArray[np.float32]

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
    computed: "Computed"

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
        return _ties(self.seed, len(self.images.names))[self.usable]

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
class Computed:
    """On what a recording was computed: other machines may differ in the last bits."""

    device: str
    threads: int
    batch: int
    precision: str


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

    def record(
        self, name: str, model: LoadedModel, layers: Sequence[UnitLayer], units: Sequence[Unit], track: Track = silent
    ) -> Recording:
        """Send every image through a model once, or go on where a killed pass stopped.

        Args:
            name: of the model in study.toml.
            model: what looks.
            layers: all whose units' extremes are kept; those of ``units``, at least.
            units: whose whole columns are kept.
            track: shows progress in images.

        Raises:
            VisionError: the network fails, or answers in another way than it did when its layers were described.
            FactoryError: the computer's memory is too small for a batch.
        """
        batch = min(self.settings.batch, len(self.crops.images.names))
        computed = Computed(model.device.type, torch.get_num_threads(), batch, self.settings.precision)
        folder = self.folder / name / self._key(model, layers, units, computed)[:16]
        log.info("recording %s in %s", name, folder)
        one_pass = _Pass(self, folder, model, tuple(layers), tuple(units), computed)
        try:
            one_pass.run(track, f"recording {name}")
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise FactoryError(
                f"recording.batch = {self.settings.batch}: the computer's memory is too small for {model.source} to look at "
                f"{batch} images at a time; lower it in study.toml, or close other programs"
            ) from error
        return Recording(folder, self.crops.images, tuple(units), tuple(layers), self.seed, computed)

    def forget_all_but(self, kept: Collection[Path]) -> None:
        """Delete what earlier runs recorded of other units, with other settings or of images that have changed."""
        for folder in self.folder.glob("*/*"):
            if folder not in kept and folder.is_dir():
                shutil.rmtree(folder)

    def _key(self, model: LoadedModel, layers: Sequence[UnitLayer], units: Sequence[Unit], computed: Computed) -> str:
        parts = [
            self.crops.digest, self.crops.size, self.k, self.seed, torch.__version__, PIL.__version__, __version__,
            model.source, model.weights_sha256, model.input_size, model.mean, model.std,
            [[layer.name, layer.axis, layer.readout.sha256 if layer.readout else None] for layer in layers],
            [unit.key for unit in units],
            [computed.device, computed.threads if computed.device == "cpu" else 0, computed.batch, computed.precision],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass
class _Pass:
    """One pass under way.

    A checkpoint writes columns and facts first and the state last, in one piece: what was written behind the place that the state
    names is written again by the next run.
    """

    recorder: Recorder
    folder: Path
    model: LoadedModel
    layers: tuple[UnitLayer, ...]
    units: tuple[Unit, ...]
    computed: Computed
    _rows: list[Column] = field(default_factory=list)
    _facts: list[NDArray[np.void]] = field(default_factory=list)
    _sums: list[int] = field(default_factory=list)
    """CRC-32 of the facts and of every unit's column, as far as they are written."""

    def run(self, track: Track, what: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        images = self.recorder.crops.images
        total, batch = len(images.names), self.computed.batch
        for stray in self.folder.glob(".*"):
            stray.unlink()  # of a run that was killed while it wrote
        looker = Looker(self.model, self.layers, self.units, self.computed.precision)
        extremes = [Extremes(layer.channels, self.recorder.k, self.model.device) for layer in self.layers]
        done = self._restore(extremes) if self._is_of(looker) else 0
        if done >= total:
            return
        ties = torch.from_numpy(_ties(self.recorder.seed, total)).to(self.model.device)
        written, begun = done, time.monotonic()
        crops = track(self.recorder.crops.read(done, total), what, total - done)
        for begin in range(done, total, batch):
            end = min(begin + batch, total)
            rows = self._look(looker, [next(crops) for _ in range(begin, end)], extremes, ties[begin:end])
            self._rows.append(rows)
            if end == total or time.monotonic() - begun > self.recorder.checkpoint_seconds:
                self._checkpoint(written, end, extremes)
                written, begun = end, time.monotonic()
        next(crops, None)  # lets the progress end

    def _look(self, looker: "Looker", crops: list[Crop], extremes: list[Extremes], ties: Tensor) -> Column:
        """Shape (images, units); NaN for an image that can't be read."""
        size = self.recorder.crops.size
        self._facts.append(np.stack([crop.facts for crop in crops]))
        readable = {place: crop.pixels for place, crop in enumerate(crops) if crop.pixels is not None}
        places = slice(len(crops)) if len(readable) == len(crops) else list(readable)
        # Every batch has the same shape, whatever is missing, as the last bits may depend on it.
        pixels = np.zeros((self.computed.batch, size, size, 3), dtype=np.uint8)
        for place, crop in readable.items():
            pixels[place] = crop
        rows = np.full((len(crops), len(self.units)), np.nan, dtype="<f4")
        if readable:
            seen, columns = looker.look(pixels)
            for layer, activations in zip(extremes, seen, strict=True):
                layer.add(activations[places], ties[places])
            rows[places] = columns[places]
        return rows

    def _is_of(self, looker: "Looker") -> bool:
        """Whether what an earlier run left here is of the same network: code can change where weights and names don't.

        One image of noise is looked at, and what the layers answer is kept. It is compared roughly: a GPU's last bits differ
        from run to run.
        """
        size = self.recorder.crops.size
        noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
        probe = np.concatenate([answers.cpu().numpy().ravel() for answers in looker.look(noise)[0]])
        path = self.folder / "probe.npz"
        try:
            with path.open("rb") as file, np.load(file) as kept:
                if kept["probe"].shape == probe.shape and np.allclose(kept["probe"], probe, rtol=0.02, atol=1e-3, equal_nan=True):
                    return True
        except (FileNotFoundError, ValueError, KeyError, EOFError, BadZipFile):
            pass
        (self.folder / "state.npz").unlink(missing_ok=True)
        write_atomically(path, _npz({"probe": probe}))
        return False

    def _restore(self, extremes: list[Extremes]) -> int:
        """How many images a killed pass has left behind it, its state put back."""
        try:
            # Opened here, as NumPy leaves a file open that is no archive.
            with (self.folder / "state.npz").open("rb") as file, np.load(file) as state:
                for place, layer in enumerate(extremes):
                    layer.restore({side: state[f"{place}.{side}"] for side in ("lowest", "highest")})
                done, self._sums = int(state["done"]), state["sums"].tolist()
        except (FileNotFoundError, ValueError, KeyError, EOFError, BadZipFile):
            return self._begin_anew(extremes)
        damaged = self._damaged(done)
        if damaged is not None:
            log.warning("%s: damaged since it was written, so all images are looked at again", damaged)
            return self._begin_anew(extremes)
        return done

    def _damaged(self, done: int) -> Path | None:
        """Which file, if any, isn't as it was written, as far as the state says that it is."""
        total, path = len(self.recorder.crops.images.names), self.folder / "images"
        try:
            with path.open("rb") as images:
                if zlib.crc32(images.read(FACTS.itemsize * done)) != self._sums[0]:
                    return path
            path = self.folder / "columns"
            with path.open("rb") as columns:
                for place in range(len(self.units)):
                    columns.seek(4 * total * place)
                    if zlib.crc32(columns.read(4 * done)) != self._sums[1 + place]:
                        return path
        except FileNotFoundError:
            return path
        return None

    def _begin_anew(self, extremes: list[Extremes]) -> int:
        self._sums = []
        for place, layer in enumerate(self.layers):
            extremes[place] = Extremes(layer.channels, self.recorder.k, self.model.device)
        return 0

    def _checkpoint(self, begin: int, end: int, extremes: list[Extremes]) -> None:
        total = len(self.recorder.crops.images.names)
        columns, facts = np.ascontiguousarray(np.concatenate(self._rows).T), np.concatenate(self._facts)
        _write_parts(self.folder / "columns", [(4 * (total * place + begin), column) for place, column in enumerate(columns)])
        _write_parts(self.folder / "images", [(FACTS.itemsize * begin, facts)])
        sums = self._sums or [0] * (1 + len(columns))
        self._sums = [zlib.crc32(part.tobytes(), sum_) for part, sum_ in zip((facts, *columns), sums, strict=True)]
        arrays = {f"{place}.{side}": kept for place, layer in enumerate(extremes) for side, kept in layer.state().items()}
        write_atomically(self.folder / "state.npz", _npz({"done": np.int64(end), "sums": np.array(self._sums), **arrays}))
        self._rows, self._facts = [], []


class Looker:
    """Sees what the layers of a model answer to images."""

    def __init__(
        self, model: LoadedModel, layers: Sequence[UnitLayer], units: Sequence[Unit], precision: str = "float32"
    ) -> None:
        self._model = model
        self._layers: dict[str, list[tuple[int, UnitLayer]]] = defaultdict(list)
        places = {layer.name: place for place, layer in enumerate(layers)}
        for place, layer in enumerate(layers):
            self._layers[layer.module].append((place, layer))
        self._units = [(places[unit.layer], unit.channel) for unit in units]
        self._count = len(layers)
        self._dtype = getattr(torch, precision)
        self._at_once: int | None = None

    def look(self, pixels: Pixels) -> tuple[list[Tensor], Column]:
        """All units' activations per layer, each (images, units), on the device; and the sampled units' (images, units).

        Raises:
            VisionError: the GPU has no room for a single image, the network fails, or a layer doesn't answer once to every
                image as it did when it was described.
        """
        small: int | None = None
        while True:
            size = small or self._at_once or len(pixels)
            try:
                parts = [self._seen(pixels[begin : begin + size]) for begin in range(0, len(pixels), size)]
                seen = [torch.cat(layer) for layer in zip(*parts, strict=True)]
                columns = torch.stack([seen[place][:, channel] for place, channel in self._units], dim=1).cpu().numpy()
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise VisionError(
                        f"{self._model.source}: the GPU's memory is too small even for one image; free it, or hide the GPU with "
                        "CUDA_VISIBLE_DEVICES= to compute on the processor"
                    ) from None
                small = size // 2
                torch.cuda.empty_cache()
            else:
                if small is not None:
                    log.warning("the GPU's memory is too small for %d images at a time: going on with %d", len(pixels), small)
                    self._at_once = small
                return seen, columns

    def _seen(self, pixels: Pixels) -> list[Tensor]:
        seen: dict[int, Tensor] = {}

        def see(name: str, output: Tensor) -> None:
            for place, layer in self._layers[name]:
                if place in seen:
                    raise VisionError(f"layer {layer.module}: {REPEATED}")
                seen[place] = layer.answers(output, len(pixels))

        device = self._model.device.type
        mixed = torch.autocast(device, dtype=self._dtype, enabled=self._dtype != torch.float32)
        with torch.inference_mode(), mixed, watched(self._model.module, self._layers, see):
            run(self._model.module, to_input(pixels, self._model), str(self._dtype).removeprefix("torch."))
        missing = [name for name, layers in self._layers.items() if layers[0][0] not in seen]
        if missing:
            raise VisionError(f"layer {missing[0]}: images don't pass through it each time; name another layer")
        return [seen[place] for place in range(self._count)]


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


def activations(model: LoadedModel, layer: UnitLayer, channel: int, pixels: Pixels) -> Column:
    """One unit's activation on some stored images, shape (images,)."""
    return Looker(model, (layer,), (Unit(model="any", layer=layer.name, channel=channel),)).look(pixels)[1][:, 0]


def as_text(name: str) -> str:
    """A file's name as it can be written down; a manifest can't hold bytes that are no UTF-8, so these are spelt out."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _ties(seed: int, count: int) -> NDArray[np.int64]:
    return generator(seed, "ties").permutation(count)


def _write_parts(path: Path, parts: Sequence[tuple[int, NDArray[np.generic]]]) -> None:
    """Write arrays at offsets of a file, and see to it that they are on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        for offset, array in parts:
            content = np.ascontiguousarray(array).tobytes()
            while content:
                content = content[os.pwrite(descriptor, content, offset + array.nbytes - len(content)) :]
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def _npz(arrays: dict[str, NDArray[np.generic] | np.generic]) -> bytes:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()
