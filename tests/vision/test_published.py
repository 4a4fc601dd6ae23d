import subprocess
import sys
from pathlib import Path

import pytest

from crowd_imi.errors import VisionError
from crowd_imi.study import ModelSection, load_study
from crowd_imi.study_templates import TemplateName, template
from crowd_imi.vision.layers import describe_layers, unit_layers
from crowd_imi.vision.models import outline
from crowd_imi.vision.published import NINE, layer_globs, published_model, resolved


def section(name, **keys):
    needed = NINE[name].checkpoint_needed
    return ModelSection(source=f"imi:{name}", checkpoint=Path("weights") if needed else None, **keys)


def layers(name):
    described = describe_layers(module := outline(section(name)), unit_layers(module, layer_globs(section(name))), 224)
    return {layer.name: layer for layer in described}


# How many layers the authors' test_layer_relevance() takes: GoogLeNet's nine mixed blocks have 6 convolutions each; a
# ResNet's 16 blocks 3 convolutions, 3 norms and a sum (CLIP's: no sum); DenseNet's 98 dense layers 2 + 2 and 3 transitions
# 1 + 1; ConvNeXt's 36 blocks and the transformers' 12 blocks 5 and 6. Units are their channels, added up by hand for these:
# a ResNet's block of stage i (0–3, width w = 64·2^i) has 4 layers of w and 3 of 4w channels, WideResNet's 4 of 2w and 3 of 4w,
# CLIP's 4 of w and 2 of 4w; a transformer's block 5 of 768 and one of 3072.
BLOCKS = list(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True))
EXPECTED = {
    "googlenet": (54, None),
    "resnet50": (112, sum(n * 16 * w for n, w in BLOCKS)),
    "robust_resnet50": (112, sum(n * 16 * w for n, w in BLOCKS)),
    "clip_resnet50": (96, sum(n * 12 * w for n, w in BLOCKS)),
    "wide_resnet50": (112, sum(n * 20 * w for n, w in BLOCKS)),
    "densenet201": (98 * 4 + 3 * 2, None),
    "convnext_b": (36 * 5, sum(n * 8 * w for n, w in zip((3, 3, 27, 3), (128, 256, 512, 1024), strict=True))),
    "vit_b32": (72, 12 * (5 * 768 + 3072)),
    "clip_vit_b32": (72, 12 * (5 * 768 + 3072)),
}


@pytest.mark.parametrize("name", NINE)
def test_each_of_the_nine_has_the_layers_that_counted_as_units(name):
    found = layers(name)
    count, units = EXPECTED[name]
    assert len(found) == count
    assert units is None or sum(layer.channels for layer in found.values()) == units


def test_norms_are_seen_before_the_relu_that_timm_fuses_with_them():
    assert "features.denseblock1.denselayer1.norm1.drop" in layers("densenet201")
    assert not any(name.endswith(("norm1", ".bn")) for name in layers("densenet201"))


def test_the_channels_of_a_layer_are_told_from_its_space():
    found = layers("convnext_b")
    block, hidden = found["stages.0.blocks.0"], found["stages.3.blocks.2.mlp.fc1"]
    assert (block.channels, block.axis) == (128, 1)
    # As a linear layer over (batch, height, width, channels): 4 × 1024.
    assert (hidden.channels, hidden.axis) == (4096, 3)


def test_layers_of_the_study_stand_before_those_of_the_publication():
    assert layer_globs(section("resnet50", layers=("layer4.*",))) == ("layer4.*",)
    assert layer_globs(section("googlenet")) == ("mixed*_pre_relu_conv",)
    assert layer_globs(ModelSection(source="timm:resnet18", units=("layer1.0.conv1/3", "layer1.0.conv1/4"))) == (
        "layer1.0.conv1",
    )


def test_a_published_model_is_fetched_unless_it_has_a_checkpoint():
    assert resolved(section("resnet50")).pretrained
    pruned = resolved(section("resnet50").model_copy(update={"checkpoint": Path("pruned.safetensors")}))
    assert not pruned.pretrained and pruned.source == "timm:resnet50.tv_in1k"


def test_wide_resnet_sees_the_published_size_and_a_study_may_say_otherwise():
    # timm states 176 px for these weights; the publication showed 224.
    assert resolved(section("wide_resnet50")).input_size == 224
    assert resolved(section("wide_resnet50", input_size=160)).input_size == 160


def test_the_robust_resnets_weights_are_asked_for_by_name():
    with pytest.raises(VisionError, match=r"resnet50_l2_eps3\.ckpt of madrylab/robust-imagenet-models .*set checkpoint = "):
        outline(ModelSection(source="imi:robust_resnet50"))


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(VisionError, match="do you mean imi:resnet50\\? the publication's models are googlenet, resnet50, robust"):
        published_model(ModelSection(source="imi:resnet5o"))


def test_other_sources_are_left_as_they_are():
    own = ModelSection(source="networks:make", layers=("conv",))
    assert published_model(own) is None and resolved(own) is own


def test_the_registry_is_read_without_torch():
    code = "import sys, crowd_imi.vision.published; sys.exit('torch' in sys.modules or 'lucent' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_template_has_the_publications_23_arms(tmp_path):
    (tmp_path / "study.toml").write_text(template(TemplateName.IMI))
    file = load_study(tmp_path).file
    assert {model.source for model in file.models.values()} == {f"imi:{name}" for name in NINE}
    arms = {(arm.model, arm.condition, arm.difficulty) for arm in file.arms}
    transformers = {"vit_b32", "clip_vit_b32"}
    harder = {(m, "natural", d) for m in ("resnet50", "clip_resnet50") for d in ("medium", "hard", "very_hard")}
    # 9 natural, 7 synthetic and 7 harder ones.
    assert arms == (
        {(name, "natural", "easy") for name in NINE}
        | {(name, "synthetic", "easy") for name in set(NINE) - transformers}
        | harder
        | {("resnet50", "synthetic", "hard")}
    )
    assert len(file.arms) == 23
