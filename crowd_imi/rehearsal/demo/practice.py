"""Cuts the practice trials of ``stimuli/practice`` from photographs that are free to pass on.

Run it with an installed scikit-image to make them anew::

    python -m crowd_imi.rehearsal.demo.practice stimuli/practice

Each trial contrasts two photographs, so that the answer is there to see; the last pair is less obvious.
"""

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from crowd_imi.errors import RehearsalError
from crowd_imi.files import write_atomically
from crowd_imi.records import REFERENCES
from crowd_imi.rehearsal.demo.photographs import Photograph, Region, contrast, photographs
from crowd_imi.seeds import generator

SIZE = 80
"""Pixels on a side of a practice image."""
SEED = 1
FREE_LICENCES = frozenset({"CC0-1.0", "public domain", "no known copyright restrictions"})


@dataclass(frozen=True, slots=True)
class PracticeSide:
    """Where the ten images of one side come from."""

    photograph: str
    window: int
    """Side of a crop in the photograph's pixels."""
    min_contrast: float = 12.0
    """Standard deviation of grey values, 0–255: practice shows only crops with something on them."""
    max_black: float = 0.35
    """Share of black pixels; more is the margin of a scan, but not in a night sky."""


@dataclass(frozen=True, slots=True)
class PracticePair:
    """What one practice trial contrasts."""

    min: PracticeSide
    max: PracticeSide
    obvious: bool = True


PAIRS = (
    PracticePair(PracticeSide("gravel", 80), PracticeSide("retina", 150, min_contrast=5)),
    PracticePair(PracticeSide("hubble", 110, max_black=1), PracticeSide("text", 56)),
    PracticePair(PracticeSide("ihc", 90), PracticeSide("brick", 90)),
    PracticePair(PracticeSide("coffee", 80), PracticeSide("coins", 62)),
    PracticePair(PracticeSide("gravel", 100), PracticeSide("grass", 100), obvious=False),
)


def write_practice(folder: Path) -> None:
    """Write ``N/min/K.png``, ``N/max/K.png``, ``N/query_min.png``, ``N/query_max.png`` and ``practice.toml``.

    No two images of a trial overlap, and no crop is used in two trials.

    Raises:
        RehearsalError: a photograph can't be read, may not be passed on, or is too small for ten crops.
    """
    listed = {photograph.name: photograph for photograph in photographs().photographs}
    taken: list[Region] = []
    for number, pair in enumerate(PAIRS, 1):
        for name, side in (("min", pair.min), ("max", pair.max)):
            _write_side(folder / str(number), name, side, listed[side.photograph], taken)
    write_atomically(folder / "practice.toml", _toml(listed).encode())


def _write_side(folder: Path, name: str, side: PracticeSide, photograph: Photograph, taken: list[Region]) -> None:
    if photograph.licence not in FREE_LICENCES:
        raise RehearsalError(f"{photograph.name} is {photograph.licence}, so its crops can't be passed on; take another one")
    image = photograph.open()
    regions = [region for region in _grid(side, image) if not any(region.overlaps(other) for other in taken)]
    if len(regions) < REFERENCES + 1:
        raise RehearsalError(f"{photograph.name} gives only {len(regions)} crops of {side.window} px; lower the window")
    order = generator(SEED, "practice", folder.name, name).permutation(len(regions))[: REFERENCES + 1]
    for place, index in enumerate(order):
        taken.append(regions[index])
        path = folder / name / f"{place}.png" if place < REFERENCES else folder / f"query_{name}.png"
        content = io.BytesIO()
        regions[index].cut(image, SIZE).save(content, "PNG", optimize=True)
        write_atomically(path, content.getvalue())


def _grid(side: PracticeSide, image: Image.Image) -> Iterator[Region]:
    """Crops side by side, those that show something."""
    for top in range((image.height % side.window) // 2, image.height - side.window + 1, side.window):
        for left in range((image.width % side.window) // 2, image.width - side.window + 1, side.window):
            region = Region(side.photograph, left, top, side.window)
            crop = region.cut(image, SIZE)
            if contrast(crop) >= side.min_contrast and _black_share(crop) <= side.max_black:
                yield region


def _black_share(crop: Image.Image) -> float:
    return float((np.asarray(crop.convert("L")) < 12).mean())


def _toml(listed: dict[str, Photograph]) -> str:
    lines = [
        "# Practice trials in order; made by `python -m crowd_imi.rehearsal.demo.practice stimuli/practice`.",
        "# Each folder holds min/0-8.png and max/0-8.png (references), query_min.png and query_max.png.",
    ]
    for number, pair in enumerate(PAIRS, 1):
        lines += [
            "",
            "[[trials]]",
            f'folder = "{number}"',
            f"obvious = {str(pair.obvious).lower()}",
            f'min = "{pair.min.photograph}"',
            f'max = "{pair.max.photograph}"',
        ]
    for name in sorted({side.photograph for pair in PAIRS for side in (pair.min, pair.max)}):
        entry = listed[name]
        lines += [
            "",
            "[[credits]]",
            f'name = "{name}"',
            f'credit = "{entry.credit}"',
            f'licence = "{entry.licence}"',
            f'source = "{entry.source}"',
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Cut the practice trials from scikit-image's photographs.")
    parser.add_argument("folder", type=Path)
    write_practice(parser.parse_args().folder)
