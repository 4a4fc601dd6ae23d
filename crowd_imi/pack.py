"""The pack: a unit's images as the factory leaves them and every later stage finds them.

``pack/manifest.json`` names every panel's images by their SHA-256; ``pack/images/ab/<sha256>.png`` holds them.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from crowd_imi.errors import PackError
from crowd_imi.records import Condition, Difficulty, Exemplar, Panel, Record, SidePair, Unit

SCHEMA = 1


class UnitPanels(Record):
    """Everything that people may see of one unit in one arm."""

    unit: Unit
    panels: tuple[Panel, ...]
    """One per batch, in the order of the batches."""
    extremes: SidePair[tuple[Exemplar, ...]]
    """The most extreme natural images, the most extreme first: what synthetic catch trials are made of."""
    activation_range: SidePair[float]
    """The lowest and the highest activation over all images."""


class ArmPack(Record):
    """The units of one arm."""

    arm: str
    model: str
    condition: Condition
    difficulty: Difficulty
    units: tuple[UnitPanels, ...]


class ModelProvenance(Record):
    """Which network, with which weights."""

    source: str
    weights_sha256: str
    input_size: int


class Replacement(Record):
    """A sampled unit that can't be asked about, and the one taken instead."""

    unit: str
    reason: str
    replaced_by: str


class Manifest(Record):
    """``manifest.json``."""

    schema_version: Literal[1] = 1
    study: str
    seed: int
    image_size: int
    image_count: int
    """Usable images, from which ranks are counted."""
    image_set_sha256: str
    licence: str
    provenance: str
    unreadable: tuple[str, ...]
    """Names of images that couldn't be read and were left out."""
    replacements: tuple[Replacement, ...]
    models: dict[str, ModelProvenance]
    versions: dict[str, str]
    sources: dict[str, str]
    """SHA-256 of a stored image → the natural image's name below the image folder, or how it was visualised."""
    arms: tuple[ArmPack, ...]

    def arm(self, arm_id: str) -> ArmPack:
        for arm in self.arms:
            if arm.arm == arm_id:
                return arm
        raise PackError(
            f"the pack has no arm {arm_id} (it has {', '.join(a.arm for a in self.arms)}); run `crowd-imi render` again"
        )


class Pack:
    """A pack on disk, opened for reading."""

    def __init__(self, folder: Path) -> None:
        """Read the manifest.

        Raises:
            PackError: there is none, or it isn't of this schema.
        """
        self.folder = folder
        path = folder / "manifest.json"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise PackError(f"{folder}: there is no pack here; make one with `crowd-imi render {folder.parent}`") from None
        try:
            self.manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise PackError(f"{path}: {where}: {first['msg']}; render the pack again") from None
        self.digest = hashlib.sha256(content).hexdigest()

    def image(self, digest: str) -> Path:
        """Path of a stored image."""
        return image_path(self.folder, digest)

    def damage(self) -> Iterator[str]:
        """One line for every image that the manifest names and that is missing or changed."""
        for digest, source in sorted(self.manifest.sources.items()):
            path = self.image(digest)
            if not path.exists():
                yield f"{path}: missing (made from {source})"
            elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                yield f"{path}: changed since it was written (made from {source})"


def image_path(folder: Path, digest: str) -> Path:
    """Where a pack keeps the image of this SHA-256."""
    return folder / "images" / digest[:2] / f"{digest}.png"
