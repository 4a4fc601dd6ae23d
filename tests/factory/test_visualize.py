import warnings

import numpy as np
import pytest
import torch

from crowd_imi.factory.visualize import Target, Visualiser, diversity, visualise
from crowd_imi.study import ModelSection, VisualisationSection
from crowd_imi.vision.layers import describe_layers
from crowd_imi.vision.models import load_model, weights_sha256

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lucent.optvis import objectives

SETTINGS = VisualisationSection(size=32, steps=12, diversity=0.1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    section = ModelSection(source="timm:test_resnet", layers=("layer1.0.conv1",), input_size=32)
    return load_model(section, tmp_path_factory.mktemp("model"), 1)


@pytest.fixture(scope="module")
def layer(model):
    return describe_layers(model.module, ["layer1.0.conv1"], 32)[0]


@pytest.fixture(scope="module")
def most(model, layer):
    return visualise(Visualiser(model, SETTINGS), Target(layer, 2, "max", 1.0), 5)


@pytest.fixture(scope="module")
def least(model, layer):
    return visualise(Visualiser(model, SETTINGS), Target(layer, 2, "min", 1.0), 5)


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
    short = VisualisationSection(size=32, steps=2, diversity=0.1)
    first, again, other = (visualise(Visualiser(model, short), Target(layer, 2, "max", 1.0), seed) for seed in (1, 1, 2))
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def test_the_model_and_the_callers_randomness_stay_as_they_were(model, layer):
    digest = weights_sha256(model.module)
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    visualise(Visualiser(model, VisualisationSection(size=32, steps=1)), Target(layer, 0, "min", 1.0), 1)
    assert np.random.random() == expected
    assert weights_sha256(model.module) == digest
    assert all(not module._forward_hooks for module in model.module.modules())


@pytest.mark.parametrize("shape", [(4, 6, 3, 3), (4, 20, 2, 2)])
def test_diversity_is_lucents_with_the_sign_turned(shape):
    features = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    # Channels above and below positions take different roads to the same number.
    lucents = objectives.diversity("any")(lambda _layer: features)
    assert float(diversity(features.flatten(2))) == pytest.approx(-float(lucents), rel=1e-4)
