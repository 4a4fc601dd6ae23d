"""Which units are asked about: layer uniform, then channel uniform within it, without repeats; or those that are listed."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from crowd_imi.errors import FactoryError
from crowd_imi.records import Unit
from crowd_imi.seeds import generator
from crowd_imi.study import ModelSection
from crowd_imi.vision.layers import UnitLayer, nearest_names


def candidates(model: str, section: ModelSection, layers: Sequence[UnitLayer], seed: int) -> Iterator[Unit]:
    """All units of a model that may be asked about, in the order in which they are; the first n are a sample of n.

    Listed units come in the order of the list. Otherwise every unit is drawn from a layer chosen uniformly among those with
    channels left, then uniformly within it, so that wide layers don't crowd out narrow ones. Arms of one model share the order,
    hence their units, which lets conditions be compared unit by unit.

    Args:
        model: the name in study.toml.
        section: ``[models.NAME]``, whose ``units`` and ``exclude`` count.
        layers: in a fixed order.
        seed: the study's seed.

    Raises:
        FactoryError: a listed or excluded unit isn't there.
    """
    where = f"models.{model}"
    excluded = {unit for written in section.exclude for unit in _named(f"{where}.exclude", model, written, layers)}
    listed = [unit for written in section.units for unit in _named(f"{where}.units", model, written, layers)]
    order = iter(dict.fromkeys(listed)) if section.units else _drawn(model, layers, seed)
    return (unit for unit in order if unit not in excluded)


def _named(key: str, model: str, written: str, layers: Sequence[UnitLayer]) -> Iterator[Unit]:
    """The unit, or a whole layer's units, that a person wrote down."""
    by_name = {layer.name: layer for layer in layers}
    name, _, number = written.rpartition("/")
    if written in by_name:
        return (Unit(model=model, layer=written, channel=channel) for channel in range(by_name[written].channels))
    if name not in by_name or not number.isdecimal():
        nearest = nearest_names(name or written, by_name)
        raise FactoryError(f"{key}: {written!r} is no LAYER/CHANNEL of this model's layers; {nearest}")
    if int(number) >= by_name[name].channels:
        last = by_name[name].channels - 1
        raise FactoryError(f"{key}: {written!r}: channels of {name} go from 0 to {last}; correct the number")
    return iter((Unit(model=model, layer=name, channel=int(number)),))


def _drawn(model: str, layers: Sequence[UnitLayer], seed: int) -> Iterator[Unit]:
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
