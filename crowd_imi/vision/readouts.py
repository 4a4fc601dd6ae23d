"""Units that aren't channels: neurons at a position, directions, latents of sparse autoencoders and transcoders.

A readout is named ``LAYER@NAME`` wherever a layer is named. It reads a layer's features, shape (batch, channels, *positions):
channels come second whatever the layer's own order, and the positions are rows and columns, or tokens.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from crowd_imi.errors import VisionError
from crowd_imi.study import ModelSection, ReadoutSection

AT = "@"

CHUNK = 2**24
"""Values of latents that are held at a time, over batch, positions and latents: 64 MB in float32."""

ENCODERS = {"W_enc": True, "encoder.weight": False}
"""Name of an encoder's weights → whether they are (inputs, latents) rather than (latents, inputs).

Names in published files: SAELens and Gemma Scope write ``W_enc``, ``b_enc``, ``b_dec``, ``threshold``; dictionary_learning
``encoder.weight``, ``encoder.bias`` and ``b_dec``, ``bias`` or ``decoder.bias``; OpenAI's sparse_autoencoder
``encoder.weight``, ``latent_bias``, ``pre_bias``."""
ENCODER_BIASES = ("b_enc", "encoder.bias", "latent_bias")
INPUT_BIAS = "pre_bias"
DECODER_BIASES = ("b_dec", "bias", "decoder.bias")
GATES = frozenset({"W_gate", "b_gate", "b_mag", "r_mag", "gate_bias", "mag_bias"})
"""Of a gated autoencoder, whose encoder is another function."""

Units = Sequence[int] | None
"""Which units of a layer; None is all of them."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Readout(ABC):
    """How units are read from a layer's features."""

    name: str
    """``LAYER@NAME``."""
    module: str
    """The layer."""
    sha256: str
    """Of the weights' file and of what study.toml says besides: it changes whenever the units do."""

    @property
    def key(self) -> str:
        """In study.toml, below the model."""
        return f"readouts.{self.name.removeprefix(self.module + AT)}"

    @abstractmethod
    def fitted(self, shape: Sequence[int]) -> "tuple[Readout, int]":
        """The readout as it fits a layer, and its number of units.

        Args:
            shape: (channels, *positions) of the layer's features.

        Raises:
            VisionError: it doesn't fit.
        """

    @abstractmethod
    def activations(self, features: Tensor, units: Units) -> Tensor:
        """One number per image and unit, shape (batch, units), float32; a mean over positions where there are several."""

    @abstractmethod
    def maps(self, features: Tensor, units: Units) -> Tensor:
        """The units' values at every position, shape (batch, units, positions), with a gradient to climb along."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Neurons(Readout):
    """The channels at one position."""

    position: tuple[int, ...]

    def fitted(self, shape: Sequence[int]) -> tuple[Readout, int]:
        channels, *space = shape
        given = f"{self.key}.position = {list(self.position)}"
        if not space:
            raise VisionError(f"{given}: layer {self.module} has no positions; name it without a readout")
        if len(space) != len(self.position) or any(at >= side for at, side in zip(self.position, space, strict=True)):
            size = f"map is {' × '.join(map(str, space))}" if len(space) > 1 else f"output has {space[0]} tokens"
            last = [side - 1 for side in space]
            raise VisionError(f"{given}: layer {self.module}'s {size}; right would be {[0] * len(space)} to {last}")
        return self, channels

    def activations(self, features: Tensor, units: Units) -> Tensor:
        for at in self.position:
            features = features.select(2, at)
        chosen = features if units is None else features[:, list(units)]
        # A copy also where it is float32 already: a view would be overwritten by what works in place behind the layer.
        return chosen.to(torch.float32, copy=True)

    def maps(self, features: Tensor, units: Units) -> Tensor:
        return self.activations(features, units).unsqueeze(2)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Directions(Readout):
    """Projections onto directions in a layer's channels; their lengths are taken as they are."""

    matrix: Tensor
    """Shape (directions, channels)."""

    def fitted(self, shape: Sequence[int]) -> tuple[Readout, int]:
        count, width = self.matrix.shape
        if not count:
            raise VisionError(f"{self.key}.weights: there is no direction in the file; save at least one")
        if width != shape[0]:
            hint = "; transpose it, a direction is a row" if count == shape[0] else "; a direction has one number per channel"
            raise VisionError(
                f"{self.key}.weights: the directions are {width} wide, and layer {self.module} has {shape[0]} channels{hint}"
            )
        return self, count

    def activations(self, features: Tensor, units: Units) -> Tensor:
        means = positions_last(features).mean(2, dtype=torch.float32)
        return means @ _rows(self.matrix, units).T

    def maps(self, features: Tensor, units: Units) -> Tensor:
        return _rows(self.matrix, units) @ positions_last(features).float()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Latents(Readout):
    """The latents of a sparse autoencoder or transcoder: every position is encoded by itself, then the mean is taken.

    With x a position's channels, z = weight · (x − centre) + bias, and a latent is z where it passes and 0 elsewhere: z > 0
    (relu), also among the k highest of the position (topk), also above its threshold (jumprelu). A binary latent is 1
    where z is above its threshold, or above 0 without one.
    """

    weight: Tensor
    """Shape (latents, channels)."""
    bias: Tensor | None
    centre: Tensor | None
    threshold: Tensor | None
    """One for all latents, shape (1,), or one for each."""
    activation: Literal["relu", "topk", "jumprelu", "binary"]
    k: int | None
    """Of topk alone."""

    def fitted(self, shape: Sequence[int]) -> tuple[Readout, int]:
        channels = shape[0]
        first, second = self.weight.shape
        if channels not in (first, second):
            raise VisionError(
                f"{self.key}.weights: the encoder is {first} × {second}, and layer {self.module} has {channels} channels; it "
                "was made for another layer"
            )
        # Square ones stay as their name says.
        weight = self.weight if second == channels else self.weight.T.contiguous()
        count = len(weight)
        if not count:
            raise VisionError(f"{self.key}.weights: the encoder has no latents; save the weights again")
        lengths = {"encoder's bias": (self.bias, {count}), "input's bias": (self.centre, {channels})}
        for what, (vector, right) in {**lengths, "threshold": (self.threshold, {1, count})}.items():
            if vector is not None and len(vector) not in right:
                raise VisionError(
                    f"{self.key}.weights: the {what} has {len(vector)} numbers, and {count} latents of {channels} "
                    f"channels need {max(right)}; these tensors don't belong together"
                )
        if self.k is not None and self.k > count:
            raise VisionError(f"{self.key}.k = {self.k}: the encoder has only {count} latents; right would be k of its training")
        return replace(self, weight=weight), count

    def activations(self, features: Tensor, units: Units) -> Tensor:
        features = positions_last(features)
        total = torch.zeros((), device=features.device)
        for inputs in self._chunks(features, units):
            pre = self._before(inputs, units)
            total = total + self._latent(pre, self._passes(inputs, pre, units)).sum(1)
        return total / features.shape[2]

    def maps(self, features: Tensor, units: Units) -> Tensor:
        """The latents' values, and a gradient also where there would be none.

        A latent that passes nowhere on an image, as is usual in noise, has no gradient, and a visualisation would never
        leave its beginning. On such an image, and for binary latents everywhere, the gradient is that of z. Where a
        latent passes somewhere the gradient is its own. So the values are always those that are recorded.
        """
        befores: list[Tensor] = []
        passes: list[Tensor] = []
        for inputs in self._chunks(positions_last(features), units):
            befores.append(self._before(inputs, units))
            passes.append(self._passes(inputs, befores[-1], units))
        pre, passing = torch.cat(befores, 1), torch.cat(passes, 1)
        stuck = torch.ones_like(passing) if self.activation == "binary" else ~passing.any(1, keepdim=True)
        return (self._latent(pre, passing) + (pre - pre.detach()) * stuck).transpose(1, 2)

    def _chunks(self, features: Tensor, units: Units) -> Iterator[Tensor]:
        """A few positions at a time, shape (batch, positions, channels), so that memory doesn't grow with their number."""
        wide = len(self.weight) if units is None or self.activation == "topk" else len(units)
        step = max(1, CHUNK // max(1, len(features) * wide))
        for start in range(0, features.shape[2], step):
            yield features[:, :, start : start + step].transpose(1, 2).float()

    def _before(self, inputs: Tensor, units: Units) -> Tensor:
        """What the encoder gives before its activation, shape (batch, positions, units)."""
        centred = inputs if self.centre is None else inputs - self.centre
        bias = None if self.bias is None else _rows(self.bias, units)
        return functional.linear(centred, _rows(self.weight, units), bias)

    @torch.no_grad()
    def _passes(self, inputs: Tensor, pre: Tensor, units: Units) -> Tensor:
        """Where a latent passes; needs no gradient, so that of topk's other latents nothing is kept."""
        if self.activation == "binary":
            return pre > self._threshold(units)
        passing = pre > 0
        if self.activation == "jumprelu":
            return passing & (pre > self._threshold(units))
        if self.k is not None:
            highest = self._before(inputs, None).topk(self.k, dim=2, sorted=False).indices
            chosen = torch.zeros((*pre.shape[:2], len(self.weight)), dtype=torch.bool, device=pre.device)
            chosen.scatter_(2, highest, True)
            return passing & (chosen if units is None else chosen[:, :, list(units)])
        return passing

    def _latent(self, pre: Tensor, passing: Tensor) -> Tensor:
        return passing.float() if self.activation == "binary" else torch.where(passing, pre, 0.0)

    def _threshold(self, units: Units) -> Tensor | float:
        if self.threshold is None:
            return 0.0
        return self.threshold if len(self.threshold) == 1 else _rows(self.threshold, units)


def positions_last(features: Tensor) -> Tensor:
    """Shape (batch, channels, positions); a view where that is possible."""
    return features.flatten(2) if features.dim() > 2 else features.unsqueeze(2)


def _rows(tensor: Tensor, units: Units) -> Tensor:
    return tensor if units is None else tensor[list(units)]


def readout_names(section: ModelSection) -> tuple[str, ...]:
    """The full names, ``LAYER@NAME``, of a model's readouts; reads no file."""
    return tuple(f"{readout.layer}{AT}{name}" for name, readout in section.readouts.items())


def load_readouts(section: ModelSection, root: Path, device: torch.device) -> dict[str, Readout]:
    """The model's readouts by their full names; whether they fit their layers shows in ``describe_layers``.

    Args:
        section: ``[models.NAME]``.
        root: the study's folder, from which relative files are found.
        device: where the weights go, in float32.

    Raises:
        VisionError: a file can't be read, or isn't what its readout needs.
    """
    named = zip(readout_names(section), section.readouts.values(), strict=True)
    return {name: _load(name, readout, root, device) for name, readout in named}


def _load(name: str, section: ReadoutSection, root: Path, device: torch.device) -> Readout:
    if section.position is not None:
        return Neurons(name=name, module=section.layer, sha256=_digest(section, None), position=section.position)
    if section.weights is None or (section.activation == "topk" and section.k is None):
        raise VisionError(
            f"readouts.{name.removeprefix(section.layer + AT)}: what it is read by is missing; give neurons a position, other "
            "kinds weights, and a topk encoder its k"
        )
    path = root / section.weights
    key = f"readouts.{name.removeprefix(section.layer + AT)}.weights = {str(section.weights)!r}"
    try:
        with path.open("rb") as content:
            digest = _digest(section, hashlib.file_digest(content, "sha256").hexdigest())
        with safe_open(path, "pt") as file:
            tensors = _Tensors(file, key, device)
            if section.kind == "directions":
                return Directions(name=name, module=section.layer, sha256=digest, matrix=_matrix(tensors))
            return _latents(tensors, section, name, digest)
    except FileNotFoundError:
        raise VisionError(f"{key}: there is no file {path}; put it there or correct the path") from None
    except (SafetensorError, OSError) as error:
        raise VisionError(f"{key}: {path} can't be read as a safetensors file ({error}); convert the weights first") from None


def _digest(section: ReadoutSection, weights_sha256: str | None) -> str:
    """The name of the file doesn't count, what is in it does."""
    # A key that came later than the first packs changes no digest where it isn't set.
    later = {"subtract_bias"} if section.subtract_bias is None else set()
    settings = section.model_dump(mode="json", exclude={"weights", *later})
    return hashlib.sha256(json.dumps([settings, weights_sha256], sort_keys=True).encode()).hexdigest()


class _File(Protocol):
    def keys(self) -> list[str]: ...
    def get_tensor(self, name: str) -> Tensor: ...


class _Tensors:
    """An open file of tensors."""

    def __init__(self, file: _File, key: str, device: torch.device) -> None:
        self._file = file
        self._device = device
        self.key = key
        """What a message begins with."""
        self.names = sorted(file.keys())

    @property
    def there(self) -> str:
        shown = ", ".join(self.names[:12]) or "nothing"
        return f"{shown} and {len(self.names) - 12} more" if len(self.names) > 12 else shown

    def first(self, *names: str) -> str | None:
        return next((name for name in names if name in self.names), None)

    def read(self, name: str, dimensions: int) -> Tensor:
        """As float32, its shape checked, and nothing in it but numbers; for a vector, one number is a vector of one."""
        tensor = self._file.get_tensor(name).to(self._device, torch.float32)
        if dimensions == 1 and tensor.dim() == 0:
            tensor = tensor.reshape(1)
        if tensor.dim() != dimensions:
            raise VisionError(f"{self.key}: {name} has the shape {tuple(tensor.shape)}; {dimensions} dimensions are expected")
        if not bool(torch.isfinite(tensor).all()):
            raise VisionError(f"{self.key}: {name} holds values that aren't finite; save the weights again")
        return tensor

    def vector(self, *names: str) -> Tensor | None:
        """The first of the names that is there, or None."""
        name = self.first(*names)
        return None if name is None else self.read(name, 1)


def _matrix(tensors: _Tensors) -> Tensor:
    name = tensors.names[0] if len(tensors.names) == 1 else tensors.first("directions")
    if name is None:
        raise VisionError(f"{tensors.key}: it holds {tensors.there}; expected is one matrix, or one called directions")
    return tensors.read(name, 2)


def _latents(tensors: _Tensors, section: ReadoutSection, name: str, digest: str) -> Latents:
    """An encoder from its file.

    An SAE rebuilds its own input, so its decoder's bias is the point from which the input is measured, and is taken off
    before encoding, unless ``subtract_bias`` says that it was trained otherwise. A transcoder rebuilds the output of
    another layer, where its decoder's bias belongs: it is left alone. ``pre_bias`` says by its name that it comes before
    the encoder, in either.
    """
    encoder = tensors.first(*ENCODERS)
    gates = sorted(GATES.intersection(tensors.names))
    if gates:
        raise VisionError(f"{tensors.key}: it holds {', '.join(gates)}, and gated autoencoders can't be read; take another kind")
    if encoder is None:
        raise VisionError(f"{tensors.key}: it holds {tensors.there}; expected are an encoder's weights, {' or '.join(ENCODERS)}")
    weight = tensors.read(encoder, 2)
    before = (INPUT_BIAS, *DECODER_BIASES) if section.kind == "sae" and section.subtract_bias is not False else (INPUT_BIAS,)
    if section.subtract_bias and tensors.first(*before) is None:
        raise VisionError(f"{tensors.key}: it holds {tensors.there}; subtract_bias = true needs {' or '.join(before)} as well")
    return Latents(
        name=name,
        module=section.layer,
        sha256=digest,
        weight=weight.T.contiguous() if ENCODERS[encoder] else weight,
        bias=tensors.vector(*ENCODER_BIASES),
        centre=tensors.vector(*before),
        threshold=_threshold(tensors, section),
        activation=section.activation,
        k=section.k if section.activation == "topk" else None,
    )


def _threshold(tensors: _Tensors, section: ReadoutSection) -> Tensor | None:
    logarithm = tensors.vector("log_threshold")
    threshold = tensors.vector("threshold") if logarithm is None else logarithm.exp()
    if section.activation == "jumprelu" and threshold is None:
        raise VisionError(f"{tensors.key}: it holds {tensors.there}; jumprelu needs threshold or log_threshold as well")
    if section.activation == "relu" and threshold is not None:
        raise VisionError(
            f"{tensors.key}: it holds a threshold, which relu doesn't have; right would be activation = 'jumprelu', or a file "
            "without it"
        )
    # dictionary_learning's topk encoders keep a threshold for another way of encoding.
    return None if section.activation == "topk" else threshold
