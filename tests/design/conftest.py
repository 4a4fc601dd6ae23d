import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crowd_imi.design.plan import make_plan
from crowd_imi.files import write_atomically
from crowd_imi.plan import Plan, load_plan
from crowd_imi.study import Study, load_study
from tests.design.photographs import write_photo_pack
from tests.tiny import STUDY_TOML, write_pack, write_study

SMALL_TOML = (
    STUDY_TOML.replace("units = 6\nnull = 2\nresponses = 3", "units = 3\nnull = 1\nresponses = 2")
    .replace("units = 6\nresponses = 2", "units = 4\nresponses = 1")
    .replace("batches = 4", "batches = 2")
    .replace("trials = 6\ncatch = 2", "trials = 4\ncatch = 1")
)
"""Two natural tasks and a synthetic one, of 4 main trials and a catch trial."""
PHOTO_TOML = (
    STUDY_TOML.replace("units = 6\nnull = 2\nresponses = 3", "units = 5\nnull = 1\nresponses = 2")
    .replace("units = 6\nresponses = 2", "units = 6\nresponses = 1")
    .replace("batches = 4", "batches = 2")
    .replace("image_size = 32", "image_size = 64")
)
"""Two natural tasks and a synthetic one, of 6 main trials and 2 catch trials."""


def write_practice(folder: Path, size: int = 40, *, trials: int = 5) -> Path:
    """Practice trials of single colours with some noise, in a size of their own."""
    rng = np.random.default_rng(3)
    lines = []
    for number in range(1, trials + 1):
        for name in [f"{side}/{place}" for side in ("min", "max") for place in range(9)] + ["query_min", "query_max"]:
            pixels = rng.integers(100, 140, (size, size, 3), dtype=np.uint8)
            pixels[..., 0 if "max" in name else 2] = 255
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            write_atomically(folder / str(number) / f"{name}.png", buffer.getvalue())
        obvious = str(number < trials).lower()
        lines.append(f'[[trials]]\nfolder = "{number}"\nobvious = {obvious}\nmin = "blue"\nmax = "red"\n')
    write_atomically(folder / "practice.toml", "\n".join(lines).encode())
    return folder


@pytest.fixture
def practice(tmp_path: Path) -> Path:
    return write_practice(tmp_path / "practice")


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """tests.tiny's study with its pack; only to be read."""
    study = write_study(tmp_path_factory.mktemp("tiny"))
    write_pack(study)
    return study


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A small study, planned; only to be read."""
    study = write_study(tmp_path_factory.mktemp("planned") / "study", SMALL_TOML)
    write_pack(study)
    make_plan(study, practice=write_practice(study.folder / "practice"))
    return study


@pytest.fixture
def study(planned: Study, tmp_path: Path) -> Study:
    """A copy of the small planned study, to do with as one likes."""
    shutil.copytree(planned.folder, tmp_path / "study")
    return load_study(tmp_path / "study")


@pytest.fixture(scope="session")
def photo_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose pack shows photographs, planned; only to be read."""
    study = write_study(tmp_path_factory.mktemp("photographs"), PHOTO_TOML)
    write_photo_pack(study)
    make_plan(study, practice=write_practice(study.folder / "practice"))
    return study


@pytest.fixture(scope="session")
def photo_plan(photo_study: Study) -> Plan:
    return load_plan(photo_study.plan)
