"""Images as vectors: what a timm network knows of an image before it names a class."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crowd_imi.errors import VisionError
from crowd_imi.study import ModelSection
from crowd_imi.vision.models import TIMM, LoadedModel, load_model
from crowd_imi.vision.preprocess import Pixels, to_input


class TimmExtractor:
    """The pooled features of a timm network, of unit length: their dot product is the cosine."""

    def __init__(self, model: LoadedModel) -> None:
        """Take the features of a loaded network.

        Raises:
            VisionError: it isn't a network of timm's.
        """
        self._model = model
        self._module: Any = model.module
        self.name = model.source
        described = [model.source, model.weights_sha256, model.input_size, model.mean, model.std]
        self.digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()
        if not (hasattr(self._module, "forward_features") and hasattr(self._module, "forward_head")):
            raise VisionError(f"{model.source}: only networks of timm's say which their pooled features are; take one of those")

    def embed(self, pixels: Pixels) -> NDArray[np.float32]:
        """Vectors of a batch of images.

        Args:
            pixels: shape (n, height, width, 3), 0–255, as stored in the pack.

        Returns:
            Shape (n, features), each row of length 1; zeros where all features are zero.

        Raises:
            VisionError: the network gives maps or several outputs, not a vector per image.
        """
        with torch.inference_mode():
            features = self._module.forward_head(self._module.forward_features(to_input(pixels, self._model)), pre_logits=True)
            if not isinstance(features, Tensor) or features.ndim != 2:
                raise VisionError(f"{self.name}: this network gives no single vector per image; take another one")
            vectors: NDArray[np.float32] = functional.normalize(features.float(), dim=1).cpu().numpy()
        return vectors


def timm_extractor(name: str, checkpoint: Path | None = None, classes: int | None = None) -> TimmExtractor:
    """A network of timm's by name, with its published weights or a checkpoint's.

    Args:
        name: ``timm:NAME``.
        checkpoint: weights on this machine; nothing is fetched then.
        classes: of the checkpoint, where they aren't as many as the architecture's own.

    Raises:
        VisionError: there is no such network, its weights can't be had, or it has no features.
    """
    if not name.startswith(TIMM):
        raise VisionError(f"similarity {name!r} is unknown; write timm:NAME with one of timm's networks, e.g. timm:resnet50")
    section = ModelSection(
        source=name, checkpoint=checkpoint and checkpoint.resolve(), pretrained=not checkpoint, classes=classes
    )
    # The seed is without effect, as all weights are loaded.
    return TimmExtractor(load_model(section, Path(), seed=0))
