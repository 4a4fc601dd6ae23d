"""The comparison of visualisations in small: that both sides run, and that every figure a goal names is there."""

import pytest

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
    assert {"activation_ratio", "procedure_ratio"} <= set(figures | told)
    assert [side["unit"] for side in sides] == ["layer1.0.conv1/1, min", "layer1.0.conv1/1, max"]
    # No image reaches so far, so that the published search ends with its first weight.
    assert all(9 * 3 + 8 * 3 <= side["theirs"] <= 9 * 4 + 8 * 4 and side["ours"] == 9 * 2 for side in sides)
    assert told["procedure_ratio"] == sum(side["theirs"] for side in sides) / 36


def test_diversity_is_timed_on_both_sides(monkeypatch):
    randn = render.torch.randn
    monkeypatch.setattr(render.torch, "randn", lambda *shape, **given: randn(3, 16, 4, 4, **given))
    assert render.diversity(1) > 0
