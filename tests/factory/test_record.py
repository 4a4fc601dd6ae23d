import logging
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from crowd_imi.errors import FactoryError, VisionError
from crowd_imi.factory import looker as looker_module
from crowd_imi.factory import passes
from crowd_imi.factory.crops import CropReader
from crowd_imi.factory.extremes import ties, values
from crowd_imi.factory.looker import Looker, activations
from crowd_imi.factory.network import Network
from crowd_imi.factory.record import Recorder, hold_together
from crowd_imi.factory.units import null_of
from crowd_imi.image_sets import Files
from crowd_imi.records import Unit
from crowd_imi.study import ModelSection, RecordingSection
from crowd_imi.vision.layers import describe_layers
from crowd_imi.vision.models import load_model
from crowd_imi.vision.preprocess import read_image, to_input
from tests.factory.conftest import write_pictures

UNITS = (
    Unit(model="net", layer="layer2.0.conv1", channel=3),
    Unit(model="net", layer="layer1.0.bn1", channel=0),
    Unit(model="net", layer="layer2.0.conv1", channel=1),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    section = ModelSection(source="timm:test_resnet", layers=("layer1.0.bn1",), input_size=32)
    return load_model(section, tmp_path_factory.mktemp("model"), 1)


@pytest.fixture(scope="module")
def layers(model):
    return describe_layers(model.module, ["layer1.0.bn1", "layer2.0.conv1"], 32)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_pictures(folder, 70)
    return files(folder)


def files(folder):
    return Files(folder, tuple(sorted(path.name for path in folder.iterdir())))


def recorder(folder, images, batch=16, seconds=1000.0, precision="float32"):
    settings = RecordingSection(batch=batch, precision=precision)
    return Recorder(folder, CropReader(images, 32), settings, seed=1, k=9, checkpoint_seconds=seconds)


class Killed(Exception):
    """Stands for the end of the process: nothing behind it runs."""


def killed_after(images_seen):
    """A ``track`` under which a pass dies when that many images have come."""

    def track(things, what, total=None):
        for done, thing in enumerate(things):
            if done == images_seen:
                raise Killed
            yield thing

    return track


def test_columns_are_the_means_over_space(model, layers, images, tmp_path):
    recording = recorder(tmp_path, images).record(Network("net", model, layers), UNITS)
    # By hand for image 65, which is in the fifth batch: the network up to layer1.0.bn1.
    pixels = read_image(images.folder / images.names[65], 32)
    with torch.inference_mode():
        stem = model.module.maxpool(model.module.act1(model.module.bn1(model.module.conv1(to_input(pixels[None], model)))))
        block = model.module.layer1[0]
        expected = block.bn1(block.conv1(stem))[0, 0].mean()
    assert recording.column(UNITS[1])[65] == pytest.approx(float(expected), rel=1e-4, abs=1e-6)
    assert recording.column(UNITS[1]).shape == (70,)


def test_one_units_activations_are_those_of_its_column(model, layers, images, tmp_path):
    recording = recorder(tmp_path, images).record(Network("net", model, layers), UNITS)
    some = np.stack([read_image(images.folder / name, 32) for name in images.names[:5]])
    assert activations(model, layers[1], 3, some) == pytest.approx(recording.column(UNITS[0])[:5], rel=1e-4, abs=1e-6)


def test_extremes_are_the_ends_of_the_ranking(model, layers, images, tmp_path):
    recording = recorder(tmp_path, images).record(Network("net", model, layers), UNITS)
    for unit in UNITS:
        column, kept = recording.column(unit), recording.extremes(unit.layer)
        order = np.lexsort((recording.ties, column))
        for side, expected in (("lowest", order[:9]), ("highest", order[::-1][:9])):
            assert np.array_equal(values(kept[side])[unit.channel], column[expected])
            assert np.array_equal(ties(kept[side])[unit.channel], recording.ties[expected])


@pytest.mark.parametrize("seen", [0, 15, 16, 17, 63, 64, 69])
def test_a_killed_pass_goes_on_and_ends_as_if_nothing_had_happened(model, layers, images, tmp_path, seen):
    whole = recorder(tmp_path / "whole", images).record(Network("net", model, layers), UNITS)
    again = recorder(tmp_path / "killed", images, seconds=0)
    with pytest.raises(Killed):
        again.record(Network("net", model, layers), UNITS, killed_after(seen))
    left = []

    def counting(things, what, total=None):
        left.append(total)
        return iter(things)

    resumed = again.record(Network("net", model, layers), UNITS, counting)
    # Batches of 16 that were checkpointed one by one aren't looked at again.
    assert left == [70 - seen // 16 * 16]
    for file in ("columns", "images"):
        assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes()
    for layer in layers:
        one, other = whole.extremes(layer.name), resumed.extremes(layer.name)
        assert all(np.array_equal(one[side], other[side]) for side in one)


def test_a_pass_killed_inside_a_checkpoint_ends_as_if_nothing_had_happened(model, layers, images, tmp_path, monkeypatch):
    whole = recorder(tmp_path / "whole", images).record(Network("net", model, layers), UNITS)
    again = recorder(tmp_path / "killed", images, seconds=0)
    write, states = passes.write_atomically, []

    def dying(path, content):
        if path.name == "state.npz":
            states.append(path)
            if len(states) == 3:
                raise Killed
        write(path, content)

    with monkeypatch.context() as context:
        context.setattr(passes, "write_atomically", dying)
        with pytest.raises(Killed):
            again.record(Network("net", model, layers), UNITS)
    resumed = again.record(Network("net", model, layers), UNITS)
    for file in ("columns", "images"):
        assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes()


@pytest.mark.parametrize("damage", ["state.npz", "columns", "images", "probe.npz"])
def test_a_damaged_recording_is_made_anew(model, layers, images, tmp_path, damage):
    first = recorder(tmp_path, images).record(Network("net", model, layers), UNITS)
    before = {name: (first.folder / name).read_bytes() for name in ("columns", "images")}
    path = first.folder / damage
    path.write_bytes(path.read_bytes()[:100])
    again = recorder(tmp_path, images).record(Network("net", model, layers), UNITS)
    assert {name: (again.folder / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("seen", [70, 40])
@pytest.mark.parametrize(("damage", "at"), [("columns", 1), ("columns", 4 * 140 + 5), ("images", 50)])
def test_bytes_that_were_overwritten_are_recorded_anew_and_that_is_said(
    model, layers, images, tmp_path, caplog, damage, at, seen
):
    first = recorder(tmp_path, images, seconds=0)
    if seen < 70:
        with pytest.raises(Killed):
            first.record(Network("net", model, layers), UNITS, killed_after(seen))
    whole = recorder(tmp_path / "whole", images).record(Network("net", model, layers), UNITS)
    folder = tmp_path / "net" / whole.folder.name
    if seen == 70:
        first.record(Network("net", model, layers), UNITS)
    with (folder / damage).open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    recorder(tmp_path, images).record(Network("net", model, layers), UNITS)
    assert (folder / damage).read_bytes() == (whole.folder / damage).read_bytes()
    assert [record.message for record in caplog.records] == [
        f"{folder / damage}: damaged since it was written, so all images are looked at again"
    ]


def test_a_network_whose_code_has_changed_is_recorded_anew(model, layers, images, tmp_path, monkeypatch):
    first = recorder(tmp_path, images).record(Network("net", model, layers), UNITS).column(UNITS[0])
    # The same weights and names, and twice the input.
    convert = looker_module.to_input
    monkeypatch.setattr(looker_module, "to_input", lambda pixels, model: 2 * convert(pixels, model))
    second = recorder(tmp_path, images).record(Network("net", model, layers), UNITS).column(UNITS[0])
    assert not np.allclose(first, second, rtol=0.01)


def test_units_that_are_zero_on_most_images_share_few_of_them(model, layers, images, tmp_path):
    """One common order of ties would give every sparse unit, and its null unit, the same min images: a leak."""
    recording = recorder(tmp_path, images).record(Network("net", model, layers), UNITS)
    column = np.zeros(70, dtype=np.float32)
    column[:3] = 1
    orders = [recording.order(unit, column)[:9] for unit in (*UNITS, *map(null_of, UNITS))]
    shared = [len(set(one) & set(other)) for one, other in combinations(orders, 2)]
    # Nine of 67 equal images twice: 9 · 9 / 67 = 1.2 are expected in both.
    assert max(shared) < 6 and all(np.array_equal(recording.order(unit, column)[:9], orders[i]) for i, unit in enumerate(UNITS))


def test_images_that_changed_between_two_passes_are_an_error(model, layers, tmp_path):
    write_pictures(tmp_path / "images", 6)
    first = recorder(tmp_path / "a", files(tmp_path / "images")).record(Network("net", model, layers), UNITS)
    (tmp_path / "images" / "003.png").write_bytes(b"broken")
    second = recorder(tmp_path / "b", files(tmp_path / "images")).record(Network("net", model, layers), UNITS)
    with pytest.raises(FactoryError, match="changed, added or taken away while they were recorded"):
        hold_together(first, second)


def test_an_error_of_the_disk_leaves_no_image_out_for_good(model, layers, images, tmp_path, monkeypatch):
    read = Files.read

    def failing(self, index):
        if index == 20:
            raise OSError(5, "Input/output error", self.names[index])
        return read(self, index)

    again = recorder(tmp_path, images, seconds=0)
    with monkeypatch.context() as context:
        context.setattr(Files, "read", failing)
        with pytest.raises(OSError, match="Input/output error"):
            again.record(Network("net", model, layers), UNITS)
    assert len(again.record(Network("net", model, layers), UNITS).usable) == 70


def test_a_finished_pass_is_not_repeated(model, layers, images, tmp_path):
    first = recorder(tmp_path, images)
    first.record(Network("net", model, layers), UNITS)

    def fail(*_):
        raise AssertionError("looked again")

    first.record(Network("net", model, layers), UNITS, fail)


@pytest.mark.parametrize("change", [{"batch": 8}, {"precision": "bfloat16"}])
def test_another_setting_is_another_recording(model, layers, images, tmp_path, change):
    one = recorder(tmp_path, images).record(Network("net", model, layers), UNITS)
    other = recorder(tmp_path, images, **change).record(Network("net", model, layers), UNITS)
    assert one.folder != other.folder
    # bfloat16 has 8 significant bits, and errors of several layers add up.
    assert other.column(UNITS[0]) == pytest.approx(one.column(UNITS[0]), rel=0.1, abs=0.02)


def test_images_that_cannot_be_read_are_named_and_left_out(model, layers, tmp_path):
    write_pictures(tmp_path / "images", 6)
    (tmp_path / "images" / "001.png").write_bytes(b"broken")
    recording = recorder(tmp_path / "r", files(tmp_path / "images"), batch=4).record(Network("net", model, layers), UNITS)
    assert recording.unreadable == ("001.png",)
    assert [recording.name(index) for index in range(5)] == ["000.png", "002.png", "003.png", "004.png", "005.png"]
    pixels = np.stack([read_image(tmp_path / "images" / recording.name(index), 32) for index in range(5)])
    expected = activations(model, layers[1], 3, pixels)
    assert recording.column(UNITS[0]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert len(recording.hashes) == len(recording.ties) == 5


def test_a_batch_without_a_readable_image_is_no_stumbling_block(model, layers, tmp_path):
    write_pictures(tmp_path / "images", 6)
    for index in (0, 1):
        (tmp_path / "images" / f"00{index}.png").write_bytes(b"broken")
    recording = recorder(tmp_path / "r", files(tmp_path / "images"), batch=2).record(Network("net", model, layers), UNITS)
    assert len(recording.usable) == 4 and np.isfinite(recording.column(UNITS[0])).all()


def test_when_the_gpu_has_no_room_smaller_batches_do_and_that_is_said_once(model, layers, images, monkeypatch, caplog):
    looker = Looker(model, layers, UNITS)
    pixels = np.stack([read_image(images.folder / name, 32) for name in images.names[:16]])
    expected = looker.look(pixels)[1]
    convert = looker_module.to_input

    def limited(pixels, model):
        if len(pixels) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return convert(pixels, model)

    monkeypatch.setattr(looker_module, "to_input", limited)
    with caplog.at_level(logging.WARNING):
        first, second = looker.look(pixels)[1], looker.look(pixels)[1]
    assert np.allclose(first, expected, rtol=1e-4, atol=1e-6) and np.array_equal(first, second)
    assert [record.message for record in caplog.records] == [
        "the GPU's memory is too small for 16 images at a time: going on with 4",
    ]


def test_when_even_one_image_is_too_much_that_is_an_error(model, layers, monkeypatch):
    def full(pixels, model):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(looker_module, "to_input", full)
    with pytest.raises(VisionError, match="too small even for one image"):
        Looker(model, layers, UNITS).look(np.zeros((2, 32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "error", [RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"), MemoryError()]
)
def test_when_the_computers_memory_is_too_small_a_smaller_batch_is_advised(model, layers, images, tmp_path, monkeypatch, error):
    def full(pixels, model):
        raise error

    again = recorder(tmp_path, images)
    again.record(Network("net", model, layers), UNITS[:1])  # so that the probe is there
    convert = looker_module.to_input
    monkeypatch.setattr(
        looker_module, "to_input", lambda pixels, model: convert(pixels, model) if len(pixels) < 16 else full(0, 0)
    )
    with pytest.raises(
        FactoryError, match=r"recording\.batch: the computer's memory is too small for timm:test_resnet .* 16 images"
    ):
        again.record(Network("net", model, layers), UNITS)


class Fickle(nn.Module):
    """Answers to a single image, with which layers are described, in another way than to several."""

    def __init__(self, how):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.last = nn.Identity()
        self.how = how

    def forward(self, images):
        maps = self.conv(images)
        if len(images) == 1 or self.how != "skipped":
            maps = self.relu(maps)
        if len(images) > 1 and self.how == "twice":
            maps = self.relu(maps)
        if len(images) > 1 and self.how == "fails":
            raise ValueError("one by one, please")
        if self.how == "merged":
            maps = maps.reshape(1, -1, 30, 30)
        return self.last(maps)


@pytest.mark.parametrize(
    ("how", "layer", "said"),
    [
        ("skipped", "relu", "layer relu: images don't pass through it each time; name another layer"),
        ("twice", "relu", "layer relu: an image passes through it more than once in one pass; name another layer"),
        ("fails", "relu", r"can't look at 16 images at a time of 32 × 32 pixels in float32 \(ValueError: one by one, please\)"),
        ("merged", "last", r"layer last: its output for 16 images has the shape \(1, 64, 30, 30\), .* 4 units on axis 1; name"),
    ],
)
def test_a_network_that_answers_to_several_images_in_another_way_is_told_in_one_line(model, images, tmp_path, how, layer, said):
    module = Fickle(how).eval()
    fickle = replace(model, module=module)
    described = describe_layers(module, [layer], 32)
    with pytest.raises(VisionError, match=said):
        recorder(tmp_path, images).record(Network("net", fickle, described), (Unit(model="net", layer=layer, channel=0),))
