"""The natural images: which files there are, and which can be used."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crowd_imi.errors import FactoryError, VisionError
from crowd_imi.study import image_files
from crowd_imi.vision.preprocess import Pixels, read_image


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The natural images of a study."""

    folder: Path
    names: tuple[str, ...]
    """Below the folder, with ``/`` on every system."""
    size: int
    """Pixels on a side at which they are stored, shown and looked at."""


@dataclass(frozen=True, slots=True)
class ReadImage:
    """One file, read; ``pixels`` is None when it can't be used."""

    name: str
    file_sha256: str
    pixels: Pixels | None


def find_images(folder: Path, size: int, needed: int) -> ImageFiles:
    """All image files below a folder, sorted by name.

    Raises:
        FactoryError: there is no folder, or fewer files than are needed.
    """
    if not folder.is_dir():
        raise FactoryError(f"{folder}: there is no folder of images here; correct images.folder")
    names = sorted(path.relative_to(folder).as_posix() for path in image_files(folder))
    check_count(folder, len(names), 0, needed)
    return ImageFiles(folder, tuple(names), size)


def check_count(folder: Path, usable: int, left_out: int, needed: int) -> None:
    """Make sure that there are enough images for every arm's panels.

    Raises:
        FactoryError: there aren't; it says how many are needed.
    """
    if usable < needed:
        unusable = f" ({left_out} more can't be used)" if left_out else ""
        raise FactoryError(
            f"{folder}: {usable} usable images{unusable}, and this study's panels need {needed}; add images or lower "
            "panels.batches"
        )


def read_images(images: ImageFiles) -> Iterator[ReadImage]:
    """Read files one by one; one that can't be read comes with ``pixels`` None, and the rest goes on."""
    for name in images.names:
        path = images.folder / name
        if (shown := _as_text(name)) != name:
            yield ReadImage(shown, "", None)
            continue
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            yield ReadImage(name, "", None)
            continue
        try:
            yield ReadImage(name, digest, read_image(path, images.size))
        except VisionError:
            yield ReadImage(name, digest, None)


def _as_text(name: str) -> str:
    """A file's name as it can be written down; a manifest can't hold bytes that are no UTF-8, so these are spelt out."""
    return os.fsencode(name).decode(errors="backslashreplace")


def image_key(pixels: Pixels) -> str:
    """What orders images of equal activation: a digest, so that no part of the folder is preferred."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()
