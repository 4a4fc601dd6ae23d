"""The smallest study that every stage accepts: two arms, random pictures, no torch."""

import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from crowd_imi.factory.gallery import write_gallery
from crowd_imi.factory.pack import PackWriter, sealed
from crowd_imi.files import write_atomically
from crowd_imi.keys import study_key
from crowd_imi.pack import ArmPack, Manifest, ModelProvenance, Pack, UnitPanels, image_path
from crowd_imi.plan import Grid, Plan, PlannedTask, PlannedTrial, PracticeTrial
from crowd_imi.records import Exemplar, Panel, SidePair, Tiles, Unit
from crowd_imi.seeds import generator
from crowd_imi.signoff import sign_off
from crowd_imi.study import Study, load_study

STUDY_TOML = """\
schema = 1

[study]
name = "tiny"
title = "A tiny study"
seed = 7

[images]
folder = "images"
licence = "CC0"

[models.toy]
source = "timm:resnet10t"
layers = ["layer*"]

[[arms]]
model = "toy"
condition = "natural"
units = 6
null = 2
responses = 3

[[arms]]
model = "toy"
condition = "synthetic"
units = 6
responses = 2

[panels]
batches = 4
image_size = 32

[visualisation]
size = 32
procedure = "fixed"
steps = 2

[tasks]
trials = 6
catch = 2

[exclusion]
min_total_seconds = 60
min_row_choices = 1

[pages]
contact = "lab@example.org"
investigator = "The lab"
institution = "The institute"

[pay]
reward = 150
cap = 5000
estimated_minutes = 6
"""

DOT = 8
"""Pixels."""


def write_study(folder: Path, toml: str = STUDY_TOML) -> Study:
    """Write and load study.toml."""
    write_atomically(folder / "study.toml", toml.encode())
    study = load_study(folder)
    study_key(study.key)  # as `plan` makes it
    return study


def write_pack(study: Study) -> Pack:
    """A pack of random pictures: a unit's max images are reddish, its min images bluish.

    Of coarse dots, as the encoder takes half as long for them as for noise.
    """
    rng = generator(study.file.study.seed, "tiny pack")
    sources: dict[str, str] = {}
    size = study.file.panels.image_size

    def exemplar(side: str, rank: int) -> Exemplar:
        coarse = rng.integers(0, 256, (size // DOT, size // DOT, 3), dtype=np.uint8)
        pixels = coarse.repeat(DOT, axis=0).repeat(DOT, axis=1)
        pixels[..., 0 if side == "max" else 2] = 255
        return _store(study.pack, pixels, sources, rank, 1.0 if side == "max" else -1.0)

    def panel(batch: int) -> Panel:
        return Panel(
            batch=batch,
            references=SidePair(
                min=tuple(exemplar("min", 10 * i + batch) for i in range(9)),
                max=tuple(exemplar("max", 999 - 10 * i - batch) for i in range(9)),
            ),
            queries=SidePair(min=exemplar("min", 100 + batch), max=exemplar("max", 800 + batch)),
        )

    arms = []
    for arm in study.file.arms:
        units = [Unit(model=arm.model, layer=f"layer{i % 3}", channel=i) for i in range(arm.units)]
        units += [Unit(model=arm.model, layer="layer0", channel=100 + i, null=True) for i in range(arm.null)]
        arms.append(
            ArmPack(
                arm=arm.id,
                model=arm.model,
                condition=arm.condition,
                difficulty=arm.difficulty,
                units=tuple(
                    UnitPanels(
                        unit=unit,
                        panels=tuple(panel(batch) for batch in range(study.file.panels.batches)),
                        extremes=SidePair(
                            min=tuple(exemplar("min", i) for i in range(8)),
                            max=tuple(exemplar("max", 999 - i) for i in range(8)),
                        ),
                        activation_range=SidePair(min=-1.0, max=1.0),
                    )
                    for unit in units
                ),
            )
        )
    manifest = Manifest(
        study=study.file.study.name,
        seed=study.file.study.seed,
        image_size=size,
        image_count=1000,
        image_set_sha256="0" * 64,
        licence="CC0",
        provenance="random pixels",
        unreadable=(),
        replacements=(),
        models={"toy": ModelProvenance(source="timm:resnet10t", weights_sha256="0" * 64, input_size=size)},
        versions={},
        sources=sources,
        arms=tuple(arms),
    )
    PackWriter(study.pack).finish(sealed(manifest))
    return Pack(study.pack)


def render_anew(study: Study) -> Pack:
    """A pack of the same images and another digest."""
    manifest = Pack(study.pack).manifest.model_copy(update={"provenance": "other random pixels"})
    PackWriter(study.pack).finish(sealed(manifest))
    return Pack(study.pack)


def approve(study: Study) -> None:
    """Sign the pack off, as somebody who has looked through its gallery."""
    sign_off(study, Pack(study.pack), write_gallery(study), datetime.now(UTC))


def _store(pack: Path, pixels: np.ndarray, sources: dict[str, str], rank: int, activation: float) -> Exemplar:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    path = image_path(pack, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    sources[digest] = f"random-{len(sources)}.png"
    return Exemplar(image=digest, rank=rank, activation=activation)


def fake_plan(study: Study) -> Plan:
    """Tasks without looking at a pack, sprites of a few bytes: for tests of what comes after the design."""
    tasks = []
    tiles = Tiles(references=SidePair(min=tuple(range(9)), max=tuple(range(9, 18))), queries=SidePair(min=18, max=19))
    for arm in study.file.arms:
        units = [Unit(model=arm.model, layer=f"layer{i % 3}", channel=i) for i in range(arm.units)]
        units += [Unit(model=arm.model, layer="layer0", channel=100 + i, null=True) for i in range(arm.null)]
        queue = [unit.key for _ in range(arm.responses) for unit in units]
        trials = study.file.tasks.trials
        for number in range(1, study.file.task_count(arm) + 1):
            main = queue[(number - 1) * trials : number * trials]
            planned = [PlannedTrial(kind="main", unit=u, batch=number % 4, sprite="", tiles=tiles) for u in main]
            planned += [
                PlannedTrial(kind="catch", unit=u, batch=-1, sprite="", tiles=tiles) for u in main[: study.file.tasks.catch]
            ]
            named = tuple(
                t.model_copy(update={"sprite": _sprite(study, f"{arm.id}-{number}-{i}")}) for i, t in enumerate(planned)
            )
            tasks.append(PlannedTask(arm=arm.id, number=number, trials=named))
    plan = Plan(
        study=study.file.study.name,
        seed=study.file.study.seed,
        pack_sha256="0" * 64,
        grid=Grid(columns=5, rows=4, tile=32, gutter=8),
        practice=tuple(PracticeTrial(sprite=_sprite(study, f"practice-{i}"), tiles=tiles, obvious=i < 4) for i in range(5)),
        tasks=tuple(tasks),
    )
    plan.save(study.plan)
    return plan


def _sprite(study: Study, name: str) -> str:
    token = hashlib.sha256(name.encode()).hexdigest()[:32]
    study.sprites.mkdir(exist_ok=True)
    (study.sprites / f"{token}.avif").write_bytes(token.encode())
    return f"{token}.avif"
