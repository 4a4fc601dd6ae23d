"""Recording against the published way, on the same images: ``python -m benchmarks.record``.

Ours is one pass over the images for all layers, with the k lowest and highest activations of every unit and the whole
columns of a hundred. The published way hooks two layers a pass and keeps whole matrices, so it decodes every image and runs
the network once for every two layers. Both use the same network (ResNet-18, the 40 places that the publication takes units
from), batch, size, number of decoding threads or processes, and precision.

Figures
    ratio           seconds of the published passes (the median of five, alternating with ours, times twenty) over the median
                    of five of ours
    memory_growth   peak memory of a process that records four times as many images, over that of one that records them once:
                    1,536 and 6,144 images of 64 px
    memory_growth_mb  by how much more its peak grows in the pass, after the network is loaded and has seen a batch; whole
                    matrices of 9,600 units would need 177 MB more
    images_per_s    of our pass, with decoding

On a GPU, ``--device cuda --models resnet50 vit_b32 …`` prints images/s of published models against decoding alone, and the
hours that ImageNet's training set would take.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.document import document
from crowd_imi.factory.crops import CropReader
from crowd_imi.factory.network import Network
from crowd_imi.factory.record import Recorder
from crowd_imi.factory.units import candidates
from crowd_imi.image_sets import Files
from crowd_imi.rehearsal.demo.photographs import photographs
from crowd_imi.study import ModelSection, RecordingSection
from crowd_imi.vision.layers import UnitLayer, describe_layers, unit_layers
from crowd_imi.vision.models import LoadedModel, load_model
from crowd_imi.vision.preprocess import read_image
from crowd_imi.vision.published import NINE, SUM

GOALS: dict[str, dict[str, float]] = {"ratio": {"at_least": 15}, "memory_growth": {"at_most": 1.1}}
PACKAGES = ("crowd-imi", "numpy", "pillow", "timm", "torch")
IMAGENET = 1_281_167
ROUNDS = 5
LAYERS = ("layer?.?", "layer?.?.conv?", "layer?.?.bn?")
COLUMNS = 100
K = 132
SIZE = 224
BATCH = 64
FEW, TIMES = 1536, 4
"""Images of the memory's measurement. Kept matrices would be 9,600 units × 4 bytes × 4,608 images = 177 MB more, a sixth of
what torch takes up anyway; at 64 px, so that this many take seconds."""
SMALL = 64

T = TypeVar("T")


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="of the publication's nine: images/s of each, no comparison")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        sys.stdout.write(json.dumps(asdict(_measured(options.peak))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        images = write_photographs(Path(folder, "images"), options.images)
        told = speeds(images, options) if options.models else comparison(images)
    sys.stdout.write(json.dumps(told, indent=2) + "\n" if options.json else table(told))
    return 0 if told["met"] else 1


def write_photographs(folder: Path, count: int, width: int = 500, height: int = 375) -> Path:
    """JPEG files cut out of real photographs, unless asked otherwise about as large as ImageNet's."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pictures = [picture.open() for picture in photographs().photographs]
    pictures = [picture for picture in pictures if picture.width >= width and picture.height >= height] or pictures
    for index in range(count):
        picture = pictures[index % len(pictures)]
        left, top = (int(rng.integers(0, room + 1)) for room in (max(0, picture.width - width), max(0, picture.height - height)))
        picture.crop((left, top, left + width, top + height)).save(folder / f"{index:06d}.jpg", quality=95)
    return folder


def comparison(folder: Path) -> dict[str, Any]:
    """Ours and the published way in alternation, and the memory of ours."""
    section = ModelSection(source="timm:resnet18", layers=LAYERS)
    names = unit_layers(timm.create_model("resnet18"), LAYERS)
    passes = _cut(names, 2)
    model = timm.create_model("resnet18").eval()
    count = len(list(folder.iterdir()))
    _decode(folder)  # warm up: files into the page cache
    ours, theirs = [], []
    for pair in passes[:: len(passes) // ROUNDS]:  # from all over the network, which runs whole for any of them
        ours.append(_record(folder, section, "cpu"))
        theirs.append(_published_pass(model, pair, folder))
    few, many = _memory(FEW), _memory(TIMES * FEW)
    figures = {
        "ratio": len(passes) * statistics.median(theirs) / statistics.median(ours),
        "memory_growth": many.peak / few.peak,
        "memory_growth_mb": (many.grown - few.grown) / 1e6,
        "images_per_s": count / statistics.median(ours),
        "decode_only_images_per_s": count / _decode(folder),
    }
    more = {
        "images": count,
        "layers": len(names),
        "ours_s": ours,
        "published_pass_s": theirs,
        "published_passes": len(passes),
        "threads": torch.get_num_threads(),
        "memory_bytes": {str(FEW): asdict(few), str(TIMES * FEW): asdict(many)},
    }
    return document(figures, GOALS, PACKAGES, **more)


def speeds(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Images per second of published models, beside decoding alone."""
    count = len(list(folder.iterdir()))
    figures = {"decode_only_images_per_s": count / _decode(folder)}
    for name in options.models:
        published = NINE[name]
        layers = tuple(layer for layer in published.layers if SUM not in layer)
        section = ModelSection(source=published.source, layers=layers, input_size=published.input_size)
        _record(folder, section, options.device, options.precision)
        seconds = min(_record(folder, section, options.device, options.precision) for _ in range(3))
        figures[f"{name}_images_per_s"] = count / seconds
        figures[f"{name}_hours_for_imagenet"] = IMAGENET / (count / seconds) / 3600
    if options.device == "cuda":
        figures["peak_gpu_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return document(figures, {}, PACKAGES, images=count, precision=options.precision, gpu=_gpu(options.device))


def _gpu(device: str) -> str | None:
    return torch.cuda.get_device_name() if device == "cuda" else None


def table(told: dict[str, Any]) -> str:
    """For a person."""
    lines = [f"{name:>30}  {value:10.2f}  {told['goals'].get(name, '')}" for name, value in told["figures"].items()]
    return "\n".join([*lines, "goals met" if told["met"] else "a goal isn't met", ""])


def _record(folder: Path, section: ModelSection, device: str, precision: str = "float32") -> float:
    """Seconds of one pass of ours, after the model is loaded."""
    return _pass(folder, section, _loaded_net(section, device), SIZE, precision)


Net = tuple[LoadedModel, tuple[UnitLayer, ...]]


def _loaded_net(section: ModelSection, device: str) -> Net:
    model = load_model(section, Path(), 1)
    if model.device.type != device:
        raise SystemExit(f"the model is on {model.device.type}, not on {device}")
    return model, describe_layers(model.module, unit_layers(model.module, section.layers), model.input_size)


def _pass(folder: Path, section: ModelSection, net: Net, size: int, precision: str = "float32") -> float:
    model, layers = net
    order = candidates("net", section, layers, 1)
    units = [next(order) for _ in range(COLUMNS)]
    names = tuple(sorted(path.name for path in folder.iterdir()))
    recordings = Path(tempfile.mkdtemp())
    try:
        settings = RecordingSection(batch=BATCH, precision=precision)
        recorder = Recorder(recordings, CropReader(Files(folder, names), size), settings, seed=1, k=K)
        begun = time.perf_counter()
        recorder.record(Network("net", model, layers), units)
        return time.perf_counter() - begun
    finally:
        shutil.rmtree(recordings)


def _decode(folder: Path) -> float:
    names = tuple(sorted(path.name for path in folder.iterdir()))
    reader = CropReader(Files(folder, names), SIZE)
    begun = time.perf_counter()
    for _ in reader.read(0, len(names)):
        pass
    return time.perf_counter() - begun


def _cut(things: Sequence[T], size: int) -> list[Sequence[T]]:
    return [things[begin : begin + size] for begin in range(0, len(things), size)]


@dataclass(frozen=True, slots=True)
class Peak:
    """A process's peak memory in bytes."""

    before: int
    """When the network was loaded and had seen one batch."""
    peak: int
    """At the end of a pass."""

    @property
    def grown(self) -> int:
        return self.peak - self.before


def _memory(count: int) -> Peak:
    """What recording so many small images needs, in a process of its own; most are links, so that they take no room."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_photographs(Path(name), min(count, BATCH), SMALL, SMALL)
        written = sorted(folder.iterdir())
        for number in range(len(written), count):
            (folder / f"{number:06d}.jpg").symlink_to(written[number % len(written)])
        command = [sys.executable, "-m", "benchmarks.record", "--peak", name]
        return Peak(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def _measured(folder: Path) -> Peak:
    section = ModelSection(source="timm:resnet18", layers=LAYERS, input_size=SMALL)
    net = _loaded_net(section, "cpu")
    with tempfile.TemporaryDirectory() as batch:
        for path in sorted(folder.iterdir())[:BATCH]:
            Path(batch, path.name).symlink_to(path.resolve())
        _pass(Path(batch), section, net, SMALL)
    before = _own_peak()
    _pass(folder, section, net, SMALL)
    return Peak(before, _own_peak())


def _own_peak() -> int:
    """This process's peak memory in bytes. Not ``getrusage``: there, a child begins with its parent's at its birth."""
    status = Path("/proc/self/status").read_text()
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


class _Crops(Dataset[Tensor]):
    """As a data loader of the published kind reads them."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.iterdir())
        self._mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
        self._std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        pixels = torch.from_numpy(read_image(self._paths[index], SIZE).copy()).permute(2, 0, 1)
        return (pixels.float() / 255 - self._mean) / self._std


def _published_pass(model: nn.Module, names: Sequence[str], folder: Path) -> float:
    """Seconds of one pass for two layers: whole matrices of channel means are kept, and sorted at the end."""
    begun = time.perf_counter()
    kept: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    modules = dict(model.named_modules())
    handles = [modules[name].register_forward_hook(_keeping(kept[name])) for name in names]
    with torch.no_grad():
        for batch in _loaded(folder):
            model(batch)
    for handle in handles:
        handle.remove()
    for matrix in kept.values():
        np.argsort(np.concatenate(matrix), axis=0)
    return time.perf_counter() - begun


def _loaded(folder: Path) -> Iterator[Tensor]:
    return iter(DataLoader(_Crops(folder), batch_size=BATCH, num_workers=os.cpu_count() or 1))


def _keeping(matrix: list[NDArray[np.float32]]) -> Callable[[nn.Module, object, Tensor], None]:
    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        matrix.append(output.clone().mean((2, 3)).numpy())

    return hook


if __name__ == "__main__":
    sys.exit(main())
