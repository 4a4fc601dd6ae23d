"""Layers by name, and the axis of a layer's output along which its units lie."""

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from crowd_imi.errors import VisionError
from crowd_imi.vision.readouts import AT, Readout, positions_last

CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, LayerNorm2d)
CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
"""Read after ``CHANNELS_FIRST`` and ``_axis_of_norm``: some kinds of ``nn.LayerNorm`` keep channels first."""
PASSES_ON = (nn.Identity, nn.Sequential, nn.ModuleList, nn.Dropout)
"""Their output is another layer's; only an exact name takes one."""
REPEATED = "an image passes through it more than once in one pass; name another layer"


@dataclass(frozen=True, slots=True)
class UnitLayer:
    """A layer's units: its channels, or what a readout makes of them."""

    name: str
    """``layer3.1``, or ``layer3.1@sae`` with a readout."""
    channels: int
    """How many units there are."""
    axis: int
    """Of the module's channels in its output, counted from the front."""
    module: str
    """The module whose output is looked at."""
    readout: Readout | None = None

    def activations(self, output: Tensor, channels: Sequence[int] | None = None) -> Tensor:
        """The activation of every unit, or of some, as it is recorded; differentiable.

        Args:
            output: the module's.
            channels: numbers of the wanted units; a readout computes no others. None is all of them.

        Returns:
            Shape (batch, units), float32 also when the network computes in less: the mean over space or tokens, and of
            neurons the value at their position.
        """
        with _in_float32(output):
            if self.readout is not None:
                return self.readout.activations(output.movedim(self.axis, 1), channels)
            means = channels_first(output, self.axis).mean(2, dtype=torch.float32)
            return means if channels is None else means[:, list(channels)]

    def answers(self, output: Tensor, images: int) -> Tensor:
        """``activations`` of all units on so many images.

        Raises:
            VisionError: the output hasn't got the shape that it had when the layer was described.
        """
        if output.dim() > self.axis and len(output) == images:
            activations = self.activations(output)
            if activations.shape == (images, self.channels):
                return activations
        raise VisionError(
            f"layer {self.module}: its output for {images} images has the shape {tuple(output.shape)}, which doesn't give each "
            f"of them {self.channels} units on axis {self.axis}; name another layer"
        )

    def maps(self, output: Tensor, channels: Sequence[int]) -> Tensor:
        """Some units' values at every position; differentiable.

        Their mean over positions is ``activations``. Where a latent of an SAE would have no gradient, one leads to where
        it has: ``Latents.maps`` says how.

        Returns:
            Shape (batch, units, positions); neurons have one position.
        """
        with _in_float32(output):
            if self.readout is not None:
                return self.readout.maps(output.movedim(self.axis, 1), channels)
            return channels_first(output, self.axis)[:, list(channels)].float()


def _in_float32(output: Tensor) -> torch.autocast:
    """Keeps autocast, under which the network may run, from the products of readouts."""
    return torch.autocast(output.device.type, enabled=False)


def unit_layers(
    module: nn.Module, globs: Iterable[str], readouts: Collection[str] = (), *, listed: bool = False
) -> tuple[str, ...]:
    """Names of the modules and readouts that the globs match, in the network's order.

    ``*`` stands for any part of a name, dots included. Modules that only pass on what another computed (containers,
    identities, dropout) are left out unless a glob is exactly their name. A glob with ``@`` matches readouts alone, and
    one without modules alone.

    Args:
        module: the network.
        globs: what study.toml calls layers.
        readouts: full names, ``LAYER@NAME``.
        listed: the globs are the layers of listed ``units``, for the message.

    Raises:
        VisionError: a glob matches nothing; the nearest names are suggested. Or a readout's layer doesn't exist.
    """
    names = {name: child for name, child in module.named_modules() if name}
    wanted: set[str] = set()
    for glob in globs:
        matched = {name for name in (readouts if AT in glob else names) if fnmatchcase(name, glob)}
        matched = {name for name in matched if name == glob or not isinstance(names.get(name), PASSES_ON)}
        if not matched:
            key, written = ("units", f"{glob}/…") if listed else ("layers", glob)
            raise VisionError(f"{key} = [{written!r}]: the model has no such layer; {nearest_names(glob, names, readouts)}")
        wanted |= matched
    behind: dict[str, list[str]] = {name: [name] for name in names}
    for readout in readouts:
        if readout in wanted:
            layer, _, name = readout.rpartition(AT)
            if layer not in behind:
                hint = nearest_names(layer, names)
                raise VisionError(f"readouts.{name}.layer = {layer!r}: the model has no such layer; {hint}")
            behind[layer].append(readout)
    return tuple(name for layer in names for name in behind[layer] if name in wanted)


def nearest_names(glob: str, names: Iterable[str], readouts: Iterable[str] = ()) -> str:
    """The end of a message about a layer that isn't there: at most five names that are."""
    among = [readouts, names] if AT in glob else [names, readouts]
    nearest = [name for some in among for name in difflib.get_close_matches(glob, list(some), n=5, cutoff=0.3)][:5]
    return f"the nearest names are {', '.join(nearest)}" if nearest else "no name is near it"


def describe_layers(
    module: nn.Module, names: Iterable[str], input_size: int, readouts: Mapping[str, Readout] | None = None
) -> tuple[UnitLayer, ...]:
    """How many units each layer has and where, found by sending one grey image through.

    Args:
        module: in eval mode.
        names: as ``unit_layers`` gives them.
        input_size: pixels on a side of the image.
        readouts: those among the names, by full name, as ``load_readouts`` gives them.

    Raises:
        VisionError: there is no such layer, no image reaches it or one passes through it repeatedly, it gives no tensor,
            its channel axis can't be told, or a readout doesn't fit it.
    """
    read = dict(readouts or {})
    modules = dict(module.named_modules())
    hooked = {name: read[name].module if name in read else name for name in names}
    for name, hook in hooked.items():
        if hook not in modules:
            raise VisionError(f"layer {name}: the model has no such layer; {nearest_names(hook, filter(None, modules), read)}")
    outputs = _output_shapes(module, hooked.values(), input_size)
    described = []
    for name, hook in hooked.items():
        if hook not in outputs:
            raise VisionError(f"layer {name}: an image doesn't pass through it; name another layer")
        shape = outputs[hook]
        _check_shape(hook, shape)
        axis = _axis_by_type(modules[hook], shape)
        if axis is None:
            axis = _axis_by_shape(hook, shape, module, input_size)
        if name in read:
            readout, units = read[name].fitted((shape[axis], *shape[1:axis], *shape[axis + 1 :]))
            described.append(UnitLayer(name, units, axis, hook, readout))
        else:
            described.append(UnitLayer(name, shape[axis], axis, hook))
    return tuple(described)


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    """What any layer's output must have: the image first, and something for it."""
    if len(shape) < 2 or shape[0] != 1 or 0 in shape:
        raise VisionError(
            f"layer {name}: for one image its output has the shape {shape}, and (1, …) with channels behind it is needed; name "
            "another layer"
        )


def _axis_by_type(module: nn.Module, shape: tuple[int, ...]) -> int | None:
    dimensions = len(shape)
    if dimensions == 2:
        return 1
    if isinstance(module, CHANNELS_FIRST):
        return 1
    if isinstance(module, nn.LayerNorm) and dimensions == 4:
        return _axis_of_norm(module, shape)
    if isinstance(module, CHANNELS_LAST) or dimensions == 3:
        # Three axes are (batch, tokens, channels) in every vision transformer of timm.
        return dimensions - 1
    return None


def _axis_of_norm(module: nn.LayerNorm, shape: tuple[int, ...]) -> int | None:
    """Of a LayerNorm over feature maps; torchvision and timm derive from it some that move channels last and back."""
    if len(module.normalized_shape) > 1:  # over channels and space together
        return None
    fitting = [axis for axis in (1, 3) if shape[axis] == module.normalized_shape[0]]
    return fitting[0] if len(fitting) == 1 else None


def _axis_by_shape(name: str, shape: tuple[int, ...], module: nn.Module, input_size: int) -> int:
    """Space is square and grows with the image; channels aren't and don't."""
    if len(shape) == 4:
        _, first, second, third = shape
        if second == third != first:
            return 1
        if first == second != third:
            return 3
        try:
            larger = _output_shapes(module, (name,), 2 * input_size).get(name, ())
        except (RuntimeError, AssertionError, VisionError):
            larger = ()
        same = [axis for axis in (1, 2, 3) if len(larger) == 4 and larger[axis] == shape[axis]]
        if len(same) == 1:
            return same[0]
    raise VisionError(f"layer {name}: its output has the shape {shape}, which doesn't say where channels are; name another layer")


def _output_shapes(module: nn.Module, names: Iterable[str], input_size: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str, output: Tensor) -> None:
        if name in shapes:
            raise VisionError(f"layer {name}: {REPEATED}")
        shapes[name] = tuple(output.shape)

    # A network of one's own may have no parameters.
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    try:
        with torch.inference_mode(), watched(module, dict.fromkeys(names), keep):
            run(module, torch.zeros(1, 3, input_size, input_size, device=device))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise VisionError(
            f"the computer's memory is too small to look at one image of {input_size} × {input_size} pixels; close other "
            "programs, or correct input_size"
        ) from error
    return shapes


def run(module: nn.Module, images: Tensor, precision: str = "float32") -> None:
    """Send images through a network whose layers are ``watched``.

    Args:
        module: the network.
        images: shape (batch, 3, height, width).
        precision: in which it computes, for the message.

    Raises:
        VisionError: the network raised something of its own.
        MemoryError, RuntimeError: memory is too small, as ``is_out_of_memory`` tells, or a GPU's is.
    """
    try:
        module(images)
    except (VisionError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a network raises, one of the researcher's own too
        if is_out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), "")
        count, _, height, width = images.shape
        raise VisionError(
            f"the network can't look at {'an image' if count == 1 else f'{count} images at a time'} of {height} × {width} pixels "
            f"in {precision} ({type(error).__name__}: {reason}); correct input_size, or mend the network"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the computer's own memory was too small: torch says so by a RuntimeError like any other."""
    allocating = "DefaultCPUAllocator" in str(error) or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and allocating)


@contextmanager
def watched(module: nn.Module, names: Iterable[str], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """While it is open, ``see(name, output)`` is called as soon as a layer has its output.

    That is before an in-place activation behind the layer can overwrite it; what ``see`` keeps beyond its return it must
    copy or reduce.

    Raises:
        VisionError: a layer gives something other than one tensor, or nothing can watch it.
    """
    modules = dict(module.named_modules())

    def hook(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            raise VisionError(f"layer {name}: it gives a {type(output).__name__}, not one tensor; name another layer")
        see(name, output)

    with ExitStack() as hooks:
        for name in names:
            try:
                handle = modules[name].register_forward_hook(partial(hook, name))
            except RuntimeError as error:
                raise VisionError(
                    f"layer {name}: nothing can watch it ({error}); name a layer outside the TorchScript program, or use the "
                    "module that it was made from"
                ) from error
            hooks.callback(handle.remove)
        yield


def channels_first(output: Tensor, axis: int) -> Tensor:
    """A layer's output as (batch, channels, everything else); a view where that is possible."""
    return positions_last(output.movedim(axis, 1))
