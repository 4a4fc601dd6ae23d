"""The published search and the adaptive one: which weights they try, when they stop, what they keep."""

from dataclasses import replace

import pytest
import torch

from crowd_imi.factory.visualize import Target, Visualiser
from crowd_imi.factory.visualize.ascent import Ascent, Looks
from crowd_imi.factory.visualize.search import (
    FACTOR,
    FIRST_WEIGHT,
    HIGHEST_WEIGHT,
    LOWEST_WEIGHT,
    SETBACK,
    Climbed,
    Patience,
    _Control,
    _Watch,
    _weights,
    adaptive,
    published,
)
from crowd_imi.study import ModelSection, VisualisationSection
from crowd_imi.vision.layers import UnitLayer, describe_layers
from crowd_imi.vision.models import load_model

LAYER = UnitLayer("any", 4, 1, "any")
TARGET = Target(LAYER, 0, "max", 1.0, best=10.0)


def climbed(weakest, alike=0.5, mark=0.0, others=20.0, count=8):
    return Climbed(torch.full((count, 3, 2, 2), mark), Looks((*([others] * (count - 1)), weakest), alike), steps=100)


def searched(feasible, bisections=2):
    """The weights that a search asks for, and what it finds, when weights up to ``feasible`` are."""
    search = _weights(TARGET, bisections)
    asked = [next(search)]
    plain = climbed(15.0, mark=-1.0, count=9)
    try:
        asked.append(search.send(plain))
        while True:
            asked.append(search.send(climbed(11.0 if asked[-1] <= feasible else 9.0, mark=asked[-1])))
    except StopIteration as end:
        return asked, end.value


def test_weights_grow_tenfold_until_one_is_too_much_and_are_then_bisected():
    asked, found = searched(feasible=20.0)
    # 0 is the run without diversity; 100 is too much; √(10 · 100) = 31.6 too; √(10 · 31.6) = 17.8 isn't.
    assert asked == pytest.approx([0, 1, 10, 100, 31.62, 17.78], rel=1e-3)
    assert found.weight == pytest.approx(17.78, rel=1e-3)
    # The ninth is the strongest of the run without diversity, which is first.
    assert found.images[0].unique().item() == -1 and found.images[1:].unique().item() == pytest.approx(17.78, rel=1e-3)
    assert found.passes == 9 * 100 + 5 * 8 * 100


def test_without_success_the_images_are_those_without_diversity():
    asked, found = searched(feasible=0.0)
    assert asked == [0, 1]
    assert found.weight == 0 and found.images.shape[0] == 9 and found.images.unique().item() == -1


def test_nothing_is_bisected_when_the_largest_weight_is_still_feasible():
    asked, found = searched(feasible=1e6)
    assert asked == [0, 1, 10, 100, 1000, 10_000, 100_000] and found.weight == 100_000


@pytest.mark.parametrize(("fall", "stops"), [(0.5, False), (1.0, True)])
def test_a_run_stops_when_its_gradient_no_longer_falls(fall, stops):
    # Halved every 50 steps, the mean over the first half of 100 steps is twice that over the second, above 1.1.
    watch = _Watch(Patience(after=100, window=100, smoothing=0.0))
    watch.norms = [torch.tensor(fall ** (step / 50)) for step in range(101)]
    assert watch.converged() is stops


def test_no_run_stops_before_its_time():
    watch = _Watch(Patience(after=100, window=100))
    watch.norms = [torch.tensor(1.0)] * 100
    assert not watch.converged()


def controlled(*seen):
    """Of a set, after it was looked at at these moments; the photographs' range is 10, from 0."""
    control = _Control(replace(TARGET, span=10.0))
    for each in seen:
        control.see(each)
        control.steer()
    return control


def moment(weakest, others=20.0, alone=20.0, alike=0.5, mark=0.0):
    """Nine images: one made for the unit alone, seven, and the weakest."""
    looks = Looks((alone, *([others] * 7), weakest), alike)
    return Climbed(torch.full((9, 3, 2, 2), mark), looks, steps=100)


@pytest.mark.parametrize(
    ("seen", "factor"),
    [
        (moment(20.0), FACTOR),
        (moment(17.0), FACTOR),  # the eight reach 19.6 of 20 on average: 0.98
        (moment(16.0), 1 / FACTOR),  # all reach the best photograph, and the eight drive the unit less than that
        (moment(9.0), 1 / SETBACK),
        (moment(9.0, others=30.0), 1 / SETBACK),
    ],
)
def test_the_adaptive_weight_grows_while_images_reach_photographs_and_come_near_the_one_made_alone(seen, factor):
    assert controlled(seen).weight == pytest.approx(FIRST_WEIGHT * factor)


def test_the_adaptive_weight_stays_within_limits():
    assert controlled(*[moment(20.0)] * 30).weight == HIGHEST_WEIGHT
    assert controlled(*[moment(9.0)] * 30).weight == LOWEST_WEIGHT


def test_the_adaptive_search_keeps_the_most_different_images_among_those_that_drive_the_unit_enough():
    control = controlled(
        moment(9.0, alike=0.1, mark=1),  # most different, and one doesn't reach the photograph
        moment(12.0, others=15.0, alike=0.2, mark=2),  # all do, and fall short of the image made alone
        moment(20.0, alike=0.5, mark=3, alone=20.2),
        moment(20.0, alike=0.3, mark=4),
        moment(20.0, alike=0.4, mark=5),
    )
    images = control.found(passes=1).images
    assert images[1:].unique().item() == 4
    assert images[0].unique().item() == 3  # the strongest that was made for the unit alone


def test_early_images_that_are_weak_and_unlike_give_way_when_the_one_made_alone_has_grown():
    early = moment(11.0, others=11.0, alone=11.0, alike=0.1, mark=1)  # near to the image made alone, at that time
    late = moment(29.0, others=30.0, alone=30.0, alike=0.6, mark=2)
    assert controlled(early, late).found(passes=1).images[1:].unique().item() == 2
    later = moment(25.0, others=25.0, alone=25.0, alike=0.3, mark=3)  # falls short of the strongest image ever made alone
    assert controlled(early, late, later).found(passes=1).images.unique().tolist() == [2]


def test_where_none_comes_near_the_image_made_alone_the_adaptive_search_keeps_the_strongest():
    seen = ((10.0, 11.0), (10.0, 14.0), (10.0, 12.0), (9.0, 20.0))
    control = controlled(*(moment(weakest, others, mark=mark) for mark, (weakest, others) in enumerate(seen)))
    assert control.found(passes=1).images[1:].unique().item() == 1


def test_where_none_reaches_the_photograph_the_adaptive_search_keeps_the_one_whose_weakest_image_is_strongest():
    control = controlled(*(moment(weakest, mark=mark) for mark, weakest in enumerate((5.0, 8.0, 7.0))))
    assert control.found(passes=1).images[1:].unique().item() == 1


def test_the_adaptive_search_ends_without_diversity(model, monkeypatch):
    weights: list[float] = []
    step = Ascent.step

    def noted(ascent, asked):
        weights.extend(asked)
        return step(ascent, asked)

    monkeypatch.setattr(Ascent, "step", noted)
    (layer,) = describe_layers(model.module, ["layer1.0.conv1"], 32)
    visualiser = Visualiser(model, VisualisationSection(size=32, steps=16))
    (found,) = adaptive(visualiser, [Target(layer, 2, "max", 1.0, best=-100.0)], [1])
    assert all(weights[:14]) and weights[14:] == [0, 0]  # a sixth of 16 steps
    assert found.weight > 0  # that of the last steps in which it counted, if it is their end that is kept


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    section = ModelSection(source="timm:test_resnet", layers=("layer1.0.conv1",), input_size=32)
    return load_model(section, tmp_path_factory.mktemp("model"), 1)


def test_sides_of_several_units_are_searched_together_each_in_its_own_way(model):
    (layer,) = describe_layers(model.module, ["layer1.0.conv1"], 32)
    # A bar that every image reaches, and one that none does.
    targets = [Target(layer, 2, "max", 1.0, best=-100.0), Target(layer, 2, "max", 1.0, best=100.0)]
    visualiser = Visualiser(model, VisualisationSection(size=32, steps=3))
    easy, hopeless = published(visualiser, targets, [1, 2], Patience(), bisections=1)
    assert easy.weight == 100_000 and hopeless.weight == 0
    assert easy.passes == 3 * (9 + 6 * 8) and hopeless.passes == 3 * (9 + 8)
    reached, missed = adaptive(visualiser, targets, [1, 2])
    assert missed.weight == LOWEST_WEIGHT < reached.weight and reached.images.shape == (9, 3, 32, 32)
    assert reached.passes == missed.passes == 27
