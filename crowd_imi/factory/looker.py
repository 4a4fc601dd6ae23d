"""What the layers of a model answer to images."""

import logging
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crowd_imi.errors import VisionError
from crowd_imi.records import Unit
from crowd_imi.vision.layers import REPEATED, UnitLayer, run, watched
from crowd_imi.vision.models import LoadedModel
from crowd_imi.vision.preprocess import Pixels, to_input

Column = NDArray[np.float32]

log = logging.getLogger(__name__)


class Looker:
    """Sees what the layers of a model answer to images."""

    def __init__(
        self, model: LoadedModel, layers: Sequence[UnitLayer], units: Sequence[Unit], precision: str = "float32"
    ) -> None:
        self._model = model
        self._layers: dict[str, list[tuple[int, UnitLayer]]] = defaultdict(list)
        places = {layer.name: place for place, layer in enumerate(layers)}
        for place, layer in enumerate(layers):
            self._layers[layer.module].append((place, layer))
        self._units = [(places[unit.layer], unit.channel) for unit in units]
        self._count = len(layers)
        self._dtype = getattr(torch, precision)
        self._at_once: int | None = None

    def look(self, pixels: Pixels) -> tuple[list[Tensor], Column]:
        """All units' activations per layer, each (images, units), on the device; and the sampled units' (images, units).

        Raises:
            VisionError: the GPU has no room for a single image, the network fails, or a layer doesn't answer once to every
                image as it did when it was described.
        """
        small: int | None = None
        while True:
            size = small or self._at_once or len(pixels)
            try:
                parts = [self._seen(pixels[begin : begin + size]) for begin in range(0, len(pixels), size)]
                seen = [torch.cat(layer) for layer in zip(*parts, strict=True)]
                columns = torch.stack([seen[place][:, channel] for place, channel in self._units], dim=1).cpu().numpy()
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise VisionError(
                        f"{self._model.source}: the GPU's memory is too small even for one image; free it, or hide the GPU with "
                        "CUDA_VISIBLE_DEVICES= to compute on the processor"
                    ) from None
                small = size // 2
                torch.cuda.empty_cache()
            else:
                if small is not None:
                    log.warning("the GPU's memory is too small for %d images at a time: going on with %d", len(pixels), small)
                    self._at_once = small
                return seen, columns

    def _seen(self, pixels: Pixels) -> list[Tensor]:
        seen: dict[int, Tensor] = {}

        def see(name: str, output: Tensor) -> None:
            for place, layer in self._layers[name]:
                if place in seen:
                    raise VisionError(f"layer {layer.module}: {REPEATED}")
                seen[place] = layer.answers(output, len(pixels))

        device = self._model.device.type
        mixed = torch.autocast(device, dtype=self._dtype, enabled=self._dtype != torch.float32)
        with torch.inference_mode(), mixed, watched(self._model.module, self._layers, see):
            run(self._model.module, to_input(pixels, self._model), str(self._dtype).removeprefix("torch."))
        missing = [name for name, layers in self._layers.items() if layers[0][0] not in seen]
        if missing:
            raise VisionError(f"layer {missing[0]}: images don't pass through it each time; name another layer")
        return [seen[place] for place in range(self._count)]


def activations(model: LoadedModel, layer: UnitLayer, channel: int, pixels: Pixels) -> Column:
    """One unit's activation on some stored images, shape (images,)."""
    return Looker(model, (layer,), (Unit(model="any", layer=layer.name, channel=channel),)).look(pixels)[1][:, 0]
