"""A recording that a crew shares: whole batches of the images are recorded by workers, and put together here in their order.

Each worker writes into a folder of its own, as a pass of its own; this process takes finished ones over. So the result has the
same bytes as a pass over everything, as batches are the same and what is kept of extremes is a total order.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crowd_imi.errors import FactoryError
from crowd_imi.factory.cluster.crew import Crew
from crowd_imi.factory.extremes import Extremes
from crowd_imi.factory.passes import Computed, Pass
from crowd_imi.progress import Track, silent
from crowd_imi.records import Unit

if TYPE_CHECKING:
    from crowd_imi.factory.cluster.bench import Bench

SHARDS = 64
"""At most so many: each writes all units' extremes, 100 MB and more of a large network."""
SHARDS_FOLDER = "shards"
"""Within a recording's."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Some whole batches of a study's images, for a worker to record; it gives the folder where they are."""

    model: str
    weights_sha256: str
    images_sha256: str
    """The set's, with times of change: workers may see other files under the same path."""
    units: tuple[Unit, ...]
    folder: Path
    """The whole recording's."""
    images: range
    """Places in the set."""
    computed: Computed
    seed: int
    k: int
    checkpoint_seconds: float

    @property
    def name(self) -> str:
        return f"recording images {self.images.start}–{self.images.stop - 1}"

    def work(self, bench: "Bench", attempt: int) -> Path:
        """Record them, or go on where a killed run stopped.

        Raises:
            FactoryError: the worker sees other images or other weights.
        """
        network, crops = bench.network(self.model), bench.crops
        for what, theirs, ours in (
            ("weights", network.model.weights_sha256, self.weights_sha256),
            ("images", crops.digest, self.images_sha256),
        ):
            if theirs != ours:
                raise FactoryError(
                    f"{bench.study.folder}: a worker finds other {what} there; let all machines see the same files, with the "
                    "same times of change, and install the same versions on them"
                )
        folder = self.folder / SHARDS_FOLDER / f"{self.images.start}-{self.images.stop}.{attempt}"
        Pass(
            *(folder, crops, network, self.units, self.computed),
            *(self.seed, self.k, self.checkpoint_seconds, self.images),
        ).run(silent, self.name)
        return folder


def run_in_shards(whole: Pass, crew: Crew, track: Track, what: str) -> None:
    """Do a pass by shards, or what a killed run has left of it.

    Args:
        whole: over all images of the set.
        crew: whose workers see the recording's folder, and the images, under the same paths.
        track: shows progress in images.
        what: is being done.
    """
    extremes, done = whole.begin()[1:]
    shards = [_shard(whole, images) for images in _cut(whole, done)]
    for _ in track(_taken_over(whole, shards, crew, extremes), what, len(whole.images) - done):
        pass


def _cut(whole: Pass, done: int) -> Iterator[range]:
    """The same for any number of workers, so that what a killed run's have left is found again."""
    total, batch = len(whole.images), whole.computed.batch
    size = batch * max(1, -(-total // (batch * SHARDS)))
    for begin in range(0, total, size):
        end = min(begin + size, total)
        if end > done:
            yield range(max(begin, done), end)


def _taken_over(whole: Pass, shards: Sequence[Shard], crew: Crew, extremes: list[Extremes]) -> Iterator[int]:
    """Images of finished shards; a shard is taken over when all before it are."""
    finished: dict[int, Path] = {}
    following = 0
    for place, folder in crew.do(shards):
        finished[place] = folder
        while following in finished:
            part = finished.pop(following)
            whole.take_over(whole.over(part, shards[following].images), extremes)
            shutil.rmtree(part)
            following += 1
        yield from shards[place].images


def _shard(whole: Pass, images: range) -> Shard:
    return Shard(
        model=whole.network.name,
        weights_sha256=whole.network.model.weights_sha256,
        images_sha256=whole.crops.digest,
        units=whole.units,
        folder=whole.folder.resolve(),
        images=images,
        computed=whole.computed,
        seed=whole.seed,
        k=whole.k,
        checkpoint_seconds=whole.checkpoint_seconds,
    )
