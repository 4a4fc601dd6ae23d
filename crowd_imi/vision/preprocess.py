"""From a file to what people see, and from there to what a network sees."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from crowd_imi.errors import VisionError
from crowd_imi.vision.models import LoadedModel

Pixels = NDArray[np.uint8]

# An image of more pixels than Pillow cares to decode is one that can't be read, as one of twice as many is anyway. Said once,
# here: filters can't be set for one of the threads that decode.
warnings.simplefilter("error", Image.DecompressionBombWarning)

SHORTER_SIDE = 256 / 224
"""Of the stored image's side: as published, the shorter side becomes 256 px and the central 224 px are kept."""


def read_image(path: Path, size: int) -> Pixels:
    """An image as it is stored and shown: shorter side scaled, centre cut out.

    An image of less than ``size`` · 256 / 224 pixels gives all of its shorter side, so that a 64-px file asked for at
    64 px stays as it is.

    Returns:
        Shape (size, size, 3), RGB.

    Raises:
        VisionError: the file isn't a readable image.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VisionError(f"{path}: this image can't be read ({error}); replace it or take it out") from None
    return decode_image(content, size, str(path))


def decode_image(content: bytes, size: int, name: str) -> Pixels:
    """``read_image`` of a file's content; ``name`` says in an error which file it was."""
    try:
        with Image.open(io.BytesIO(content)) as file:
            image = _rgb(ImageOps.exif_transpose(file))
    except MemoryError:
        raise
    except Exception as error:
        # Of a damaged file Pillow raises whatever its parsers stumble on, struct.error, IndexError and KeyError among others,
        # and one such file mustn't end a run over a million.
        # What Pillow says of an unknown format names the buffer in memory, not the file.
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise VisionError(f"{name}: this image can't be read ({reason}); replace it or take it out") from None
    return np.asarray(_fitted(image, size))


def _rgb(image: Image.Image) -> Image.Image:
    """Transparent parts become white, as on a page."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _fitted(image: Image.Image, size: int) -> Image.Image:
    shorter = min(image.size)
    target = round(size * SHORTER_SIDE) if shorter >= size * SHORTER_SIDE else size
    if shorter != target:
        scale = target / shorter
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_input(pixels: Pixels, model: LoadedModel) -> Tensor:
    """Stored images as a network's input.

    Args:
        pixels: shape (n, height, width, 3), 0–255.
        model: whose input size, mean and deviation count.

    Returns:
        Shape (n, 3, input_size, input_size), on the model's device.
    """
    return normalise(as_tensor(pixels, model), model)


def as_tensor(pixels: Pixels, model: LoadedModel) -> Tensor:
    """Stored images with values in 0–1, shape (n, 3, height, width), on the model's device."""
    tensor = torch.from_numpy(np.require(pixels, requirements=("C", "W")))
    if model.device.type == "cuda":  # from pinned memory the copy runs beside the GPU's work
        tensor = tensor.pin_memory()
    return tensor.to(model.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255


def normalise(images: Tensor, model: LoadedModel) -> Tensor:
    """Images with values in 0–1, scaled to the model's input size and standardised; differentiable."""
    size = (model.input_size, model.input_size)
    if images.shape[2:] != size:
        images = functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
    return standardise(images, model)


def standardise(images: Tensor, model: LoadedModel) -> Tensor:
    """Images with values in 0–1, less the model's mean and by its deviation, whatever their size; differentiable."""
    mean = torch.tensor(model.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(model.std, device=images.device).view(1, 3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)
