"""A model of a study with those of its layers that the study asks about."""

from dataclasses import dataclass

import torch

from crowd_imi.study import Study
from crowd_imi.vision.layers import UnitLayer, describe_layers, unit_layers
from crowd_imi.vision.models import LoadedModel, load_model
from crowd_imi.vision.published import layer_globs
from crowd_imi.vision.readouts import load_readouts


@dataclass(frozen=True, slots=True)
class Network:
    """What looks at images, and where its units are."""

    name: str
    """As in ``[models.NAME]``."""
    model: LoadedModel
    layers: tuple[UnitLayer, ...]
    """In the network's order."""

    @property
    def by_name(self) -> dict[str, UnitLayer]:
        """Its layers."""
        return {layer.name: layer for layer in self.layers}


def load_network(study: Study, name: str, device: str | None = None) -> Network:
    """Load a model and describe its layers.

    Args:
        study: names it.
        name: as in ``[models.NAME]``.
        device: ``cpu`` or ``cuda:N``; the first GPU, if there is one, by default.

    Raises:
        VisionError: the model or its layers can't be used.
    """
    section = study.file.models[name]
    model = load_model(section, study.folder, study.file.study.seed, None if device is None else torch.device(device))
    readouts = load_readouts(section, study.folder, model.device)
    names = unit_layers(model.module, layer_globs(section), readouts, listed=bool(section.units))
    return Network(name, model, describe_layers(model.module, names, model.input_size, readouts))
