import pytest
import timm
import torch
from torch import nn

from crowd_imi.errors import VisionError
from crowd_imi.vision.layers import describe_layers, mean_over_space, unit_layers, watched


@pytest.fixture(scope="module")
def resnet():
    return timm.create_model("test_resnet").eval()


@pytest.fixture(scope="module")
def vit():
    return timm.create_model("test_vit", img_size=32).eval()


@pytest.fixture(scope="module")
def convnext():
    return timm.create_model("test_convnext").eval()


def test_a_star_stands_for_any_part_of_a_name_and_modules_that_pass_on_are_left_out(resnet):
    # test_resnet's first block has a drop_block and an aa, both identities, and layer1 is a container.
    assert unit_layers(resnet, ["layer1*"]) == (
        "layer1.0",
        "layer1.0.conv1",
        "layer1.0.bn1",
        "layer1.0.act1",
        "layer1.0.conv2",
        "layer1.0.bn2",
        "layer1.0.act2",
    )


def test_layers_come_in_the_networks_order_and_once(resnet):
    assert unit_layers(resnet, ["layer2.0.conv1", "layer1.0.conv*", "layer1.0.conv1"]) == (
        "layer1.0.conv1",
        "layer1.0.conv2",
        "layer2.0.conv1",
    )


def test_a_glob_without_a_match_is_answered_with_the_nearest_names(resnet):
    with pytest.raises(VisionError, match=r"no such layer; the nearest names are .*layer2\.0\.conv1"):
        unit_layers(resnet, ["layer1.0.conv1", "layer2.0.cnv1"])


def test_convolutions_have_channels_first(resnet):
    (layer,) = describe_layers(resnet, ["layer2.0.conv1"], 32)
    assert (layer.channels, layer.axis) == (resnet.get_submodule("layer2.0.conv1").out_channels, 1)


def test_an_activations_axis_is_read_from_its_shape_and_from_how_it_grows():
    # 8 channels on 8×8 positions: the shape alone says nothing, but at twice the input only space grows.
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
    (layer,) = describe_layers(module, ["1"], 8)
    assert (layer.channels, layer.axis) == (8, 1)


def test_transformers_have_channels_behind_tokens(vit):
    layers = describe_layers(vit, ["blocks.0.norm1", "blocks.0", "blocks.0.mlp.fc1"], 32)
    assert [layer.axis for layer in layers] == [2, 2, 2]
    assert layers[2].channels == vit.get_submodule("blocks.0.mlp.fc1").out_features


def test_convnext_mixes_channels_first_and_last(convnext):
    layers = describe_layers(convnext, ["stages.0.blocks.0.conv_dw", "stages.0.blocks.0.mlp.fc1", "stages.0.blocks.0"], 64)
    assert [layer.axis for layer in layers] == [1, 3, 1]
    assert layers[1].channels == convnext.get_submodule("stages.0.blocks.0.mlp.fc1").out_features


def test_a_layer_that_no_image_passes_through_is_refused(resnet):
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Conv2d(3, 4, 1)
            self.unused = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(VisionError, match="unused: an image doesn't pass through it"):
        describe_layers(Unused(), ["unused"], 8)


def test_the_mean_is_over_space_or_tokens():
    first = torch.arange(8.0).reshape(1, 2, 2, 2)
    # Channel 0 holds 0, 1, 2, 3 and channel 1 holds 4, 5, 6, 7.
    assert mean_over_space(first, 1).tolist() == [[1.5, 5.5]]
    assert mean_over_space(first.permute(0, 2, 3, 1), 3).tolist() == [[1.5, 5.5]]
    assert mean_over_space(first.flatten(2).transpose(1, 2), 2).tolist() == [[1.5, 5.5]]
    assert mean_over_space(torch.tensor([[3.0, 4.0]]), 1).tolist() == [[3.0, 4.0]]


def test_what_is_seen_is_not_yet_overwritten_by_an_activation_in_place():
    module = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(inplace=True)).eval()
    seen = []
    with watched(module, ["0"], lambda _name, output: seen.append(float(output.mean()))), torch.inference_mode():
        module(torch.full((1, 1, 2, 2), -3.0))
    assert seen == [pytest.approx(-3.0, rel=1e-4)]


def test_no_hook_stays_behind(resnet):
    describe_layers(resnet, ["layer1.0.conv1"], 32)
    assert all(not module._forward_hooks for module in resnet.modules())
