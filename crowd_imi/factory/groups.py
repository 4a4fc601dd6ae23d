"""Units of one layer that are visualised together: the unit of work, whoever does it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crowd_imi.errors import FactoryError
from crowd_imi.records import Side, SidePair, Unit
from crowd_imi.seeds import seed_for
from crowd_imi.study import VisualisationSection

if TYPE_CHECKING:  # torch takes seconds to load
    from crowd_imi.factory.cluster.bench import Bench
    from crowd_imi.factory.network import Network
    from crowd_imi.factory.visualize import Diverged, Target, Visualisations

SIDES: tuple[Side, ...] = ("min", "max")


@dataclass(frozen=True, slots=True)
class Group:
    """Units of one layer of a model, both sides of each."""

    model: str
    weights_sha256: str
    units: tuple[Unit, ...]
    natural: tuple[SidePair[float], ...]
    """The lowest and highest activation of each unit over the photographs."""
    seed: int
    """The study's."""

    @property
    def name(self) -> str:
        return f"visualising {', '.join(unit.key for unit in self.units)}"

    @property
    def wanted(self) -> list[tuple[Unit, Side]]:
        """In the order in which images are made."""
        return [(unit, side) for unit in self.units for side in SIDES]

    @property
    def seeds(self) -> list[int]:
        """One for each of ``wanted``."""
        return [seed_for(self.seed, "visualisation", unit.key, side) for unit, side in self.wanted]

    def targets(self, network: "Network") -> list["Target"]:
        """One for each of ``wanted``."""
        from crowd_imi.factory.visualize import Target

        layers, natural = network.by_name, dict(zip(self.units, self.natural, strict=True))
        return [
            Target(
                *(layers[unit.layer], unit.channel, side),
                *(float(np.float32(natural[unit].max) - np.float32(natural[unit].min)), natural[unit].side(side)),
            )
            for unit, side in self.wanted
        ]

    def made(self, network: "Network", settings: VisualisationSection) -> "list[Visualisations] | Diverged":
        """Images for each of ``wanted``; or which of them isn't made of numbers any more."""
        from crowd_imi.factory.visualize import Diverged, Visualiser, visualise

        try:
            return visualise(Visualiser(network.model, settings), self.targets(network), self.seeds)
        except Diverged as error:
            return error.with_traceback(None)

    def work(self, bench: "Bench", attempt: int) -> "list[Visualisations] | Diverged":
        """A worker's."""
        network = bench.network(self.model)
        if network.model.weights_sha256 != self.weights_sha256:
            raise FactoryError(
                f"{bench.study.folder}: a worker finds other weights of {self.model} there; let all machines see the same files, "
                "and install the same versions on them"
            )
        return self.made(network, bench.study.file.visualisation)


def cut(units: Sequence[Unit], at_once: int) -> Iterator[tuple[Unit, ...]]:
    """Units of one layer that are visualised together."""
    for layer in dict.fromkeys(unit.layer for unit in units):
        of_layer = [unit for unit in units if unit.layer == layer]
        for begin in range(0, len(of_layer), at_once):
            yield tuple(of_layer[begin : begin + at_once])
