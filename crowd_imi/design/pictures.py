"""One tile's pixels: every tile of every sprite goes through the same resampling."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crowd_imi.errors import DesignError

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
CORNERS: tuple[Corner, ...] = ("top-left", "top-right", "bottom-left", "bottom-right")

CROP_SHARE = 0.8
"""Side of a catch trial's crop as a share of the image's: obvious to see, and 64 % of the image is still there."""

VISIBLE_RMS = 6.0
"""Levels of 255 by which a crop must differ from every other tile of its trial to count as another picture.

At 38 dB the codec alone moves pixels by up to 3.2 levels (root mean square)."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file, or the part of it at one corner."""

    path: Path
    digest: str
    """SHA-256 of the file."""
    corner: Corner | None = None

    @property
    def recipe(self) -> str:
        """What its pixels follow from, beside the tile's size."""
        return self.digest if self.corner is None else f"{self.digest} {self.corner} {CROP_SHARE}"

    def at(self, corner: Corner) -> "Picture":
        return Picture(self.path, self.digest, corner)


def pixels(picture: Picture, size: int) -> Pixels:
    """The picture at ``size``: shape (size, size, 3), sRGB levels.

    An image that has this size already comes through unchanged (Pillow's Lanczos leaves it alone).

    Raises:
        DesignError: the file is missing or can't be read.
    """
    try:
        with Image.open(picture.path) as image:
            whole = image.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise DesignError(f"{picture.path}: can't be read ({error}); run `crowd-imi render` again") from None
    box = _box(whole.width, whole.height, picture.corner)
    return np.asarray(whole.resize((size, size), Image.Resampling.LANCZOS, box=box))


def _box(width: int, height: int, corner: Corner | None) -> tuple[float, float, float, float]:
    if corner is None:
        return (0, 0, width, height)
    left = width * (1 - CROP_SHARE) if corner.endswith("right") else 0.0
    top = height * (1 - CROP_SHARE) if corner.startswith("bottom") else 0.0
    return (left, top, left + width * CROP_SHARE, top + height * CROP_SHARE)


def differs_visibly(one: Pixels, other: Pixels) -> bool:
    """Whether two tiles of one size are different pictures to the eye."""
    difference = one.astype(np.float32) - other
    return float(np.sqrt(np.mean(difference * difference))) >= VISIBLE_RMS
