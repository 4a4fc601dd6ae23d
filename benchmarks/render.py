"""Visualising units, against plain lucent and against the published search.

Speed: ResNet-50's architecture at 224 px, random weights, 8 units × 2 directions, one image each. Plain lucent makes one image at
a time with ``render_vis``, whole network, weight gradients and all; each side works in a process of its own, and they take turns.

Figures
    early_ratio, late_ratio             seconds of a step and image of lucent over ours in bfloat16, the unit's layer being the
                                        first and the last block; not judged where the processor has no bfloat16 instructions
    early_ratio_fp32, late_ratio_fp32   the same in float32
    image_steps_per_s                   of ours in bfloat16, late layer
    activation_ratio                    (reached by us − mean over photographs) / (reached by lucent − the same mean) after as
                                        many steps, on the clean image, mean over units of the demo's trained network
    activation_ratio_bf16               the same, ours in bfloat16; judged as the speeds in bfloat16 are
    diversity_ratio                     seconds of lucent's diversity over ours, with gradients: 9 images, 2,048 channels, 8 × 8
    procedure_ratio                     passes of the published search over those of the adaptive one, both scaled down alike
                                        (steps / 20, 3 bisections), on the demo's trained network
    drive_ratio, alike_ratio            the adaptive search over the published one, means over sides: what activation the nine
                                        images reach (in the unit's range over the photographs: 0 is its weakest, 1 its strongest
                                        for that side), and how alike the eight are that were to differ (the mean cosine between
                                        their Gram matrices)
    published_drive, adaptive_drive     these means
    published_alike, adaptive_alike     these
    published_reached, adaptive_reached   shares of unit sides whose eight images all reach the best photograph
    adaptive_activation, adaptive_diversity   shares of unit sides for which the adaptive search reaches at least 0.98 of the
                                        published one's activation, and images at most as alike (within 0.01)

``--device cuda`` does everything on the GPU. There ``image_steps_per_s`` has a goal and is of a batch as ``render`` makes it:
``at_once`` units × 2 sides × 9 images, with diversity. Beside it stand lucent's, the hours that a published model's 84 units
take, and what an image and step takes (``us_per_image_step``) beside the floor for this network, estimated for an H200: by
arithmetic in bfloat16 (``floor_us_compute``: 16.4 GFLOP) and by bandwidth (``floor_us_memory``: the lower end of 28–56).

``--parts speed activation diversity procedure`` runs some of it, ``--rounds`` and ``--units`` less of it. ``--demo FOLDER`` takes
the network that ``crowd-imi demo FOLDER`` has trained, and trains it there if it isn't there. For the last two parts that network
looks at 32 pixels on a side, as it does in the first half of its training, and visualisations have as many; units are of three
layers whose maps are 8, 4 and 2 positions wide. Both searches compute in bfloat16 where the processor has instructions for it.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.document import document
from crowd_imi.factory.looker import Looker
from crowd_imi.factory.network import load_network
from crowd_imi.factory.units import candidates
from crowd_imi.factory.visualize import Target, Visualisations, Visualiser, visualise
from crowd_imi.factory.visualize.ascent import Ascent
from crowd_imi.factory.visualize.objective import similarity
from crowd_imi.factory.visualize.search import Patience, adaptive, published
from crowd_imi.records import REFERENCES
from crowd_imi.rehearsal.demo.network import PHASES
from crowd_imi.rehearsal.demo.photographs import write_images
from crowd_imi.rehearsal.demo.run import begin_study, full_scale, trained
from crowd_imi.study import ModelSection, Study, VisualisationSection
from crowd_imi.vision.layers import UnitLayer, describe_layers
from crowd_imi.vision.models import LoadedModel, load_model
from crowd_imi.vision.preprocess import read_image

GOALS: dict[str, dict[str, float]] = {
    "early_ratio": {"at_least": 7},
    "late_ratio": {"at_least": 5},
    "early_ratio_fp32": {"at_least": 4},
    "late_ratio_fp32": {"at_least": 2},
    "activation_ratio": {"at_least": 0.98},
    "activation_ratio_bf16": {"at_least": 0.98},
    "diversity_ratio": {"at_least": 100},
    "procedure_ratio": {"at_least": 3},
    "drive_ratio": {"at_least": 1},
    "alike_ratio": {"at_most": 1},
}
GPU_GOALS: dict[str, dict[str, float]] = {"image_steps_per_s": {"at_least": 8000}}
NEEDS_BFLOAT16 = ("early_ratio", "late_ratio", "activation_ratio_bf16")
FLOOR_US = {"floor_us_compute": 16.5, "floor_us_memory": 28.0}
"""Microseconds of an image and step of ResNet-50 at 224 on an H200, forward and the input's gradient; estimates."""
PARTS = ("speed", "activation", "diversity", "procedure")
PACKAGES = ("crowd-imi", "kornia", "numpy", "timm", "torch", "torch-lucent")
LAYERS = {"early": "layer1.0", "late": "layer4.2"}
UNITS = 8
PRECISIONS = {"_bf16": "bfloat16", "_fp32": "float32"}
SIZE = 32
"""Pixels on a side that the demo's network looks at, and of its units' visualisations."""
DEMO_LAYERS = ("layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1")
STEPS = 100
SCALED_PATIENCE = Patience(after=125, window=100)
"""2,500 and 2,000 steps over 20."""
SCALED_STEPS = 1000
"""20,000 over 20."""
ADAPTIVE_STEPS = 170
"""The default's 3,400 over 20."""
BISECTIONS = 3
"""Instead of 7."""
PASSES_PER_UNIT = 1_000_000
"""Of the published search, for the hours of a published model."""


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--units", type=int, default=12, help="of the demo's network")
    parser.add_argument("--demo", type=Path, metavar="FOLDER", help="where the demo's network is, or is kept; else it is trained")
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # lucent takes a GPU wherever it sees one
    elif not torch.cuda.is_available():
        sys.stderr.write("--device cuda: torch finds no GPU here; leave --device out to measure on the processor\n")
        return 1
    bfloat16 = has_bfloat16(options.device)
    figures: dict[str, float] = {}
    more: dict[str, object] = {"rounds": options.rounds, "threads": torch.get_num_threads(), "bfloat16": bfloat16}
    if options.device == "cuda":
        more["gpu"] = torch.cuda.get_device_name()
    if "speed" in options.parts:
        figures |= speed(options.rounds, options.device)
    if "diversity" in options.parts:
        figures["diversity_ratio"] = diversity(options.rounds, options.device)
    if {"activation", "procedure"} & set(options.parts):
        with tempfile.TemporaryDirectory() as folder:
            demo = Demo.trained(options.demo or Path(folder), options.units, DEMO_LAYERS, SIZE, options.device)
            if "activation" in options.parts:
                figures |= activation(demo)
            if "procedure" in options.parts:
                told, sides = procedure(demo)
                figures |= told
                more["sides"] = sides
    told = document(figures, goals(figures, options.device, bfloat16), PACKAGES, **more)
    sys.stdout.write(json.dumps(told, indent=2) + "\n" if options.json else table(told))
    return 0 if told["met"] else 1


def goals(figures: Iterable[str], device: str, bfloat16: bool) -> dict[str, dict[str, float]]:
    """Of the figures that are there."""
    known = GOALS | (GPU_GOALS if device == "cuda" else {})
    return {name: goal for name, goal in known.items() if name in figures and (bfloat16 or name not in NEEDS_BFLOAT16)}


def table(told: dict[str, Any]) -> str:
    """For a person."""
    lines = [f"{name:>24}  {value:10.2f}  {told['goals'].get(name, '')}" for name, value in told["figures"].items()]
    return "\n".join([*lines, "goals met" if told["met"] else "a goal isn't met", ""])


def has_bfloat16(device: str) -> bool:
    """Whether the processor, or the GPU that is used, computes in bfloat16 by itself."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    info = Path("/proc/cpuinfo")
    return info.exists() and any(flag in info.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def speed(rounds: int, device: str) -> dict[str, float]:
    """Ratios of seconds per step and image, the sides taking turns."""
    ours, theirs = _Worker(_our_steps, device), _Worker(_lucent_steps, device)
    seconds: dict[str, list[float]] = defaultdict(list)
    try:
        for turn in range(rounds + 1):
            for depth, layer in LAYERS.items():
                taken = {depth: theirs.seconds(Job(layer, "float32"))}
                taken |= {f"{depth}{suffix}": ours.seconds(Job(layer, precision)) for suffix, precision in PRECISIONS.items()}
                if device == "cuda" and depth == "late":
                    taken["as_rendered"] = ours.seconds(AS_RENDERED)
                for name, each in taken.items() if turn else ():  # the first turn warms up
                    seconds[name].append(each)
    finally:
        ours.end()
        theirs.end()
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    figures = {
        f"{depth}_ratio{suffix.removesuffix('_bf16')}": medians[depth] / medians[f"{depth}{suffix}"]
        for depth in LAYERS
        for suffix in PRECISIONS
    }
    if device == "cpu":
        return figures | {"image_steps_per_s": 1 / medians["late_bf16"]}
    seconds_each = medians["as_rendered"]
    return figures | {
        "image_steps_per_s": 1 / seconds_each,
        "lucent_image_steps_per_s": 1 / medians["late"],
        "hours_for_84_units": 84 * PASSES_PER_UNIT * seconds_each / 3600,
        "us_per_image_step": 1e6 * seconds_each,
        **FLOOR_US,
    }


@dataclass(frozen=True, slots=True)
class Job:
    """Steps of both sides of some units of a layer, in one batch."""

    layer: str
    precision: str
    units: int = UNITS
    images: int = 1
    """Of each side; the first is optimised for the unit alone."""
    diversity: float = 0.0
    """Its weight."""


RENDERED = VisualisationSection()
AS_RENDERED = Job(LAYERS["late"], "bfloat16", RENDERED.at_once, REFERENCES, RENDERED.diversity)
"""A GPU's batch, as ``render`` makes it by default."""


class _Worker:
    """A process that takes steps and says how long one took per image."""

    def __init__(self, work: Callable[[Connection, str], None], device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=work, args=(there, device), daemon=True)
        self._process.start()

    def seconds(self, job: Job) -> float:
        self._here.send(job)
        return float(self._here.recv())

    def end(self) -> None:
        self._here.send(None)
        self._process.join()


def _resnet50(device: str) -> tuple[LoadedModel, dict[str, UnitLayer]]:
    section = ModelSection(source="timm:resnet50", layers=tuple(LAYERS.values()), input_size=224)
    model = load_model(section, Path(), 1, torch.device(device))
    return model, {layer.name: layer for layer in describe_layers(model.module, LAYERS.values(), 224)}


def _our_steps(jobs: Connection, device: str) -> None:
    model, layers = _resnet50(device)
    ascents: dict[Job, Ascent] = {}
    steps = 20 if device == "cuda" else 2
    while (job := jobs.recv()) is not None:
        if job not in ascents:
            targets = [Target(layers[job.layer], channel, side) for channel in range(job.units) for side in ("min", "max")]
            visualiser = Visualiser(model, VisualisationSection(procedure="fixed", precision=job.precision))
            ascents[job] = Ascent(visualiser, targets, range(len(targets)), job.images, alone=1)
        weights = [job.diversity] * 2 * job.units
        ascents[job].step(weights)
        _wait_for(device)
        begun = time.perf_counter()
        for _ in range(steps):
            ascents[job].step(weights)
        _wait_for(device)
        jobs.send((time.perf_counter() - begun) / steps / len(weights) / job.images)


def _wait_for(device: str) -> None:
    """A GPU is given work and asked for nothing until somebody waits."""
    if device == "cuda":
        torch.cuda.synchronize()


def _lucent_steps(jobs: Connection, device: str) -> None:
    """As the published code renders: 256 px, the whole network, weights that ask for gradients."""
    from crowd_imi.factory.visualize.plain import param, render_vis, transform, transforms

    model, _ = _resnet50(device)
    model.module.requires_grad_(True)

    def render(name: str, steps: int) -> float:
        begun = time.perf_counter()
        render_vis(
            model.module,
            f"{name.replace('.', '_')}:0",
            lambda: param.image(256, batch=1, fft=True, decorrelate=True),
            transforms=[*transforms(224), transform.normalize()],
            thresholds=(steps,),
            preprocess=False,
            progress=False,
            show_image=False,
        )
        return time.perf_counter() - begun

    while (job := jobs.recv()) is not None:
        once = render(job.layer, 1)
        jobs.send((render(job.layer, 5) - once) / 4)


def diversity(rounds: int, device: str) -> float:
    """Lucent's seconds over ours for the diversity term and its gradient: 9 images, 2,048 channels, 8 × 8 positions."""
    from crowd_imi.factory.visualize.plain import objectives

    features = torch.randn(9, 2048, 8, 8, generator=torch.Generator().manual_seed(0)).to(device)

    def ours(given: Tensor) -> Tensor:
        return similarity(given.flatten(2)[None]).sum()

    def lucents(given: Tensor) -> Tensor:
        return -objectives.diversity("any")(lambda _: given)

    def seconds(term: Callable[[Tensor], Tensor]) -> float:
        leaf = features.clone().requires_grad_(True)
        _wait_for(device)
        begun = time.perf_counter()
        term(leaf).backward()
        _wait_for(device)
        return time.perf_counter() - begun

    seconds(ours)
    pairs = [(seconds(lucents), seconds(ours)) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs) / statistics.median(pair[1] for pair in pairs)


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo's trained network, and some of its units with their activations on the demo's photographs."""

    model: LoadedModel
    targets: Sequence[Target]
    """Both sides of each unit."""
    means: Sequence[float]
    """Over the photographs, one per target."""

    @classmethod
    def trained(cls, folder: Path, count: int, layers: Sequence[str], input_size: int, device: str | None = None) -> Self:
        """Train the network, unless it is there.

        Args:
            folder: of the demo's study.
            count: of units.
            layers: theirs; lucent's diversity is slow where they are wide.
            input_size: pixels on a side that it looks at.
            device: where it looks; the first GPU, if there is one, by default.
        """
        study = begin_study(folder, 1, full_scale().toml)
        trained(write_images(study.images, 1), study, 1, phases=PHASES)
        section = study.file.models["trained"].model_copy(update={"layers": tuple(layers), "input_size": input_size})
        study = replace(study, file=study.file.model_copy(update={"models": {"trained": section}}))
        network = load_network(study, "trained", device)
        order = candidates("trained", section, network.layers, 1)
        units = [next(order) for _ in range(count)]
        columns = _columns(study, Looker(network.model, network.layers, units))
        targets, means = [], []
        for unit, column in zip(units, columns.T, strict=True):
            for side, best in (("min", column.min()), ("max", column.max())):
                targets.append(Target(network.by_name[unit.layer], unit.channel, side, float(np.ptp(column)), float(best)))
                means.append(float(column.mean()))
        return cls(network.model, targets, means)

    def made(self, settings: VisualisationSection, **changed: object) -> list[Visualisations]:
        """Visualisations of all targets, those of a layer together."""
        visualiser = Visualiser(self.model, settings.model_copy(update=changed))
        found: dict[int, Visualisations] = {}
        for name in dict.fromkeys(target.layer.name for target in self.targets):
            places = [place for place, target in enumerate(self.targets) if target.layer.name == name]
            of_layer = visualise(visualiser, [self.targets[place] for place in places], places)
            found |= dict(zip(places, of_layer, strict=True))
        return [found[place] for place in range(len(self.targets))]


def _columns(study: Study, looker: Looker) -> NDArray[np.float32]:
    paths = sorted(study.images.rglob("*.png"))
    pixels = np.stack([read_image(path, 64) for path in paths])
    return np.concatenate([looker.look(pixels[begin : begin + 64])[1] for begin in range(0, len(pixels), 64)])


def activation(demo: Demo) -> dict[str, float]:
    """How far ours get of what lucent reaches in as many steps, on one side of each unit, in turn the lower and the upper."""
    places = [place for place in range(len(demo.targets)) if place % 4 in {0, 3}]
    demo = replace(demo, targets=[demo.targets[place] for place in places], means=[demo.means[place] for place in places])
    settings = VisualisationSection(procedure="fixed", size=SIZE, steps=STEPS, diversity=0.0)
    lucents = demo.made(settings, engine="lucent")
    figures = {}
    for name, precision in (("activation_ratio", "float32"), ("activation_ratio_bf16", "bfloat16")):
        ours = demo.made(settings, precision=precision)
        ratios = [
            (statistics.mean(our.activations) - mean) / (statistics.mean(their.activations) - mean)
            for our, their, mean in zip(ours, lucents, demo.means, strict=True)
        ]
        figures[name] = statistics.mean(ratios)
    return figures


def procedure(demo: Demo) -> tuple[dict[str, float], list[dict[str, object]]]:
    """The published search and the adaptive one, both scaled down alike."""
    precision: Literal["bfloat16", "float32"] = "bfloat16" if has_bfloat16(demo.model.device.type) else "float32"
    settings = VisualisationSection(procedure="fixed", size=SIZE, steps=SCALED_STEPS, precision=precision)
    shorter = replace(Visualiser(demo.model, settings), settings=settings.model_copy(update={"steps": ADAPTIVE_STEPS}))
    sides = []
    for name in dict.fromkeys(target.layer.name for target in demo.targets):
        places = [place for place, target in enumerate(demo.targets) if target.layer.name == name]
        targets = [demo.targets[place] for place in places]
        theirs = published(Visualiser(demo.model, settings), targets, places, SCALED_PATIENCE, BISECTIONS)
        ours = adaptive(shorter, targets, places)
        for target, their, our in zip(targets, theirs, ours, strict=True):
            sides.append(_compared(demo.model, target, their.images, our.images) | {"theirs": their.passes, "ours": our.passes})
    figures = {
        f"{whose}_{what}": statistics.mean(side[f"{short}_{what}"] for side in sides)
        for whose, short in (("published", "their"), ("adaptive", "our"))
        for what in ("drive", "alike", "reached")
    }
    figures |= {
        "procedure_ratio": sum(side["theirs"] for side in sides) / sum(side["ours"] for side in sides),
        "drive_ratio": figures["adaptive_drive"] / figures["published_drive"],
        "alike_ratio": figures["adaptive_alike"] / figures["published_alike"],
        "adaptive_activation": statistics.mean(side["our_drive"] >= 0.98 * side["their_drive"] for side in sides),
        "adaptive_diversity": statistics.mean(side["our_alike"] <= side["their_alike"] + 0.01 for side in sides),
    }
    return figures, sides


def _compared(model: LoadedModel, target: Target, theirs: Tensor, ours: Tensor) -> dict[str, Any]:
    """The mean drive of nine images, how alike eight of them are, and whether these all reach the best photograph."""
    from crowd_imi.factory.visualize.ascent import look

    told: dict[str, Any] = {"unit": target.name}
    for whose, images in (("their", theirs), ("our", ours)):
        (seen,) = look(model, [target], images[None], alone=1)
        told[f"{whose}_drive"] = target.drive(statistics.mean(seen.activations))
        told[f"{whose}_alike"] = seen.alike
        told[f"{whose}_reached"] = all(map(target.reaches, seen.activations[1:]))
    return told


if __name__ == "__main__":
    sys.exit(main())
