import pytest
import timm
import torch
import torchvision
from timm.layers import LayerNorm2d, LayerNorm2dFp32, LayerNormAct2d
from torch import nn
from torchvision.models.convnext import CNBlockConfig

from crowd_imi.errors import VisionError
from crowd_imi.vision.layers import UnitLayer, describe_layers, unit_layers, watched
from crowd_imi.vision.readouts import Neurons


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


def test_the_layer_of_a_listed_unit_is_named_by_its_key(resnet):
    with pytest.raises(VisionError, match=r"^units = \['layer2\.0\.cnv1/…'\]: the model has no such layer; the nearest"):
        unit_layers(resnet, ["layer2.0.cnv1"], listed=True)


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


@pytest.mark.parametrize("norm", [LayerNorm2d, LayerNorm2dFp32, LayerNormAct2d])
def test_norms_of_timm_that_keep_channels_first_are_read_so(norm):
    (layer,) = describe_layers(nn.Sequential(nn.Conv2d(3, 6, 1), norm(6)).eval(), ["1"], 8)
    assert (layer.channels, layer.axis) == (6, 1)


def test_a_norm_of_torchvision_keeps_channels_first_and_another_behind_it_last():
    # Tiny, of its own making: torchvision's LayerNorm2d is its own kind of nn.LayerNorm, and the one in a block is a plain one.
    module = torchvision.models.ConvNeXt([CNBlockConfig(12, 24, 1), CNBlockConfig(24, None, 1)], num_classes=5).eval()
    layers = describe_layers(module, ["features.0.1", "features.1.0.block.2", "features.2.0", "classifier.0"], 64)
    assert [(layer.channels, layer.axis) for layer in layers] == [(12, 1), (12, 3), (12, 1), (24, 1)]


def test_a_norm_whose_width_fits_either_axis_or_all_of_them_is_read_from_the_shape():
    # 8 channels on 8 × 8 positions, at first; with 16 positions on a side only the first can be channels.
    (layer,) = describe_layers(nn.Sequential(nn.Conv2d(3, 8, 1), LayerNorm2dFp32(8)).eval(), ["1"], 8)
    assert layer.axis == 1
    (layer,) = describe_layers(nn.Sequential(nn.Conv2d(3, 6, 1), nn.LayerNorm((6, 8, 8))).eval(), ["1"], 8)
    assert (layer.channels, layer.axis) == (6, 1)


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
    def means(output, axis):
        return UnitLayer("any", 2, axis, "any").activations(output).tolist()

    first = torch.arange(8.0).reshape(1, 2, 2, 2)
    # Channel 0 holds 0, 1, 2, 3 and channel 1 holds 4, 5, 6, 7.
    assert means(first, 1) == [[1.5, 5.5]]
    assert means(first.permute(0, 2, 3, 1), 3) == [[1.5, 5.5]]
    assert means(first.flatten(2).transpose(1, 2), 2) == [[1.5, 5.5]]
    assert means(torch.tensor([[3.0, 4.0]]), 1) == [[3.0, 4.0]]


def test_what_is_seen_is_not_yet_overwritten_by_an_activation_in_place():
    module = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(inplace=True)).eval()
    seen = []
    with watched(module, ["0"], lambda _name, output: seen.append(float(output.mean()))), torch.inference_mode():
        module(torch.full((1, 1, 2, 2), -3.0))
    assert seen == [pytest.approx(-3.0, rel=1e-4)]


def test_no_hook_stays_behind(resnet):
    describe_layers(resnet, ["layer1.0.conv1"], 32)
    assert all(not module._forward_hooks for module in resnet.modules())


def test_a_module_that_an_image_passes_twice_is_refused():
    # Torchvision's ResNets use one ReLU several times in a block: which of its outputs would be meant?
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(self.conv(self.relu(x)))

    with pytest.raises(VisionError, match="relu: an image passes through it more than once in one pass; name another layer"):
        describe_layers(Twice(), ["relu"], 8)


def test_a_layer_that_is_not_there_is_answered_with_the_nearest_names(resnet):
    with pytest.raises(VisionError, match=r"layer layer2\.0\.cnv1: the model has no such layer; .*layer2\.0\.conv1"):
        describe_layers(resnet, ["layer2.0.cnv1"], 32)


READOUTS = ("layer2.0@sae", "layer1.0.conv1@corner", "layer1.0.conv1@words")


def test_a_glob_with_an_at_matches_readouts_alone_and_one_without_modules_alone(resnet):
    assert unit_layers(resnet, ["*@*"], READOUTS) == ("layer1.0.conv1@corner", "layer1.0.conv1@words", "layer2.0@sae")
    assert unit_layers(resnet, ["layer1*@words"], READOUTS) == ("layer1.0.conv1@words",)
    assert not [name for name in unit_layers(resnet, ["*"], READOUTS) if "@" in name]


def test_readouts_stand_behind_their_layer(resnet):
    assert unit_layers(resnet, ["*@sae", "layer[12].0.conv1", "*@words"], READOUTS) == (
        "layer1.0.conv1",
        "layer1.0.conv1@words",
        "layer2.0@sae",
        "layer2.0.conv1",
    )


def test_a_readout_that_is_not_there_is_answered_with_the_nearest(resnet):
    with pytest.raises(
        VisionError, match=r"\['layer2\.0@sea'\]: the model has no such layer; the nearest names are layer2\.0@sae"
    ):
        unit_layers(resnet, ["layer2.0@sea"], READOUTS)


def test_layers_and_readouts_of_one_module_share_its_hook(resnet):
    readouts = {
        f"layer1.0.conv1@{name}": Neurons(name=f"layer1.0.conv1@{name}", module="layer1.0.conv1", sha256="", position=position)
        for name, position in (("corner", (0, 0)), ("middle", (4, 4)))
    }
    layers = describe_layers(resnet, unit_layers(resnet, ["layer1.0.conv1", "*@*"], readouts), 32, readouts)
    assert [layer.name for layer in layers] == ["layer1.0.conv1", "layer1.0.conv1@corner", "layer1.0.conv1@middle"]
    assert {layer.module for layer in layers} == {"layer1.0.conv1"}
    assert len({layer.channels for layer in layers}) == 1


def test_a_channels_map_is_its_part_of_the_output_and_its_activation_the_mean(resnet):
    (layer,) = describe_layers(resnet, ["layer1.0.conv1"], 32)
    output = torch.randn(2, layer.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer.maps(output, [3, 0]), output.flatten(2)[:, [3, 0]])
    assert torch.equal(layer.activations(output), output.mean((2, 3)))
    assert torch.equal(layer.activations(output, [3, 0]), layer.activations(output)[:, [3, 0]])


class Shaped(nn.Module):
    """Its layer ``last`` gives what a function makes of the maps."""

    def __init__(self, shape):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.last = nn.Identity()
        self.shape = shape

    def forward(self, images):
        return self.last(self.shape(self.conv(images)))


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        (torch.sum, r"\(\)"),
        (torch.flatten, r"\(256,\)"),
        (torch.squeeze, r"\(4, 8, 8\)"),
        (lambda maps: maps.reshape(4, 4, 4, 4), r"\(4, 4, 4, 4\)"),
        (lambda maps: maps[:, :0], r"\(1, 0, 8, 8\)"),
    ],
)
def test_an_output_without_an_axis_of_images_and_one_of_channels_is_refused(shape, shown):
    with pytest.raises(VisionError, match=f"layer last: for one image its output has the shape {shown}, .* name another layer"):
        describe_layers(Shaped(shape), ["last"], 8)


def test_a_layer_that_is_reached_at_one_size_alone_is_told_in_one_line():
    class Small(Shaped):
        def forward(self, images):
            return self.last(self.conv(images)) if images.shape[2] == 4 else self.conv(images)

    # 4 channels on 4 × 4 positions: only a larger image could tell where channels are.
    with pytest.raises(VisionError, match=r"layer last: .* doesn't say where channels are"):
        describe_layers(Small(None), ["last"], 4)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_a_layer_inside_a_torchscript_program_is_refused_and_one_beside_it_works():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), torch.jit.script(nn.Sequential(nn.Conv2d(4, 5, 1)))).eval()
    assert describe_layers(module, ["0"], 8)[0].channels == 4
    with pytest.raises(VisionError, match=r"layer 1\.0: nothing can watch it .* outside the TorchScript program"):
        describe_layers(module, ["0", "1.0"], 8)
    assert not module[0]._forward_hooks


def test_memory_too_small_for_one_image_is_told_in_one_line():
    def full(_maps):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(VisionError, match="the computer's memory is too small to look at one image of 8 × 8 pixels"):
        describe_layers(Shaped(full), ["last"], 8)
