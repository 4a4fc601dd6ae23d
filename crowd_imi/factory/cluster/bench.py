"""What a worker has at hand while it works."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from crowd_imi.factory.crops import CropReader
from crowd_imi.factory.images import study_images
from crowd_imi.factory.network import Network, load_network
from crowd_imi.study import Study


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker works, and for what; goes to it before its first piece."""

    study: Study
    """Its folder has the same path everywhere."""
    device: str
    """``cpu`` or ``cuda:N``."""
    threads: int
    """With which it computes: on a CPU the last bits depend on their number."""
    decoders: int | None = None
    """Threads that decode images; as many as there are cores, by default."""
    crop_cache: Path | None = None


class Bench:
    """One worker's: it keeps the model of its last piece, and the list of images."""

    def __init__(self, place: Place) -> None:
        import torch

        torch.set_num_threads(place.threads)
        self.study = place.study
        self._place = place
        self._network: Network | None = None

    def network(self, name: str) -> Network:
        """A model of the study."""
        if self._network is None or self._network.name != name:
            self._network = None  # a GPU may have no room for two
            self._network = load_network(self.study, name, self._place.device)
        return self._network

    @cached_property
    def crops(self) -> CropReader:
        """Of the study's images."""
        place, size = self._place, self.study.file.panels.image_size
        return CropReader(study_images(self.study), size, place.crop_cache, place.decoders or os.cpu_count())
