"""A network of the researcher's own: what a function returns, named in study.toml as ``package.module:function``."""

import difflib
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from crowd_imi.errors import VisionError


def own_module(source: str, root: Path | None) -> nn.Module:
    """Import the module, call the function without arguments, and return its network.

    Args:
        source: ``package.module:function``.
        root: the study's folder, searched for the module before what is installed; None searches only that.

    Raises:
        VisionError: the module or function is missing, fails, or gives something other than a network with weights.
    """
    with _importable(source.partition(".")[0].partition(":")[0], root):
        function = _function(source, root)
        try:
            with redirect_stdout(sys.stderr):  # stdout is for the command's own document
                network = function()
        except (Exception, SystemExit) as error:  # whatever the researcher's code raises
            raise VisionError(f"source = {source!r}: calling the function failed ({in_short(error)}); mend it first") from error
    if not isinstance(network, nn.Module):
        raise VisionError(
            f"source = {source!r}: the function returns no nn.Module but {type(network).__name__}; let it return the network"
        )
    _check(network, source)
    return network


def _check(network: nn.Module, source: str) -> None:
    """Make sure that it can be looked into and has weights to look with."""
    if isinstance(network, torch.jit.ScriptModule):
        raise VisionError(
            f"source = {source!r}: the function returns a TorchScript program, and nothing can watch its layers; let it return "
            "the nn.Module that the program was made from"
        )
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            raise VisionError(
                f"source = {source!r}: {name} has no shape yet, as its layer is a lazy one; send an image through the network "
                "before the function returns it"
            )
        if tensor.is_meta:
            raise VisionError(
                f"source = {source!r}: {name} is on the meta device and has no values; let the function return a network with "
                "weights"
            )


def _function(source: str, root: Path | None) -> Callable[[], object]:
    name, _, attribute = source.partition(":")
    try:
        with redirect_stdout(sys.stderr):
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise VisionError(f"source = {source!r}: {name} needs the module {error.name}; install it") from error
        where = f"neither in {root} nor installed" if root is not None else "not installed"
        raise VisionError(f"source = {source!r}: there is no module {error.name}, {where}; correct source") from None
    except (Exception, SystemExit) as error:  # whatever the researcher's code raises
        raise VisionError(f"source = {source!r}: importing {name} failed ({in_short(error)}); mend it first") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        nearest = ", ".join(difflib.get_close_matches(attribute, there, n=3, cutoff=0.3)) or "none"
        raise VisionError(f"source = {source!r}: {module.__name__} has no function {attribute}; near it: {nearest}")
    return found  # type: ignore[no-any-return]


@contextmanager
def _importable(package: str, root: Path | None) -> Iterator[None]:
    """The study's folder comes first on the path, and a package of that name from another study's folder is forgotten."""
    if root is None:
        yield
        return
    folder = str(root.resolve())
    loaded = sys.modules.get(package)
    here = (root / f"{package}.py").is_file() or (root / package).is_dir()
    if here and loaded is not None and not _is_below(loaded, root):
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]
    importlib.invalidate_caches()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _is_below(module: object, root: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(place is not None and Path(place).resolve().is_relative_to(root.resolve()) for place in places)


def in_short(error: BaseException) -> str:
    """An error's class and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
