"""What is seen at a layer is what the layer gave, in every family of networks, channel by channel.

The reference is a forward pass of its own with hooks that clone, reduced by loops in numpy; where channels are is written
down here, not asked of the code. Activations work in place as the libraries make them, which ``load_model`` would switch off.
"""

import dataclasses
import re
import warnings

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models.byobnet import ByobNet, model_cfgs
from torch import nn
from torchvision.models.convnext import CNBlockConfig

from crowd_imi.study import ModelSection
from crowd_imi.vision.layers import describe_layers, unit_layers, watched
from crowd_imi.vision.readouts import Neurons, load_readouts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lucent.modelzoo import inceptionv1

LATENTS = 24
K = 5


def small_clip_resnet():
    config = model_cfgs["resnet50_clip"]
    blocks = tuple(dataclasses.replace(block, d=1, c=block.c // 16) for block in config.blocks)
    return ByobNet(dataclasses.replace(config, blocks=blocks, stem_chs=16), img_size=64)


class AddsInPlace(nn.Module):
    """Everything that can happen to an output behind the layer that gave it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.second = nn.Conv2d(6, 6, 1)
        self.third = nn.Conv2d(6, 6, 1)

    def forward(self, images):
        start = self.first(images)
        x = self.second(start)
        x += start
        x.relu_()
        x = self.third(x)
        return x.mul_(2).sub_(1)


FAMILIES = {
    "resnet": (lambda: timm.create_model("resnet50", layers=(1, 1, 1, 1), channels=(4, 8, 8, 16)), 64),
    "densenet": (lambda: timm.create_model("densenet121", block_config=(2, 2, 2, 2), growth_rate=8), 64),
    "torchvision-densenet": (lambda: torchvision.models.DenseNet(8, (2, 2), num_init_features=16, num_classes=10), 64),
    "convnext": (lambda: timm.create_model("test_convnext"), 64),
    "torchvision-convnext": (
        lambda: torchvision.models.ConvNeXt([CNBlockConfig(12, 24, 1), CNBlockConfig(24, None, 1)], num_classes=10),
        64,
    ),
    "vit": (lambda: timm.create_model("test_vit", img_size=32), 32),
    "clip-vit": (
        lambda: timm.create_model("vit_base_patch32_clip_224", img_size=96, depth=2, embed_dim=32, num_heads=2, num_classes=10),
        96,
    ),
    "clip-resnet": (small_clip_resnet, 64),
    # Its last pooling is made for 224 px.
    "inceptionv1": (lambda: inceptionv1(pretrained=False), 224),
    "adds-in-place": (AddsInPlace, 16),
}
OVERWRITING = ("resnet", "torchvision-densenet", "adds-in-place")
"""Families that overwrite outputs; timm's DenseNet and CLIP ResNet do so within a module, where nobody looks."""

NEURONS = {
    # What a shortcut is added to, or an activation works on, in place.
    "resnet": ("layer1.0.bn1", "layer1.0.bn3", "layer2.0.bn3"),
    "torchvision-densenet": ("features.norm0", "features.denseblock1.denselayer1.norm1"),
    "adds-in-place": ("first", "second", "third"),
}
"""Layers for neurons in the families that overwrite."""

ENCODED = {
    "resnet": "layer2.0.bn3",
    "densenet": "features.denseblock2.denselayer1.conv1",
    "convnext": "stages.1.blocks.0.mlp.fc1",
    "vit": "blocks.1",
    "clip-resnet": "stages.2.0.conv1_1x1.conv",
    "inceptionv1": "mixed5a_1x1_pre_relu_conv",
    "adds-in-place": "second",
}
"""A layer for encoders in each family; one that is overwritten where there is one."""


def expected_axis(family, name, dimensions):
    if dimensions == 2:
        return 1
    if family == "convnext":
        # Blocks go to channels last between their depthwise convolution and their end.
        return 3 if ".mlp" in name or (".blocks." in name and name.endswith(".norm")) else 1
    if family == "torchvision-convnext":
        # A block goes to channels last by a permutation (1) and back by another (6).
        return 3 if re.search(r"\.block\.[1-5]$", name) else 1
    if family in ("vit", "clip-vit"):
        return 1 if name == "patch_embed.proj" else dimensions - 1
    return 2 if dimensions == 3 else 1  # three only in CLIP's attention pool, over tokens


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    make, size = FAMILIES[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        module = make().eval()
        for child in module.modules():
            if isinstance(child, nn.BatchNorm2d):
                # Fresh ones do nothing, and the last of a residual block gives zeros.
                nn.init.uniform_(child.weight, 0.5, 1.5)
                nn.init.normal_(child.bias)
        return request.param, module, torch.randn(2, 3, size, size)


def cloned(module, names, images):
    outputs = {}

    def hook(name):
        return lambda _module, _inputs, output: outputs.update({name: output.clone().numpy()})

    modules = dict(module.named_modules())
    handles = [modules[name].register_forward_hook(hook(name)) for name in names]
    with torch.inference_mode():
        module(images)
    for handle in handles:
        handle.remove()
    return outputs


@pytest.fixture(scope="module")
def encoded(family):
    """The cloned output that encoders read, in this family."""
    name, module, images = family
    return cloned(module, [ENCODED[name]], images)[ENCODED[name]]


def seen(module, layers, images):
    reduced = {}

    def see(name, output):
        reduced.update({layer.name: layer.activations(output).numpy() for layer in layers if layer.module == name})

    with torch.inference_mode(), watched(module, dict.fromkeys(layer.module for layer in layers), see):
        module(images)
    return reduced


def test_every_layers_activations_are_the_means_of_its_cloned_output_channel_by_channel(family):
    name, module, images = family
    layers = describe_layers(module, unit_layers(module, ["*"]), images.shape[-1])
    activations = seen(module, layers, images)
    outputs = cloned(module, [layer.module for layer in layers], images)
    for layer in layers:
        output = outputs[layer.name]
        axis = expected_axis(name, layer.name, output.ndim)
        assert (layer.axis, layer.channels) == (axis, output.shape[axis]), layer.name
        by_hand = np.empty((len(images), layer.channels))
        for image in range(len(images)):
            for channel in range(layer.channels):
                by_hand[image, channel] = output[image].take(channel, axis - 1).mean(dtype=np.float64)
        # Relative to the largest of the layer: a mean of float32 rounds where values of either sign cancel.
        np.testing.assert_allclose(
            activations[layer.name], by_hand, rtol=1e-5, atol=1e-5 * np.abs(output).max(), err_msg=layer.name
        )


@pytest.mark.parametrize("family", OVERWRITING, indirect=True)
def test_these_families_do_overwrite_what_their_layers_gave(family):
    # Else the test above would prove nothing of them.
    _, module, images = family
    names = unit_layers(module, ["*"])
    kept = {}
    with torch.inference_mode(), watched(module, names, kept.__setitem__):
        module(images)
    overwritten = [
        name for name, output in cloned(module, names, images).items() if not np.array_equal(kept[name].numpy(), output)
    ]
    assert overwritten


@pytest.mark.parametrize("family", NEURONS, indirect=True)
def test_neurons_are_the_channels_at_their_position_of_the_cloned_output(family):
    name, module, images = family
    readouts = {f"{layer}@at": Neurons(name=f"{layer}@at", module=layer, sha256="", position=(1, 2)) for layer in NEURONS[name]}
    layers = describe_layers(module, unit_layers(module, ["*@at"], readouts), images.shape[-1], readouts)
    activations = seen(module, layers, images)
    for layer, output in cloned(module, NEURONS[name], images).items():
        np.testing.assert_array_equal(activations[f"{layer}@at"], output[:, :, 1, 2], err_msg=layer)


def encoded_by_hand(vector, encoder, kind, activation):
    """One position's latents."""
    if kind == "sae":
        vector = vector - encoder["b_dec"]
    latents = np.zeros(LATENTS)
    before = [float(vector @ encoder["W_enc"][:, latent] + encoder["b_enc"][latent]) for latent in range(LATENTS)]
    highest = sorted(range(LATENTS), key=lambda latent: -before[latent])[:K]
    for latent, value in enumerate(before):
        threshold = encoder["threshold"][latent]
        latents[latent] = {
            "relu": max(value, 0.0),
            "topk": max(value, 0.0) if latent in highest else 0.0,
            "jumprelu": value if value > max(threshold, 0.0) else 0.0,
            "binary": float(value > threshold),
        }[activation]
    return latents


@pytest.mark.parametrize("family", ENCODED, indirect=True)
@pytest.mark.parametrize("kind", ["sae", "transcoder"])
@pytest.mark.parametrize("activation", ["relu", "topk", "jumprelu", "binary"])
def test_latents_are_what_the_encoder_written_out_by_hand_gives(family, encoded, kind, activation, tmp_path):
    name, module, images = family
    axis = expected_axis(name, ENCODED[name], encoded.ndim)
    features = np.moveaxis(encoded, axis, -1).reshape(len(images), -1, encoded.shape[axis]).astype(np.float64)
    draw = np.random.default_rng(3)
    width, spread = features.shape[2], features.std()
    encoder = {
        "W_enc": draw.normal(size=(width, LATENTS)) / spread / np.sqrt(width),
        "b_enc": draw.normal(size=LATENTS) / 2,
        "b_dec": draw.normal(size=width) * spread,
        "threshold": draw.uniform(0, 1, LATENTS),
    }
    in_file = {
        key: torch.from_numpy(value).float() for key, value in encoder.items() if key != "threshold" or activation != "relu"
    }
    save_file({key: value.contiguous() for key, value in in_file.items()}, tmp_path / "encoder.safetensors")
    readout = {"layer": ENCODED[name], "kind": kind, "weights": "encoder.safetensors", "activation": activation}
    readout["k"] = K if activation == "topk" else None
    section = ModelSection.model_validate({"source": "timm:any", "layers": ["*@*"], "readouts": {"read": readout}})
    readouts = load_readouts(section, tmp_path, torch.device("cpu"))
    layers = describe_layers(module, unit_layers(module, ["*@read"], readouts), images.shape[-1], readouts)
    (layer,) = layers
    assert (layer.name, layer.channels) == (f"{ENCODED[name]}@read", LATENTS)
    by_hand = np.mean([[encoded_by_hand(x, encoder, kind, activation) for x in positions] for positions in features], axis=1)
    assert by_hand.std() > 0
    np.testing.assert_allclose(seen(module, layers, images)[layer.name], by_hand, rtol=1e-3, atol=1e-4)
