"""Networks from timm, lucent, the publication or a function of one's own, ready to look at images."""

import difflib
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from crowd_imi.errors import VisionError
from crowd_imi.seeds import seed_for
from crowd_imi.study import ModelSection
from crowd_imi.vision.checkpoints import load_checkpoint
from crowd_imi.vision.own import in_short, own_module
from crowd_imi.vision.published import SUM, published_model, resolved

log = logging.getLogger(__name__)

TIMM = "timm:"
INCEPTIONV1 = "lucent:inceptionv1"

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


def load_model(section: ModelSection, root: Path, seed: int, device: torch.device | None = None) -> LoadedModel:
    """Make the network that study.toml names.

    Weights come from ``checkpoint``, else with ``pretrained`` from where they were published, else they are random: the
    architecture's own initialisation, seeded.

    Args:
        section: ``[models.NAME]``.
        root: the study's folder, from which a relative checkpoint and a module of one's own are found.
        seed: the study's seed.
        device: where it looks; the first GPU, if there is one, by default.

    Raises:
        VisionError: there is no such network, or its weights can't be had or don't fit.
    """
    real = resolved(section)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "weights", section.source))
        module = _create(section, real, root)
    if real.checkpoint is not None:
        load_checkpoint(module, root / real.checkpoint, section.source, classes_can_be_set=real.source.startswith(TIMM))
    size, mean, std = _preprocessing(module, real)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _make_ready(module, device, section.source)
    return LoadedModel(
        module=module,
        source=section.source,
        input_size=size,
        mean=mean,
        std=std,
        weights_sha256=weights_sha256(module),
        device=device,
    )


def outline(section: ModelSection, root: Path | None = None) -> nn.Module:
    """The network without its weights: its layers' names, at no cost in memory; nothing is read or fetched.

    A function of one's own is called as it is, whatever that costs.

    Args:
        section: ``[models.NAME]``.
        root: the study's folder, where a module of one's own may be.

    Raises:
        VisionError: there is no such network.
    """
    real = resolved(section).model_copy(update={"pretrained": False})
    if _is_own(real):
        return _create(section, real, root)
    with torch.device("meta"):
        return _create(section, real, root)


def weights_sha256(module: nn.Module) -> str:
    """Digest of a network's parameters, buffers and extra state, names and shapes included.

    Raises:
        VisionError: something in its state dict has no digest that would be the same in the next run.
    """
    digest = hashlib.sha256()
    for name, value in sorted(_state(module).items()):
        try:
            head, content = _as_bytes(value)
        except (RuntimeError, TypeError, ValueError) as error:
            kind = f"{value.dtype} tensor" if isinstance(value, torch.Tensor) else type(value).__name__
            raise VisionError(
                f"the network's {name} is a {kind}, of which no digest can be made ({in_short(error)}); keep numbers, texts and "
                "dense tensors in its state dict"
            ) from error
        digest.update(f"{name} {head}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _state(module: nn.Module) -> dict[str, Any]:
    try:
        return dict(module.state_dict())
    except Exception as error:  # whatever a get_extra_state of the researcher's raises
        raise VisionError(f"the network's state_dict() fails ({in_short(error)}); mend it first") from error


def _as_bytes(value: object) -> tuple[str, bytes]:
    """What is in a state dict, with its kind: tensors, and whatever a ``get_extra_state`` gives as long as it is plain."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        return f"{value.dtype} {tuple(value.shape)}", tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    if isinstance(value, bytes):
        return "bytes", value
    return "json", json.dumps(value, sort_keys=True).encode()


def _is_own(real: ModelSection) -> bool:
    return not real.source.startswith(TIMM) and real.source != INCEPTIONV1


def _create(section: ModelSection, real: ModelSection, root: Path | None) -> nn.Module:
    """The network of ``real``, which is ``section`` with the publication's names resolved; without its checkpoint."""
    if real.source.startswith(TIMM):
        module = _from_timm(real.source.removeprefix(TIMM), real)
        published = published_model(section)
        if published is not None and published.sums:
            _name_sums(module)
        return module
    if real.classes is not None:
        raise VisionError(f"source = {section.source!r}: classes can be set only for timm's networks; take it out")
    if real.source == INCEPTIONV1:
        return _inceptionv1(real)
    if real.pretrained:
        raise VisionError(
            f"source = {section.source!r}: pretrained means nothing for a function of your own; let it load its weights, or "
            "name them as checkpoint"
        )
    return own_module(real.source, root)


def _from_timm(name: str, section: ModelSection) -> nn.Module:
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


def _name_sums(module: nn.Module) -> None:
    """Give the residual sum of a ResNet's bottlenecks a module, and so a name, of its own: ``SUM``."""
    activation, _, name = SUM.partition(".")
    for block in list(module.modules()):
        if isinstance(block, timm.models.resnet.Bottleneck):
            parts = OrderedDict([(name, nn.Identity()), ("relu", block.get_submodule(activation))])
            setattr(block, activation, nn.Sequential(parts))


def _inceptionv1(section: ModelSection) -> nn.Module:
    from crowd_imi.vision.inception import INPUT_SIZE, inceptionv1

    if section.input_size not in (None, INPUT_SIZE):
        raise VisionError(f"{INCEPTIONV1}: it looks at images of {INPUT_SIZE} pixels; take input_size = {section.input_size} out")
    return inceptionv1(pretrained=section.pretrained and section.checkpoint is None)


def _preprocessing(module: nn.Module, section: ModelSection) -> tuple[int, Colour, Colour]:
    """Input size, mean and deviation: the study's, else the network's own, else of the colours ImageNet's."""
    if section.source == INCEPTIONV1:
        from crowd_imi.vision.inception import INPUT_SIZE, MEAN, STD

        return INPUT_SIZE, section.mean or MEAN, section.std or STD
    config = _config(module)
    size = section.input_size or (int(config["input_size"][-1]) if config.get("input_size") else None)
    if size is None:
        raise VisionError(
            f"source = {section.source!r}: the network doesn't say how large its input is (it has no pretrained_cfg with "
            "input_size); set input_size in study.toml, in pixels on a side"
        )
    return (
        size,
        section.mean or _colour(config, "mean", IMAGENET_DEFAULT_MEAN, section),
        section.std or _colour(config, "std", IMAGENET_DEFAULT_STD, section),
    )


def _config(module: nn.Module) -> Mapping[str, Any]:
    """What a network says of its input, where timm's networks say it."""
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(module, name, None)
        if isinstance(config, Mapping):
            return config
        if config is not None:
            return {key: getattr(config, key, None) for key in ("input_size", "mean", "std")}
    return {}


def _colour(config: Mapping[str, Any], key: str, of_imagenet: Colour, section: ModelSection) -> Colour:
    given = config.get(key)
    if given is None:
        log.info("%s: the network doesn't say its %s, so ImageNet's is taken: %s", section.source, key, of_imagenet)
        return of_imagenet
    red, green, blue = (float(value) for value in given)
    return red, green, blue


def _make_ready(module: nn.Module, device: torch.device, source: str) -> None:
    """Nothing is taken from what the methods return: a network of the researcher's may have its own, which return nothing."""
    try:
        for child in module.modules():
            if isinstance(getattr(child, "inplace", None), bool) and not isinstance(child, torch.jit.ScriptModule):
                # A ReLU that works in place overwrites the output that a hook on the layer before it has been given.
                child.inplace = False  # type: ignore[assignment]
        module.eval()
        module.requires_grad_(False)
        with suppress(RuntimeError):  # of weights with more than four axes
            # Channels last is the faster layout for convolutions, by a quarter on a CPU.
            module.to(memory_format=torch.channels_last)
        module.to(device)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # whatever code of the researcher's raises
        raise VisionError(f"source = {source!r}: the network can't be made ready ({in_short(error)}); mend it first") from error
