"""Networks from timm, with weights from a local file, from the hub, or random ones."""

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from crowd_imi.errors import VisionError
from crowd_imi.seeds import seed_for
from crowd_imi.study import ModelSection

WRAPPERS = ("module.model.", "module.", "model.")
"""What training frameworks put before a network's own names (the robust ResNet-50: ``module.model.``)."""

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network that is ready to look at images."""

    module: nn.Module
    """In eval mode, no activation works in place, weights don't ask for gradients."""
    source: str
    input_size: int
    """Pixels on a side."""
    mean: Colour
    """Per channel, of values in 0–1."""
    std: Colour
    weights_sha256: str
    device: torch.device


def load_model(section: ModelSection, root: Path, seed: int) -> LoadedModel:
    """Make the network that study.toml names.

    Weights come from ``checkpoint``, else with ``pretrained`` from the hub, else they are random: timm's own
    initialisation, seeded.

    Args:
        section: ``[models.NAME]``.
        root: the study's folder, from which a relative checkpoint is found.
        seed: the study's seed.

    Raises:
        VisionError: there is no such architecture, or its weights can't be had or don't fit.
    """
    name = section.source.removeprefix("timm:")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "weights", section.source))
        module = _create(name, section)
    if section.checkpoint is not None:
        _load_checkpoint(module, root / section.checkpoint, name)
    config = resolve_model_data_config(module)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return LoadedModel(
        module=_made_ready(module).to(device),
        source=section.source,
        input_size=section.input_size or int(config["input_size"][-1]),
        mean=config["mean"],
        std=config["std"],
        weights_sha256=weights_sha256(module),
        device=device,
    )


def outline(section: ModelSection) -> nn.Module:
    """The network without its weights: its layers' names, at no cost in memory; nothing is read or fetched.

    Raises:
        VisionError: there is no such architecture.
    """
    with torch.device("meta"):
        return _create(section.source.removeprefix("timm:"), section.model_copy(update={"pretrained": False}))


def weights_sha256(module: nn.Module) -> str:
    """Digest of a network's parameters and buffers, names and shapes included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _create(name: str, section: ModelSection) -> nn.Module:
    if not timm.is_model(name):
        known = timm.list_models() + timm.list_pretrained()
        nearest = ", ".join(difflib.get_close_matches(name, known, n=5, cutoff=0.4)) or "none"
        raise VisionError(f"source = 'timm:{name}': timm {timm.__version__} has no such model; near it: {nearest}")
    options: dict[str, Any] = {}
    if section.classes is not None:
        options["num_classes"] = section.classes
    if section.input_size is not None and _has_fixed_size(name):
        options["img_size"] = section.input_size
    from_hub = section.pretrained and section.checkpoint is None
    try:
        module: nn.Module = timm.create_model(name, pretrained=from_hub, **options)
    except (OSError, RuntimeError) as error:
        if not from_hub:
            raise
        reason = str(error).splitlines()[0]
        raise VisionError(
            f"timm:{name}: its weights can't be had from the Hugging Face hub ({reason}); check the network, or download "
            "model.safetensors elsewhere and name it as checkpoint"
        ) from None
    return module


def _has_fixed_size(name: str) -> bool:
    """Whether the architecture is built for one size of input, as transformers are."""
    config = timm.get_pretrained_cfg(name)
    return config is not None and bool(config.fixed_input_size)


def _load_checkpoint(module: nn.Module, path: Path, name: str) -> None:
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise VisionError(f"{path}: there is no checkpoint here; correct checkpoint or take it out of study.toml") from None
    except (SafetensorError, OSError) as error:
        raise VisionError(f"{path}: this can't be read as a safetensors file ({error}); convert the weights first") from None
    weights = _unwrapped(weights)
    problems = _misfits(module.state_dict(), weights)
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise VisionError(f"{path}: these aren't the weights of timm:{name}: {shown}. {_remedy(module, weights)}")
    module.load_state_dict(weights)


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        inside = {key.removeprefix(wrapper): tensor for key, tensor in weights.items() if key.startswith(wrapper)}
        if inside:
            return inside
    return weights


def _misfits(expected: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    shapes = [
        f"{key} is {tuple(given[key].shape)} where {tuple(tensor.shape)} is expected"
        for key, tensor in expected.items()
        if key in given and given[key].shape != tensor.shape
    ]
    missing = [f"{key} is missing" for key in expected if key not in given]
    return shapes + missing + [f"{key} is unknown to the model" for key in given if key not in expected]


def _remedy(module: nn.Module, weights: dict[str, Tensor]) -> str:
    """The likeliest way out: most often only the number of classes differs."""
    expected = module.state_dict()
    wrong = [key for key, tensor in expected.items() if key not in weights or weights[key].shape != tensor.shape]
    heads = [key for key in wrong if key in weights and key.endswith((".weight", ".bias"))]
    if set(weights) == set(expected) and wrong == heads and len({weights[key].shape[0] for key in wrong}) == 1:
        return f"Set classes = {weights[wrong[0]].shape[0]}"
    return "Correct source or checkpoint"


def _made_ready(module: nn.Module) -> nn.Module:
    for child in module.modules():
        if isinstance(getattr(child, "inplace", None), bool):
            # A ReLU that works in place overwrites the output that a hook on the layer before it has been given.
            child.inplace = False  # type: ignore[assignment]
    # Channels last is the faster layout for convolutions, by a quarter on a CPU.
    return module.eval().requires_grad_(False).to(memory_format=torch.channels_last)
