"""Recording: one pass over the images that keeps the activations of the candidate units alone."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowd_imi.factory.images import ImageFiles, ReadImage, image_key, read_images
from crowd_imi.progress import Track, silent
from crowd_imi.records import Unit
from crowd_imi.vision.layers import UnitLayer, mean_over_space, watched
from crowd_imi.vision.models import LoadedModel
from crowd_imi.vision.preprocess import Pixels, to_input

BATCH = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recording:
    """What one pass over the images leaves."""

    names: tuple[str, ...]
    """Usable images."""
    keys: tuple[str, ...]
    """``image_key`` of each."""
    unreadable: tuple[str, ...]
    duplicates: tuple[str, ...]
    """Files that look exactly like an earlier one: a panel must not show the same picture twice."""
    image_set_sha256: str
    """Digest of the usable images' names and file digests."""
    columns: NDArray[np.float32]
    """Activations, shape (images, units)."""


def record(
    model: LoadedModel,
    layers: Sequence[UnitLayer],
    units: Sequence[Unit],
    images: ImageFiles,
    track: Track = silent,
) -> Recording:
    """Send every image through the model once and keep the mean over space of each unit.

    Memory grows with images × units (4 bytes each), not with the width of the layers.

    Args:
        model: what looks.
        layers: those of ``units``, at least.
        units: the candidates, in the order of the columns.
        images: the files and the size at which they are looked at.
        track: shows progress in batches.
    """
    usable: list[ReadImage] = []
    rows: list[NDArray[np.float32]] = []
    unreadable: list[str] = []
    duplicates: list[str] = []
    keys: dict[str, None] = {}
    batches = -(-len(images.names) // BATCH)
    looker = _Looker(model, layers, units)
    for batch in track(_batches(read_images(images), BATCH), f"recording {units[0].model}", batches):
        pixels: list[Pixels] = []
        for image in batch:
            if image.pixels is None:
                unreadable.append(image.name)
                continue
            key = image_key(image.pixels)
            if key in keys:
                duplicates.append(image.name)
                continue
            keys[key] = None
            pixels.append(image.pixels)
            usable.append(ReadImage(image.name, image.file_sha256, None))
        if pixels:
            rows.append(looker.activations(np.stack(pixels)))
    return Recording(
        names=tuple(image.name for image in usable),
        keys=tuple(keys),
        unreadable=tuple(unreadable),
        duplicates=tuple(duplicates),
        image_set_sha256=_set_sha256(usable),
        columns=np.concatenate(rows) if rows else np.zeros((0, len(units)), dtype=np.float32),
    )


class _Looker:
    """Keeps the columns of some units while images pass through the whole network."""

    def __init__(self, model: LoadedModel, layers: Sequence[UnitLayer], units: Sequence[Unit]) -> None:
        self._model = model
        self._axes = {layer.name: layer.axis for layer in layers}
        self._places: dict[str, list[int]] = defaultdict(list)
        self._channels: dict[str, list[int]] = defaultdict(list)
        for place, unit in enumerate(units):
            self._places[unit.layer].append(place)
            self._channels[unit.layer].append(unit.channel)
        self._units = len(units)

    def activations(self, pixels: Pixels) -> NDArray[np.float32]:
        """Shape (images, units)."""
        out = np.empty((len(pixels), self._units), dtype=np.float32)

        def keep(name: str, output: Tensor) -> None:
            means = mean_over_space(output, self._axes[name])[:, self._channels[name]]
            out[:, self._places[name]] = means.float().cpu().numpy()

        with torch.inference_mode(), watched(self._model.module, self._places, keep):
            self._model.module(to_input(pixels, self._model))
        return out


def activations(model: LoadedModel, layer: UnitLayer, channel: int, pixels: Pixels) -> NDArray[np.float32]:
    """One unit's activation on some stored images, shape (images,)."""
    unit = Unit(model="any", layer=layer.name, channel=channel)
    return _Looker(model, (layer,), (unit,)).activations(pixels)[:, 0]


def _batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(things)
    while batch := list(islice(iterator, size)):
        yield batch


def _set_sha256(images: Sequence[ReadImage]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.file_sha256}  {image.name}\n".encode())
    return digest.hexdigest()
