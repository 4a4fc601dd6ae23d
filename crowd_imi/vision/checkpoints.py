"""Weights from a file: safetensors, or a pickled state dict; in the names of timm, or of those who published them.

What a format needs to become timm's is done by timm's own filter of the architecture; here are only the wrappings that
training frameworks put around a state dict.
"""

import argparse
import inspect
import logging
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from crowd_imi.errors import VisionError

log = logging.getLogger(__name__)

Weights = dict[str, Tensor]

INSIDE = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "shadow"),
    *("state_dict", "model_state_dict", "model", "module", "network", "net"),
)
"""Keys under which training frameworks keep the state dict; averaged weights come first, as in timm."""

WRAPPERS = ("module.", "_orig_mod.", "model.", "visual.")
"""What stands before a network's own names, possibly several (the robust ResNet-50: ``module.model.``)."""

FILTERS = ("checkpoint_filter_fn", "_filter_torchvision_pretrained")
"""What timm's modules call the function that turns a published format into theirs."""

COUNTER = "num_batches_tracked"
"""Of a batch norm in training; files older than PyTorch 0.4.1 haven't got it, and nothing here reads it."""

HOW_TO_CONVERT = "docs/how-to/own-network.md"


def load_checkpoint(module: nn.Module, path: Path, source: str, *, classes_can_be_set: bool = True) -> None:
    """Give a network the weights of a file.

    Args:
        module: takes the weights, and keeps its own where they don't fit.
        path: of the file.
        source: what the network is called in messages.
        classes_can_be_set: whether another number of classes can be asked for in study.toml.

    Raises:
        VisionError: the file isn't there, can't be read, or holds other weights.
    """
    weights = read_weights(path)
    expected = module.state_dict()
    fewest: tuple[list[str], Weights] | None = None
    for candidate in _candidates(weights, module):
        complete = _with_counters(candidate, expected)
        problems = _misfits(expected, complete)
        if not problems:
            module.load_state_dict(complete)
            return
        if fewest is None or len(problems) < len(fewest[0]):
            fewest = problems, complete
    problems, nearest = fewest or (["it holds no weights"], {})
    shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
    remedy = _remedy(expected, nearest) if classes_can_be_set else "Correct source or checkpoint"
    raise VisionError(f"{path}: these aren't the weights of {source}: {shown}. {remedy}")


def read_weights(path: Path) -> Weights:
    """The state dict in a file, taken out of what surrounds it; pruning masks are applied.

    Raises:
        VisionError: the file isn't there, can't be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except FileNotFoundError:
        raise VisionError(f"{path}: there is no checkpoint here; correct checkpoint or take it out of study.toml") from None
    except OSError as error:
        raise VisionError(f"{path}: this checkpoint can't be read ({error.strerror}); name a file that can") from None
    # A safetensors file begins with the length of its header, in eight bytes, and the header with a brace.
    if path.suffix == ".safetensors" or head[8:] == b"{":
        return _with_masks(_safetensors(path))
    return _with_masks(_state_dict(_unpickled(path), path))


def _safetensors(path: Path) -> Weights:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise VisionError(f"{path}: this can't be read as a safetensors file ({error}); convert the weights first") from None


def _unpickled(path: Path) -> object:
    try:
        with _harmless(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*looks like a TorchScript archive")  # said again, and better, below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.findall(r"GLOBAL ([\w.]+)", str(error))
        if not refused:
            raise VisionError(f"{path}: this is no checkpoint that PyTorch can read ({_first_line(error)})") from None
        raise VisionError(
            f"{path}: this pickle wants to run code when it is loaded ({refused[0]}) and is refused; where you trust it, convert "
            "it to safetensors: torch.load(path, weights_only=False), then safetensors.torch.save_file of its state dict "
            f"({HOW_TO_CONVERT})"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        if "TorchScript" in str(error):
            raise VisionError(
                f"{path}: this is a TorchScript program, not weights; where you trust it, convert it to safetensors: "
                f"safetensors.torch.save_file of torch.jit.load(path).state_dict() ({HOW_TO_CONVERT})"
            ) from None
        raise VisionError(f"{path}: this is no checkpoint that PyTorch can read ({_first_line(error)})") from None


def _harmless() -> AbstractContextManager[object]:
    """Lets a checkpoint keep its training arguments; a Namespace only holds values. Older versions of torch refuse it."""
    allow = getattr(torch.serialization, "safe_globals", None)
    return nullcontext() if allow is None else allow([argparse.Namespace])


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _state_dict(content: object, path: Path) -> Weights:
    while isinstance(content, Mapping):
        inside = next((key for key in INSIDE if isinstance(content.get(key), Mapping)), None)
        if inside is None:
            break
        log.info("%s: the weights under %r are taken", path, inside)
        content = content[inside]
    if isinstance(content, Mapping):
        weights = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if weights:
            return weights
    raise VisionError(f"{path}: this is a {type(content).__name__} without weights, not a state dict; save state_dict() instead")


def _with_masks(weights: Weights) -> Weights:
    """Weights pruned with torch.nn.utils.prune are kept as an original and a mask; what the network uses is their product."""
    pruned = [key.removesuffix("_mask") for key in weights if key.endswith("_mask")]
    pruned = [key for key in pruned if f"{key}_orig" in weights]
    kept = {key: tensor for key, tensor in weights.items() if key.removesuffix("_mask").removesuffix("_orig") not in pruned}
    return kept | {key: weights[f"{key}_orig"] * weights[f"{key}_mask"] for key in pruned}


def _candidates(weights: Weights, module: nn.Module) -> Iterator[Weights]:
    """The weights under every name that they may mean: as they are and without wrappers, each also by timm's filter."""
    convert = _filter(module)
    for names in _unwrapped(weights):
        yield names
        if convert is not None:
            yield from convert(names)
            # A CLIP's visual tower saved on its own lacks the prefix by which timm's filters know it.
            yield from convert({f"visual.{key}": tensor for key, tensor in names.items()})


def _unwrapped(weights: Weights) -> Iterator[Weights]:
    yield weights
    for wrapper in WRAPPERS:
        inside = {key.removeprefix(wrapper): tensor for key, tensor in weights.items() if key.startswith(wrapper)}
        if inside:
            yield from _unwrapped(inside)


def _filter(module: nn.Module) -> Callable[[Weights], Iterator[Weights]] | None:
    home = sys.modules.get(type(module).__module__)
    if home is None or not home.__name__.startswith("timm.models."):
        return None
    function = next((vars(home)[name] for name in FILTERS if name in vars(home)), None)
    if function is None:
        return None
    takes_module = len(inspect.signature(function).parameters) > 1

    def converted(weights: Weights) -> Iterator[Weights]:
        try:
            # A copy, as some filters rename in place.
            yield function(dict(weights), module) if takes_module else function(dict(weights))
        except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError, AssertionError) as error:
            # Filters take it for granted that the weights are of their architecture.
            log.debug("timm's %s can't convert these weights: %r", function.__name__, error)

    return converted


def _with_counters(weights: Weights, expected: Mapping[str, Tensor]) -> Weights:
    missing = {key: tensor for key, tensor in expected.items() if key.endswith(COUNTER) and key not in weights}
    return weights | missing


def _misfits(expected: Mapping[str, Tensor], given: Weights) -> list[str]:
    shapes = [
        f"{key} is {tuple(given[key].shape)} where {tuple(tensor.shape)} is expected"
        for key, tensor in expected.items()
        if key in given and given[key].shape != tensor.shape
    ]
    missing = [f"{key} is missing" for key in expected if key not in given]
    return shapes + missing + [f"{key} is unknown to the model" for key in given if key not in expected]


def _remedy(expected: Mapping[str, Tensor], weights: Weights) -> str:
    """The likeliest way out: most often only the number of classes differs."""
    wrong = [key for key, tensor in expected.items() if key not in weights or weights[key].shape != tensor.shape]
    heads = [key for key in wrong if key in weights and key.endswith((".weight", ".bias"))]
    if set(weights) == set(expected) and wrong == heads and len({weights[key].shape[0] for key in wrong}) == 1:
        return f"Set classes = {weights[wrong[0]].shape[0]}"
    return "Correct source or checkpoint"
