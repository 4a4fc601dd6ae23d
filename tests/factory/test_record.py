import numpy as np
import pytest
import torch

from crowd_imi.factory.images import find_images
from crowd_imi.factory.record import activations, record
from crowd_imi.records import Unit
from crowd_imi.study import ModelSection
from crowd_imi.vision.layers import describe_layers
from crowd_imi.vision.models import load_model
from crowd_imi.vision.preprocess import read_image, to_input
from tests.factory.conftest import write_pictures


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    section = ModelSection(source="timm:test_resnet", layers=("layer1.0.bn1",), input_size=32)
    return load_model(section, tmp_path_factory.mktemp("model"), 1)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_pictures(folder, 70)
    return find_images(folder, 32, 1)


UNITS = (
    Unit(model="net", layer="layer2.0.conv1", channel=3),
    Unit(model="net", layer="layer1.0.bn1", channel=0),
    Unit(model="net", layer="layer2.0.conv1", channel=1),
)


def test_columns_are_the_means_over_space_in_the_order_of_the_units(model, images):
    layers = describe_layers(model.module, ["layer1.0.bn1", "layer2.0.conv1"], 32)
    recording = record(model, layers, UNITS, images)
    assert recording.columns.shape == (70, 3)
    # By hand for image 65, which is in the second batch: the network up to layer1.0.bn1.
    pixels = read_image(images.folder / images.names[65], 32)
    with torch.inference_mode():
        stem = model.module.maxpool(model.module.act1(model.module.bn1(model.module.conv1(to_input(pixels[None], model)))))
        block = model.module.layer1[0]
        expected = block.bn1(block.conv1(stem))[0, 0].mean()
    assert recording.columns[65, 1] == pytest.approx(float(expected), rel=1e-4, abs=1e-6)


def test_one_units_activations_are_those_of_its_column(model, images):
    layers = describe_layers(model.module, ["layer2.0.conv1", "layer1.0.bn1"], 32)
    recording = record(model, layers, UNITS, images)
    some = np.stack([read_image(images.folder / name, 32) for name in images.names[:5]])
    assert activations(model, layers[0], 3, some) == pytest.approx(recording.columns[:5, 0], rel=1e-4, abs=1e-6)


def test_unreadable_and_equal_images_are_named_and_left_out(model, tmp_path):
    write_pictures(tmp_path, 5)
    (tmp_path / "001.png").write_bytes(b"broken")
    (tmp_path / "004.png").write_bytes((tmp_path / "000.png").read_bytes())
    layers = describe_layers(model.module, ["layer1.0.bn1"], 32)
    recording = record(model, layers, UNITS[1:2], find_images(tmp_path, 32, 1))
    assert recording.names == ("000.png", "002.png", "003.png")
    assert recording.unreadable == ("001.png",)
    assert recording.duplicates == ("004.png",)
    assert recording.columns.shape == (3, 1)
