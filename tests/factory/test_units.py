from collections import Counter

import numpy as np

from crowd_imi.factory.units import candidates, null_of, permuted
from crowd_imi.records import Unit
from crowd_imi.vision.layers import UnitLayer

LAYERS = (UnitLayer("narrow", 10, 1), UnitLayer("wide", 1000, 1), UnitLayer("middle", 100, 1))


def test_every_unit_comes_once():
    units = list(candidates("net", LAYERS, 1))
    assert len(units) == len(set(units)) == 1110


def test_layers_are_uniform_however_wide_they_are():
    # First of 300 samples, three layers: 100 each expected, standard deviation √(300 · ⅓ · ⅔) = 8.2; four of them are 33.
    counts = Counter(next(iter(candidates("net", LAYERS, seed))).layer for seed in range(300))
    assert all(67 <= counts[layer.name] <= 133 for layer in LAYERS)


def test_channels_are_uniform_within_a_layer():
    # 400 draws over 4 channels: 100 each, standard deviation 8.7.
    channels = Counter(next(iter(candidates("net", (UnitLayer("only", 4, 1),), seed))).channel for seed in range(400))
    assert all(65 <= channels[channel] <= 135 for channel in range(4))


def test_the_sample_follows_the_seed_and_the_model():
    first = [unit.channel for unit in candidates("net", LAYERS, 1)]
    assert first == [unit.channel for unit in candidates("net", LAYERS, 1)]
    assert first != [unit.channel for unit in candidates("net", LAYERS, 2)]
    assert first != [unit.channel for unit in candidates("other", LAYERS, 1)]


def test_null_units_are_permuted_each_in_its_own_way():
    column = np.arange(50, dtype=np.float32)
    a, b = (null_of(Unit(model="net", layer="x", channel=channel)) for channel in (1, 2))
    assert sorted(permuted(column, a, 1)) == list(column)
    assert not np.array_equal(permuted(column, a, 1), permuted(column, b, 1))
    assert np.array_equal(permuted(column, a, 1), permuted(column, a, 1))
