"""One at a time: who harvests or publishes beside another harvest or publisher, also one that waits, is told so and stops."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from threading import Event

import pytest

from crowd_imi.errors import Busy, LedgerError
from crowd_imi.harvester import harvest, watching
from crowd_imi.harvester.watching import watch
from crowd_imi.ledger import lease
from crowd_imi.ledger.leases import LEASE_MS
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import launch
from crowd_imi.store import SimulatedClock, Store
from crowd_imi.store.money import HARVESTER, lease_row
from crowd_imi.study import Study
from tests.conftest import MakeStore
from tests.tiny import fake_plan, write_study

HERE = Choice(pages_url="http://127.0.0.1:1")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "study")


@pytest.fixture
def store(study: Study, make_store: MakeStore) -> Store:
    """The study's, on SQLite and on PostgreSQL."""
    return make_store(fake_plan(study))


@pytest.fixture
def platform(study: Study) -> LocalPlatform:
    return LocalPlatform(study.folder / "local.db")


def test_who_publishes_beside_a_harvest_that_waits_is_told_and_stops(study: Study, store: Store, platform: LocalPlatform):
    with (
        lease(store, "harvest", study.file.pay.cap_money, name=HARVESTER),
        pytest.raises(Busy, match=rf"harvest \(process {os.getpid()} on .* is at it at the moment.*run this again when it has"),
    ):
        launch(study, store, platform, HERE)
    assert not platform.open_places()
    assert launch(study, store, platform, HERE).state == "open"


def test_who_harvests_while_somebody_publishes_is_told_and_stops(study: Study, store: Store, platform: LocalPlatform):
    seen = []

    class Slow(LocalPlatform):
        def post(self, request):
            with pytest.raises(Busy) as busy, lease(store, "harvest", study.file.pay.cap_money, name=HARVESTER):
                pass
            seen.append(str(busy.value))
            return super().post(request)

    launch(study, store, Slow(study.folder / "local.db"), HERE)
    [said] = seen
    assert said.startswith(f"publish (process {os.getpid()} on ")


def test_of_many_that_begin_at_once_one_goes_on(study: Study, store: Store):
    """Nobody held the lease before, so all write its first row; the losers hear of the winner, not of a database error."""
    cap, begin, told = study.file.pay.cap_money, threading.Barrier(6), threading.Semaphore(0)
    outcomes: list[str] = []

    def start() -> None:
        begin.wait()
        try:
            with lease(store, "harvest", cap, name=HARVESTER):
                outcomes.append("went on")
                assert all(told.acquire(timeout=60) for _ in range(5))
        except Busy:
            outcomes.append("told")
            told.release()

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [*["told"] * 5, "went on"]


def test_a_wait_longer_than_the_lease_keeps_it(study: Study, store: Store, platform: LocalPlatform, monkeypatch):
    """Three hours between rounds, and a lease lasts for 15 minutes: it is renewed all through the wait."""
    launch(study, store, platform, HERE)
    monkeypatch.setattr(watching, "LISTENING_SECONDS", 0.001)
    monkeypatch.setattr(watching, "HOLDING_SECONDS", 0.001)
    cap, clock, stop = study.file.pay.cap_money, SimulatedClock(1_800_000_000_000), Event()
    with lease(store, "harvest", cap, clock, name=HARVESTER) as alone:

        def hold() -> None:
            with store.write() as session:
                alone.renew(session)

        def news() -> frozenset[str]:
            clock.set(clock.now() + LEASE_MS * 2 // 3)
            if clock.now() > 1_800_000_000_000 + 3 * 3_600_000:
                stop.set()
            else:
                hold_now()
            return frozenset()

        def hold_now() -> None:
            hold()
            with pytest.raises(Busy), lease(store, "harvest", cap, clock, name=HARVESTER):
                pass

        done = watch(lambda _: harvest(study, store, platform), 10_800, stop, lambda _: None, lambda *_: None, news, hold)
    assert done is not None and not done.complete


def test_who_was_taken_over_while_it_stood_still_stops(study: Study, store: Store, platform: LocalPlatform, monkeypatch):
    """A laptop that slept: its lease ran out, another one began; this one mustn't go on when it wakes."""
    launch(study, store, platform, HERE)
    monkeypatch.setattr(watching, "LISTENING_SECONDS", 0.001)
    monkeypatch.setattr(watching, "HOLDING_SECONDS", 0.0)
    with lease(store, "harvest", study.file.pay.cap_money, name=HARVESTER) as alone:
        rounds = []

        def take_round(_about: object):
            rounds.append(1)
            return harvest(study, store, platform)

        def sleeps() -> frozenset[str]:
            with store.write() as session:
                lease_row(session, HARVESTER).holder = "harvest (process 1 on another machine abc)"
            return frozenset()

        def hold() -> None:
            with store.write() as session:
                alone.renew(session)

        with pytest.raises(LedgerError, match=r"ran out while harvest .* another machine"):
            watch(take_round, 3600, Event(), lambda _: None, lambda *_: None, sleeps, hold)
        assert rounds == [1]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "crowd_imi", *words]


def begun(store: Store) -> bool:
    with store.read() as session:
        return lease_row(session, HARVESTER) is not None


def test_the_commands_say_so_and_stop_beside_a_harvest_that_waits(tmp_path: Path):
    """Real processes: a harvest with an hour to its next round, and beside it publish and another harvest."""
    from crowd_imi.publisher.launch import create_store
    from crowd_imi.store import StoreKind

    study = write_study(tmp_path / "study")
    store = create_store(study, fake_plan(study), study.folder, StoreKind.STUDY)
    platform = LocalPlatform(study.folder / "local.db")
    launch(study, store, platform, HERE)
    words = command("harvest", str(study.folder), "--watch", "--every", "3600")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as idle:
        try:
            assert idle.stdout is not None
            assert "nothing new" in idle.stdout.readline()  # the first round is through
            assert begun(store)
            before = platform.places(next(place.posting for place in platform.open_places()))
            for others in (("harvest",), ("harvest", "--watch")):
                name, *options = others
                second = subprocess.run(
                    command(name, str(study.folder), *options), capture_output=True, text=True, timeout=120, check=False
                )
                assert second.returncode == 1
                assert f"harvest (process {idle.pid} on " in second.stderr and "Traceback" not in second.stderr
            assert platform.places(next(place.posting for place in platform.open_places())) == before
        finally:
            idle.terminate()
    assert not begun(store)
    store.close()
