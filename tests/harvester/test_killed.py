import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from crowd_imi.harvester import harvest
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.tables import Intent
from crowd_imi.store.tasks import load_tasks
from tests.harvester.crowd import SMALL, Crowd, clock, restore, save
from tests.harvester.death import Death, DyingPlatform, DyingStore, Killed
from tests.tiny import STUDY_TOML, fake_plan, write_study


@pytest.fixture(autouse=True)
def the_killed_process_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease of a killed process is taken over at once; here it is our own process that "was killed"."""

    def no_such_process(pid: int, signal: int) -> None:
        raise ProcessLookupError(pid)

    monkeypatch.setattr(os, "kill", no_such_process)


TOML = STUDY_TOML.replace("cap = 5000", "cap = 900")


def busy(crowd: Crowd) -> Crowd:
    """Everything that one round has to do at once."""
    crowd.begin(crowd.arrive("slow"))
    crowd.take("stray")
    harvest(crowd.study, crowd.store, crowd.platform)
    crowd.pass_time(121)
    crowd.take_part("good")
    crowd.take_part("bad", good=False)
    crowd.fail_practice(crowd.arrive("lost"))
    crowd.arrive("left")
    crowd.platform.give_back(crowd.submission_of("left"))
    return crowd


def rounds(crowd: Crowd) -> dict[str, object]:
    for _ in range(2):
        harvest(crowd.study, crowd.store, crowd.platform)
    return crowd.outline()


def test_a_harvest_killed_at_any_moment_comes_to_the_same_end(tmp_path: Path):
    crowd = busy(Crowd.posted(tmp_path, TOML))
    start = crowd.save()
    end = rounds(crowd)
    assert end["paid"] == 450
    moment, killed = 0, True
    while killed:
        crowd.restore(start)
        death = Death(moment)
        try:
            harvest(crowd.study, DyingStore(crowd.store, death), DyingPlatform(crowd.platform, death))
            killed = False
        except Killed:
            assert rounds(crowd) == end, f"killed at moment {moment}"
            with crowd.store.read() as session:
                intents = session.scalars(select(Intent).where(Intent.operation == "approve")).all()
            assert [i.state for i in intents] == ["done"] * 3, f"killed at moment {moment}"
            moment += 1
    # 3 payments, 2 releases, 1 reading of statuses and places: each a moment before and after, and the commits.
    assert moment > 40


def test_harvesters_ended_by_sigkill_on_postgresql_come_to_the_same_end(tmp_path: Path, postgres: Callable[[], str]):
    study, urls, there = write_study(tmp_path / "there", TOML), (postgres(), postgres()), clock()
    plan = fake_plan(study)
    about = {"study": plan.study, "plan_sha256": plan.sha256, "pack_sha256": plan.pack_sha256}
    store = Store.create(*urls, StoreKind.REHEARSAL, about, there, lambda session: load_tasks(session, plan))
    crowd = busy(Crowd(study, store))
    words = [sys.executable, "-m", "tests.harvester.sigkilled", str(study.folder), *urls, str(there.now())]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    # After 10, 15, 22, 33, 49 moments and so on, of some eighty.
    assert int(done.stdout) >= 5
    end = rounds(crowd)
    assert end == rounds(busy(Crowd.posted(tmp_path / "unkilled", TOML)))
    with store.read() as session:
        intents = session.scalars(select(Intent).where(Intent.operation == "approve")).all()
    assert (end["paid"], [i.state for i in intents]) == (450, ["done"] * 3)
    assert sorted(crowd.people()[i.subject] for i in intents) == ["bad", "good", "lost"]
    store.close()


def test_publishing_killed_at_any_moment_posts_once(tmp_path: Path):
    study = write_study(tmp_path, SMALL)
    store = create_store(study, fake_plan(study), tmp_path, StoreKind.REHEARSAL)
    platform = LocalPlatform(tmp_path / "local.db")
    empty = save(tmp_path, store, platform)
    moment, killed = 0, True
    while killed:
        restore(tmp_path, empty, store, platform)
        death = Death(moment)
        try:
            launch(study, DyingStore(store, death), DyingPlatform(platform, death), Choice(pages_url="http://127.0.0.1:1"))
            killed = False
        except Killed:
            posting = launch(study, store, platform, Choice(pages_url="http://127.0.0.1:1"))
            assert [place.posting for place in platform.open_places()] == [posting.platform_id]
            assert posting.state == "open"
            moment += 1
    # The lease, the posting, its intent, the call, its outcome and the posting's id: each a moment before and after.
    assert moment >= 12
