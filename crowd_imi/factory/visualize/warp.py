"""How images are moved before a network looks at them: jitter, scale, rotation, jitter, as one affine map.

The published transforms (Zimmermann, Klein & Brendel 2023, arXiv:2307.05471) resample an image for each of them, one after the
other. Here they are put together first, and every pixel is sampled once. Lucent jitters by 0 to 15 pixels, so that on average
what is optimised lies off the centre, which is what is kept; here jitter goes both ways.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

PUBLISHED_SIZE = 224
PADDING = 16
"""Around an image of the published size, for jitter to move into; cut off at the end."""
JITTERS = (16, 8)
"""Different places along each axis, before and after the rest, at the published size."""
SCALES = (0.95, 0.975, 1.0, 1.025, 1.05)
ANGLES = tuple(range(-5, 6))
"""Degrees."""


def in_proportion(pixels: int, size: int) -> int:
    """A number of pixels of the published size at another; at least 2, as lucent doesn't jitter by one."""
    return max(2, round(pixels * size / PUBLISHED_SIZE))


def canvas_size(size: int) -> int:
    """Pixels on a side of what is optimised for images of ``size``."""
    return size + 2 * in_proportion(PADDING, size)


class Moves:
    """One set's random moves, a new one each step."""

    def __init__(self, seed: int, size: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._size = size

    def __call__(self) -> NDArray[np.float32]:
        """The next, as ``affine`` gives it."""
        first, second = (self._jitter(in_proportion(places, self._size)) for places in JITTERS)
        scale, angle = self._rng.choice(SCALES), self._rng.choice(ANGLES)
        return affine(self._size, first, float(scale), float(angle), second)

    def _jitter(self, places: int) -> tuple[int, int]:
        across, down = self._rng.integers(places, size=2) - places // 2
        return int(across), int(down)


def affine(size: int, first: tuple[int, int], scale: float, angle: float, second: tuple[int, int]) -> NDArray[np.float32]:
    """Where to look in a canvas for each pixel of the moved image, in the form of ``functional.affine_grid``.

    Args:
        size: of the moved image, which shows the canvas's middle.
        first: pixels to the right and down.
        scale: above 1 enlarges.
        angle: degrees, counter-clockwise.
        second: pixels to the right and down, after scale and rotation.

    Returns:
        Shape (2, 3).
    """
    turn = np.deg2rad(angle)
    back = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / scale
    offset = -back @ np.array(second) - np.array(first)
    canvas = canvas_size(size)
    return np.column_stack([back * size / canvas, offset * 2 / canvas]).astype(np.float32)


def warp(canvases: Tensor, maps: Tensor, size: int) -> Tensor:
    """Moved images; what lies outside a canvas is black, as in lucent. Differentiable.

    Args:
        canvases: shape (sets, images, 3, canvas, canvas); a set's images are moved alike.
        maps: shape (sets, 2, 3).
        size: of the moved images.

    Returns:
        Shape (sets · images, 3, size, size).
    """
    sets, images = canvases.shape[:2]
    grid = functional.affine_grid(maps, [sets, 1, size, size], align_corners=False)
    # A set's images share its grid as if they were channels of one image: it is worked out once.
    moved = functional.grid_sample(canvases.flatten(1, 2), grid, align_corners=False)
    return moved.view(sets * images, 3, size, size)
