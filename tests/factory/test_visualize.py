import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from crowd_imi.factory.visualize import Diverged, Target, Visualiser, visualise
from crowd_imi.study import ModelSection, VisualisationSection
from crowd_imi.vision.layers import UnitLayer, describe_layers, watched
from crowd_imi.vision.models import load_model, weights_sha256
from crowd_imi.vision.preprocess import to_input
from crowd_imi.vision.readouts import load_readouts


def fixed(**settings):
    return VisualisationSection(procedure="fixed", **settings)


SETTINGS = fixed(size=32, steps=24, diversity=0.1)


def one(model, settings, target, seed):
    return visualise(Visualiser(model, settings), [target], [seed])[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    section = ModelSection(source="timm:test_resnet", layers=("layer1.0.conv1",), input_size=32)
    return load_model(section, tmp_path_factory.mktemp("model"), 1)


@pytest.fixture(scope="module")
def layer(model):
    return describe_layers(model.module, ["layer1.0.conv1"], 32)[0]


@pytest.fixture(scope="module")
def most(model, layer):
    return one(model, SETTINGS, Target(layer, 2, "max", 1.0), 5)


@pytest.fixture(scope="module")
def least(model, layer):
    return one(model, SETTINGS, Target(layer, 2, "min", 1.0), 5)


def test_nine_images_of_the_asked_size_come_strongest_first(most, least):
    for made in (most, least):
        assert made.pixels.shape == (9, 32, 32, 3) and made.pixels.dtype == np.uint8
    assert most.activations[0] == max(most.activations)
    assert least.activations[0] == min(least.activations)


def test_max_images_drive_the_unit_more_than_min_images(most, least):
    assert min(most.activations) > max(least.activations)


def test_no_two_images_are_equal(most):
    assert len({image.tobytes() for image in most.pixels}) == 9


def test_the_same_seed_gives_the_same_images(model, layer, most):
    short = fixed(size=32, steps=2, diversity=0.1)
    first, again, other = (one(model, short, Target(layer, 2, "max", 1.0), seed) for seed in (1, 1, 2))
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def test_the_model_and_the_callers_randomness_stay_as_they_were(model, layer):
    digest = weights_sha256(model.module)
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    one(model, fixed(size=32, steps=1), Target(layer, 0, "min", 1.0), 1)
    assert np.random.random() == expected
    assert weights_sha256(model.module) == digest
    assert all(not module._forward_hooks for module in model.module.modules())


@pytest.mark.parametrize("engine", ["batched", "lucent"])
def test_both_engines_drive_a_unit_up_and_down(model, layer, engine):
    settings = fixed(size=32, steps=12, diversity=0.1, engine=engine)
    targets = [Target(layer, 2, side) for side in ("min", "max")]
    low, high = visualise(Visualiser(model, settings), targets, [5, 6])
    assert max(low.activations) < min(high.activations)
    assert high.passes == 12 * 9 and high.steps == 12 and high.weight == 0.1


def test_a_unit_gets_the_same_images_bit_for_bit_among_the_same_units(model, layer):
    targets = [Target(layer, channel, side) for channel in (1, 2) for side in ("min", "max")]
    first, again = (visualise(Visualiser(model, SETTINGS), targets, [1, 2, 3, 4]) for _ in range(2))
    for one_time, other_time in zip(first, again, strict=True):
        assert np.array_equal(one_time.pixels, other_time.pixels) and one_time.activations == other_time.activations


def test_company_changes_nothing_but_roundings(model, layer):
    targets = [Target(layer, channel, "max") for channel in (1, 2, 3)]
    together = visualise(Visualiser(model, SETTINGS), targets, [1, 2, 3])
    for target, seed, among in zip(targets, (1, 2, 3), together, strict=True):
        alone = one(model, SETTINGS, target, seed)
        # Another batch rounds otherwise, and ascents carry that on: half a grey level on average, after these steps.
        assert np.abs(alone.pixels.astype(int) - among.pixels.astype(int)).mean() < 0.5


def test_bfloat16_reaches_what_float32_reaches(model, layer):
    settings = [fixed(size=32, steps=40, diversity=0.0, precision=name) for name in ("float32", "bfloat16")]
    exact, rough = (one(model, each, Target(layer, 2, "max"), 5) for each in settings)
    assert np.mean(rough.activations) == pytest.approx(np.mean(exact.activations), rel=0.05)


@pytest.mark.parametrize(
    ("source", "deep", "span"), [("timm:test_resnet", "layer4.0.conv2", 0.1), ("timm:test_vit", "blocks.1.mlp.fc1", 1.0)]
)
def test_deep_in_a_network_bfloat16_costs_neither_activation_nor_diversity(source, deep, span, tmp_path):
    network = load_model(ModelSection(source=source, layers=(deep,), input_size=32), tmp_path, 1)
    (layer,) = describe_layers(network.module, [deep], 32)
    targets = [Target(layer, channel, side, span) for channel in (1, 2) for side in ("min", "max")]
    settings = [fixed(size=32, steps=24, diversity=0.1, precision=name) for name in ("float32", "bfloat16")]
    exact, rough = (visualise(Visualiser(network, each), targets, [1, 2, 3, 4]) for each in settings)

    def driven(made):
        return sum(target.sign * np.mean(each.activations) for target, each in zip(targets, made, strict=True))

    assert not np.array_equal(exact[0].pixels, rough[0].pixels)
    assert driven(exact) > 0 and driven(rough) >= 0.95 * driven(exact)
    assert np.mean([each.alike for each in rough]) <= np.mean([each.alike for each in exact]) + 0.05


class Rooted(torch.nn.Module):
    """The root of what is always below zero: it has no value, nor a gradient."""

    def __init__(self):
        super().__init__()
        self.pretrained_cfg = {"input_size": (3, 32, 32)}
        self.conv = torch.nn.Conv2d(3, 2, 1)
        torch.nn.init.constant_(self.conv.bias, -100)
        self.root = torch.nn.Identity()
        self.pool = torch.nn.AvgPool2d(2)

    def forward(self, images):
        return self.pool(self.root(self.conv(images).sqrt()))


def test_what_is_no_number_any_more_is_named(model):
    from dataclasses import replace

    network = replace(model, module=Rooted().eval().requires_grad_(False))
    layer = UnitLayer("pool", 2, 1, "pool")
    with pytest.raises(Diverged, match=r"^pool/1, max: its visualisation gives values that aren't finite \(NaN\) after 24 steps"):
        one(network, SETTINGS, Target(layer, 1, "max"), 5)


LATENT = {"kind": "sae", "weights": "encoder.safetensors"}
KINDS = {
    "neurons": {"kind": "neurons", "position": (3, 4)},
    "directions": {"kind": "directions", "weights": "directions.safetensors"},
    "relu": {**LATENT, "activation": "relu"},
    "topk": {**LATENT, "activation": "topk", "k": 2},
    "jumprelu": {**LATENT, "weights": "jump.safetensors", "activation": "jumprelu"},
    "binary": {**LATENT, "activation": "binary"},
}


def read(model, layer, folder, tensors, settings):
    for name, held in tensors.items():
        save_file(held, folder / f"{name}.safetensors")
    section = ModelSection.model_validate(
        {"source": "timm:test_resnet", "layers": ["*@*"], "readouts": {"r": {"layer": layer.module, **settings}}}
    )
    readouts = load_readouts(section, folder, model.device)
    return describe_layers(model.module, tuple(readouts), 32, readouts)[0]


def encoder(layer, bias):
    weight = torch.randn(layer.channels, 8, generator=torch.Generator().manual_seed(4))
    return {"W_enc": weight, "b_enc": torch.full((8,), bias)}


def activations(model, layer, pixels):
    seen = []
    with torch.inference_mode(), watched(model.module, [layer.module], lambda _, output: seen.append(layer.activations(output))):
        model.module(to_input(pixels, model))
    return seen[0].numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_every_kind_are_driven_up_and_down(model, layer, kind, tmp_path):
    draw = torch.Generator().manual_seed(3)
    tensors = {
        "directions": {"directions": torch.randn(5, layer.channels, generator=draw)},
        "encoder": encoder(layer, 0.0),
        "jump": {**encoder(layer, 0.0), "threshold": torch.full((8,), 0.2)},
    }
    unit = read(model, layer, tmp_path, tensors, KINDS[kind])
    most, least = (one(model, SETTINGS, Target(unit, 1, side, 1.0), 5) for side in ("max", "min"))
    assert np.mean(most.activations) > np.mean(least.activations)
    assert most.activations[0] == max(most.activations)
    # What is told of the images is what recording would see.
    assert most.activations == pytest.approx(activations(model, unit, most.pixels)[:, 1].tolist(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("activation", ["relu", "topk", "jumprelu", "binary"])
def test_a_latent_that_noise_does_not_wake_is_woken(model, layer, activation, tmp_path):
    # In noise, however moved and turned, the encoder gives at most 0.9; less 1.5 that is below zero everywhere. Nothing but
    # the unit pulls, so along its own gradient, which is zero, the images would stay as they began.
    asleep = {"encoder": encoder(layer, -1.5), "jump": {**encoder(layer, -1.5), "threshold": torch.full((8,), 0.01)}}
    unit = read(model, layer, tmp_path, asleep, KINDS[activation])
    began, ended = (one(model, fixed(size=32, steps=steps, diversity=0.0), Target(unit, 1, "max", 1.0), 5) for steps in (1, 80))
    assert max(began.activations) == 0
    assert min(ended.activations) > 0
