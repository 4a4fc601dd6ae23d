import shutil
from pathlib import Path

import numpy as np
import pytest

from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.study import Study
from tests import tiny
from tests.scoring import fake


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Study:
    """The tiny study with its pack."""
    study = tiny.write_study(tmp_path_factory.mktemp("tiny"))
    tiny.write_pack(study)
    return study


@pytest.fixture(scope="session")
def template(study: Study, tmp_path_factory) -> Path:
    """A run folder that tests copy: making databases takes longer than most tests."""
    folder = tmp_path_factory.mktemp("template")
    fake.make_store(study, tiny.fake_plan(study), folder).close()
    return folder


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Store:
    """A rehearsal's store with tasks, a posting, and nobody yet."""
    shutil.copytree(template, tmp_path / "run")
    return Store.open(*database_urls(tmp_path / "run"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Study, Store, Path]:
    """A rehearsal of the tiny study that everybody has been through: study, store, run folder."""
    study = tiny.write_study(tmp_path_factory.mktemp("finished"))
    pack = tiny.write_pack(study)
    run = study.rehearsal("first")
    store = fake.make_store(study, tiny.fake_plan(study), run, pack_sha256=pack.digest)
    with store.write() as session:
        fake.fill(session, study, lambda arm, unit: 0.5 if unit.null else 0.9, np.random.default_rng(5))
    return study, store, run
