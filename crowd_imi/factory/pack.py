"""Writing a pack: images first, each under its digest, the manifest last, so that a pack with a manifest is whole."""

import hashlib
import io
import json
from pathlib import Path
from typing import TypeVar

from PIL import Image
from pydantic import ValidationError

from crowd_imi.files import write_atomically
from crowd_imi.pack import Manifest, image_path
from crowd_imi.records import Record
from crowd_imi.vision.preprocess import Pixels

R = TypeVar("R", bound=Record)


class PackWriter:
    """A pack being made. What is already there under the right name isn't written again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources: dict[str, str] = {}
        """As in the manifest: SHA-256 of every image stored so far → where it comes from."""

    def store(self, pixels: Pixels, source: str) -> str:
        """Keep an image as PNG.

        Returns:
            The file's SHA-256.
        """
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        digest = hashlib.sha256(content.getvalue()).hexdigest()
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
        """Write the manifest, then take out images of an earlier render that it doesn't name."""
        write_atomically(self.folder / "manifest.json", manifest_bytes(manifest))
        for path in (self.folder / "images").glob("*/*.png"):
            if path.stem not in manifest.sources:
                path.unlink()


def manifest_bytes(manifest: Manifest) -> bytes:
    """What stands in ``manifest.json``."""
    return manifest.model_dump_json(indent=1).encode() + b"\n"


class Kept:
    """Results of long steps, kept beside the pack under a digest of all that they depend on."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder / "kept" / kind

    def get(self, key: str, model: type[R]) -> R | None:
        """What an earlier run kept, or None."""
        try:
            return model.model_validate_json(self.path(key).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

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
