"""A pass over images that can be killed at any moment and goes on."""

import io
import logging
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowd_imi.errors import FactoryError
from crowd_imi.factory.crops import FACTS, Crop, CropReader
from crowd_imi.factory.extremes import Extremes, drawn_ties
from crowd_imi.factory.looker import Column, Looker
from crowd_imi.factory.network import Network
from crowd_imi.files import write_atomically
from crowd_imi.progress import Track
from crowd_imi.records import Unit
from crowd_imi.vision.layers import is_out_of_memory

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Computed:
    """On what a recording was computed: other machines may differ in the last bits."""

    device: str
    threads: int
    batch: int
    precision: str


@dataclass
class Pass:
    """One pass under way, over all images of the set or some whole batches of them.

    A checkpoint writes columns and facts first and the state last, in one piece: what was written behind the place that the state
    names is written again by the next run.
    """

    folder: Path
    """Where it writes."""
    crops: CropReader
    network: Network
    units: tuple[Unit, ...]
    computed: Computed
    seed: int
    k: int
    """How many of a unit's lowest and highest activations are kept."""
    checkpoint_seconds: float
    images: range
    """Places in the set; they begin at a whole batch."""
    _rows: list[Column] = field(default_factory=list)
    _facts: list[NDArray[np.void]] = field(default_factory=list)
    _sums: list[int] = field(default_factory=list)
    """CRC-32 of the facts and of every unit's column, as far as they are written."""

    def run(self, track: Track, what: str) -> None:
        """Look at all images, or at those that a killed run has left.

        Args:
            track: shows progress in images.
            what: is being done.

        Raises:
            VisionError: the network fails, or answers in another way than it did when its layers were described.
            FactoryError: the computer's memory is too small for a batch.
        """
        try:
            self._run(track, what)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            source, batch = self.network.model.source, self.computed.batch
            raise FactoryError(
                f"recording.batch: the computer's memory is too small for {source} to look at {batch} images at a time; lower it "
                "in study.toml, or close other programs"
            ) from error

    def _run(self, track: Track, what: str) -> None:
        looker, extremes, done = self.begin()
        if done == len(self.images):
            return
        first, total, batch = self.images.start, len(self.images), self.computed.batch
        ties = torch.from_numpy(drawn_ties(self.seed, len(self.crops.images.names))).to(self.network.model.device)
        written, begun = done, time.monotonic()
        crops = track(self.crops.read(first + done, self.images.stop), what, total - done)
        for begin in range(done, total, batch):
            end = min(begin + batch, total)
            seen = [next(crops) for _ in range(begin, end)]
            self._rows.append(self._look(looker, seen, extremes, ties[first + begin : first + end]))
            if end == total or time.monotonic() - begun > self.checkpoint_seconds:
                self._checkpoint(written, end, extremes)
                written, begun = end, time.monotonic()
        next(crops, None)  # lets the progress end

    def begin(self) -> tuple[Looker, list[Extremes], int]:
        """What looks, and what an earlier run has left: extremes so far, and of how many images."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for stray in self.folder.glob(".*"):
            stray.unlink()  # of a run that was killed while it wrote
        looker = Looker(self.network.model, self.network.layers, self.units, self.computed.precision)
        extremes = self._nothing_yet()
        done = self._restore(extremes) if self._is_of(looker) else 0
        return looker, extremes, done

    def take_over(self, other: "Pass", extremes: list[Extremes]) -> None:
        """Let what a finished pass over the next images has left be a part of this one.

        Args:
            other: over images that follow those of which this one knows.
            extremes: of this one, as ``begin`` gave them; the other's are added.

        Raises:
            FactoryError: the other isn't finished, or its files aren't as they were written.
        """
        theirs = other._nothing_yet()
        if other._restore(theirs) != len(other.images):
            raise FactoryError(f"{other.folder}: what a worker wrote can't be read as it was written; run the same command again")
        count = len(other.images)
        self._rows = [np.fromfile(other.folder / "columns", dtype="<f4").reshape(len(self.units), count).T]
        self._facts = [np.fromfile(other.folder / "images", dtype=FACTS)]
        for layer, their in zip(extremes, theirs, strict=True):
            layer.join(their)
        begin = other.images.start - self.images.start
        self._checkpoint(begin, begin + count, extremes)

    def over(self, folder: Path, images: range) -> "Pass":
        """The same over other images."""
        return replace(self, folder=folder, images=images, _rows=[], _facts=[], _sums=[])

    def _nothing_yet(self) -> list[Extremes]:
        return [Extremes(layer.channels, self.k, self.network.model.device) for layer in self.network.layers]

    def _look(self, looker: "Looker", crops: list[Crop], extremes: list[Extremes], ties: Tensor) -> Column:
        """Shape (images, units); NaN for an image that can't be read."""
        size = self.crops.size
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
        size = self.crops.size
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
        total, path = len(self.images), self.folder / "images"
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
        for place, layer in enumerate(self.network.layers):
            extremes[place] = Extremes(layer.channels, self.k, self.network.model.device)
        return 0

    def _checkpoint(self, begin: int, end: int, extremes: list[Extremes]) -> None:
        total = len(self.images)
        columns, facts = np.ascontiguousarray(np.concatenate(self._rows).T), np.concatenate(self._facts)
        _write_parts(self.folder / "columns", [(4 * (total * place + begin), column) for place, column in enumerate(columns)])
        _write_parts(self.folder / "images", [(FACTS.itemsize * begin, facts)])
        sums = self._sums or [0] * (1 + len(columns))
        self._sums = [zlib.crc32(part.tobytes(), sum_) for part, sum_ in zip((facts, *columns), sums, strict=True)]
        arrays = {f"{place}.{side}": kept for place, layer in enumerate(extremes) for side, kept in layer.state().items()}
        write_atomically(self.folder / "state.npz", _npz({"done": np.int64(end), "sums": np.array(self._sums), **arrays}))
        self._rows, self._facts = [], []


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
