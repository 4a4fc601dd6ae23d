"""What a person sees of a picture, in numbers: colours, contours, texture. No network under study has a say in it."""

import hashlib
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crowd_imi.design import fidelity
from crowd_imi.plan import Grid

Pixels = NDArray[np.floating[Any]]
Tiles = NDArray[np.uint8]
"""Shape (n_tiles, RETINA, RETINA, 3), sRGB."""
Features = dict[str, Pixels]
"""Kind of feature → shape (n_tiles, n_features)."""

RETINA = 64
"""Pixels on a side to which a tile is brought before it is looked at."""

_TO_LMS = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]], np.float32)
_TO_LAB = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]], np.float32)
"""Linear light → cones → lightness, red–green, blue–yellow: Oklab (Ottosson 2020)."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255


def decode(content: bytes, grid: Grid) -> Tiles:
    """A sprite's tiles as they reach the eye, row by row."""
    return np.stack([_to_retina(tile) for tile in fidelity.decode(content, grid)])


def see(tiles: Tiles) -> Features:
    """All features of all tiles: colour is seen more coarsely than contours, as in people."""
    lightness = tiles @ _LUMA
    half = _halve(lightness)
    lab = _oklab(tiles)
    contours = [_contours(plane, cells) for plane, cells in ((lightness, 2), (half, 2), (_halve(half), 1))]
    return {
        "colour": np.concatenate([_colour_histograms(lab), _moments(lab)], axis=1),
        "layout": _pool(lab, 4).reshape(len(tiles), -1),
        "contours": np.concatenate(contours, axis=1),
        "texture": _spectrum(lightness),
    }


def _to_retina(tile: Tiles) -> Tiles:
    size = len(tile)
    if size == RETINA:
        return tile
    resampling = Image.Resampling.BOX if size > RETINA else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(tile).resize((RETINA, RETINA), resampling))


class Sight:
    """Looks at sprites in a thread of its own, and remembers the last ones by the picture's own bytes.

    The practice sprites are the same for everybody, so that looking once is enough; nothing here depends on who looks.
    """

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._seen: OrderedDict[bytes, Future[Features]] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sight")

    def __call__(self, content: bytes, grid: Grid) -> Features:
        """What this sprite looks like."""
        return self._look(content, grid).result()

    def ahead(self, content: bytes, grid: Grid) -> None:
        """Begin to look at what will be asked for soon."""
        self._look(content, grid)

    def close(self) -> None:
        """End the thread."""
        self._worker.shutdown(cancel_futures=True)

    def _look(self, content: bytes, grid: Grid) -> Future[Features]:
        key = hashlib.sha256(content).digest()
        if key in self._seen:
            self._seen.move_to_end(key)
            return self._seen[key]
        future = self._worker.submit(lambda: see(decode(content, grid)))
        self._seen[key] = future
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)
        return future


def _oklab(tiles: Tiles) -> Pixels:
    """Shape (n, RETINA / 2, RETINA / 2, 3)."""
    linear = _linear_light()[tiles]
    pairs = linear[:, 0::2] + linear[:, 1::2]
    light = (pairs[:, :, 0::2] + pairs[:, :, 1::2]) / 4
    seen: Pixels = np.cbrt(light @ _TO_LMS.T) @ _TO_LAB.T
    return seen


@cache
def _linear_light() -> Pixels:
    """SRGB's 256 steps as linear light."""
    steps = np.arange(256) / 255
    light: Pixels = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return light


def _colour_histograms(lab: Pixels) -> Pixels:
    """How much of each colour there is: 12 steps of lightness, 7×7 of red–green by blue–yellow."""
    light = np.clip((lab[..., 0] * 12).astype(np.int64), 0, 11)
    # Natural colours lie within about ±0.15 on both axes; what is more vivid falls into the outermost step.
    red, yellow = (np.clip(((lab[..., axis] + 0.14) * 25).astype(np.int64), 0, 6) for axis in (1, 2))
    shares: Pixels = np.concatenate([_histogram(light, 12), _histogram(red * 7 + yellow, 49)], axis=1)
    return np.sqrt(shares)


def _histogram(steps: NDArray[np.int64], bins: int) -> Pixels:
    count = len(steps)
    flat = steps.reshape(count, -1) + bins * np.arange(count)[:, None]
    shares: Pixels = np.bincount(flat.ravel(), minlength=bins * count).reshape(count, bins) / flat.shape[1]
    return shares.astype(np.float32)


def _moments(lab: Pixels) -> Pixels:
    flat = np.ascontiguousarray(lab.reshape(len(lab), -1, 3).transpose(0, 2, 1))
    return np.concatenate([flat.mean(axis=2), flat.std(axis=2)], axis=1)


def _pool(planes: Pixels, cells: int) -> Pixels:
    """Means over cells × cells equal squares: shape (n, h, w, c) → (n, cells, cells, c)."""
    count, height, width, channels = planes.shape
    rows = planes.reshape(count, cells, height // cells, width * channels).mean(axis=2)
    pooled: Pixels = rows.reshape(count, cells, cells, width // cells, channels).mean(axis=3)
    return pooled


def _halve(plane: Pixels) -> Pixels:
    pairs = plane[:, 0::2] + plane[:, 1::2]
    return (pairs[:, :, 0::2] + pairs[:, :, 1::2]) / 4


def _contours(plane: Pixels, cells: int) -> Pixels:
    """Oriented gradients: how strong contours are in each of six directions in each of cells × cells squares.

    A contour counts for a direction by the square of their cosine; the square root tames single strong edges.
    """
    across = plane[:, 1:-1, 2:] - plane[:, 1:-1, :-2]
    down = plane[:, 2:, 1:-1] - plane[:, :-2, 1:-1]
    strength = np.hypot(across, down) + np.float32(1e-6)
    size = across.shape[1] // cells * cells
    along, slanted, crossed = (
        _pool((part / strength)[:, :size, :size, None], cells)[..., 0].reshape(len(plane), -1)
        for part in (across * across, across * down, down * down)
    )
    sums = []
    for turn in np.arange(6) * np.pi / 6:
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        sums.append(c * c * along + 2 * c * s * slanted + s * s * crossed)
    energy: Pixels = np.maximum(np.concatenate(sums, axis=1), 0)
    return np.sqrt(energy)


def _spectrum(lightness: Pixels, rings: int = 5, directions: int = 4) -> Pixels:
    """Log energy in rings of spatial frequency (octaves) by direction."""
    size = lightness.shape[1]
    window = np.hanning(size).astype(np.float32)
    centred = lightness - lightness.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.rfft2(centred * window[:, None] * window[None, :])) ** 2
    bin_of = _spectrum_bins(size, rings, directions)
    inside = bin_of >= 0
    count, bins = len(lightness), rings * directions
    flat = bin_of[inside][None, :] + bins * np.arange(count)[:, None]
    energy = np.bincount(flat.ravel(), weights=power[:, inside].ravel(), minlength=bins * count)
    texture: Pixels = np.log(energy.reshape(count, bins) + 1e-3).astype(np.float32)
    return texture


@cache
def _spectrum_bins(size: int, rings: int, directions: int) -> NDArray[np.int64]:
    down, across = np.meshgrid(np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size, indexing="ij")
    radius = np.hypot(down, across)
    ring = np.floor(np.log2(np.maximum(radius, 0.5))).astype(np.int64)
    turn = (np.arctan2(down, across) % np.pi / np.pi * directions).astype(np.int64) % directions
    return np.where((ring >= 0) & (ring < rings), ring * directions + turn, -1)
