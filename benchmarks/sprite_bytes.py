"""How many bytes of pictures a visit takes, beside the published page's: 45 × 20 PNGs of the same pictures over our 45 sprites.

Natural panels show crops of scikit-image's photographs at 224 px, as published. Synthetic ones show eighteen stand-ins for
feature visualisations and two photographs: noise with the spectrum (amplitude over frequency) and the correlated colours from
which lucent's visualisations begin. (Rendering real ones would take longer than everything else that is measured here.)
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from benchmarks.loading import SIZE, crops, png_bytes
from crowd_imi.design.encoding import encode_tile, grid_for, join_alike
from crowd_imi.design.fidelity import decode, tile_psnr
from crowd_imi.records import REFERENCES
from crowd_imi.seeds import generator

TRIALS = 45
PICTURES = 40
"""Encoded once each; panels draw from them. A tile's bytes depend on its picture alone."""
COLOURS = np.array([[0.56, 0.19, 0.04], [0.58, 0.0, -0.11], [0.58, -0.19, 0.06]])
"""How lucent mixes its channels into red, green and blue, as photographs' colours are correlated."""


def textures(seed: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Endless stand-ins for visualisations, shape (SIZE, SIZE, 3)."""
    rng = generator(seed, "textures")
    down, across = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]
    scale = 1 / np.maximum(np.hypot(down, across), 1 / SIZE)
    while True:
        spectrum = (rng.normal(size=(3, *scale.shape)) + 1j * rng.normal(size=(3, *scale.shape))) * scale
        channels = np.fft.irfft2(spectrum, s=(SIZE, SIZE))
        mixed = np.einsum("ij,jhw->hwi", COLOURS, channels / channels.std())
        yield (255 / (1 + np.exp(-1.5 * mixed))).astype(np.uint8)


def bytes_ratios(pictures: int = PICTURES, trials: int = TRIALS) -> dict[str, float]:
    """``bytes_ratio_natural``, ``bytes_ratio_synthetic`` and the least decibels that a tile kept.

    Args:
        pictures: different ones of each kind, at least 20.
        trials: of a visit.
    """
    grid, rng = grid_for(SIZE), generator(1, "sprite bytes")
    photographs, visualised = list(islice(crops(), pictures)), list(islice(textures(), pictures))
    shown = photographs + visualised
    encoded = [encode_tile(picture, grid) for picture in shown]
    published = [png_bytes(picture) for picture in shown]
    figures, least = {}, np.inf
    for condition, first in (("natural", 0), ("synthetic", pictures)):
        panels = []
        for _ in range(trials):
            queries = rng.choice(pictures, 2, replace=False)
            others = np.setdiff1d(np.arange(pictures), queries) if first == 0 else np.arange(pictures)
            panels.append([*(first + rng.choice(others, 2 * REFERENCES, replace=False)), *queries])
        sprites = join_alike([[encoded[at] for at in panel] for panel in panels], grid)
        figures[f"bytes_ratio_{condition}"] = sum(published[at] for panel in panels for at in panel) / sum(map(len, sprites))
        for panel, sprite in zip(panels[:4], sprites, strict=False):
            least = min(least, *tile_psnr(decode(sprite, grid), np.stack([shown[at] for at in panel])))
    return {**figures, "least_decibels": float(least)}
