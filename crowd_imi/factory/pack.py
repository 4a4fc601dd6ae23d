"""Writing a pack: images first, each under its digest, the manifest last, so that a pack with a manifest is whole."""

import hashlib
import io
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import ValidationError

from crowd_imi.errors import FactoryError
from crowd_imi.files import write_atomically
from crowd_imi.pack import ACTIVATIONS, KEPT, MANIFEST, ArmPack, Manifest, Pack, UnitPanels, image_path, manifest_bytes
from crowd_imi.records import Exemplar, Record, Side

if TYPE_CHECKING:  # torch takes seconds to load
    from crowd_imi.vision.preprocess import Pixels

R = TypeVar("R", bound=Record)

_SIDES: tuple[Side, ...] = ("min", "max")

_COLUMNS = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("layer", pa.string(), nullable=False),
        pa.field("channel", pa.int64(), nullable=False),
        pa.field("null", pa.bool_(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),  # reference, query, or extreme: what catch trials may show
        pa.field("batch", pa.int64()),  # null for extremes
        pa.field("rank", pa.int64()),  # null for visualisations
        pa.field("activation", pa.float64()),
        pa.field("image", pa.string(), nullable=False),  # SHA-256
    ]
)


class PackWriter:
    """A pack being made. What is already there under the right name isn't written again."""

    def __init__(self, folder: Path, *, only: frozenset[str] | None = None, otherwise: str = "") -> None:
        """Begin.

        Args:
            folder: the pack's.
            only: the images that may be stored, by SHA-256; None lets every image in.
            otherwise: what to say of another one.
        """
        self._only = only
        self._otherwise = otherwise
        self.folder = folder
        self.sources: dict[str, str] = {}
        """As in the manifest: SHA-256 of every image stored so far → where it comes from."""

    def store(self, pixels: "Pixels", source: str) -> str:
        """Keep an image as PNG.

        Returns:
            The file's SHA-256.

        Raises:
            FactoryError: this image may not be stored.
        """
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        if self._only is not None and digest not in self._only:
            raise FactoryError(self._otherwise)
        path = image_path(self.folder, digest)
        if not _holds(path, digest):
            write_atomically(path, content.getvalue())
        self.sources.setdefault(digest, source)
        return digest

    def holds(self, digest: str) -> bool:
        """Whether an earlier run has left this image, undamaged."""
        return _holds(image_path(self.folder, digest), digest)

    def name_source(self, digest: str, source: str) -> None:
        """Let the manifest name an image that an earlier run stored."""
        self.sources.setdefault(digest, source)

    def finish(self, manifest: Manifest) -> None:
        """Write the table, then the manifest, then take out images of an earlier render that it doesn't name.

        Args:
            manifest: as ``sealed`` gives it.
        """
        if not _holds(self.folder / ACTIVATIONS, manifest.activations_sha256):
            (self.folder / MANIFEST).unlink(missing_ok=True)  # an earlier one names another table
            write_atomically(self.folder / ACTIVATIONS, activations(manifest.arms))
        write_atomically(self.folder / MANIFEST, manifest_bytes(manifest))
        there = Pack(self.folder)
        named = there.shown(there.revisions()).sources
        for path in (self.folder / "images").glob("*/*.png"):  # those of killed writes too, which begin with a dot
            if path.stem not in named and path.is_file():
                path.unlink()
        for path in (self.folder / "images").glob("*/.*.png.*"):
            path.unlink()


def sealed(manifest: Manifest) -> Manifest:
    """The manifest with the digest of its table of activations."""
    return manifest.model_copy(update={"activations_sha256": hashlib.sha256(activations(manifest.arms)).hexdigest()})


def activations(arms: Sequence[ArmPack]) -> bytes:
    """What stands in ``activations.parquet``: a row for every image in every role, in the manifest's order."""
    rows = [row for arm in arms for entry in arm.units for row in _rows(arm, entry)]
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_COLUMNS), content)
    return content.getvalue()


def _rows(arm: ArmPack, entry: UnitPanels) -> Iterator[dict[str, object]]:
    unit = entry.unit
    head = {"model": unit.model, "layer": unit.layer, "channel": unit.channel, "null": unit.null, "arm": arm.arm}

    def row(exemplar: Exemplar, side: Side, role: str, batch: int | None) -> dict[str, object]:
        seen = {"rank": exemplar.rank, "activation": exemplar.activation, "image": exemplar.image}
        return {**head, "side": side, "role": role, "batch": batch, **seen}

    for panel in entry.panels:
        for side in _SIDES:
            yield from (row(exemplar, side, "reference", panel.batch) for exemplar in panel.references.side(side))
            yield row(panel.queries.side(side), side, "query", panel.batch)
    for side in _SIDES:
        yield from (row(exemplar, side, "extreme", None) for exemplar in entry.extremes.side(side))


class Kept:
    """Results of long steps, kept beside the pack under a digest of all that they depend on."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder / KEPT / kind

    def get(self, key: str, model: type[R]) -> R | None:
        """What an earlier run kept, or None."""
        try:
            return model.model_validate_json(self.path(key).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def those(self, keys: Collection[str], model: type[R]) -> Iterator[R]:
        """What is there of these, the oldest first."""
        there = (path for path in self._folder.glob("*.json") if path.stem in keys)
        paths = sorted(there, key=lambda path: (path.stat().st_mtime_ns, path.name))
        return (kept for path in paths if (kept := self.get(path.stem, model)) is not None)

    def put(self, key: str, record: Record) -> None:
        write_atomically(self.path(key), record.model_dump_json().encode())

    def path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def key_of(*parts: object) -> str:
    """A digest of what a result depends on; parts are JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _holds(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except FileNotFoundError:
        return False
