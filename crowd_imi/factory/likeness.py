"""Which images look alike: a 64-bit perceptual hash, and near-duplicates by the bits in which two differ.

The hash is the DCT one (pHash): the signs of the 8×8 lowest frequencies of a picture's brightness. Two things differ from
the ImageHash library's. A frequency that is hardly there has no sign that would survive a recompression, so its bit tells
the mean colour instead: smooth pictures are alike when their colours are, not by chance. And pictures are averaged over
blocks instead of filtered, which takes half the time. Figures: docs/decisions/0008-near-duplicates.md.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct

Pixels = NDArray[np.uint8]

_SIDE = 32
"""Pixels on a side to which a picture is averaged."""
_FREQUENCIES = 8
_FAINT = 8.0
"""An amplitude below this (orthonormal, of 32×32 grey values in 0–255) is noise of compression."""


def perceptual_hash(pixels: Pixels) -> int:
    """What a picture looks like, in 64 bits: copies that were recompressed, resized or hardly shifted differ in few.

    Args:
        pixels: shape (height, width, 3), RGB.

    Returns:
        In [0, 2⁶⁴).
    """
    small = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=1.0)
    basis, channels, thresholds = _constants()
    amplitudes = (basis @ np.asarray(small.convert("L"), dtype=np.float64) @ basis.T).ravel()
    amplitudes[0] = 0  # the mean, which is always above zero
    colour = np.asarray(small, dtype=np.float64).mean(axis=(0, 1))
    bits = np.where(np.abs(amplitudes) < _FAINT, colour[channels] > thresholds, amplitudes > 0)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near(one: np.uint64, many: NDArray[np.uint64], bits: int) -> NDArray[np.bool_]:
    """Which of many pictures are near-duplicates of one.

    Args:
        one: its hash.
        many: their hashes, of any shape.
        bits: in at most so many may they differ.

    Returns:
        In the shape of ``many``.
    """
    return np.bitwise_count(np.bitwise_xor(many, one)) <= bits


@cache
def _constants() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """The lowest frequencies, and of every bit the colour channel that it looks at and from which value on it is set.

    Thresholds are spread evenly over 0–255 in each channel, so that the bits in which two smooth pictures differ grow with
    the distance of their colours.
    """
    count = _FREQUENCIES**2
    basis = dct(np.eye(_SIDE), axis=0, norm="ortho")[:_FREQUENCIES]
    golden = (np.sqrt(5) - 1) / 2
    return basis, np.arange(count) % 3, np.arange(count) * golden % 1 * 256
