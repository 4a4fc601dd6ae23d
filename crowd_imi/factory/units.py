"""Which channels are asked about: layer uniform, then channel uniform within it, without repeats."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from crowd_imi.records import Unit
from crowd_imi.seeds import generator
from crowd_imi.vision.layers import UnitLayer


def candidates(model: str, layers: Sequence[UnitLayer], seed: int) -> Iterator[Unit]:
    """All units of a model in the random order in which they are sampled; the first n are a sample of n.

    Every unit is drawn from a layer chosen uniformly among those with channels left, then uniformly within it, so that
    wide layers don't crowd out narrow ones. Arms of one model share the order, hence their units, which lets conditions
    be compared unit by unit.

    Args:
        model: the name in study.toml.
        layers: in a fixed order.
        seed: the study's seed.
    """
    rng = generator(seed, "units", model)
    left = [(layer.name, rng.permutation(layer.channels).tolist()) for layer in layers]
    while left:
        index = int(rng.integers(len(left)))
        name, channels = left[index]
        yield Unit(model=model, layer=name, channel=channels.pop())
        if not channels:
            del left[index]


def null_of(unit: Unit) -> Unit:
    """The null unit that is made of a unit."""
    return unit.model_copy(update={"null": True})


def permuted(column: NDArray[np.float32], null: Unit, seed: int) -> NDArray[np.float32]:
    """A null unit's activations: its unit's, shuffled over the images, every null unit's in an order of its own."""
    return generator(seed, "null", null.key).permutation(column)
