"""Layers by name, and the axis of a layer's output along which its units lie."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from crowd_imi.errors import VisionError

CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, LayerNorm2d)
CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
"""Read after ``CHANNELS_FIRST``: timm's LayerNorm2d is an ``nn.LayerNorm`` that keeps channels first."""
PASSES_ON = (nn.Identity, nn.Sequential, nn.ModuleList, nn.Dropout)
"""Their output is another layer's; only an exact name takes one."""


@dataclass(frozen=True, slots=True)
class UnitLayer:
    """A layer whose channels can be units."""

    name: str
    channels: int
    axis: int
    """Of the channels in the layer's output, counted from the front."""


def unit_layers(module: nn.Module, globs: Iterable[str]) -> tuple[str, ...]:
    """Names of the modules that the globs match, in the network's order.

    ``*`` stands for any part of a name, dots included. Modules that only pass on what another computed (containers,
    identities, dropout) are left out unless a glob is exactly their name.

    Raises:
        VisionError: a glob matches nothing; the nearest names are suggested.
    """
    names = {name: child for name, child in module.named_modules() if name}
    wanted: set[str] = set()
    for glob in globs:
        matched = {name for name in names if fnmatchcase(name, glob)}
        matched = {name for name in matched if name == glob or not isinstance(names[name], PASSES_ON)}
        if not matched:
            raise VisionError(_no_match(glob, names))
        wanted |= matched
    return tuple(name for name in names if name in wanted)


def _no_match(glob: str, names: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(glob, list(names), n=5, cutoff=0.3)
    hint = f"the nearest names are {', '.join(nearest)}" if nearest else "no name is near it"
    return f"layers = [{glob!r}]: the model has no such layer; {hint}"


def describe_layers(module: nn.Module, names: Iterable[str], input_size: int) -> tuple[UnitLayer, ...]:
    """How many channels each layer has and where, found by sending one grey image through.

    Args:
        module: in eval mode.
        names: as ``unit_layers`` gives them.
        input_size: pixels on a side of the image.

    Raises:
        VisionError: a layer isn't reached, gives no tensor, or its channel axis can't be told.
    """
    names = tuple(names)
    shapes = _output_shapes(module, names, input_size)
    modules = dict(module.named_modules())
    described = []
    for name in names:
        if name not in shapes:
            raise VisionError(f"layer {name}: an image doesn't pass through it; name another layer")
        axis = _axis_by_type(modules[name], len(shapes[name]))
        if axis is None:
            axis = _axis_by_shape(name, shapes[name], module, input_size)
        described.append(UnitLayer(name, shapes[name][axis], axis))
    return tuple(described)


def _axis_by_type(module: nn.Module, dimensions: int) -> int | None:
    if dimensions == 2:
        return 1
    if isinstance(module, CHANNELS_FIRST):
        return 1
    if isinstance(module, CHANNELS_LAST) or dimensions == 3:
        # Three axes are (batch, tokens, channels) in every vision transformer of timm.
        return dimensions - 1
    return None


def _axis_by_shape(name: str, shape: tuple[int, ...], module: nn.Module, input_size: int) -> int:
    """Space is square and grows with the image; channels aren't and don't."""
    if len(shape) == 4:
        _, first, second, third = shape
        if second == third != first:
            return 1
        if first == second != third:
            return 3
        try:
            larger = _output_shapes(module, (name,), 2 * input_size)[name]
        except (RuntimeError, AssertionError, VisionError):
            larger = shape
        same = [axis for axis in (1, 2, 3) if larger[axis] == shape[axis]]
        if len(same) == 1:
            return same[0]
    raise VisionError(f"layer {name}: its output has the shape {shape}, which doesn't say where channels are; name another layer")


def _output_shapes(module: nn.Module, names: Iterable[str], input_size: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str, output: Tensor) -> None:
        shapes[name] = tuple(output.shape)

    device = next(module.parameters()).device
    with torch.inference_mode(), watched(module, names, keep):
        module(torch.zeros(1, 3, input_size, input_size, device=device))
    return shapes


@contextmanager
def watched(module: nn.Module, names: Iterable[str], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """While it is open, ``see(name, output)`` is called as soon as a layer has its output.

    That is before an in-place activation behind the layer can overwrite it; what ``see`` keeps beyond its return it must
    copy or reduce.

    Raises:
        VisionError: a layer gives something other than one tensor.
    """
    modules = dict(module.named_modules())

    def hook(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            raise VisionError(f"layer {name}: it gives a {type(output).__name__}, not one tensor; name another layer")
        see(name, output)

    handles = [modules[name].register_forward_hook(partial(hook, name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def channels_first(output: Tensor, axis: int) -> Tensor:
    """A layer's output as (batch, channels, everything else); a view where that is possible."""
    return output.movedim(axis, 1).flatten(2) if output.dim() > 2 else output.unsqueeze(2)


def mean_over_space(output: Tensor, axis: int) -> Tensor:
    """The activation of every unit of a layer: the mean over space or tokens, shape (batch, channels)."""
    return channels_first(output, axis).mean(2)
