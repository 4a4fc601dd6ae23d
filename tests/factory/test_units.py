from collections import Counter

import numpy as np
import pytest

from crowd_imi.errors import FactoryError
from crowd_imi.factory.units import candidates, null_of, permuted
from crowd_imi.records import Unit
from crowd_imi.study import ModelSection
from crowd_imi.vision.layers import UnitLayer

SECTION = ModelSection(source="timm:net", layers=("*",))
LAYERS = tuple(UnitLayer(name, width, 1, name) for name, width in (("narrow", 10), ("wide", 1000), ("middle", 100)))


def test_every_unit_comes_once():
    units = list(candidates("net", SECTION, LAYERS, 1))
    assert len(units) == len(set(units)) == 1110


def test_layers_are_uniform_however_wide_they_are():
    # First of 300 samples, three layers: 100 each expected, standard deviation √(300 · ⅓ · ⅔) = 8.2; four of them are 33.
    counts = Counter(next(iter(candidates("net", SECTION, LAYERS, seed))).layer for seed in range(300))
    assert all(67 <= counts[layer.name] <= 133 for layer in LAYERS)


def test_channels_are_uniform_within_a_layer():
    # 400 draws over 4 channels: 100 each, standard deviation 8.7.
    channels = Counter(
        next(iter(candidates("net", SECTION, (UnitLayer("only", 4, 1, "only"),), seed))).channel for seed in range(400)
    )
    assert all(65 <= channels[channel] <= 135 for channel in range(4))


def test_the_sample_follows_the_seed_and_the_model():
    first = [unit.channel for unit in candidates("net", SECTION, LAYERS, 1)]
    assert first == [unit.channel for unit in candidates("net", SECTION, LAYERS, 1)]
    assert first != [unit.channel for unit in candidates("net", SECTION, LAYERS, 2)]
    assert first != [unit.channel for unit in candidates("other", SECTION, LAYERS, 1)]


def test_null_units_are_permuted_each_in_its_own_way():
    column = np.arange(50, dtype=np.float32)
    a, b = (null_of(Unit(model="net", layer="x", channel=channel)) for channel in (1, 2))
    assert sorted(permuted(column, a, 1)) == list(column)
    assert not np.array_equal(permuted(column, a, 1), permuted(column, b, 1))
    assert np.array_equal(permuted(column, a, 1), permuted(column, a, 1))


def chosen(**lists):
    section = SECTION.model_copy(update=lists)
    return [f"{unit.layer}/{unit.channel}" for unit in candidates("net", section, LAYERS, 1)]


def test_listed_units_come_in_their_order_and_once():
    assert chosen(units=("wide/7", "narrow/9", "wide/7", "wide/0")) == ["wide/7", "narrow/9", "wide/0"]


def test_excluded_units_and_layers_never_come():
    left = chosen(exclude=("wide", "middle", "narrow/3"))
    assert sorted(left) == [f"narrow/{channel}" for channel in range(10) if channel != 3]
    assert chosen(units=("wide/7", "narrow/9"), exclude=("wide/7",)) == ["narrow/9"]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"units": ("narrow/10",)}, r"models\.net\.units: 'narrow/10': channels of narrow go from 0 to 9"),
        (
            {"exclude": ("narow/1",)},
            r"models\.net\.exclude: 'narow/1' is no LAYER/CHANNEL of this model's layers; the nearest names are narrow$",
        ),
        ({"units": ("narrow/x",)}, r"models\.net\.units: 'narrow/x' is no LAYER/CHANNEL"),
    ],
)
def test_what_is_not_there_is_named(lists, message):
    with pytest.raises(FactoryError, match=message):
        chosen(**lists)
