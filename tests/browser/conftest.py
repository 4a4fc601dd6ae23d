import dataclasses
import json
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from crowd_imi.design.plan import make_plan
from crowd_imi.plan import Plan
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.resources import resource
from crowd_imi.store import Store, StoreKind
from crowd_imi.study import Study
from tests.tiny import STUDY_TOML, write_pack, write_study

PRACTICE_TRIALS = 2
"""Fewer than the real five, as each takes three seconds of the page's own delays."""

TOML = (
    STUDY_TOML.replace('[[arms]]\nmodel = "toy"\ncondition = "synthetic"\nunits = 6\nresponses = 2\n', "")
    .replace("units = 6\nnull = 2\nresponses = 3", "units = 4\nresponses = 30")
    .replace("trials = 6\ncatch = 2", "trials = 4\ncatch = 2")
    .replace("batches = 4", "batches = 10")  # catch trials for all of them
)
"""One arm with thirty tasks of six trials: one worker may be given all the files that share the site, in any order."""


@dataclasses.dataclass(frozen=True)
class Site:
    """A real study, served by the real command."""

    study: Study
    plan: Plan
    store: Store
    platform: LocalPlatform
    posting: str
    pages: str
    places: str

    def take_place(self, participant: str) -> str:
        """The arrival link of a fresh place."""
        return self.platform.arrival_url_for(self.platform.take(self.posting, participant).id)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("browser")
    with serve_site(write_study(folder / "study", TOML)) as served:
        yield served


@contextmanager
def serve_site(study: Study) -> Iterator[Site]:
    """Plan a study, post it on the local platform and serve it."""
    write_pack(study)
    plan = make_plan(study, practice=short_practice(study.folder.parent / "practice"))
    store = create_store(study, plan, study.folder, StoreKind.STUDY)
    command = [sys.executable, "-c", "from crowd_imi.cli import main; main()", "serve", str(study.folder)]
    server = subprocess.Popen([*command, "--port", "0", "--places-port", "0", "--workers", "1"], stdout=subprocess.DEVNULL)
    try:
        serving = _wait_for(study.folder / "serving.json", server)
        platform = LocalPlatform(study.folder / "local.db")
        posting = launch(study, store, platform, Choice(pages_url=serving["pages"]))
        assert posting.platform_id is not None
        yield Site(study, plan, store, platform, posting.platform_id, serving["pages"], serving["places"])
        platform.close()
    finally:
        server.terminate()
        server.wait(20)
        store.close()


def short_practice(folder: Path) -> Path:
    whole = resource("stimuli", "practice")
    for entry in tomllib.loads((whole / "practice.toml").read_text())["trials"][:PRACTICE_TRIALS]:
        shutil.copytree(whole / entry["folder"], folder / entry["folder"])
        with (folder / "practice.toml").open("a") as file:
            lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
            file.write("\n".join(["[[trials]]", *lines, ""]))
    return folder


def _wait_for(note: Path, server: subprocess.Popen[bytes]) -> dict[str, str]:
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        if note.exists():
            serving: dict[str, str] = json.loads(note.read_text())
            with urllib.request.urlopen(f"{serving['pages']}/health") as reply:
                assert reply.status == 200
            return serving
        time.sleep(0.1)
    raise AssertionError("the server didn't start")


@dataclasses.dataclass
class Window:
    """A window of one person's browser, and everything it complained about."""

    context: BrowserContext
    page: Page
    complaints: list[str]
    expected: str | None = None
    """Part of a complaint that belongs to what the test does; the browser may still make it while the test ends."""

    def unexpected(self) -> list[str]:
        return [complaint for complaint in self.complaints if self.expected is None or self.expected not in complaint]


def open_window(context: BrowserContext) -> Window:
    window = Window(context, context.new_page(), [])
    window.page.set_default_timeout(20_000)
    window.page.on("console", lambda line: window.complaints.append(line.text) if line.type == "error" else None)
    window.page.on("pageerror", lambda error: window.complaints.append(str(error)))
    return window


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    """At the smallest size that participants are asked to have; a test fails when the browser complained."""
    context = browser.new_context(viewport={"width": 940, "height": 600})
    opened = open_window(context)
    yield opened
    context.close()
    assert opened.unexpected() == []
