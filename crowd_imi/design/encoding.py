"""A task's sprites as AVIF: 4:4:4, one quality and one size for all, so that neither tells one trial from another.

Figures behind the choices (64-px tiles of photographs, sprites at 38 dB, libaom 3.14): the gutter's width and fill are
about where block edges fall. Mid-grey with a pitch that is a multiple of 16 takes 23.0 kB, 8 px of grey 25.4 kB,
replicated edges 29.6 kB (16 px) and 30.7 kB (8 px): a straight edge along a block costs nothing, and what a block
predicts stays inside its tile. libaom's ``tune=psnr`` takes 18 % fewer bytes at 38 dB than libavif's default.
"""

import io
import struct
from collections.abc import Sequence
from math import ceil

import numpy as np
from PIL import Image

from crowd_imi.design.fidelity import MIN_PSNR, decode, tile_psnr
from crowd_imi.design.pictures import Pixels
from crowd_imi.plan import Grid

COLUMNS = 5
ROWS = 4
TILES = COLUMNS * ROWS
GUTTER = 16
GREY = 128
BOX_HEADER = 8

ADVANCED = {"tune": "psnr"}
QUALITIES = tuple(sorted({100 - round(quantizer * 100 / 63) for quantizer in range(64)}))
"""One of Pillow's qualities for each of AVIF's 64 quantizers, the coarsest first.

At 100 AV1 itself is lossless and only the change of colour space rounds: 48 dB even on noise."""
START = QUALITIES.index(81)
"""Where photographs reach 38 dB as a rule."""
DECIBELS_PER_LEVEL = 0.5


def grid_for(tile: int) -> Grid:
    """How twenty tiles of this size lie in a sprite."""
    return Grid(columns=COLUMNS, rows=ROWS, tile=tile, gutter=GUTTER)


def compose(tiles: Pixels, grid: Grid) -> Pixels:
    """A sprite's canvas from its tiles.

    Args:
        tiles: shape (20, tile, tile, 3), row by row.
        grid: how they lie.
    """
    pitch = grid.tile + grid.gutter
    canvas = np.full((grid.rows * pitch + grid.gutter, grid.columns * pitch + grid.gutter, 3), GREY, dtype=np.uint8)
    inner = canvas[grid.gutter :, grid.gutter :].reshape(grid.rows, pitch, grid.columns, pitch, 3)
    inner[:, : grid.tile, :, : grid.tile] = tiles.reshape(grid.rows, grid.columns, *tiles.shape[1:]).swapaxes(1, 2)
    return canvas


def encode_alike(sprites: Sequence[Pixels], grid: Grid) -> list[bytes]:
    """Encode the sprites of one task so that their files differ in what they show alone.

    The quality is the lowest at which every tile of every sprite keeps ``MIN_PSNR``; the shorter files are filled up to
    the longest with a trailing ``free`` box, which decoders skip.

    Args:
        sprites: each sprite's tiles, shape (20, tile, tile, 3).
        grid: how they lie.

    Returns:
        As many files, all of one size.
    """
    canvases = [compose(tiles, grid) for tiles in sprites]
    encoded = _at_one_quality(canvases, sprites, grid)
    longest = max(map(len, encoded)) + BOX_HEADER
    return [fill_up(content, longest) for content in encoded]


def _at_one_quality(canvases: Sequence[Pixels], sprites: Sequence[Pixels], grid: Grid) -> list[bytes]:
    """All at the lowest level at which all pass; the hardest come first, so that few are encoded in vain."""
    hardest_first = sorted(range(len(sprites)), key=lambda index: -_texture(sprites[index]))
    failing, hardest = -1, hardest_first[0]
    while True:
        level = _lowest_level(canvases[hardest], sprites[hardest], grid, failing)
        encoded: dict[int, bytes] = {}
        for index in hardest_first:
            content = encode(canvases[index], grid, level)
            if _worst(content, sprites[index], grid) < MIN_PSNR:
                failing, hardest = level, index
                break
            encoded[index] = content
        else:
            return [encoded[index] for index in range(len(sprites))]


def encode(canvas: Pixels, grid: Grid, level: int) -> bytes:
    """One canvas as AVIF, without metadata; the same bytes for the same canvas, as one thread does it."""
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(
        buffer,
        "AVIF",
        quality=QUALITIES[level],
        subsampling="4:4:4",
        range="full",
        codec="aom",
        speed=_speed(grid),
        max_threads=1,
        autotiling=False,
        advanced=ADVANCED,
    )
    return buffer.getvalue()


def fill_up(content: bytes, size: int) -> bytes:
    """Append a ``free`` box (ISO/IEC 14496-12, 8.1.2) so that the file has ``size`` bytes."""
    length = size - len(content)
    return content + struct.pack(">I4s", length, b"free") + bytes(length - BOX_HEADER)


def _speed(grid: Grid) -> int:
    """The fastest that libaom has for small tiles (at 64 px 15 ms a sprite, not 39), a step slower where bytes weigh more."""
    return 9 if grid.tile <= 96 else 8


def _lowest_level(canvas: Pixels, tiles: Pixels, grid: Grid, failing: int) -> int:
    """The lowest level above ``failing`` that keeps ``MIN_PSNR``, found by guessing along the usual slope."""
    passing = len(QUALITIES) - 1
    level = min(max(START, failing + 1), passing - 1)
    while failing + 1 < passing:
        worst = _worst(encode(canvas, grid, level), tiles, grid)
        if worst >= MIN_PSNR:
            passing = level
        else:
            failing = level
        guess = level + ceil((MIN_PSNR - worst) / DECIBELS_PER_LEVEL)
        level = min(max(guess, failing + 1), passing - 1)
    return passing


def _worst(content: bytes, tiles: Pixels, grid: Grid) -> float:
    return min(tile_psnr(decode(content, grid), tiles))


def _texture(tiles: Pixels) -> float:
    """What makes a sprite hard to encode: the largest mean squared step between neighbouring pixels of a tile."""
    levels = tiles.astype(np.float32)
    across = np.square(np.diff(levels, axis=2)).mean(axis=(1, 2, 3))
    down = np.square(np.diff(levels, axis=1)).mean(axis=(1, 2, 3))
    return float((across + down).max())
