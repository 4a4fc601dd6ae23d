"""What is optimised: images as spectra of decorrelated colours, as lucent draws them.

Source: Olah, Mordvintsev & Schubert 2017, "Feature Visualization"; the constants are lucent's (Apache-2.0).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowd_imi.vision.preprocess import Pixels

DEVIATION = 0.01
"""Of the spectra that an optimisation begins with."""
DIVISOR = 4.0
"""Of the images before the sigmoid: keeps colours from saturating."""

_CORRELATION: NDArray[np.float32] = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], dtype=np.float32)
"""Square root of the covariance of ImageNet's colours."""
COLOURS: NDArray[np.float32] = _CORRELATION / np.linalg.norm(_CORRELATION, axis=0).max()
"""From decorrelated colours (columns) to red, green and blue (rows)."""


def beginning(seed: int, images: int, size: int) -> Tensor:
    """The spectra of some images as an optimisation begins.

    Drawn on the processor, so that every device begins with the same.

    Returns:
        Shape (images, 3, size, size // 2 + 1, 2): real and imaginary part of each frequency of each decorrelated colour.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, 3, size, size // 2 + 1, 2, generator=generator) * DEVIATION


def amplitudes(size: int, device: torch.device) -> Tensor:
    """By what a spectrum is multiplied: low frequencies weigh more, as in photographs; shape (size, size // 2 + 1, 1)."""
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[: size // 2 + 1]
    frequencies = np.sqrt(rows**2 + columns**2)
    scale = 1.0 / np.maximum(frequencies, 1.0 / size) / DIVISOR
    return torch.from_numpy(scale.astype(np.float32))[..., None].to(device)


def colours(device: torch.device) -> Tensor:
    """``COLOURS`` on a device."""
    return torch.from_numpy(COLOURS).to(device)


def paint(spectra: Tensor, amplitude: Tensor, colour: Tensor) -> Tensor:
    """Images of spectra; differentiable.

    Args:
        spectra: shape (images, 3, size, size // 2 + 1, 2).
        amplitude: of ``amplitudes``.
        colour: of ``colours``.

    Returns:
        Shape (images, 3, size, size), values in 0–1.
    """
    size = spectra.shape[2]
    decorrelated = torch.fft.irfft2(torch.view_as_complex(spectra * amplitude), s=(size, size), norm="ortho")
    return torch.sigmoid(torch.matmul(colour, decorrelated.flatten(2))).view(-1, 3, size, size)


def centre(images: Tensor, size: int) -> Tensor:
    """The middle of canvases, ``size`` pixels on a side: what is kept of them."""
    top, left = (images.shape[-2] - size) // 2, (images.shape[-1] - size) // 2
    return images[..., top : top + size, left : left + size]


def to_pixels(images: Tensor) -> Pixels:
    """As images are stored, shape (images, size, size, 3)."""
    pixels: Pixels = (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return pixels
