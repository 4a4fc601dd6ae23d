"""Units of every kind of network and readout are driven, wherever a layer keeps its channels.

Channel axes are written down here; what images reach is worked out with hooks and numpy, not with the engine's own means.
"""

import dataclasses

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.byobnet import ByobNet, model_cfgs

from crowd_imi.factory.visualize import Target, Visualiser, visualise
from crowd_imi.study import ModelSection, VisualisationSection
from crowd_imi.vision.layers import describe_layers
from crowd_imi.vision.models import load_model
from crowd_imi.vision.preprocess import to_input
from crowd_imi.vision.readouts import load_readouts

SETTINGS = VisualisationSection(procedure="fixed", size=32, steps=8, diversity=0.1)
SPACE, TOKENS, LAST = 1, 2, 3
"""Where channels lie: (n, channels, h, w), (n, tokens, channels), (n, h, w, channels)."""
LATENTS = 6


def clip_vit():
    return timm.create_model("vit_base_patch32_clip_224", img_size=64, depth=2, embed_dim=16, num_heads=2, num_classes=0)


def clip_resnet():
    config = model_cfgs["resnet50_clip"]
    blocks = tuple(dataclasses.replace(block, d=1, c=block.c // 16) for block in config.blocks)
    return ByobNet(dataclasses.replace(config, blocks=blocks, stem_chs=16), img_size=64)


NETWORKS = {
    "convnext": ("timm:test_convnext", 32),
    "vit": ("timm:test_vit", 32),
    "clip-vit": (f"{__name__}:clip_vit", 64),
    "clip-resnet": (f"{__name__}:clip_resnet", 64),
}
LAYERS = [
    ("convnext", "stages.0.blocks.0.conv_dw", SPACE),
    ("convnext", "stages.1.blocks.0.norm", LAST),
    ("convnext", "stages.1.blocks.0.mlp.fc1", LAST),
    ("vit", "patch_embed.proj", SPACE),
    ("vit", "blocks.1", TOKENS),
    ("vit", "blocks.1.attn.qkv", TOKENS),
    ("clip-vit", "norm_pre", TOKENS),
    ("clip-vit", "blocks.1.mlp.fc1", TOKENS),
    ("clip-resnet", "stages.2.0.conv2_kxk.conv", SPACE),
]
READ = [("convnext", "stages.1.blocks.0.mlp.fc1", LAST), ("vit", "blocks.1", TOKENS), ("clip-vit", "blocks.1", TOKENS)]


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    sections = {name: ModelSection(source=source, input_size=size) for name, (source, size) in NETWORKS.items()}
    return {name: load_model(section, root, 1) for name, section in sections.items()}


def features(model, name, axis, pixels):
    """What a layer gives for images, shape (images, channels, positions)."""
    kept = []
    handle = model.module.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: kept.append(output.clone()))
    with torch.inference_mode():
        model.module(to_input(pixels, model))
    handle.remove()
    return np.moveaxis(kept[0].double().numpy(), axis, 1).reshape(len(pixels), kept[0].shape[axis], -1)


def driven(model, layer, unit):
    """The unit's images, both sides, made together with another unit's."""
    targets = [Target(layer, channel, side) for channel in (unit, unit - 1) for side in ("min", "max")]
    low, high, *_ = visualise(Visualiser(model, SETTINGS), targets, [5, 6, 7, 8])
    assert np.mean(low.activations) < np.mean(high.activations)
    assert low.activations[0] == min(low.activations) and high.activations[0] == max(high.activations)
    return low, high


@pytest.mark.parametrize(("network", "name", "axis"), LAYERS)
def test_channels_are_driven_wherever_a_layer_keeps_them(networks, network, name, axis):
    model = networks[network]
    (layer,) = describe_layers(model.module, [name], model.input_size)
    assert layer.axis == axis
    unit = layer.channels - 1  # out of range for space or tokens, if those were taken for channels
    for made in driven(model, layer, unit):
        by_hand = features(model, name, axis, made.pixels)[:, unit].mean(1)
        assert made.activations == pytest.approx(by_hand.tolist(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("network", "name", "axis"), READ)
@pytest.mark.parametrize("kind", ["directions", "sae"])
def test_directions_and_latents_are_driven_in_every_family(networks, network, name, axis, kind, tmp_path):
    model = networks[network]
    (channels,) = describe_layers(model.module, [name], model.input_size)
    matrix = torch.randn(LATENTS, channels.channels, generator=torch.Generator().manual_seed(3))
    tensors = {"directions": matrix} if kind == "directions" else {"W_enc": matrix.T.contiguous(), "b_enc": torch.zeros(LATENTS)}
    save_file(tensors, tmp_path / "read.safetensors")
    readout = {"layer": name, "kind": kind, "weights": "read.safetensors"}
    section = ModelSection.model_validate({"source": "timm:any", "layers": ["*@*"], "readouts": {"r": readout}})
    readouts = load_readouts(section, tmp_path, model.device)
    (layer,) = describe_layers(model.module, tuple(readouts), model.input_size, readouts)
    for made in driven(model, layer, LATENTS - 1):
        projected = np.tensordot(features(model, name, axis, made.pixels), matrix[-1].double().numpy(), (1, 0))
        by_hand = (projected if kind == "directions" else projected.clip(min=0)).mean(1)
        assert made.activations == pytest.approx(by_hand.tolist(), rel=1e-4, abs=1e-5)
