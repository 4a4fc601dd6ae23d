import argparse
import re
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models.byobnet import ByobNet, model_cfgs
from torch import nn
from torch.nn.utils import prune

from crowd_imi.errors import VisionError
from crowd_imi.study import ModelSection
from crowd_imi.vision.checkpoints import load_checkpoint, read_weights
from crowd_imi.vision.models import load_model


def scrambled(module):
    """Every parameter and statistic away from its initial value, so that one that isn't loaded shows."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(0.5 + noise if name.endswith("running_var") else tensor + 0.05 * (noise - 0.5))
    return module.eval()


def loaded(path, source, tmp_path, **keys):
    section = ModelSection(source=source, layers=("*",), checkpoint=path.name, **keys)
    return load_model(section, tmp_path, 1).module


def assert_same(module, original, size=64):
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(module(images), original(images), atol=1e-4)


def save(content, path, **options):
    torch.save(content, path, **options)
    return path


def renamed(state, *rules):
    """A state dict under other names: each rule is a pattern and what it becomes."""
    result = {}
    for key, tensor in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)  # noqa: PLW2901
        result[key] = tensor
    return result


def test_torchvisions_resnet(tmp_path):
    # Bottlenecks, two in each stage: timm's resnet26.
    original = scrambled(torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [2, 2, 2, 2], num_classes=5))
    path = save(original.state_dict(), tmp_path / "resnet26-0676ba61.pth")
    assert_same(loaded(path, "timm:resnet26", tmp_path, classes=5), original)


def test_torchvisions_densenet_in_its_old_names_and_without_counters(tmp_path):
    original = scrambled(torchvision.models.densenet121(num_classes=5))
    # As in densenet201-c1103571.pth: features.denseblock1.denselayer1.norm.1.weight
    old = renamed(original.state_dict(), (r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2."))
    old = {key: tensor for key, tensor in old.items() if not key.endswith("num_batches_tracked")}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert_same(loaded(save(old, tmp_path / "d.pth"), "timm:densenet121", tmp_path, classes=5), original)


def test_facebooks_convnext(tmp_path):
    original = scrambled(timm.create_model("convnext_atto", num_classes=5))
    names = renamed(
        original.state_dict(),
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
        (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm\.", "norm."),
        (r"^head\.fc\.", "head."),
    )
    assert {"downsample_layers.1.0.weight", "stages.0.1.dwconv.weight", "norm.weight", "head.bias"} <= set(names)
    path = save({"model": names}, tmp_path / "convnext_1k_224_ema.pth")
    assert_same(loaded(path, "timm:convnext_atto", tmp_path, classes=5), original)


CLIP_VIT = (
    (r"^patch_embed\.proj\.", "conv1."),
    (r"^pos_embed$", "positional_embedding"),
    (r"^cls_token$", "class_embedding"),
    (r"^norm_pre\.", "ln_pre."),
    (r"^norm\.", "ln_post."),
    (r"^blocks\.(\d+)\.norm", r"transformer.resblocks.\1.ln_"),
    (r"^blocks\.", "transformer.resblocks."),
    (r"attn\.qkv\.", "attn.in_proj_"),
    (r"attn\.proj\.", "attn.out_proj."),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
)


def open_clip_tower(module):
    names = renamed(module.state_dict(), *CLIP_VIT)
    # open_clip keeps the projection as a matrix without bias, and has no axes for the batch.
    names["proj"] = names.pop("head.weight").T
    names.pop("head.bias")
    names["positional_embedding"] = names["positional_embedding"][0]
    names["class_embedding"] = names["class_embedding"][0, 0]
    return names


@pytest.mark.parametrize("prefix", ["visual.", ""])
def test_open_clips_vision_transformer_with_the_text_tower_beside_it_or_alone(tmp_path, prefix):
    architecture = "vit_xsmall_patch16_clip_224"
    original = scrambled(timm.create_model(architecture, num_classes=5))
    original.head.bias.data.zero_()
    names = {prefix + key: tensor.contiguous() for key, tensor in open_clip_tower(original).items()}
    assert f"{prefix}transformer.resblocks.0.attn.in_proj_weight" in names
    if prefix:
        names |= {"logit_scale": torch.tensor(4.6), "transformer.resblocks.0.ln_1.weight": torch.zeros(4)}
    path = tmp_path / "open_clip_model.safetensors"
    save_file(names, path)
    assert_same(loaded(path, f"timm:{architecture}", tmp_path, classes=5), original, size=224)


def small_clip_resnet():
    """OpenAI's RN50 with one block in each stage and an eighth of its channels."""
    config = model_cfgs["resnet50_clip"]
    blocks = tuple(replace(block, d=1, c=block.c // 8) for block in config.blocks)
    return ByobNet(replace(config, blocks=blocks, stem_chs=tuple(c // 4 for c in config.stem_chs)), num_classes=64, img_size=64)


def test_openais_clip_resnet_in_half_precision(tmp_path):
    original = scrambled(small_clip_resnet().half().float())
    names = renamed(
        original.state_dict(),
        (r"^stem\.conv(\d)\.conv", r"visual.conv\1"),
        (r"^stem\.conv(\d)\.bn", r"visual.bn\1"),
        (r"^stages\.0", "visual.layer1"),
        (r"^stages\.1", "visual.layer2"),
        (r"^stages\.2", "visual.layer3"),
        (r"^stages\.3", "visual.layer4"),
        (r"conv(\d)_(?:1x1|kxk)\.conv", r"conv\1"),
        (r"conv(\d)_(?:1x1|kxk)\.bn", r"bn\1"),
        (r"shortcut\.conv\.conv", "downsample.0"),
        (r"shortcut\.conv\.bn", "downsample.1"),
        (r"^head\.pos_embed", "visual.attnpool.positional_embedding"),
        (r"^head\.([qkv])\.", r"visual.attnpool.\1_proj."),
        (r"^head\.proj\.", "visual.attnpool.c_proj."),
    )
    assert {"visual.conv1.weight", "visual.layer1.0.downsample.0.weight", "visual.attnpool.k_proj.bias"} <= set(names)
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in names.items()}
    half |= {"input_resolution": torch.tensor(224), "transformer.resblocks.0.ln_1.weight": torch.zeros(4)}
    module = small_clip_resnet().eval()
    load_checkpoint(module, save(half, tmp_path / "RN50.pt"), "timm:resnet50_clip")
    exact = {key: tensor.float() for key, tensor in original.half().state_dict().items()}
    assert all(torch.equal(tensor.float(), exact[key]) for key, tensor in module.state_dict().items())


def test_the_robust_resnet_without_its_normaliser_and_attacker(tmp_path):
    original = scrambled(timm.create_model("resnet50"))
    inner = original.state_dict()
    state = {f"module.model.{key}": tensor for key, tensor in inner.items()}
    state |= {f"module.attacker.model.{key}": tensor for key, tensor in inner.items()}
    for normaliser in ("module.normalizer", "module.attacker.normalize"):
        state |= {f"{normaliser}.new_mean": torch.zeros(3, 1, 1), f"{normaliser}.new_std": torch.ones(3, 1, 1)}
    content = {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "epoch": 105}
    path = save(content, tmp_path / "resnet50_l2_eps3.ckpt")
    section = ModelSection(source="imi:robust_resnet50", checkpoint=path.name)
    model = load_model(section, tmp_path, 1)
    assert (model.source, model.input_size) == ("imi:robust_resnet50", 224)
    assert_same(model.module, original)
    sums = {}
    model.module.get_submodule("layer1.0.act3.sum").register_forward_hook(lambda _m, _i, output: sums.update(sum=output))
    with torch.inference_mode():
        model.module(torch.rand(1, 3, 64, 64))
    # The residual sum before its ReLU: a mean over space can be negative there.
    assert sums["sum"].min() < 0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "best": torch.tensor(0.9)},
        lambda state: {"model_state_dict": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {
            "model": {f"_orig_mod.model.{key}": tensor for key, tensor in state.items()},
            "args": argparse.Namespace(lr=1),
        },
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"state_dict": {key: torch.zeros_like(tensor) for key, tensor in state.items()}, "state_dict_ema": state},
        lambda state: {"ema": {"decay": 0.99, "shadow": state}},
    ],
)
def test_what_frameworks_wrap_around_a_state_dict_is_taken_off(tmp_path, wrap):
    original = scrambled(timm.create_model("test_resnet", num_classes=5))
    path = save(wrap(dict(original.state_dict())), tmp_path / "model.pth")
    assert_same(loaded(path, "timm:test_resnet", tmp_path, classes=5), original)


def test_pickles_of_the_old_kind_are_read_too(tmp_path):
    original = scrambled(timm.create_model("test_resnet", num_classes=5))
    path = save(original.state_dict(), tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    assert_same(loaded(path, "timm:test_resnet", tmp_path, classes=5), original)


def test_safetensors_are_known_by_their_content(tmp_path):
    original = scrambled(timm.create_model("test_resnet", num_classes=5))
    save_file(original.state_dict(), tmp_path / "weights.bin")
    assert_same(loaded(tmp_path / "weights.bin", "timm:test_resnet", tmp_path, classes=5), original)


def test_a_pruned_network_is_another_model(tmp_path):
    dense = scrambled(timm.create_model("test_resnet", num_classes=5))
    save_file(dense.state_dict(), tmp_path / "dense.safetensors")
    prune.l1_unstructured(dense.layer1[0].conv1, "weight", amount=0.5)
    path = save(dense.state_dict(), tmp_path / "pruned.pth")
    assert "layer1.0.conv1.weight_mask" in torch.load(path)
    assert_same(loaded(path, "timm:test_resnet", tmp_path, classes=5), dense)
    section = ModelSection(source="timm:test_resnet", layers=("*",), classes=5)
    digests = {
        load_model(section.model_copy(update={"checkpoint": name}), tmp_path, 1).weights_sha256
        for name in ("dense.safetensors", "pruned.pth")
    }
    assert len(digests) == 2


class Dangerous:
    def __reduce__(self):
        return print, ("this pickle runs code",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_with_what_to_do(tmp_path, zipped, capsys):
    path = save({"model": {}, "extra": Dangerous()}, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        VisionError, match=r"bad\.pth: this pickle wants to run code .*print\).* convert it to safetensors"
    ) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value) and capsys.readouterr().out == ""


def test_a_whole_module_is_refused_as_well(tmp_path):
    with pytest.raises(VisionError, match=r"wants to run code when it is loaded \(torch\.nn\.modules\.linear\.Linear\)"):
        read_weights(save(nn.Linear(2, 2), tmp_path / "module.pt"))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_a_torchscript_program_is_answered_with_how_to_convert_it(tmp_path):
    # OpenAI's own RN50.pt is one.
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "RN50.pt"))
    with pytest.raises(VisionError, match=r"RN50\.pt: this is a TorchScript program.* torch\.jit\.load\(path\)\.state_dict\(\)"):
        read_weights(tmp_path / "RN50.pt")


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04broken", b"\x80\x02broken"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(VisionError, match=r"bad\.pth: this is no checkpoint that PyTorch can read"):
        read_weights(tmp_path / "bad.pth")


def test_a_file_without_weights_is_named(tmp_path):
    for content, kind in [([1, 2], "list"), ({"epoch": 3}, "dict"), ({"state_dict": {}}, "dict")]:
        with pytest.raises(VisionError, match=rf"this is a {kind} without weights, not a state dict"):
            read_weights(save(content, tmp_path / "empty.pth"))


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(VisionError, match=r"this checkpoint can't be read \(Is a directory\)"):
        read_weights(tmp_path)


def test_weights_of_another_architecture_that_timms_filter_chokes_on_are_refused(tmp_path):
    resnet = timm.create_model("test_resnet", num_classes=5)
    path = save(resnet.state_dict(), tmp_path / "resnet.pth")
    for source in ("timm:convnext_atto", "timm:test_vit", "timm:test_byobnet"):
        with pytest.raises(
            VisionError, match=rf"aren't the weights of {source}: .*; and \d+ more\. Correct source or checkpoint"
        ):
            loaded(path, source, tmp_path)
