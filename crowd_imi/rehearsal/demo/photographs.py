"""The demo's images: crops of the photographs that scikit-image ships, listed in ``stimuli/demo/photographs.toml``.

Every photograph is cut into blocks of two by two crops. A block serves exemplars, training or the held-out check, so no
pixel of a photograph is in two of them, and no two exemplars overlap.
"""

import importlib.util
import io
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from crowd_imi.errors import RehearsalError
from crowd_imi.files import write_atomically
from crowd_imi.records import Record
from crowd_imi.resources import resource
from crowd_imi.seeds import generator

EXEMPLAR_SHARE = 0.6
TRAINING_SHARE = 0.3
"""Of the blocks of every photograph; the rest is held out."""
MIN_CONTRAST = 4.0
"""Standard deviation of grey values, 0–255; a plainer crop (night sky, the margin of a scan) shows nobody anything."""

Pixels = NDArray[np.uint8]


class Photograph(Record):
    """One entry of photographs.toml."""

    name: str
    file: str
    """Below ``skimage/data``."""
    size: tuple[int, int]
    """Width and height in pixels."""
    window: int = Field(ge=16)
    """Side of a crop in the photograph's pixels."""
    licence: str
    credit: str
    source: str

    def open(self) -> Image.Image:
        """The photograph in RGB.

        Raises:
            RehearsalError: scikit-image doesn't hold it, or holds another one under this name.
        """
        path = _skimage_data() / self.file
        try:
            with Image.open(path) as image:
                image.load()
        except OSError as error:
            raise RehearsalError(f"{path}: the demo's photograph can't be read ({error}); reinstall scikit-image") from None
        if image.size != self.size:
            raise RehearsalError(
                f"{path}: this is {image.width}×{image.height} px where {self.size[0]}×{self.size[1]} are expected, so it is "
                "another picture; install scikit-image 0.25 or 0.26"
            )
        return image.convert("RGB")


class PhotographList(Record):
    """photographs.toml."""

    crop_size: int
    photographs: tuple[Photograph, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A square of a photograph, in its pixels."""

    photograph: str
    left: int
    top: int
    side: int

    def overlaps(self, other: "Region") -> bool:
        """Whether the two share a pixel."""
        return (
            self.photograph == other.photograph
            and self.left < other.left + other.side
            and other.left < self.left + self.side
            and self.top < other.top + other.side
            and other.top < self.top + self.side
        )

    def cut(self, image: Image.Image, size: int) -> Image.Image:
        """The region, scaled to ``size`` pixels on a side from its own pixels alone."""
        piece = image.crop((self.left, self.top, self.left + self.side, self.top + self.side))
        return piece.resize((size, size), Image.Resampling.BICUBIC)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A crop that may be shown: its file and where it comes from."""

    path: Path
    region: Region


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Pictures in memory and the photograph each comes from."""

    pixels: Pixels
    """Shape (n, height, width, 3)."""
    labels: NDArray[np.int64]
    """Index into ``DemoImages.classes``, shape (n,)."""
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class DemoImages:
    """What the demo works on."""

    folder: Path
    """Holds the exemplars and nothing else; the study's image folder."""
    crop_size: int
    classes: tuple[str, ...]
    """Names of the photographs."""
    exemplars: tuple[Exemplar, ...]
    training: LabelledImages
    """Blocks of two by two crops (128 px for crops of 64), from which training cuts at random places."""
    held_out: LabelledImages
    """Crops of the blocks that neither exemplars nor training came from."""


def photographs() -> PhotographList:
    """Read ``stimuli/demo/photographs.toml``."""
    with resource("stimuli", "demo", "photographs.toml").open("rb") as file:
        return PhotographList.model_validate(tomllib.load(file))


def credit_lines() -> tuple[str, ...]:
    """One line per photograph: name, credit, licence, source."""
    return tuple(f"{p.name}: {p.credit} ({p.licence}), {p.source}" for p in photographs().photographs)


def write_images(folder: Path, seed: int) -> DemoImages:
    """Cut the photographs: exemplars into ``folder`` as PNG files, the rest into memory.

    The same seed gives the same files; ones that are already there are left as they are.

    Args:
        folder: made when missing.
        seed: decides which blocks serve what.

    Raises:
        RehearsalError: a photograph can't be read or isn't the expected one, or the folder holds other files.
    """
    listed = photographs()
    _refuse_strangers(folder, listed.photographs, seed)
    exemplars: list[Exemplar] = []
    training: list[tuple[Pixels, int, Region]] = []
    held_out: list[tuple[Pixels, int, Region]] = []
    seen: set[bytes] = set()
    for label, photograph in enumerate(listed.photographs):
        image = photograph.open()
        for role, block in assign_blocks(photograph, seed):
            if role == "training":
                training.append((np.asarray(block.cut(image, 2 * listed.crop_size)), label, block))
                continue
            for region in quarters(block):
                crop = region.cut(image, listed.crop_size)
                if contrast(crop) < MIN_CONTRAST or crop.tobytes() in seen:
                    continue
                seen.add(crop.tobytes())
                if role == "held out":
                    held_out.append((np.asarray(crop), label, region))
                else:
                    exemplars.append(Exemplar(_write(folder, crop, region), region))
    return DemoImages(
        folder=folder,
        crop_size=listed.crop_size,
        classes=tuple(photograph.name for photograph in listed.photographs),
        exemplars=tuple(exemplars),
        training=_labelled(training),
        held_out=_labelled(held_out),
    )


def assign_blocks(photograph: Photograph, seed: int) -> Iterator[tuple[str, Region]]:
    """Every block of a photograph with its role: ``exemplar``, ``training`` or ``held out``."""
    side = 2 * photograph.window
    width, height = photograph.size
    blocks = [
        Region(photograph.name, left, top, side)
        for top in range((height % side) // 2, height - side + 1, side)
        for left in range((width % side) // 2, width - side + 1, side)
    ]
    order = generator(seed, "demo", "blocks", photograph.name).permutation(len(blocks))
    exemplars = round(EXEMPLAR_SHARE * len(blocks))
    training = round(TRAINING_SHARE * len(blocks))
    for place, index in enumerate(order):
        role = "exemplar" if place < exemplars else "training" if place < exemplars + training else "held out"
        yield role, blocks[index]


def quarters(block: Region) -> Iterator[Region]:
    """The four crops of a block."""
    half = block.side // 2
    for top in (block.top, block.top + half):
        for left in (block.left, block.left + half):
            yield Region(block.photograph, left, top, half)


def contrast(image: Image.Image) -> float:
    """Standard deviation of an image's grey values, 0–127.5."""
    return float(np.asarray(image.convert("L"), dtype=np.float64).std())


def _write(folder: Path, crop: Image.Image, region: Region) -> Path:
    path = folder / _file_name(region)
    content = io.BytesIO()
    crop.save(content, "PNG")
    if not path.exists() or path.read_bytes() != content.getvalue():
        write_atomically(path, content.getvalue())
    return path


def _refuse_strangers(folder: Path, listed: tuple[Photograph, ...], seed: int) -> None:
    """Other pictures in the folder would be taken for exemplars, crops of another seed among them."""
    if not folder.is_dir():
        return
    blocks = (block for photograph in listed for role, block in assign_blocks(photograph, seed) if role == "exemplar")
    ours = {_file_name(region) for block in blocks for region in quarters(block)}
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    if strangers:
        raise RehearsalError(
            f"{folder}: it holds {len(strangers)} files that aren't the demo's (e.g. {strangers[0]}); name an empty folder"
        )


def _file_name(region: Region) -> str:
    return f"{region.photograph}-{region.left:04d}-{region.top:04d}.png"


def _labelled(pieces: list[tuple[Pixels, int, Region]]) -> LabelledImages:
    return LabelledImages(
        pixels=np.stack([pixels for pixels, _, _ in pieces]),
        labels=np.array([label for _, label, _ in pieces], dtype=np.int64),
        regions=tuple(region for _, _, region in pieces),
    )


@cache
def _skimage_data() -> Path:
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise RehearsalError("the demo's photographs come with scikit-image; install crowd-imi[factory]")
    return Path(spec.origin).parent / "data"
