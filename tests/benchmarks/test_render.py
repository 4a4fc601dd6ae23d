"""The comparison of visualisations in small: that both sides run, and that every figure a goal names is there."""

import multiprocessing

import pytest
import torch

from benchmarks import render
from crowd_imi.factory.visualize import Target
from crowd_imi.factory.visualize.search import Patience
from crowd_imi.study import ModelSection
from crowd_imi.vision.layers import describe_layers
from crowd_imi.vision.models import load_model


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A small network in the place of the demo's, and few steps."""
    monkeypatch.setattr(render, "STEPS", 3)
    monkeypatch.setattr(render, "SCALED_STEPS", 4)
    monkeypatch.setattr(render, "ADAPTIVE_STEPS", 2)
    monkeypatch.setattr(render, "SCALED_PATIENCE", Patience(after=2, window=2))
    model = load_model(ModelSection(source="timm:test_resnet", layers=("layer1.0.conv1",), input_size=32), tmp_path, 1)
    (layer,) = describe_layers(model.module, ["layer1.0.conv1"], 32)
    targets = [Target(layer, 1, "min", 1.0, -50.0), Target(layer, 1, "max", 1.0, 50.0)]
    return render.Demo(model, targets, [0.0, 0.0])


def test_parts_on_a_trained_network_give_every_figure_that_a_goal_names(demo):
    figures = render.activation(demo)
    told, sides = render.procedure(demo)
    assert {"activation_ratio", "activation_ratio_bf16", "procedure_ratio", "drive_ratio", "alike_ratio"} <= set(figures | told)
    assert (told["published_reached"], told["adaptive_reached"]) == (0, 0)
    assert [side["unit"] for side in sides] == ["layer1.0.conv1/1, min", "layer1.0.conv1/1, max"]
    # No image reaches so far, so that the published search ends with its first weight.
    assert all(9 * 3 + 8 * 3 <= side["theirs"] <= 9 * 4 + 8 * 4 and side["ours"] == 9 * 2 for side in sides)
    assert told["procedure_ratio"] == sum(side["theirs"] for side in sides) / 36


def test_diversity_is_timed_on_both_sides(monkeypatch):
    randn = render.torch.randn
    monkeypatch.setattr(render.torch, "randn", lambda *shape, **given: randn(3, 16, 4, 4, **given))
    assert render.diversity(1, "cpu") > 0


@pytest.fixture
def small(monkeypatch):
    """A small network in the place of ResNet-50; gives the devices that it was asked to look on."""
    devices = []

    def load(section, root, seed, device):
        devices.append(device)
        section = ModelSection(source="timm:test_resnet", layers=tuple(render.LAYERS.values()), input_size=32)
        return load_model(section, root, seed, device)

    monkeypatch.setattr(render, "load_model", load)
    monkeypatch.setattr(render, "LAYERS", {"early": "layer1.0", "late": "layer3.0"})
    return devices


def test_steps_are_taken_on_the_device_that_is_asked_for(small):
    here, there = multiprocessing.Pipe()
    for job in (render.Job("layer3.0", "float32", units=1), render.Job("layer1.0", "bfloat16", 1, 3, 100.0), None):
        here.send(job)
    render._our_steps(there, "cpu")
    assert here.recv() > 0 and here.recv() > 0 and not here.poll()
    assert small == [torch.device("cpu")]


def test_the_demos_network_looks_on_the_device_that_is_asked_for(tmp_path, monkeypatch):
    asked = []

    def load(study, name, device):
        asked.append(device)
        raise LookupError

    monkeypatch.setattr(render, "trained", lambda *given, **more: None)
    monkeypatch.setattr(render, "write_images", lambda *given: None)
    monkeypatch.setattr(render, "load_network", load)
    with pytest.raises(LookupError):
        render.Demo.trained(tmp_path, 1, render.DEMO_LAYERS, 32, "cuda")
    assert asked == ["cuda"]


class Pretended:
    """A worker whose steps take 2 ms an image, or 0.1 ms in a batch as ``render`` makes it."""

    def __init__(self, work, device):
        self.device = device

    def seconds(self, job):
        assert job != render.AS_RENDERED or self.device == "cuda"
        return 1e-4 if job == render.AS_RENDERED else 2e-3

    def end(self):
        pass


def test_on_a_gpu_the_rate_is_of_a_batch_as_it_is_rendered_and_has_the_floor_beside_it_and_a_goal(monkeypatch):
    monkeypatch.setattr(render, "_Worker", Pretended)
    on_cpu, on_gpu = render.speed(1, "cpu"), render.speed(1, "cuda")
    # By default 4 units at once, both sides, nine images: 72.
    batch = render.AS_RENDERED
    assert 2 * batch.units * batch.images == 72 and batch.diversity == 100.0
    assert on_cpu["image_steps_per_s"] == pytest.approx(500) and "floor_us_compute" not in on_cpu
    assert on_gpu["image_steps_per_s"] == pytest.approx(10_000) and on_gpu["lucent_image_steps_per_s"] == pytest.approx(500)
    assert on_gpu["us_per_image_step"] == pytest.approx(100)
    assert (on_gpu["floor_us_compute"], on_gpu["floor_us_memory"]) == (16.5, 28)
    # 84 units × 1,000,000 passes × 0.1 ms = 8,400 s.
    assert on_gpu["hours_for_84_units"] == pytest.approx(8400 / 3600)
    assert "image_steps_per_s" not in render.goals(on_cpu, "cpu", bfloat16=True)
    assert render.goals(on_gpu, "cuda", bfloat16=True)["image_steps_per_s"] == {"at_least": 8000}


def test_what_is_of_bfloat16_is_judged_where_there_are_instructions_for_it():
    ratios = dict.fromkeys(("late_ratio", "late_ratio_fp32", "activation_ratio", "activation_ratio_bf16"), 1.0)
    assert set(render.goals(ratios, "cpu", bfloat16=True)) == set(ratios)
    assert set(render.goals(ratios, "cpu", bfloat16=False)) == {"late_ratio_fp32", "activation_ratio"}


def test_a_gpu_that_is_not_there_ends_it_with_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["render", "--device", "cuda"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert render.main() == 1
    said = capsys.readouterr()
    assert said.err == "--device cuda: torch finds no GPU here; leave --device out to measure on the processor\n" and not said.out
