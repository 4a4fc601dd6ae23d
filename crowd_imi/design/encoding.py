"""A task's sprites as AVIF: 4:4:4, every tile at a quality of its own, and one size for all of a task's files.

A sprite is a grid image with a cell per tile, so that the hardest tile doesn't set the quality of the other nineteen: at
224 px that saves a quarter of the bytes. The gutter lies left of and above each tile, within its cell.

Figures behind the choices (photographs, every tile at 38 dB, libaom 3.14): docs/decisions/0006.
"""

import io
import struct
from collections.abc import Sequence
from math import ceil

import numpy as np
from PIL import Image

from crowd_imi.design import avif_grid
from crowd_imi.design.fidelity import min_psnr, tile_psnr
from crowd_imi.design.pictures import Pixels
from crowd_imi.plan import Grid

COLUMNS = 5
ROWS = 4
GUTTER = 16
GREY = 128

ADVANCED = {"tune": "psnr"}
"""libaom takes 18 % fewer bytes at 38 dB with it than with libavif's default."""
QUALITIES = tuple(sorted({100 - round(quantizer * 100 / 63) for quantizer in range(64)}))
"""One of Pillow's qualities for each of AVIF's 64 quantizers, the coarsest first.

At 100 AV1 itself is lossless and only the change of colour space rounds: 48 dB even on noise."""
START = QUALITIES.index(81)
"""Where photographs reach what is wanted, as a rule: the search begins there."""
DECIBELS_PER_LEVEL = 0.5
MOST_DECIBELS = 99.0
"""What a tile without any loss counts as."""


def grid_for(tile: int) -> Grid:
    """How twenty tiles of this size lie in a sprite."""
    return Grid(columns=COLUMNS, rows=ROWS, tile=tile, gutter=max(GUTTER, avif_grid.SMALLEST_CELL - tile))


def encode_tile(tile: Pixels, grid: Grid) -> bytes:
    """One tile's cell as an AVIF file, at the lowest quality that keeps ``min_psnr`` of its size.

    The same bytes for the same tile, whatever else is encoded.

    Args:
        tile: shape (tile, tile, 3).
        grid: how tiles lie.
    """
    cell, least = with_gutter(tile, grid), min_psnr(grid.tile)
    best, failing, passing = None, -1, len(QUALITIES) - 1
    level = START
    while failing + 1 < passing:
        encoded = encode(cell, grid, level)
        decibels = _decibels(encoded, tile, grid)
        if decibels >= least:
            best, passing = encoded, level
        else:
            failing = level
        guess = level + ceil((least - decibels) / DECIBELS_PER_LEVEL)
        level = min(max(guess, failing + 1), passing - 1)
    return best or encode(cell, grid, passing)


def join_alike(sprites: Sequence[Sequence[bytes]], grid: Grid) -> list[bytes]:
    """The sprites of one task, out of their tiles' files: all of one size.

    The shorter files are filled up to the longest with a trailing ``free`` box, which decoders skip.

    Args:
        sprites: each sprite's tiles as ``encode_tile`` made them, row by row.
        grid: how they lie.
    """
    joined = [avif_grid.join(tiles, grid.columns, grid.tile + grid.gutter) for tiles in sprites]
    longest = max(map(len, joined)) + avif_grid.BOX_HEADER
    return [fill_up(content, longest) for content in joined]


def with_gutter(tile: Pixels, grid: Grid) -> Pixels:
    """A tile's cell: grey left of it and above it, shape (tile + gutter, tile + gutter, 3)."""
    side = grid.tile + grid.gutter
    cell = np.full((side, side, 3), GREY, dtype=np.uint8)
    cell[grid.gutter :, grid.gutter :] = tile
    return cell


def encode(cell: Pixels, grid: Grid, level: int) -> bytes:
    """One cell as AVIF, without metadata; the same bytes for the same cell, as one thread does it."""
    buffer = io.BytesIO()
    Image.fromarray(cell).save(
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
    return content + struct.pack(">I4s", length, b"free") + bytes(length - avif_grid.BOX_HEADER)


def _speed(grid: Grid) -> int:
    """The fastest that libaom has for small tiles (at 64 px twice as fast), a step slower where bytes weigh more."""
    return 9 if grid.tile <= 96 else 8


def _decibels(encoded: bytes, tile: Pixels, grid: Grid) -> float:
    with Image.open(io.BytesIO(encoded)) as image:
        decoded = np.asarray(image.convert("RGB"))[grid.gutter :, grid.gutter :]
    return min(tile_psnr(decoded[None], tile[None])[0], MOST_DECIBELS)
