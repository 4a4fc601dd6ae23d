"""Machine MIS with each image embedded once, against calling the extractor for every pair of query and reference."""

import hashlib
import io
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crowd_imi.factory.pack import PackWriter, sealed
from crowd_imi.pack import ArmPack, Manifest, ModelProvenance, Pack, UnitPanels, image_path
from crowd_imi.records import Exemplar, Panel, SidePair, Unit
from crowd_imi.rehearsal.demo.photographs import photographs
from crowd_imi.scoring.embeddings import embed
from crowd_imi.scoring.machine import panel_delta
from crowd_imi.study import ModelSection
from crowd_imi.vision.embeddings import TimmExtractor
from crowd_imi.vision.models import load_model

UNITS, BATCHES, TIMED = 2, 11, 3


@dataclass(frozen=True, slots=True)
class Embedding:
    """How both ways did."""

    ratio: float
    images: int
    """Embedded once each by ours."""
    pairs: int
    """Calls of the other way."""


def machine(folder: Path, rounds: int, size: int, units: int = UNITS) -> Embedding:
    """Both ways in alternation on the same panels.

    Args:
        folder: for a pack; empty.
        rounds: how often each is timed.
        size: pixels of the images.
        units: each has 11 panels in two arms.

    Raises:
        SystemExit: the two ways disagree.
    """
    pack = _pack(folder / "pack", size, units)
    section = ModelSection(source="timm:resnet10t", input_size=size)
    extractor = TimmExtractor(load_model(section, folder, seed=0))
    panels = [panel for arm in pack.manifest.arms for entry in arm.units for panel in entry.panels]
    images = list(dict.fromkeys(image for panel in panels for image in _images(panel)))
    extractor.embed(np.zeros((2, size, size, 3), dtype=np.uint8))  # warm up
    once, pairwise = [], []
    for number in range(rounds):
        begun = time.perf_counter()
        vectors = embed(pack, images, extractor, folder / "embeddings")
        deltas = [panel_delta(panel, vectors) for panel in panels]
        once.append(time.perf_counter() - begun)
        shutil.rmtree(folder / "embeddings")
        for place in range(number * TIMED, number * TIMED + TIMED):
            panel = panels[place % len(panels)]
            begun = time.perf_counter()
            pixels = {image: _pixels(pack, image) for image in _images(panel)}
            delta = _pair_by_pair(panel, pixels, extractor)
            pairwise.append(time.perf_counter() - begun)
            if abs(delta - deltas[place % len(panels)]) > 1e-4:
                raise SystemExit(f"the two ways disagree: {delta} and {deltas[place % len(panels)]}")
    ratio = len(panels) * statistics.median(pairwise) / statistics.median(once)
    return Embedding(ratio, len(images), 36 * len(panels))


def _images(panel: Panel) -> Iterator[str]:
    for exemplar in (*panel.references.min, *panel.references.max, panel.queries.min, panel.queries.max):
        yield exemplar.image


def _pixels(pack: Pack, image: str) -> NDArray[np.uint8]:
    with Image.open(pack.image(image)) as file:
        return np.asarray(file.convert("RGB"))


def _pair_by_pair(panel: Panel, pixels: dict[str, NDArray[np.uint8]], extractor: TimmExtractor) -> float:
    """Δ of a panel as a mean over pairs, each of which is embedded anew."""

    def similarity(query: Exemplar, side: tuple[Exemplar, ...]) -> float:
        pairs = [extractor.embed(np.stack([pixels[query.image], pixels[each.image]])) for each in side]
        return float(np.mean([one @ other for one, other in pairs]))

    sides = product((panel.queries.max, panel.queries.min), (panel.references.max, panel.references.min))
    high_max, high_min, low_max, low_min = (similarity(*side) for side in sides)
    return (high_max - high_min) - (low_max - low_min)


def _pack(folder: Path, size: int, units: int) -> Pack:
    """A model's units with natural and with synthetic references, as most models of the published experiment have them."""
    rng = np.random.default_rng(0)
    pictures = [np.asarray(picture.open().convert("RGB")) for picture in photographs().photographs]
    sources: dict[str, str] = {}

    def exemplar(rank: int) -> Exemplar:
        picture = pictures[int(rng.integers(len(pictures)))]
        top, left = (int(rng.integers(0, max(1, edge - size))) for edge in picture.shape[:2])
        content = io.BytesIO()
        Image.fromarray(picture[top : top + size, left : left + size]).resize((size, size)).save(content, "PNG")
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        image_path(folder, digest).parent.mkdir(parents=True, exist_ok=True)
        image_path(folder, digest).write_bytes(content.getvalue())
        sources[digest] = f"crop-{rank}"
        return Exemplar(image=digest, rank=rank, activation=0.0)

    def nine() -> tuple[Exemplar, ...]:
        return tuple(exemplar(rank) for rank in range(9))

    def queries() -> list[SidePair[Exemplar]]:
        return [SidePair(min=exemplar(1), max=exemplar(2)) for _ in range(BATCHES)]

    found: dict[str, list[UnitPanels]] = {"natural-easy": [], "synthetic-easy": []}
    for place in range(units):
        natural = [SidePair(min=nine(), max=nine()) for _ in range(BATCHES)]
        synthetic = [SidePair(min=nine(), max=nine())] * BATCHES
        asked = queries()
        for arm, references in (("natural-easy", natural), ("synthetic-easy", synthetic)):
            panels = [Panel(batch=batch, references=references[batch], queries=asked[batch]) for batch in range(BATCHES)]
            found[arm].append(
                UnitPanels(
                    unit=Unit(model="net", layer="layer", channel=place),
                    panels=tuple(panels),
                    extremes=SidePair(min=synthetic[0].min, max=synthetic[0].max),
                    activation_range=SidePair(min=-1.0, max=1.0),
                )
            )
    arms = tuple(
        ArmPack(arm=f"net-{name}", model="net", condition=name.split("-")[0], difficulty=name.split("-")[1], units=tuple(members))
        for name, members in found.items()
    )
    manifest = Manifest(
        study="pairs",
        seed=0,
        image_size=size,
        image_count=len(sources),
        image_set_sha256="0" * 64,
        licence="as scikit-image's",
        provenance="crops of photographs",
        unreadable=(),
        replacements=(),
        models={"net": ModelProvenance(source="timm:resnet10t", weights_sha256="0" * 64, input_size=size)},
        versions={},
        sources=sources,
        arms=arms,
    )
    PackWriter(folder).finish(sealed(manifest))
    return Pack(folder)
