"""Harvesting for days: rounds until the study is complete, through failures that pass, until somebody says stop."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest

from crowd_imi.errors import Busy, PublishError, StoreError, Unreachable
from crowd_imi.harvester import Harvest, harvest, watching
from crowd_imi.harvester.watching import watch
from crowd_imi.ledger import lease
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.backups import take_over
from crowd_imi.store.engine import database_urls
from crowd_imi.store.money import HARVESTER
from tests.harvester.crowd import Crowd
from tests.tiny import STUDY_TOML, fake_plan, write_study


class Rounds:
    """Rounds that come out as a script says; waits take no time."""

    def __init__(self, *script: Harvest | Exception) -> None:
        self.script = list(script)
        self.read: list[object] = []
        self.told: list[Harvest] = []
        self.failed: list[tuple[str, float]] = []
        self.stop = Event()

    def take(self, about: object) -> Harvest:
        self.read.append(about)
        said = self.script.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    def go(self, every: float = 0.001, news=frozenset) -> Harvest | None:
        return watch(self.take, every, self.stop, self.told.append, lambda e, wait: self.failed.append((str(e), wait)), news)


@pytest.fixture
def rounds(tmp_path: Path) -> tuple[Harvest, Harvest]:
    """One round of a study that goes on, and the same as a round that completed it."""
    crowd = Crowd.posted(tmp_path)
    done = harvest(crowd.study, crowd.store, crowd.platform)
    return done, done.model_copy(update={"complete": True})


def test_it_ends_by_itself_when_the_study_is_complete(rounds):
    going, complete = rounds
    script = Rounds(going, going, complete)
    assert script.go() == complete and len(script.told) == 3


def test_what_was_refused_is_tried_again(rounds):
    _, complete = rounds
    script = Rounds(complete.model_copy(update={"refused": ("approve 1: no",)}), complete)
    assert script.go() == complete and len(script.told) == 2


def test_failures_that_may_pass_are_waited_for_longer_each_time(rounds, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watching, "LONGEST_WAIT", 0.006)
    going, complete = rounds
    script = Rounds(*[Unreachable("no answer")] * 6, going, Busy("somebody pays"), complete)
    assert script.go() == complete
    waits = [wait for _, wait in script.failed[:6]]
    # Twice as long each time, a tenth up or down, up to the longest.
    assert waits[0] < waits[1] < waits[2] and max(waits) == 0.006
    assert script.failed[6][0] == "somebody pays" and script.failed[6][1] <= 0.0011


def test_a_slip_of_the_editor_ends_the_first_round_and_no_later_one(rounds):
    going, complete = rounds
    with pytest.raises(PublishError):
        Rounds(PublishError("frozen")).go()
    script = Rounds(going, PublishError("frozen"), complete)
    assert script.go() == complete and script.failed[0][0] == "frozen"


def test_what_was_told_is_looked_at_at_once_and_ends_it_only_once_everything_was_read_anew(
    rounds, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "LISTENING_SECONDS", 0.001)
    going, complete = rounds
    about = frozenset({"a-submission"})
    news = iter([about, about])
    # The first look went by statuses that were read before: somebody else is still at it.
    script = Rounds(going, complete, going, complete, complete)
    assert script.go(every=3600, news=lambda: next(news)) == complete
    assert script.read == [None, about, None, about, None]


def test_a_queue_that_fails_does_not_end_it(rounds, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watching, "LISTENING_SECONDS", 0.001)
    going, complete = rounds

    def news() -> frozenset[str]:
        raise Unreachable("the queue gave no answer")

    script = Rounds(going, complete)
    assert script.go(every=0.02, news=news) == complete
    assert script.read == [None, None] and "queue" in script.failed[0][0]


def test_stopped_between_rounds_it_returns_the_last_one(rounds):
    going, _ = rounds
    script = Rounds(going)
    script.stop.set()
    assert script.go() is None and script.read == []


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    """A study, not a rehearsal, posted on the local platform; nobody has come."""
    study = write_study(tmp_path / "study", STUDY_TOML)
    store = create_store(study, fake_plan(study), study.folder, StoreKind.STUDY)
    platform = LocalPlatform(study.folder / "local.db")
    launch(study, store, platform, Choice(pages_url="http://127.0.0.1:1"))
    harvest(study, store, platform)
    store.close()
    platform.close()
    return study.folder


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "crowd_imi", "harvest", str(folder), *options]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def has_begun(folder: Path) -> bool:
    store = Store.open(*database_urls(folder))
    try:
        with store.read() as session:
            from crowd_imi.store.money import lease_row

            return lease_row(session, HARVESTER) is not None
    finally:
        store.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_one_says_so_and_a_signal_ends_the_first_gracefully(study_folder: Path, number: int):
    watcher = start(study_folder, "--watch", "--every", "3600", "--json")
    try:
        deadline = time.monotonic() + 60
        while not has_begun(study_folder):
            assert watcher.poll() is None and time.monotonic() < deadline, watcher.communicate()
            time.sleep(0.05)
        second = start(study_folder)
        _, said = second.communicate(timeout=60)
        assert second.returncode == 1 and f"process {watcher.pid} on" in said and "is at it at the moment" in said
        watcher.send_signal(number)
        document, said = watcher.communicate(timeout=60)
    finally:
        watcher.kill()
        watcher.wait()
    assert watcher.returncode == 0 and "stopped as asked" in said
    assert json.loads(document)["complete"] is False
    assert not has_begun(study_folder)  # the lease was given back


def test_a_killed_one_is_taken_over_at_once(study_folder: Path):
    watcher = start(study_folder, "--watch", "--every", "3600")
    deadline = time.monotonic() + 60
    while not has_begun(study_folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    watcher.kill()
    watcher.communicate()
    again = start(study_folder)
    assert again.communicate(timeout=60) and again.returncode == 0


def test_a_copy_of_the_study_may_not_spend_before_it_takes_over(study_folder: Path, tmp_path: Path):
    shutil.copytree(study_folder, tmp_path / "copy")
    cap = write_study(tmp_path / "other").file.pay.cap_money
    copy, original = (Store.open(*database_urls(folder)) for folder in (tmp_path / "copy", study_folder))
    with pytest.raises(StoreError, match="this is a copy of the database that spent until now"), lease(copy, "harvest", cap):
        pass
    with lease(original, "harvest", cap):
        pass
    assert take_over(copy) and not take_over(copy)
    with lease(copy, "harvest", cap):
        pass
    copy.close()
    original.close()


def test_a_folder_that_is_renamed_goes_on(study_folder: Path, tmp_path: Path):
    study_folder.rename(tmp_path / "renamed")
    store = Store.open(*database_urls(tmp_path / "renamed"))
    with lease(store, "harvest", write_study(tmp_path / "other").file.pay.cap_money):
        pass
    store.close()
