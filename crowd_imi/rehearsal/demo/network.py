"""The demo's network: a small one that learns which photograph a crop comes from, in about a minute on two cores."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch.nn import functional

from crowd_imi.files import write_atomically
from crowd_imi.progress import Track, silent
from crowd_imi.records import Record
from crowd_imi.rehearsal.demo.photographs import DemoImages, LabelledImages, Pixels
from crowd_imi.seeds import generator, seed_for
from crowd_imi.study import ModelSection
from crowd_imi.vision.models import LoadedModel, load_model
from crowd_imi.vision.preprocess import as_tensor, standardise, to_input

ARCHITECTURE = "resnet10t"
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training; early ones use small crops, which cost less and teach colours and textures as well."""

    steps: int
    batch: int
    crop: int
    """Pixels on a side."""


PHASES = (Phase(steps=150, batch=32, crop=32), Phase(steps=150, batch=32, crop=64))


class Training(Record):
    """How training went."""

    steps: int
    seconds: float
    """Wall time."""
    training_accuracy: float
    """Share of right answers on crops of the regions that training cut from."""
    held_out_accuracy: float
    """The same for regions that neither training nor exemplars use."""
    classes: int


def train(
    images: DemoImages, checkpoint: Path, seed: int, track: Track = silent, *, phases: tuple[Phase, ...] = PHASES
) -> Training:
    """Train the network and write its weights as safetensors.

    The same seed gives the same weights on the same machine with the same number of threads.

    Args:
        images: what to learn from.
        checkpoint: written whole or not at all.
        seed: of the weights to begin with, and of the crops.
        track: shows progress in steps.
        phases: how long, on what.
    """
    begin = time.monotonic()
    model = load_model(section(len(images.classes), images.crop_size), checkpoint.parent, seed)
    module = model.module.train().requires_grad_(True)
    steps = sum(phase.steps for phase in phases)
    optimiser = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    rng = generator(seed, "demo", "training")
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "demo", "training"))
        for pixels, labels in track(_batches(images.training, phases, rng), "training the demo's network", steps):
            _step(model, pixels, labels, optimiser)
            schedule.step()
    module.eval()
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    write_atomically(checkpoint, save(weights))
    return Training(
        steps=steps,
        seconds=time.monotonic() - begin,
        training_accuracy=_accuracy(model, _quarters(images.training, images.crop_size), np.tile(images.training.labels, 4)),
        held_out_accuracy=_accuracy(model, images.held_out.pixels, images.held_out.labels),
        classes=len(images.classes),
    )


def section(classes: int, input_size: int, checkpoint: Path | None = None) -> ModelSection:
    """The demo's network as a ``[models.NAME]``; without a checkpoint its weights are random."""
    return ModelSection(
        source=f"timm:{ARCHITECTURE}", layers=("layer*",), checkpoint=checkpoint, classes=classes, input_size=input_size
    )


def _step(model: LoadedModel, pixels: Pixels, labels: NDArray[np.int64], optimiser: torch.optim.Optimizer) -> None:
    # At the crop's own size: a small crop is a smaller view, not a coarser one.
    inputs = standardise(as_tensor(pixels, model), model)
    loss = functional.cross_entropy(model.module(inputs), torch.from_numpy(labels).to(model.device))
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()


def _batches(
    training: LabelledImages, phases: tuple[Phase, ...], rng: np.random.Generator
) -> Iterator[tuple[Pixels, NDArray[np.int64]]]:
    """Crops at random places of random blocks, half of them mirrored; every photograph equally often."""
    blocks = [np.flatnonzero(training.labels == label) for label in np.unique(training.labels)]
    room = training.pixels.shape[1]
    for phase in phases:
        for _ in range(phase.steps):
            chosen = np.array([rng.choice(blocks[label]) for label in rng.integers(len(blocks), size=phase.batch)])
            corners = rng.integers(0, room - phase.crop + 1, size=(phase.batch, 2))
            crops = np.stack(
                [
                    training.pixels[index, top : top + phase.crop, left : left + phase.crop]
                    for index, (top, left) in zip(chosen, corners, strict=True)
                ]
            )
            mirrored = rng.random(phase.batch) < 0.5
            crops[mirrored] = crops[mirrored, :, ::-1]
            yield crops, training.labels[chosen]


def _quarters(training: LabelledImages, crop: int) -> Pixels:
    return np.concatenate([training.pixels[:, top : top + crop, left : left + crop] for top in (0, crop) for left in (0, crop)])


def _accuracy(model: LoadedModel, pixels: Pixels, labels: NDArray[np.int64]) -> float:
    right = 0
    with torch.inference_mode():
        for begin in range(0, len(pixels), 64):
            answers = model.module(to_input(pixels[begin : begin + 64], model)).argmax(1).cpu().numpy()
            right += int((answers == labels[begin : begin + 64]).sum())
    return right / len(pixels)
