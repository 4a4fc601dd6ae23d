"""Feature visualisation with lucent: images that drive a unit, made from noise by gradient ascent.

The only module that imports lucent. Parametrisation and transforms are the published ones (Fourier basis, decorrelated
colours; jitter, scale, rotation, jitter), in proportion to the size of the image: Zimmermann, Klein & Brendel 2023,
arXiv:2307.05471. The search for the diversity weight isn't: study.toml states one weight.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowd_imi.records import REFERENCES, Side
from crowd_imi.study import VisualisationSection
from crowd_imi.vision.layers import UnitLayer, channels_first, watched
from crowd_imi.vision.models import LoadedModel
from crowd_imi.vision.preprocess import Pixels, normalise, to_input

with warnings.catch_warnings():
    # kornia 0.4.1, which lucent needs, compiles with torch.jit.script at import; torch has called that deprecated.
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", category)
    from lucent.optvis import param, transform

PUBLISHED_SIZE = 224
PADDING = 16
"""Around an image of the published size, for jitter to move into; cut off at the end."""
SECOND_JITTER = 8
SCALES = (0.95, 0.975, 1.0, 1.025, 1.05)
ANGLES = tuple(range(-5, 6))
"""Degrees."""


@dataclass(frozen=True, slots=True)
class Visualiser:
    """Whose units are visualised, and how."""

    model: LoadedModel
    """Its weights stay as they are."""
    settings: VisualisationSection


@dataclass(frozen=True, slots=True)
class Target:
    """What is visualised: one side of one unit."""

    layer: UnitLayer
    channel: int
    side: Side
    """``max`` drives the unit up, ``min`` down."""
    span: float
    """The unit's highest less its lowest activation over the natural images: the measure of its drive, so that one weight
    of diversity means the same for units of any scale."""


@dataclass(frozen=True, slots=True)
class Visualisations:
    """Nine images of one side of one unit."""

    pixels: Pixels
    """Shape (9, size, size, 3); the strongest first, the others in the order of their random beginnings."""
    activations: tuple[float, ...]
    """Of the finished images, in the same order."""


def visualise(visualiser: Visualiser, target: Target, seed: int) -> Visualisations:
    """Make nine images that drive a unit most, or least.

    One image is optimised for the unit alone, and eight also for being unlike one another at the unit's layer.

    Args:
        visualiser: the model and the settings.
        target: the unit and the side.
        seed: the same seed gives the same images on the same machine.
    """
    model, settings = visualiser.model, visualiser.settings
    padding = _in_proportion(PADDING, settings.size)
    with _seeded(seed):
        parameters, image_of = param.image(settings.size + 2 * padding, batch=REFERENCES, fft=True, decorrelate=True)
        optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate)
        transforms = _transforms(settings.size)
        for _ in range(settings.steps):
            optimiser.zero_grad()
            seen = _without_border(transforms(image_of()), settings.size)
            torch.autograd.backward(_loss(_output(model, target.layer, normalise(seen, model)), target, settings.diversity))
            optimiser.step()
        images = _without_border(image_of(), settings.size).detach()
    return _strongest_first(_to_pixels(images), model, target)


def diversity(features: Tensor) -> Tensor:
    """How alike images are at a layer: the mean over images of the summed cosines of their Gram matrices.

    The same as lucent's ``objectives.diversity`` with the sign turned, by ⟨FᵢFᵢᵀ, FⱼFⱼᵀ⟩ = ‖FᵢᵀFⱼ‖², which needs only
    products of space with space where that is smaller than channels with channels.

    Args:
        features: shape (images, channels, positions).
    """
    count, channels, positions = features.shape
    if positions < channels:
        products = torch.einsum("icp,jcq->ijpq", features, features).square().sum((2, 3))
    else:
        grams = torch.einsum("icp,idp->icd", features, features).flatten(1)
        products = grams @ grams.T
    norms = products.diagonal().clamp_min(1e-24).sqrt()
    cosines = products / (norms[:, None] * norms[None, :])
    return (cosines.sum() - cosines.diagonal().sum()) / count


def _loss(output: Tensor, target: Target, weight: float) -> Tensor:
    """The first image is driven alone; over the other eight, drive and diversity are weighed as in lucent.

    Diversity is that of the layer's channels also when the unit is read out of them.
    """
    drives = target.layer.maps(output, (target.channel,))[:, 0].mean(1) / target.span
    drive = drives[0] + drives[1:].mean()
    loss = -drive if target.side == "max" else drive
    return loss + weight * diversity(channels_first(output[1:], target.layer.axis)) if weight else loss


class _Reached(Exception):
    """The layer has its output; what lies behind needn't be computed."""


def _output(model: LoadedModel, layer: UnitLayer, images: Tensor) -> Tensor:
    """The layer's output."""
    outputs: list[Tensor] = []

    def keep(_name: str, output: Tensor) -> None:
        outputs.append(output)
        raise _Reached

    with watched(model.module, (layer.module,), keep), suppress(_Reached):
        model.module(images)
    return outputs[0]


def _transforms(size: int) -> Callable[[Tensor], Tensor]:
    composed: Callable[[Tensor], Tensor] = transform.compose(
        [
            transform.jitter(_in_proportion(PADDING, size)),
            transform.random_scale(SCALES),
            transform.random_rotate(ANGLES),
            transform.jitter(_in_proportion(SECOND_JITTER, size)),
        ]
    )
    return composed


def _in_proportion(pixels: int, size: int) -> int:
    """At least 2, as lucent doesn't jitter by one pixel."""
    return max(2, round(pixels * size / PUBLISHED_SIZE))


def _without_border(images: Tensor, size: int) -> Tensor:
    top, left = (images.shape[2] - size) // 2, (images.shape[3] - size) // 2
    return images[:, :, top : top + size, left : left + size]


def _to_pixels(images: Tensor) -> Pixels:
    scaled: Pixels = (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return scaled


def _strongest_first(pixels: Pixels, model: LoadedModel, target: Target) -> Visualisations:
    reached = _activations(model, target, pixels)
    strongest = int(reached.argmax() if target.side == "max" else reached.argmin())
    order = [strongest, *(index for index in range(len(pixels)) if index != strongest)]
    return Visualisations(pixels[order], tuple(float(reached[index]) for index in order))


def _activations(model: LoadedModel, target: Target, pixels: Pixels) -> NDArray[np.float32]:
    """The unit's on finished images, shape (images,)."""
    with torch.inference_mode():
        output = _output(model, target.layer, to_input(pixels, model))
        reached: NDArray[np.float32] = target.layer.activations(output, (target.channel,))[:, 0].cpu().numpy()
    return reached


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds torch's and numpy's global generators, from which lucent draws, and leaves both as they were."""
    state = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(state)
