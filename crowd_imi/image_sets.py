"""A study's natural images: which there are, and their bytes. A folder, a list of files, or WebDataset tar shards."""

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Protocol

from crowd_imi.errors import FactoryError
from crowd_imi.study import IMAGE_SUFFIXES, Study

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""As WebDataset writes it, ``{000..146}``."""


LARGEST = 256 * 2**20
"""Bytes of an image file: a larger one isn't read, as as many as there are threads that decode may be in memory at a time."""


class ImageSet(Protocol):
    """Natural images in a fixed order."""

    @property
    def names(self) -> Sequence[str]:
        """Below the study's image folder, with ``/`` on every system; of shards, ``FOLDERS/SHARD.tar/MEMBER``."""
        ...

    def read(self, index: int) -> bytes:
        """One file's content; threads may ask at the same time.

        Raises:
            OSError: it can't be read.
            FactoryError: it is larger than ``LARGEST``.
        """
        ...

    def digest(self) -> str:
        """Changes when an image is added, taken away, or written anew; found without reading the images."""
        ...


@dataclass(frozen=True, slots=True)
class Files:
    """Image files below a folder."""

    folder: Path
    names: tuple[str, ...]

    def read(self, index: int) -> bytes:
        with (self.folder / self.names[index]).open("rb") as file:
            _check_size(os.fstat(file.fileno()).st_size, self.names[index])
            return file.read()

    def digest(self) -> str:
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(f"{os.fsencode(name)!r} {_stamp(self.folder / name)}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Shards:
    """Images inside uncompressed tar files, read in place."""

    folder: Path
    shards: tuple[str, ...]
    """Below ``folder``."""
    names: tuple[str, ...]
    places: tuple[tuple[int, int, int], ...]
    """Of every image: which shard, at which byte it begins, how many bytes it has."""

    def read(self, index: int) -> bytes:
        shard, offset, size = self.places[index]
        _check_size(size, self.names[index])
        with (self.folder / self.shards[shard]).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def digest(self) -> str:
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(f"{shard} {_stamp(self.folder / shard)}\n".encode())
        return digest.hexdigest()


def image_set(study: Study) -> Files | Shards:
    """The images that study.toml names, in the order of their names.

    Raises:
        FactoryError: the folder, the list or the shards aren't there, or a name of the list isn't.
    """
    images = study.file.images
    if images.shards is not None:
        return _shards(study, images.shards)
    folder = study.images
    if not folder.is_dir():
        raise FactoryError(
            f"images.folder = {str(images.folder)!r}: there is no folder {folder}; make it, or name the folder where your "
            "images are"
        )
    if study.pack.resolve().is_relative_to(folder.resolve()):
        raise FactoryError(
            f"images.folder = {str(images.folder)!r}: the study itself is in there, so its own stimuli would be taken for "
            "images; put the images into a folder of their own"
        )
    if images.files is None:
        return Files(folder, tuple(sorted(_image_files(folder))))
    return Files(folder, tuple(sorted(_listed(study.path(images.files), folder))))


def _image_files(folder: Path) -> Iterator[str]:
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above would lead round in circles
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in names:
            path = Path(parent, name)
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                yield path.relative_to(folder).as_posix()


def _listed(path: Path, folder: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FactoryError(f"images.files: {path} can't be read ({error}); correct the path") from None
    names = {PurePosixPath(line.strip()).as_posix() for line in lines if line.strip()}
    outside = sorted(name for name in names if name.startswith("/") or ".." in PurePosixPath(name).parts)
    if outside:
        raise FactoryError(
            f"images.files: {_some(outside)} of {path}: names must lead down from images.folder, without .. or a / in front, as "
            "an image is known by its name there; correct the list or images.folder"
        )
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise FactoryError(f"images.files: {_some(missing)} of {path} aren't in {folder}; correct the list or images.folder")
    return names


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _shards(study: Study, pattern: str) -> Shards:
    folder = study.images
    below = (study.folder / pattern).relative_to(folder).as_posix()
    if below == ".":
        raise FactoryError(f"images.shards = {pattern!r}: this is no pattern of tar files; write e.g. 'train/shard-*.tar'")
    shards = sorted({path.relative_to(folder).as_posix() for path in _matching(folder, below, pattern)})
    found = sorted(
        (f"{shard}/{name}", (number, offset, size))
        for number, shard in enumerate(shards)
        for name, offset, size in _members(folder / shard)
    )
    names = tuple(name for name, _ in found)
    twice = [name for name, following in pairwise(names) if name == following]
    if twice:
        raise FactoryError(
            f"images.shards = {pattern!r}: each of {_some(list(dict.fromkeys(twice)))} names several images, and an image is "
            "known by its name; write the shard anew with a name for each"
        )
    return Shards(folder, tuple(shards), names, tuple(place for _, place in found))


def _matching(folder: Path, below: str, written: str) -> Iterator[Path]:
    """The files that a pattern stands for; of a range, a number without a file is an error."""
    for glob in _numbered(below):
        try:
            paths = [path for path in folder.glob(glob) if path.is_file()]
        except (ValueError, IndexError) as error:  # the latter, of Python 3.11, where nothing is named at all
            raise FactoryError(f"images.shards = {written!r}: this is no pattern ({error}); correct it") from None
        if not paths:
            which = "" if glob == below else f" {folder / glob}"
            raise FactoryError(f"images.shards = {written!r}: no file matches{which}; correct the pattern")
        yield from paths


def _numbered(pattern: str) -> Iterator[str]:
    """The pattern with every number of its ranges; a leading zero asks for all numbers to be as wide."""
    found = _RANGE.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
    width = max(map(len, found.groups())) if any(end.startswith("0") and len(end) > 1 for end in found.groups()) else 0
    low, high = sorted((int(first), int(last)))
    for number in range(low, high + 1):
        yield from _numbered(f"{pattern[: found.start()]}{number:0{width}d}{pattern[found.end() :]}")


def _members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Name, first byte and length of every image in a tar file."""
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in IMAGE_SUFFIXES:
                    yield PurePosixPath(member.name).as_posix(), member.offset_data, member.size
    except (OSError, tarfile.TarError) as error:
        raise FactoryError(
            f"{shard}: this can't be read as an uncompressed tar file ({error}); unpack it, or take it out of images.shards"
        ) from None


def _check_size(size: int, name: str) -> None:
    if size > LARGEST:
        raise FactoryError(
            f"{name}: this image can't be read (its {size} bytes are more than the {LARGEST // 2**20} MiB that one may have); "
            "replace it or take it out"
        )


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "gone"
    return f"{status.st_size} {status.st_mtime_ns} {status.st_mode & 0o444:o}"
