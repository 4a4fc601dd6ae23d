"""A study on the local platform, and participants who come to its pages."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask import Flask

from crowd_imi.pages.app import create_app
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.study import Study, load_study
from tests.conftest import MakeStore
from tests.pages.visitor import Visitor
from tests.tiny import STUDY_TOML, fake_plan, write_study


@dataclass
class Run:
    """A study, posted and served."""

    study: Study
    store: Store
    platform: LocalPlatform
    posting: str
    app: Flask
    clock: int | None = None
    submissions: dict[str, str] = field(default_factory=dict)

    def take(self, participant: str) -> str:
        """Take a place on the platform, and return the submission."""
        self.submissions[participant] = self.platform.take(self.posting, participant).id
        return self.submissions[participant]

    def visitor(self, participant: str) -> Visitor:
        """Somebody who has arrived."""
        visitor = Visitor(self.app, self.clock)
        reply = visitor.arrive(participant, self.take(participant), self.posting)
        assert reply.status_code == 303, reply.text
        return visitor


MakeRun = Callable[..., Run]


def serve(study: Study, store: Store, folder: Path) -> Run:
    """Post a study on a local platform, and make its app."""
    platform = LocalPlatform(folder / "local.db")
    platform.set_base_url("http://127.0.0.1:1")
    posting = launch(study, store, platform, Choice(pages_url="http://127.0.0.1")).platform_id
    assert posting is not None
    clock = 1_750_000_000_000 if store.kind is StoreKind.REHEARSAL else None
    return Run(study, store, platform, posting, create_app(study, store, platform, run_folder=folder), clock)


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[MakeRun]:
    """Makes a run on SQLite; study.toml and the kind of store can be chosen."""
    runs: list[Run] = []

    def make(toml: str = STUDY_TOML, kind: StoreKind = StoreKind.STUDY) -> Run:
        study = write_study(tmp_path / "study", toml)
        run = serve(study, create_store(study, fake_plan(study), study.folder, kind), study.folder)
        runs.append(run)
        return run

    yield make
    for run in runs:
        run.store.close()
        run.platform.close()


@pytest.fixture(scope="session")
def posted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that was just posted; making one takes ten times as long as copying it."""
    folder = tmp_path_factory.mktemp("posted") / "study"
    study = write_study(folder)
    run = serve(study, create_store(study, fake_plan(study), folder, StoreKind.STUDY), folder)
    run.store.close()
    run.platform.close()
    return folder


@pytest.fixture
def run(posted: Path, tmp_path: Path) -> Iterator[Run]:
    """A study on SQLite."""
    folder = tmp_path / "study"
    shutil.copytree(posted, folder)
    study, platform = load_study(folder), LocalPlatform(folder / "local.db")
    store = Store.open(*database_urls(folder))
    [place] = platform.open_places()
    yield Run(study, store, platform, place.posting, create_app(study, store, platform, run_folder=folder))
    store.close()
    platform.close()


@pytest.fixture
def run_anywhere(tmp_path: Path, make_store: MakeStore) -> Iterator[Run]:
    """A study on SQLite and, once more, on PostgreSQL."""
    study = write_study(tmp_path / "study")
    run = serve(study, make_store(fake_plan(study)), study.folder)
    yield run
    run.platform.close()
