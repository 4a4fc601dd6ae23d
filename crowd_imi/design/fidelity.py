"""What is left of the pictures once a sprite is decoded."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from crowd_imi.design.pictures import Pixels
from crowd_imi.plan import Grid

MIN_PSNR = 38.0
"""Decibels that every decoded tile keeps. See "Fidelity before bytes" in the design."""
MIN_PSNR_SMALL = 44.0
"""Decibels that a tile under ``SMALL`` pixels keeps.

A unit averages the codec's noise over its image, and a small image has less to average over: at 64 px, 38 dB moved activations
by up to 2.6 % of their unit's range and 42 dB by up to 2.1 %, as networks trained on different processors differ; 2 % are
allowed."""
SMALL = 128


def min_psnr(side: int) -> float:
    """Decibels that a tile of this many pixels a side keeps once it is decoded."""
    return MIN_PSNR_SMALL if side < SMALL else MIN_PSNR


def decode(sprite: Path | bytes, grid: Grid) -> Pixels:
    """A sprite's tiles, row by row: shape (columns × rows, tile, tile, 3).

    Args:
        sprite: the file or its content.
        grid: how tiles lie in it.
    """
    with Image.open(io.BytesIO(sprite) if isinstance(sprite, bytes) else sprite) as image:
        return cut(np.asarray(image.convert("RGB")), grid)


def cut(canvas: Pixels, grid: Grid) -> Pixels:
    """A canvas' tiles, row by row: shape (columns × rows, tile, tile, 3)."""
    pitch = grid.tile + grid.gutter
    # The gutter lies left of a tile and above it.
    cells = canvas[: grid.rows * pitch, : grid.columns * pitch].reshape(grid.rows, pitch, grid.columns, pitch, 3)
    tiles = cells[:, grid.gutter :, :, grid.gutter :].swapaxes(1, 2)
    return tiles.reshape(grid.rows * grid.columns, grid.tile, grid.tile, 3)


def tile_psnr(decoded: Pixels, original: Pixels) -> list[float]:
    """Peak signal-to-noise ratio of each tile in dB, over its three channels together; infinite where nothing is lost.

    Args:
        decoded: shape (tiles, tile, tile, 3).
        original: the same shape.
    """
    difference = decoded.astype(np.float32) - original
    error = np.einsum("tijc,tijc->t", difference, difference, dtype=np.float64) / difference[0].size
    with np.errstate(divide="ignore"):
        return [float(value) for value in 10 * np.log10(255.0**2 / error)]
