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
MIN_CONTRAST = 12.0
"""Practice shows only crops with something on them."""
SEED = 1
FREE_LICENCES = frozenset({"CC0-1.0", "public domain", "no known copyright restrictions"})


@dataclass(frozen=True, slots=True)
class PracticePair:
    """What one practice trial contrasts: two photographs, and the crops' side in their pixels."""

    min_photograph: str
    min_window: int
    max_photograph: str
    max_window: int
    obvious: bool = True


PAIRS = (
    PracticePair("gravel", 80, "retina", 150),
    PracticePair("hubble", 110, "text", 56),
    PracticePair("ihc", 90, "brick", 90),
    PracticePair("coffee", 80, "coins", 62),
    PracticePair("gravel", 100, "grass", 100, obvious=False),
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
        sides = (("min", pair.min_photograph, pair.min_window), ("max", pair.max_photograph, pair.max_window))
        for side, name, window in sides:
            _write_side(folder / str(number), side, listed[name], window, taken)
    write_atomically(folder / "practice.toml", _toml(listed).encode())


def _write_side(folder: Path, side: str, photograph: Photograph, window: int, taken: list[Region]) -> None:
    if photograph.licence not in FREE_LICENCES:
        raise RehearsalError(f"{photograph.name} is {photograph.licence}, so its crops can't be passed on; take another one")
    image = photograph.open()
    regions = [region for region in _grid(photograph, window, image) if not any(region.overlaps(other) for other in taken)]
    if len(regions) < REFERENCES + 1:
        raise RehearsalError(f"{photograph.name} gives only {len(regions)} crops of {window} px; lower the window")
    order = generator(SEED, "practice", folder.name, side).permutation(len(regions))[: REFERENCES + 1]
    for place, index in enumerate(order):
        taken.append(regions[index])
        name = folder / side / f"{place}.png" if place < REFERENCES else folder / f"query_{side}.png"
        content = io.BytesIO()
        regions[index].cut(image, SIZE).save(content, "PNG", optimize=True)
        write_atomically(name, content.getvalue())


def _grid(photograph: Photograph, window: int, image: Image.Image) -> Iterator[Region]:
    """Crops side by side that show something and lie wholly inside the picture (no black margin)."""
    width, height = photograph.size
    for top in range((height % window) // 2, height - window + 1, window):
        for left in range((width % window) // 2, width - window + 1, window):
            region = Region(photograph.name, left, top, window)
            crop = region.cut(image, SIZE)
            if contrast(crop) >= _floor(photograph) and _black_share(crop) < _black_limit(photograph):
                yield region


def _floor(photograph: Photograph) -> float:
    return 5.0 if photograph.name == "retina" else MIN_CONTRAST


def _black_limit(photograph: Photograph) -> float:
    """A night sky is black; elsewhere black is the margin of a scan."""
    return 1.0 if photograph.name == "hubble" else 0.35


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
            f'min = "{pair.min_photograph}"',
            f'max = "{pair.max_photograph}"',
        ]
    for name in sorted({p.min_photograph for p in PAIRS} | {p.max_photograph for p in PAIRS}):
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
