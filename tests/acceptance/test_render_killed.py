"""``render`` killed at any moment and run again leaves the pack that an undisturbed run leaves, bit for bit."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crowd_imi.cli.app import app
from crowd_imi.factory import record
from crowd_imi.pack import Pack
from crowd_imi.study import Study
from tests.factory.conftest import STUDY_TOML
from tests.tiny import write_study

IMAGES = 400
TOML = STUDY_TOML.replace("image_size = 32", "image_size = 64").replace("[tasks]", "[recording]\nbatch = 16\n\n[tasks]")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{index:03d}.jpg")
    return folder


def study_in(folder: Path, pictures: Path) -> Study:
    return write_study(folder, TOML.replace('folder = "images"', f'folder = "{pictures}"'))


def render_by_command(folder: str, said: str) -> None:
    """``crowd-imi render``, writing down how far it is after every batch, so that there is something to go on from."""
    written = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(written, 1)
    os.dup2(written, 2)
    record.CHECKPOINT_SECONDS = 0.0
    app(["render", folder])


@cache
def forks() -> ForkServerContext:
    """Makes processes from one that has torch loaded, which takes as long as the rest of a run here."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "timm", "crowd_imi.factory.render"])
    return context


def said(study: Study) -> Path:
    return study.folder / "said.txt"


def begin(study: Study) -> ForkServerProcess:
    process = forks().Process(target=render_by_command, args=(str(study.folder), str(said(study))))
    process.start()
    return process


def render(study: Study) -> str:
    """Undisturbed; the pack's digest."""
    process = begin(study)
    process.join(200)
    assert process.exitcode == 0, said(study).read_text()
    pack = Pack(study.pack)
    assert list(pack.damage()) == []
    return pack.digest


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, pictures) -> str:
    return render(study_in(tmp_path_factory.mktemp("undisturbed"), pictures))


def killed_when(study: Study, due: Callable[[], bool]) -> bool:
    """Run ``render`` and SIGKILL it when something is so; whether it was still running."""
    process = begin(study)
    while process.is_alive() and not due():
        time.sleep(0.001)
    process.kill()  # nothing happens to one that has ended
    process.join()
    return process.exitcode == -signal.SIGKILL


def files(study: Study, pattern: str) -> int:
    return sum(1 for _ in study.folder.glob(pattern))


MOMENTS: dict[str, Callable[[Study], bool]] = {
    "while the first batches are recorded": lambda study: files(study, "recordings/*/*/state.npz") > 0,
    "while images are written": lambda study: files(study, "pack/images/*/*.png") > 20,
    "while the last images are written": lambda study: files(study, "pack/kept/visualisations/*.json") > 1,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_render_goes_on_and_leaves_the_same_pack(tmp_path, pictures, undisturbed, moment):
    study = study_in(tmp_path, pictures)
    assert killed_when(study, lambda: MOMENTS[moment](study))
    assert not (study.pack / "manifest.json").exists()
    assert render(study) == undisturbed


@pytest.mark.soak
def test_render_killed_at_twenty_four_random_moments_leaves_the_same_pack(tmp_path, pictures, undisturbed):
    """Studies killed twice, each time after a random share of what a run takes once it has begun to work."""
    rng = random.Random(0)
    working = seconds_of_work(study_in(tmp_path / "timed", pictures))
    kills = 0
    for number in range(60):  # a run that ends before its kill isn't counted, as happens when the machine gets quieter
        if kills >= 24:
            break
        study = study_in(tmp_path / str(number), pictures)
        for _ in range(2):
            kills += killed_when(study, Later(study, rng.uniform(0, working)))
        assert render(study) == undisturbed
    assert kills >= 24


class Later:
    """True some seconds after a run has begun to write."""

    def __init__(self, study: Study, seconds: float) -> None:
        self._study = study
        self._seconds = seconds
        self._begun: float | None = None
        self._before = self._standing()

    def __call__(self) -> bool:
        if self._begun is None:
            if self._standing() != self._before:
                self._begun = time.monotonic()
            return False
        return time.monotonic() - self._begun > self._seconds

    def _standing(self) -> float:
        return max((path.stat().st_mtime for path in self._study.folder.glob("recordings/*/*/*")), default=0.0)


def seconds_of_work(study: Study) -> float:
    process = begin(study)
    began = Later(study, 0)
    while process.is_alive() and not began():
        time.sleep(0.001)
    begun = time.monotonic()
    process.join()
    return time.monotonic() - begun
