"""Faults in the middle of visits: nothing that was acknowledged is lost, nothing doubled, and everybody comes to the end.

A participant here does what the page does: sends the same again until it is answered.
"""

import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, func, select, text

from crowd_imi.pages.pace import Pace
from crowd_imi.store.clock import SystemClock
from crowd_imi.store.tables import Answer, Visit
from tests.pages.visitor import Visitor, right_row
from tests.tiny import STUDY_TOML

MANY = STUDY_TOML.replace("units = 6\nnull = 2\nresponses = 3", "units = 6\nresponses = 60").replace(
    "responses = 2\n", "responses = 60\n"
)
MANY = MANY.replace("cap = 5000", "cap = 50000")
TRIES = 2000
REMARK = {"kind": "resize", "detail": {f"fact-{number}": "x" * 60 for number in range(24)}}
"""So long that every third one needs another page of the database."""


class Stubborn(Visitor):
    """Sends again what wasn't answered, as the page does; ``cut`` says when nothing gets through."""

    def __init__(self, app, seed):
        super().__init__(app)
        self.acknowledged = []
        self.troubles = 0
        self.cut = threading.Event()
        self.rng = random.Random(seed)

    def _again(self, send):
        for _ in range(TRIES):
            if self.cut.is_set() and self.rng.random() < 0.5:  # the request is lost
                self.troubles += 1
                time.sleep(0.005)
                continue
            reply = send()
            if self.cut.is_set() and self.rng.random() < 0.5:  # the reply is lost, and what was asked is done
                continue
            if reply.status_code != 503:
                return reply
            self.troubles += 1
            time.sleep(0.005)
        raise AssertionError("never answered")

    def get(self, path, **parameters):
        return self._again(lambda: super(Stubborn, self).get(path, **parameters))

    def post(self, path, body):
        return self._again(lambda: super(Stubborn, self).post(path, body))

    def live(self):
        """From consent to the end; what was acknowledged is written down."""
        self.begin_trials()
        for trial in self.view()["main"]:
            assert self.post("/api/events", REMARK).status_code == 204
            reply = self.answer(trial["position"], right_row(trial))
            assert reply.status_code == 200, reply.text
            self.acknowledged.append(right_row(trial))
        assert self.post("/api/submit", {"feedback": ""}).json["step"] == "done"


def take_part(run, people, fault, monkeypatch):
    """People take part four at a time, while a fault comes and goes; only the clock is nothing that they notice."""
    troubled = fault is not set_clock_back
    monkeypatch.setattr(Pace, "take", lambda *_: None)
    run.platform.set_places(run.posting, people)
    visitors = [Stubborn(run.app, number) for number in range(people)]
    for number, visitor in enumerate(visitors):
        submission = run.take(f"person-{number}")
        assert visitor.arrive(f"person-{number}", submission, run.posting).status_code == 303
    over = threading.Event()
    trouble = threading.Thread(target=fault, args=(run, visitors, over))
    trouble.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Stubborn.live, visitors))
    finally:
        over.set()
        trouble.join()
    with run.store.read() as session:
        states = set(session.scalars(select(Visit.state)))
        kept = {visit: list(rows) for visit, rows in itertools.groupby(
            session.execute(select(Answer.visit_id, Answer.position, Answer.row).order_by(Answer.visit_id, Answer.position)),
            key=lambda row: row.visit_id)}  # fmt: skip
        assert session.scalar(select(func.count()).select_from(Answer)) == sum(len(visitor.acknowledged) for visitor in visitors)
    assert states == {"submitted"}
    assert troubled is (sum(visitor.troubles for visitor in visitors) > 0)
    assert sorted(tuple(row.row for row in rows) for rows in kept.values()) == sorted(tuple(v.acknowledged) for v in visitors)


def cut_network(run, visitors, over):
    """Half of all requests and half of all replies get lost, on and off."""
    while not over.is_set():
        for visitor in visitors:
            visitor.cut.set()
        over.wait(0.2)
        for visitor in visitors:
            visitor.cut.clear()
        over.wait(0.05)


def fill_disk(run, visitors, over):
    """SQLite's own limit: what needs another page fails with "database or disk is full"."""
    full = threading.Event()

    def limit(connection, _):
        connection.execute(f"PRAGMA max_page_count={1 if full.is_set() else 1_000_000}")

    event.listen(run.store._engine, "checkout", lambda connection, *_: limit(connection, None))
    while not over.is_set():
        full.set()
        over.wait(0.15)
        full.clear()
        over.wait(0.1)


def restart_database(run, visitors, over):
    """Every connection is ended by the server, also in the middle of a transaction, as a restart does."""
    while not over.is_set():
        over.wait(0.1)
        with run.store._engine.connect() as connection:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'imi'")
            )
            connection.rollback()


def set_clock_back(run, visitors, over):
    """An hour back, a day back, and on again."""
    hours = itertools.cycle((1, 24, 0))
    while not over.is_set():
        Clock.behind = next(hours) * 3_600_000
        over.wait(0.05)


class Clock(SystemClock):
    behind = 0

    def now(self):
        return super().now() - self.behind


@pytest.mark.parametrize("fault", [cut_network, fill_disk, set_clock_back], ids=lambda fault: fault.__name__)
def test_visits_survive(run, monkeypatch, fault):
    run.store.clock = Clock()
    take_part(run, 5, fault, monkeypatch)


def on_postgresql(tmp_path, postgres, toml=STUDY_TOML):
    from crowd_imi.store import Store, StoreKind
    from crowd_imi.store.tasks import load_tasks
    from tests.pages.conftest import serve
    from tests.tiny import fake_plan, write_study

    study = write_study(tmp_path / "study", toml)
    plan = fake_plan(study)
    about = {"study": plan.study, "plan_sha256": plan.sha256, "pack_sha256": plan.pack_sha256}
    store = Store.create(postgres(), postgres(), StoreKind.STUDY, about)
    with store.write() as session:
        load_tasks(session, plan)
    return serve(study, store, study.folder)


def end(run):
    run.store.close()
    run.platform.close()


def test_visits_survive_a_database_that_restarts(tmp_path, postgres, monkeypatch):
    run = on_postgresql(tmp_path, postgres)
    take_part(run, 5, restart_database, monkeypatch)
    end(run)


@pytest.mark.soak
@pytest.mark.parametrize("fault", [cut_network, fill_disk, set_clock_back], ids=lambda fault: fault.__name__)
def test_a_hundred_visits_survive(make_run, monkeypatch, fault):
    run = make_run(MANY)
    run.store.clock = Clock()
    take_part(run, 100, fault, monkeypatch)


@pytest.mark.soak
def test_a_hundred_visits_survive_a_database_that_restarts(tmp_path, postgres, monkeypatch):
    run = on_postgresql(tmp_path, postgres, MANY)
    take_part(run, 100, restart_database, monkeypatch)
    end(run)
