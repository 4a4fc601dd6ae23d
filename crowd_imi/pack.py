"""The pack: a unit's images as the factory leaves them and every later stage finds them.

``pack/manifest.json`` names every panel's images by their SHA-256 and carries a digest of itself;
``pack/images/ab/<sha256>.png`` holds the images; ``pack/activations.parquet`` tells in a table what the manifest tells of
ranks and activations.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from crowd_imi.errors import PackError, command
from crowd_imi.records import Condition, Difficulty, Exemplar, Panel, Record, Side, SidePair, Unit

SCHEMA = 2

MANIFEST = "manifest.json"
ACTIVATIONS = "activations.parquet"
GALLERY = "gallery.html"
REVISIONS = "revisions"
"""A folder with panels that were made anew after the study had been published; the manifest stays as it was."""
KEPT = "kept"
"""A folder with results of long steps, for the next render."""

UNSEALED = "0" * 64

_SEAL = re.compile(rb'\A\{\s*"schema_version": 2,\s*"sha256": "([0-9a-f]{64})"')


class Visualised(Record):
    """How the visualisations of one side of a unit were made; what they reach is told of each image."""

    engine: str
    procedure: str
    seed: int
    steps: int
    """Of the optimisation that the images come from."""
    passes: int
    """Forward and backward passes of one image, over the whole search."""
    diversity: float
    """Its weight."""
    alike: float
    """0–1: the mean cosine between the Gram matrices, at the unit's layer, of the eight images that were to differ."""
    best_natural: float | None
    """The most extreme activation on this side over the photographs."""
    beats_natural: bool
    """Whether the strongest visualisation reaches it."""


class UnitPanels(Record):
    """Everything that people may see of one unit in one arm."""

    unit: Unit
    panels: tuple[Panel, ...]
    """One per batch, in the order of the batches."""
    extremes: SidePair[tuple[Exemplar, ...]]
    """The most extreme natural images, the most extreme first: what synthetic catch trials are made of."""
    activation_range: SidePair[float]
    """The lowest and the highest activation over all images."""
    visualised: SidePair[Visualised] | None = None
    """How references were made that aren't photographs."""

    @property
    def images(self) -> frozenset[str]:
        """SHA-256 of every image that may be shown for the unit."""
        panels = ((*p.references.min, *p.references.max, p.queries.min, p.queries.max) for p in self.panels)
        exemplars = (*self.extremes.min, *self.extremes.max, *(exemplar for panel in panels for exemplar in panel))
        return frozenset(exemplar.image for exemplar in exemplars)


class ArmPack(Record):
    """The units of one arm."""

    arm: str
    model: str
    condition: Condition
    difficulty: Difficulty
    method: str | None = None
    """By which its units are explained, if not by natural exemplars or feature visualisation, as the condition says."""
    units: tuple[UnitPanels, ...]


class Recorded(Record):
    """On what a model's activations were computed: another machine may differ in the last bits."""

    device: str
    precision: str
    batch: int
    threads: int


class Skip(Record):
    """An image that a unit's panels would have shown and don't: the next rank took its place."""

    unit: str
    side: Side
    rank: int
    image: str
    """Its name below the image folder."""
    reason: Literal["veto", "near-duplicate"]
    resembles: str | None = None
    """The name of the image, taken for the unit before, that it looks like."""


class ModelProvenance(Record):
    """Which network, with which weights, recorded on what."""

    source: str
    weights_sha256: str
    input_size: int
    layers: tuple[str, ...] = ()
    """Those whose channels could become units, in the network's order."""
    constant: dict[str, int] = Field(default_factory=dict)
    """Layer → how many of all its units are the same on every image, so that nobody can be asked about them."""
    readouts: dict[str, str] = Field(default_factory=dict)
    """Readout → SHA-256 of what it reads with."""
    recorded: Recorded | None = None
    skips: tuple[Skip, ...] = ()


class Replacement(Record):
    """A sampled unit that can't be asked about, and the one taken instead."""

    unit: str
    reason: str
    replaced_by: str


class Manifest(Record):
    """``manifest.json``."""

    schema_version: Literal[2] = 2
    sha256: str = UNSEALED
    """Of the file itself, with 64 zeros in this place; ``manifest_bytes`` fills it in."""
    study: str
    seed: int
    image_size: int
    image_count: int
    """Usable images, from which ranks are counted."""
    image_set_sha256: str
    activations_sha256: str = UNSEALED
    """Of ``activations.parquet``."""
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

    def natural(self) -> dict[str, str]:
        """SHA-256 → name of the stored images that are no visualisations."""
        ranked = {exemplar.image for exemplar in self.exemplars() if exemplar.rank is not None}
        return {digest: name for digest, name in self.sources.items() if digest in ranked}

    def exemplars(self) -> Iterator[Exemplar]:
        """Every image in every role."""
        for entry in (entry for arm in self.arms for entry in arm.units):
            yield from (*entry.extremes.min, *entry.extremes.max)
            for panel in entry.panels:
                yield from (*panel.references.min, *panel.references.max, panel.queries.min, panel.queries.max)


class MadeAnew(Record):
    """``revisions/NAME.json``: panels in the place of voided ones."""

    schema_version: Literal[1] = 1
    arms: dict[str, tuple[UnitPanels, ...]]
    """Arm → the units that were voided, with their new panels."""
    sources: dict[str, str]
    """As in the manifest, of the images that these show."""


class Pack:
    """A pack on disk, opened for reading."""

    def __init__(self, folder: Path) -> None:
        """Read the manifest.

        Raises:
            PackError: there is none, it is damaged, or it isn't of this schema.
        """
        self.folder = folder
        path = folder / MANIFEST
        content = _read_manifest(path)
        again = f"run `{command('render', folder.parent)}` to render it again"
        _check_schema(path, content, again)
        try:
            self.manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise PackError(f"{path}: {where}: {first['msg']}; {again}") from None
        if _seal(content) != self.manifest.sha256:
            raise PackError(f"{path}: changed since it was written; put it back from a backup, or {again}")
        self.digest = hashlib.sha256(content).hexdigest()

    def made_anew(self, name: str, sha256: str | None = None) -> MadeAnew:
        """The panels that an amendment made anew.

        Args:
            name: the amendment's.
            sha256: of the file, where it is known: it must be this.

        Raises:
            PackError: they are missing, damaged or others.
        """
        path = revision_path(self.folder, name)
        try:
            content = path.read_bytes()
            found = MadeAnew.model_validate_json(content)
        except FileNotFoundError:
            raise PackError(f"{path}: the panels that were made anew are missing; restore them from a backup") from None
        except ValidationError as error:
            raise PackError(f"{path}: {error.errors()[0]['msg']}; restore it from a backup") from None
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise PackError(f"{path}: changed since it was written; restore it from a backup")
        return found

    def shown(self, names: Iterable[str]) -> Manifest:
        """The manifest with the panels that are shown now.

        Args:
            names: of the amendments that made panels anew, the oldest first.

        Raises:
            PackError: panels are missing or damaged.
        """
        manifest = self.manifest
        for name in names:
            anew = self.made_anew(name)
            arms = tuple(arm.model_copy(update={"units": _with(arm.units, anew.arms.get(arm.arm, ()))}) for arm in manifest.arms)
            manifest = manifest.model_copy(update={"arms": arms, "sources": {**manifest.sources, **anew.sources}})
        return manifest

    def revisions(self) -> tuple[str, ...]:
        """Names of all amendments with panels of their own here, whether or not they came about."""
        return tuple(sorted(path.stem for path in (self.folder / REVISIONS).glob("*.json")))

    def image(self, digest: str) -> Path:
        """Path of a stored image."""
        return image_path(self.folder, digest)

    def damage(self) -> Iterator[str]:
        """One line for every file that the manifest names and that is missing, changed or can't be used.

        The manifest itself was looked at when the pack was opened.
        """
        table = self.folder / ACTIVATIONS
        yield from (f"{table}: {wrong}" for wrong in _wrong(table, self.manifest.activations_sha256))
        for digest, source in sorted(self.shown(self.revisions()).sources.items()):
            path = self.image(digest)
            wrong = next(iter(_wrong(path, digest)), None) or _unopenable(path)
            if wrong is not None:
                yield f"{path}: {wrong} (made from {source})"

    def left_over(self) -> Iterator[Path]:
        """Files that don't belong to the pack: no damage, but nobody reads them either."""
        known = {self.folder / name for name in (MANIFEST, ACTIVATIONS, GALLERY)}
        known |= {self.image(digest) for digest in self.shown(self.revisions()).sources}
        known |= {revision_path(self.folder, name) for name in self.revisions()}
        for path in sorted(self.folder.rglob("*")):
            kept = path.relative_to(self.folder).parts[0] == KEPT
            if not kept and path not in known and (path.is_symlink() or not path.is_dir()):
                yield path


def image_path(folder: Path, digest: str) -> Path:
    """Where a pack keeps the image of this SHA-256."""
    return folder / "images" / digest[:2] / f"{digest}.png"


def revision_path(folder: Path, name: str) -> Path:
    """Where a pack keeps the panels that an amendment made anew."""
    return folder / REVISIONS / f"{name}.json"


def _with(units: Sequence[UnitPanels], anew: Sequence[UnitPanels]) -> tuple[UnitPanels, ...]:
    new = {unit.unit: unit for unit in anew}
    return tuple(new.get(unit.unit, unit) for unit in units)


def manifest_bytes(manifest: Manifest) -> bytes:
    """What stands in ``manifest.json``: the manifest with the digest of these very bytes in it."""
    content = manifest.model_copy(update={"sha256": UNSEALED}).model_dump_json(indent=1).encode() + b"\n"
    return content.replace(UNSEALED.encode(), hashlib.sha256(content).hexdigest().encode(), 1)


def _seal(content: bytes) -> str | None:
    """The digest that these bytes should carry; None when they carry none."""
    found = _SEAL.match(content)
    if found is None:
        return None
    return hashlib.sha256(content[: found.start(1)] + UNSEALED.encode() + content[found.end(1) :]).hexdigest()


def _read_manifest(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        remedy = f"make one with `{command('render', path.parent.parent)}`"
        raise PackError(f"{path.parent}: there is no pack here; {remedy}") from None
    except IsADirectoryError:
        raise PackError(f"{path}: this is a folder; take it away and run `{command('render', path.parent.parent)}`") from None


def _check_schema(path: Path, content: bytes, again: str) -> None:
    try:
        schema = json.loads(content)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PackError(f"{path}: damaged, or no manifest at all; put it back from a backup, or {again}") from None
    if schema != SCHEMA:
        whose = "an older" if isinstance(schema, int) and schema < SCHEMA else "another"
        raise PackError(f"{path}: made by {whose} version of crowd-imi (schema {schema}, this one reads {SCHEMA}); {again}")


def _wrong(path: Path, digest: str) -> Iterator[str]:
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            yield "changed since it was written"
    except (FileNotFoundError, NotADirectoryError):
        yield "missing"
    except IsADirectoryError:
        yield "a folder is in its place"
    except OSError as error:
        yield f"can't be read ({error.strerror})"


def _unopenable(path: Path) -> str | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return f"doesn't open as an image ({type(error).__name__})"
    return None
