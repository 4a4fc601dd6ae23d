"""Gradient ascent: images of many units of one layer, climbing together in one batch."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crowd_imi.errors import FactoryError
from crowd_imi.factory.visualize.canvas import amplitudes, beginning, centre, colours, paint
from crowd_imi.factory.visualize.memory import keep_freed_memory
from crowd_imi.factory.visualize.objective import loss, similarity
from crowd_imi.factory.visualize.warp import Moves, canvas_size, warp
from crowd_imi.records import Side
from crowd_imi.study import VisualisationSection
from crowd_imi.vision.layers import UnitLayer, channels_first, watched
from crowd_imi.vision.models import LoadedModel
from crowd_imi.vision.preprocess import normalise

LOOK_EVERY = 50
"""Steps after which it is made sure that everything is still a number."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is visualised: one side of one unit."""

    layer: UnitLayer
    channel: int
    side: Side
    """``max`` drives the unit up, ``min`` down."""
    span: float = 1.0
    """The unit's highest less its lowest activation over the natural images: the measure of its drive, so that one weight
    of diversity means the same for units of any scale. 1 takes activations as they are."""
    best: float | None = None
    """The most extreme activation on this side over the natural images: what a visualisation should reach."""

    @property
    def sign(self) -> float:
        return 1.0 if self.side == "max" else -1.0

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.layer.name}/{self.channel}, {self.side}"

    def drive(self, activation: float) -> float:
        """How far up its own side: 0 is the natural image at the other end, 1 the best; where none is known, in ranges from 0."""
        return self.sign * activation / self.span if self.best is None else 1 + self.sign * (activation - self.best) / self.span

    def reaches(self, activation: float) -> bool:
        """Whether an activation is as extreme as the natural images'; some units' lowest is 0, and nothing goes below."""
        return self.best is None or self.sign * activation >= self.sign * self.best


@dataclass(frozen=True, slots=True)
class Visualiser:
    """Whose units are visualised, and how."""

    model: LoadedModel
    """Its weights stay as they are."""
    settings: VisualisationSection


class Diverged(FactoryError):
    """A visualisation isn't made of numbers any more.

    Attributes:
        layer: of the unit.
        channel: of the unit.
    """

    def __init__(self, message: str, layer: str, channel: int) -> None:
        super().__init__(message)
        self.layer, self.channel = layer, channel

    def __reduce__(self) -> tuple[object, ...]:
        """Workers send it."""
        return Diverged, (str(self), self.layer, self.channel)


def diverged(target: Target, step: int, settings: VisualisationSection) -> Diverged:
    """What is to be raised when a target's images aren't made of numbers any more."""
    remedy = "precision = 'float32'" if settings.precision != "float32" else "a lower learning_rate"
    return Diverged(
        f"{target.name}: its visualisation gives values that aren't finite (NaN) after {step} steps; try {remedy} in "
        "[visualisation], or name the unit in exclude",
        *(target.layer.name, target.channel),
    )


@dataclass(frozen=True, slots=True)
class Looks:
    """What the network makes of the images of one set as they would be stored: clean, in 8 bits, in float32."""

    activations: tuple[float, ...]
    alike: float
    """``similarity`` of the images that aren't optimised alone, over their number less one: 0–1, the mean cosine."""


class _Reached(Exception):
    """The layer has its output; what lies behind needn't be computed."""


def output_of(model: LoadedModel, layer: UnitLayer, images: Tensor) -> Tensor:
    """A layer's output; the network stops there.

    Args:
        model: whose layer it is.
        layer: which.
        images: shape (n, 3, height, width), as the network wants them.
    """
    outputs: list[Tensor] = []

    def keep(_name: str, output: Tensor) -> None:
        outputs.append(output)
        raise _Reached

    with watched(model.module, (layer.module,), keep), suppress(_Reached):
        model.module(images)
    return outputs[0]


def activations_of(output: Tensor, targets: Sequence[Target]) -> Tensor:
    """Each set's unit on its images, shape (sets, images); differentiable.

    Args:
        output: the layer's for all sets' images, one set behind the other.
        targets: one per set, all of one layer.
    """
    channels = sorted({target.channel for target in targets})
    means = targets[0].layer.maps(output, channels).mean(2).unflatten(0, (len(targets), -1))
    places = [channels.index(target.channel) for target in targets]
    return torch.stack([means[row, :, place] for row, place in enumerate(places)])


def features_of(output: Tensor, sets: int, layer: UnitLayer) -> Tensor:
    """The layer's channels, shape (sets, images, channels, positions), in float32."""
    features = channels_first(output, layer.axis).float()
    return features.reshape(sets, -1, *features.shape[1:])


def look(model: LoadedModel, targets: Sequence[Target], images: Tensor, alone: int) -> list[Looks]:
    """What the network makes of images as they would be stored.

    Args:
        model: the network.
        targets: one per set, all of one layer.
        images: shape (sets, images, 3, size, size), values in 0–1.
        alone: how many of each set's don't count for similarity.
    """
    stored = (images.flatten(0, 1) * 255).round().clamp(0, 255) / 255
    with torch.inference_mode():
        output = output_of(model, targets[0].layer, normalise(stored, model))
        reached = activations_of(output, targets).tolist()
        features = features_of(output, len(targets), targets[0].layer)[:, alone:]
        others = features.shape[1] - 1
        alike = (similarity(features) / others).tolist() if others > 0 else [0.0] * len(targets)
    return [Looks(tuple(row), cosine) for row, cosine in zip(reached, alike, strict=True)]


class Ascent:
    """Sets of images that climb together; a set's images depend on its own seed, target and weights alone."""

    def __init__(
        self, visualiser: Visualiser, targets: Sequence[Target], seeds: Sequence[int], images: int, alone: int = 0
    ) -> None:
        """Begin.

        Args:
            visualiser: the network and the settings.
            targets: one per set, all of one layer.
            seeds: one per set.
            images: of each set.
            alone: how many of them, from the first, are optimised for the unit alone.
        """
        model, settings = visualiser.model, visualiser.settings
        if model.device.type == "cpu":
            keep_freed_memory()
        self._visualiser, self._images, self._alone = visualiser, images, alone
        self.targets = list(targets)
        self.steps = 0
        """Made so far."""
        self._moves = [Moves(seed, settings.size) for seed in seeds]
        size = canvas_size(settings.size)
        self._spectra = [beginning(seed, images, size).to(model.device).requires_grad_(True) for seed in seeds]
        self._amplitude, self._colour = amplitudes(size, model.device), colours(model.device)
        self._optimiser = torch.optim.Adam(self._spectra, lr=settings.learning_rate, fused=True)
        self._finite = torch.ones(len(targets), dtype=torch.bool, device=model.device)
        self._dtype = getattr(torch, settings.precision)
        self._scales = torch.tensor([target.sign / target.span for target in targets], device=model.device)[:, None]

    def step(self, weights: Sequence[float]) -> Tensor:
        """Climb one step.

        Args:
            weights: of diversity, one per set.

        Returns:
            The gradient of every canvas, shape (sets, images, 3, canvas, canvas).

        Raises:
            Diverged: a set isn't made of numbers any more; looked for every ``LOOK_EVERY`` steps.
        """
        model, targets = self._visualiser.model, self.targets
        canvases = self._paint()
        gradients: list[Tensor] = []
        canvases.register_hook(gradients.append)
        maps = torch.from_numpy(np.stack([moves() for moves in self._moves])).to(model.device)
        seen = normalise(warp(canvases, maps, self._visualiser.settings.size), model)
        with torch.autocast(model.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            output = output_of(model, targets[0].layer, seen)
        drives = activations_of(output, targets) * self._scales
        weight = torch.tensor(list(weights), device=model.device)
        alike = torch.zeros_like(weight)
        if any(weights):
            alike = similarity(features_of(output, len(targets), targets[0].layer)[:, self._alone :])
        losses = loss(drives, alike, weight, self._alone)
        losses.sum().backward()
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._finite &= losses.detach().isfinite()
        self.steps += 1
        if self.steps % LOOK_EVERY == 0:
            self.check()
        return gradients[0]

    def check(self) -> None:
        """Make sure that everything is a number.

        Raises:
            Diverged: something isn't.
        """
        for target, finite, spectra in zip(self.targets, self._finite.tolist(), self._spectra, strict=True):
            if not finite or not bool(spectra.detach().isfinite().all()):
                raise diverged(target, self.steps, self._visualiser.settings)

    def images(self) -> Tensor:
        """As they are now, without their borders, shape (sets, images, 3, size, size)."""
        with torch.no_grad():
            return centre(self._paint(), self._visualiser.settings.size).clone()

    def look(self) -> tuple[Tensor, list[Looks]]:
        """``images`` and what the network makes of them."""
        images = self.images()
        return images, look(self._visualiser.model, self.targets, images, self._alone)

    def drop(self, places: Sequence[int]) -> None:
        """Let some sets climb no further."""
        kept = [place for place in range(len(self.targets)) if place not in places]
        self.targets = [self.targets[place] for place in kept]
        self._moves = [self._moves[place] for place in kept]
        self._spectra = [self._spectra[place] for place in kept]  # the optimiser passes over what has no gradient
        self._finite, self._scales = self._finite[kept], self._scales[kept]

    def _paint(self) -> Tensor:
        painted = paint(torch.cat(self._spectra), self._amplitude, self._colour)
        return painted.view(len(self._spectra), self._images, *painted.shape[1:])
