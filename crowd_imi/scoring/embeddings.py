"""Each image of a pack as a vector, made once and kept in the study's folder.

``embeddings/<SHA-256 of the similarity>/*.npz`` hold some hundred vectors each, with the digests of their images. A file
appears whole or not at all, so a killed run goes on; a damaged one is as good as none. The folder may be deleted.
"""

import hashlib
import io
import logging
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crowd_imi.errors import PackError, ScoringError, command
from crowd_imi.files import write_atomically
from crowd_imi.pack import Pack
from crowd_imi.progress import Track, silent

log = logging.getLogger(__name__)

BATCH = 16
"""Images that the extractor gets at once. On a CPU larger ones leave its cache: resnet10t at 224 px took 14 ms per image at 16
and 19 ms at 64."""
CHUNK = 32
"""Batches in a file: what a killed run loses at most."""

Vectors = dict[str, NDArray[np.float32]]
"""SHA-256 of an image → its vector, of length 1."""


class Similarity(Protocol):
    """How alike two images are: the cosine of their vectors. Anything with these three is one."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal: two similarities with the same one give the same vectors."""

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors of length 1, shape (n, features), of images, shape (n, height, width, 3), 0–255, RGB."""


def embed(pack: Pack, images: Sequence[str], similarity: Similarity, folder: Path, track: Track = silent) -> Vectors:
    """Vectors of a pack's images: those that were made before, and the others made and kept now.

    Args:
        pack: where the images are.
        images: their SHA-256; an image that is named twice is embedded once.
        similarity: makes the vectors.
        folder: the study's folder of embeddings.
        track: shows how it is getting on.

    Raises:
        PackError: an image is missing or was changed.
        ScoringError: the similarity gives something else than vectors of length 1.
    """
    folder = folder / similarity.digest
    wanted = dict.fromkeys(images)
    vectors = {image: vector for image, vector in _kept(folder) if image in wanted}
    missing = [image for image in wanted if image not in vectors]
    chunk: Vectors = {}
    batches = [missing[begin : begin + BATCH] for begin in range(0, len(missing), BATCH)]
    with ThreadPoolExecutor(thread_name_prefix="decode") as pool:

        def decoding(batch: list[str]) -> list[Future[NDArray[np.uint8]]]:
            return [pool.submit(_pixels, pack, image) for image in batch]

        ahead = decoding(batches[0]) if batches else []
        for number, batch in enumerate(track(batches, f"embedding {len(missing)} images", len(batches)), 1):
            decoded, ahead = ahead, decoding(batches[number]) if number < len(batches) else []
            pixels = np.stack([image.result() for image in decoded])
            chunk |= zip(batch, _checked(similarity, batch, pixels), strict=True)
            if number % CHUNK == 0 or number == len(batches):
                _keep(folder, chunk)
                vectors |= chunk
                chunk = {}
    return vectors


def _pixels(pack: Pack, image: str) -> NDArray[np.uint8]:
    path = pack.image(image)
    remedy = f"run `{command('pack', 'verify', pack.folder.parent)}`"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: this image can't be read ({error.strerror}); {remedy}") from None
    if hashlib.sha256(content).hexdigest() != image:
        raise PackError(f"{path}: changed since it was written; {remedy}")
    with Image.open(io.BytesIO(content)) as file:
        return np.asarray(file.convert("RGB"))


def _checked(similarity: Similarity, batch: list[str], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    vectors = similarity.embed(pixels)
    if vectors.ndim != 2 or len(vectors) != len(batch):
        raise ScoringError(f"{similarity.name}: gave an array of shape {vectors.shape} for {len(batch)} images")
    wrong = ~np.isclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)  # NaN isn't close, either
    if wrong.any():
        raise ScoringError(
            f"{similarity.name}: {int(wrong.sum())} of {len(batch)} vectors can't be brought to length 1, the first that of "
            f"image {batch[int(wrong.argmax())]}; take another similarity"
        )
    return vectors.astype(np.float32, copy=False)


def _keep(folder: Path, chunk: Vectors) -> None:
    content = io.BytesIO()
    images = np.array(list(chunk))
    np.savez(content, images=images, vectors=np.stack(list(chunk.values())))
    name = hashlib.sha256("".join(chunk).encode()).hexdigest()[:32]
    write_atomically(folder / f"{name}.npz", content.getvalue())


def _kept(folder: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for path in sorted(folder.glob("*.npz")):
        try:
            # Read at once: of a damaged file numpy leaves the handle open.
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as chunk:
                found = list(zip(chunk["images"].tolist(), chunk["vectors"], strict=True))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning("%s: damaged (%s), so its images are embedded again", path, error)
            continue
        yield from found
