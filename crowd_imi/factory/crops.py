"""From files to crops: decoded by several threads, in the images' order, with what is found out about every file.

Threads and not processes: Pillow decodes and scales without holding Python's lock, and a crop needn't be copied from one
process to another.
"""

import hashlib
import logging
import os
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from crowd_imi import __version__
from crowd_imi.errors import FactoryError, VisionError
from crowd_imi.factory.likeness import perceptual_hash
from crowd_imi.image_sets import ImageSet
from crowd_imi.vision.preprocess import Pixels, decode_image

AHEAD = 256
"""Crops that may wait for the network: enough that it never waits for a slow file, 38 MB at 224 px."""

FACTS = np.dtype([("status", "u1"), ("sha256", "V32"), ("hash", "<u8"), ("crc32", "<u4")])
"""What is known of one image: ``Status``, the SHA-256 of its file, the perceptual hash and the CRC-32 of its crop."""


log = logging.getLogger(__name__)


class Status(IntEnum):
    """Whether an image can be used."""

    UNKNOWN = 0
    USABLE = 1
    UNREADABLE = 2


@dataclass(frozen=True, slots=True)
class Crop:
    """One image, read."""

    facts: NDArray[np.void]
    """A scalar of ``FACTS``."""
    pixels: Pixels | None
    """As it is stored and shown, shape (size, size, 3); None when the file can't be read."""


class CropReader:
    """Reads crops of a set of images, from their files or from a cache of crops that an earlier pass has left."""

    def __init__(self, images: ImageSet, size: int, cache: Path | None = None, workers: int | None = None) -> None:
        """Open the cache, or begin one.

        Args:
            images: which.
            size: pixels on a side of a crop.
            cache: a folder where crops are kept for later passes, N · size² · 3 bytes; None keeps none.
            workers: threads that decode; as many as there are cores, by default.
        """
        self.images = images
        self.size = size
        self._workers = workers or os.cpu_count() or 1
        self.digest = images.digest()
        """Of the set, found once, as it looks at every file."""
        self._cache = None if cache is None else _CropCache(cache, self.digest, size)

    def read(self, begin: int, end: int) -> Iterator[Crop]:
        """The crops of some images, in order; one that can't be read comes without pixels, and the rest goes on."""
        with ThreadPoolExecutor(self._workers, "crops") as pool:
            waiting: deque[Future[Crop]] = deque()
            try:
                for index in range(begin, end):
                    waiting.append(pool.submit(self._crop, index))
                    if len(waiting) > AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _crop(self, index: int) -> Crop:
        if self._cache is None:
            return self._decoded(index)
        kept = self._cache.get(index)
        if kept is None:
            kept = self._decoded(index)
            self._cache.put(index, kept)
        return kept

    def _decoded(self, index: int) -> Crop:
        try:
            content = self.images.read(index)
        except (FileNotFoundError, PermissionError) as error:
            # Any other error is the disk's or the network's, and passes: it must not leave images out for good.
            log.warning("left out: %s: %s", self.images.names[index], error.strerror)
            return Crop(_facts(Status.UNREADABLE, bytes(32)), None)
        except FactoryError as error:
            log.warning("left out: %s", error)
            return Crop(_facts(Status.UNREADABLE, bytes(32)), None)
        digest = hashlib.sha256(content).digest()
        try:
            pixels = decode_image(content, self.size, self.images.names[index])
        except VisionError as error:
            log.warning("left out: %s", error)
            return Crop(_facts(Status.UNREADABLE, digest), None)
        return Crop(_facts(Status.USABLE, digest, perceptual_hash(pixels), zlib.crc32(pixels.tobytes())), pixels)


def _facts(status: Status, digest: bytes, likeness: int = 0, crc32: int = 0) -> NDArray[np.void]:
    return np.array((status, digest, likeness, crc32), dtype=FACTS)


class _CropCache:
    """Two files: the crops one after another, and what is known of each; a crop counts when it is as its facts say.

    Their names tell on what a crop depends: the images, its size, and the versions that decode and hash.
    """

    def __init__(self, folder: Path, digest: str, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(f"{digest} {size} {PIL.__version__} {__version__}".encode()).hexdigest()[:16]
        self._shape = (size, size, 3)
        self._bytes = size * size * 3
        flags = os.O_RDWR | os.O_CREAT
        self._crops = os.open(folder / f"{name}.crops", flags, 0o644)
        self._facts = os.open(folder / f"{name}.facts", flags, 0o644)

    def get(self, index: int) -> Crop | None:
        kept = os.pread(self._facts, FACTS.itemsize, index * FACTS.itemsize)
        if len(kept) < FACTS.itemsize or not kept[0]:
            return None
        facts = np.frombuffer(kept, dtype=FACTS)[0]
        if facts["status"] != Status.USABLE:
            return Crop(facts, None)
        content = os.pread(self._crops, self._bytes, index * self._bytes)
        if len(content) < self._bytes or zlib.crc32(content) != facts["crc32"]:
            return None  # the machine went down before it was written
        return Crop(facts, np.frombuffer(content, dtype=np.uint8).reshape(self._shape))

    def put(self, index: int, crop: Crop) -> None:
        if crop.pixels is not None:
            _write(self._crops, crop.pixels.tobytes(), index * self._bytes)
        _write(self._facts, crop.facts.tobytes(), index * FACTS.itemsize)

    def __del__(self) -> None:
        for descriptor in (getattr(self, "_crops", None), getattr(self, "_facts", None)):
            if descriptor is not None:
                os.close(descriptor)


def _write(descriptor: int, content: bytes, offset: int) -> None:
    """All of it: a disk that is nearly full may take a part at first, and says that it is full at the next call."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
