"""Sprite files: named so that they tell nothing, made once, kept as long as the plan names them."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from crowd_imi.design import encoding
from crowd_imi.design.fidelity import min_psnr
from crowd_imi.design.pictures import Picture, pixels
from crowd_imi.errors import DesignError
from crowd_imi.files import write_atomically
from crowd_imi.keys import keyed_hash
from crowd_imi.plan import Grid
from crowd_imi.progress import Track, silent

TOKEN_DIGITS = 32
KEPT_TILES = 32_768
"""Encoded tiles that are kept in memory for the tasks to come: more than an arm of the published study has, some 300 MB at
224 px."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The sprites of one task (or of practice), which share a size."""

    name: str
    """For a person, when something is wrong with it."""
    sprites: tuple[tuple[Picture, ...], ...]
    """Each sprite's twenty tiles, row by row."""

    def file_names(self, key: bytes, grid: Grid) -> tuple[str, ...]:
        """A token for each sprite, in order.

        A token follows from all that the file's bytes follow from (every picture of the batch, the grid, the encoder's
        settings), so that a file that is there never needs a look inside.
        """
        settings = f"cells {grid.model_dump_json()} {encoding.QUALITIES} {encoding.ADVANCED} {min_psnr(grid.tile)}"
        recipes = "\n".join(picture.recipe for sprite in self.sprites for picture in sprite)
        recipe = hashlib.sha256(f"{settings}\n{recipes}".encode()).hexdigest()
        tokens = (keyed_hash(key, "sprite", self.name, recipe, str(place)) for place in range(len(self.sprites)))
        return tuple(f"{token[:TOKEN_DIGITS]}.avif" for token in tokens)


def mint(folder: Path, batches: Sequence[Batch], key: bytes, grid: Grid, track: Track = silent) -> None:
    """Write every sprite that isn't there yet; killed and run again, it goes on with the batch where it stopped.

    Threads are enough: encoding and decoding take nearly all the time and let go of the interpreter.

    Raises:
        DesignError: an image can't be read, or two tiles of a sprite are equal.
    """
    missing = [batch for batch in batches if not all((folder / name).exists() for name in batch.file_names(key, grid))]
    if not missing:
        return
    encode = lru_cache(KEPT_TILES)(lambda picture: _encoded(picture, grid))  # a picture is in many tasks
    pool = ThreadPoolExecutor(max_workers=_processors())
    try:
        futures = [pool.submit(_mint_batch, folder, batch, key, grid, encode) for batch in missing]
        for future in track(as_completed(futures), "minting sprites, by task", len(futures)):
            future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def remove_stale(folder: Path, names: set[str]) -> int:
    """Remove sprites that no plan names any more, and what a crash left half written; returns how many."""
    stale = [path for path in folder.glob("*.avif") if path.name not in names] + list(folder.glob(".*.avif.*"))
    for path in stale:
        path.unlink()
    return len(stale)


@dataclass(frozen=True, slots=True)
class _Tile:
    pixels_sha256: bytes
    encoded: bytes


def _encoded(picture: Picture, grid: Grid) -> _Tile:
    tile = pixels(picture, grid.tile)
    return _Tile(hashlib.sha256(tile.tobytes()).digest(), encoding.encode_tile(tile, grid))


def _mint_batch(folder: Path, batch: Batch, key: bytes, grid: Grid, encode: Callable[[Picture], _Tile]) -> None:
    sprites = [_tiles(batch.name, pictures, grid, encode) for pictures in batch.sprites]
    for name, content in zip(batch.file_names(key, grid), encoding.join_alike(sprites, grid), strict=True):
        write_atomically(folder / name, content)


def _tiles(where: str, pictures: Sequence[Picture], grid: Grid, encode: Callable[[Picture], _Tile]) -> list[bytes]:
    tiles = [encode(picture) for picture in pictures]
    seen: dict[bytes, Picture] = {}
    for tile, picture in zip(tiles, pictures, strict=True):
        twin = seen.setdefault(tile.pixels_sha256, picture)
        if twin is not picture:
            raise DesignError(
                f"{where}: {twin.path} and {picture.path} look the same at {grid.tile} px, so that a trial would show an image "
                "twice; take one of them out of the images and run `crowd-imi render` again"
            )
    return [tile.encoded for tile in tiles]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
