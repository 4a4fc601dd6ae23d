"""The whole chain on one machine: photographs → network → pack → tasks → participants → report."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from crowd_imi.design.plan import make_plan
from crowd_imi.errors import StudyError
from crowd_imi.factory.gallery import write_gallery
from crowd_imi.factory.render import render
from crowd_imi.files import write_atomically
from crowd_imi.pack import Pack
from crowd_imi.progress import Track, silent
from crowd_imi.rehearsal.demo.network import PHASES, Phase, Training, section, train
from crowd_imi.rehearsal.demo.photographs import DemoImages, write_images
from crowd_imi.rehearsal.demo.records import NOTE, Demo
from crowd_imi.rehearsal.records import Cast
from crowd_imi.rehearsal.run import finished, rehearse
from crowd_imi.scoring import machine
from crowd_imi.scoring.machine import PredictedGroup
from crowd_imi.scoring.mis import Group, score
from crowd_imi.scoring.report import write_report
from crowd_imi.scoring.stimuli import layer_order
from crowd_imi.scoring.tables import write
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.study import Study, load_study
from crowd_imi.study_templates import TemplateName, template
from crowd_imi.vision.embeddings import TimmExtractor
from crowd_imi.vision.models import load_model

NAME = "demo"
"""The rehearsal's name: the demo's participants are simulated."""


class _Stopwatch:
    """Tells which step runs, and keeps how long each took."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._begin = time.monotonic()
        self.steps: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return round(time.monotonic() - self._begin, 1)

    @contextmanager
    def __call__(self, name: str, what: str) -> Iterator[None]:
        self._say(what)
        begin = time.monotonic()
        yield
        self.steps[name] = round(time.monotonic() - begin, 1)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the demo is; tests run a smaller one."""

    toml: str
    """The study, without the demo's seed."""
    phases: tuple[Phase, ...] = PHASES
    cast: Cast = field(default_factory=Cast)


def full_scale() -> Scale:
    """The demo as ``crowd-imi demo`` runs it."""
    return Scale(template(TemplateName.DEMO))


def run_demo(
    folder: Path, seed: int, say: Callable[[str], None] = print, track: Track = silent, *, scale: Scale | None = None
) -> Demo:
    """Run the whole chain in ``folder``; what an earlier run has finished there is used again.

    Args:
        folder: the demo study's folder; made when missing.
        seed: of the photographs' regions, the network, the units, the tasks and the participants.
        say: is told each step and what came out.
        track: shows progress within a step.
        scale: the full one unless a test asks for less.

    Raises:
        StudyError: the folder holds another study, or this one with another seed.
    """
    step = _Stopwatch(say)
    scale = scale or full_scale()
    study = begin_study(folder, seed, scale.toml)
    with step("train", "1/6  training a small network on real photographs"):
        images = write_images(study.images, seed)
        training = trained(images, study, seed, track, scale.phases)
    say(
        f"     {training.classes} photographs; accuracy {training.training_accuracy:.2f} on the regions it learned from, "
        f"{training.held_out_accuracy:.2f} on others"
    )
    with step("render", "2/6  rendering the stimuli of its units"):
        render(study, track)
        gallery = write_gallery(study)
    with step("plan", "3/6  laying out tasks and minting sprites"):
        plan = make_plan(study, track)
    with step("predict", "4/6  the trained network looks at the panels that participants will see"):
        predicted = _predicted(study, training.classes, images.crop_size, track)
    with step("rehearse", "5/6  simulated participants take part through the real pages"):
        earlier = finished(study, NAME, plan, seed, scale.cast)
        rehearsal = earlier or rehearse(study, NAME, participants=scale.cast, seed=seed, track=track)
    with step("report", "6/6  scoring and writing the report"):
        report, tables, groups = _reported(study)
    return Demo(
        study=folder,
        report=report,
        units_csv=tables[0],
        models_csv=tables[1],
        gallery=gallery,
        seed=seed,
        seconds=step.seconds,
        steps=step.steps,
        training_accuracy=training.training_accuracy,
        held_out_accuracy=training.held_out_accuracy,
        participants=rehearsal.participants,
        mismatches=rehearsal.mismatches,
        groups=groups,
        predicted=predicted,
    )


def begin_study(folder: Path, seed: int, toml: str) -> Study:
    """The demo's study in ``folder``, written when it isn't there yet.

    Raises:
        StudyError: the folder holds another study, or this one with another seed.
    """
    text = re.sub(r"^seed = .*$", f"seed = {seed}", toml, count=1, flags=re.MULTILINE)
    path = folder / "study.toml"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise StudyError(f"{path}: this is another study, or the demo with another seed or version; name another folder")
    write_atomically(path, text.encode())
    return load_study(folder)


def trained(images: DemoImages, study: Study, seed: int, track: Track = silent, phases: tuple[Phase, ...] = PHASES) -> Training:
    """The trained network's figures; it is trained unless its checkpoint is there already."""
    folder = study.folder / "network"
    checkpoint, note = folder / "trained.safetensors", folder / "training.json"
    if checkpoint.exists() and note.exists():
        return Training.model_validate_json(note.read_bytes())
    training = train(images, checkpoint, seed, track, phases=phases)
    write_atomically(note, training.model_dump_json(indent=1).encode() + b"\n")
    return training


def _predicted(study: Study, classes: int, size: int, track: Track) -> tuple[PredictedGroup, ...]:
    """Machine MIS of every group, in report/predictions.csv, where the report finds it.

    The demo has no network that isn't under study, so its trained one judges itself and the random one.
    """
    network = section(classes, size, study.file.models["trained"].checkpoint)
    similarity = TimmExtractor(load_model(network, study.folder, study.file.study.seed))
    predictions = machine.predict(study, Pack(study.pack), similarity, track)
    machine.write(predictions, study.folder / "report")
    return predictions.groups


def _reported(study: Study) -> tuple[Path, tuple[Path, Path], tuple[Group, ...]]:
    """The report, units.csv and models.csv, and what they say of each group."""
    folder = study.rehearsal(NAME)
    store = Store.open(*database_urls(folder))
    try:
        scores = score(study, store, layer_order(study, store))
        return write_report(study, store, scores, folder / "report", note=NOTE), write(scores, folder / "report"), scores.groups
    finally:
        store.close()
