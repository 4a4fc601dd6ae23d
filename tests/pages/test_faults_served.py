"""A hundred visits over HTTP to the real server on a real PostgreSQL, while one or the other is killed or the network is cut.

The faults of ``test_faults`` with nothing taken out between a participant and the disk: gunicorn's processes die, the database
ends as in a crash and recovers, and for twenty seconds nothing gets through in either direction.
"""

import asyncio
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from sqlalchemy import select

from benchmarks.postgresql import PostgreSQL
from crowd_imi.publisher.launch import create_store
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.store.server import VARIABLE
from crowd_imi.store.tables import Answer, Visit
from tests.pages.conftest import Run, serve
from tests.pages.serving import Server
from tests.pages.visitor import right_row
from tests.tiny import STUDY_TOML, fake_plan, write_study

PEOPLE, AT_ONCE = 100, 20
TRIES, PAUSE = 600, 0.2
ANSWER_WITHIN = 3.0
"""Seconds; after them it is sent again, though the first request may still arrive. The page itself waits longer."""
CUT_SECONDS = 20.0

TOML = STUDY_TOML.replace("units = 6\nnull = 2\nresponses = 3", "units = 6\nresponses = 60").replace(
    "responses = 2\n", "responses = 60\n"
)
TOML = TOML.replace("cap = 5000", "cap = 50000")


class Cable:
    """The network between browsers and server. While it is cut nothing is refused and nothing arrives; then what waited does."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._whole.set()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._carry, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._whole.set)

    def close(self) -> None:
        self.mend()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._whole.wait()
            back, forth = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, forth), self._pump(back, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65536):
                await self._whole.wait()
                sink.write(piece)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


@dataclass
class Person:
    """One participant's browser; sends again what wasn't answered."""

    base: str
    arrival: dict[str, str]
    acknowledged: list[str] = field(default_factory=list)
    troubles: int = 0
    session: requests.Session = field(default_factory=requests.Session)

    def call(self, method: str, path: str, **more: object) -> requests.Response:
        for _ in range(TRIES):
            try:
                reply = self.session.request(method, self.base + path, timeout=ANSWER_WITHIN, allow_redirects=False, **more)
            except requests.RequestException:
                self.troubles += 1
            else:
                self.troubles += reply.status_code == 503
                if reply.status_code not in (429, 503):
                    assert reply.status_code < 400, f"{path}: {reply.status_code} {reply.text}"
                    return reply
            time.sleep(PAUSE)
        raise AssertionError(f"{path}: never answered")

    def post(self, path: str, body: object) -> requests.Response:
        return self.call("POST", path, json=body)

    def arrive(self) -> None:
        where = self.call("GET", "/arrive", params=self.arrival).headers["Location"]
        self.session.headers["X-Visit-Token"] = where.partition("#")[2]

    def live(self) -> None:
        """From arrival to the end, at some ten answers a second."""
        rng = random.Random(self.arrival["participant"])
        self.arrive()
        version = self.call("GET", "/api/visit").json()["texts"]["consent"]["version"]
        self.post("/api/consent", {"agree": True, "version": version})
        self.post("/api/instructions", {"browser": {}})
        block = self.call("GET", "/api/visit").json()["practice"]
        for position, trial in enumerate(block["trials"]):
            self.post("/api/practice", {"block": 1, "position": position, "row": right_row(trial), "confidence": 1, "rt_ms": 1})
        for trial in self.call("GET", "/api/visit").json()["main"]:
            time.sleep(rng.uniform(0, 1.5))
            answer = {"position": trial["position"], "row": right_row(trial), "confidence": 2, "rt_ms": 1, "shown_ms": 1}
            reply = self.post("/api/answers", {**answer, "saving_ms": None}).json()
            assert reply["answered"] == trial["position"] + 1
            self.acknowledged.append(right_row(trial))
        assert self.post("/api/submit", {"feedback": ""}).json()["step"] == "done"
        self.session.close()


@dataclass
class Stage:
    """What can be broken."""

    run: Run
    database: PostgreSQL
    server: Server
    cable: Cable

    def serve_again(self) -> None:
        folder, port = self.run.study.folder, self.server.serving["pages"].rpartition(":")[2]
        self.server = start(folder, port)


def start(folder: Path, port: str = "0") -> Server:
    return Server(folder, "serve", str(folder), "--port", port, "--places-port", "0", "--workers", "2")


def kill_server(stage: Stage) -> None:
    """All its processes at once, five times."""
    for _ in range(5):
        time.sleep(3)
        for worker in stage.server.workers():
            os.kill(worker, signal.SIGKILL)
        stage.server.kill()
        stage.serve_again()


def crash_database(stage: Stage) -> None:
    """It is stopped as in a crash, is away for two seconds and recovers from its log; four times."""
    for how in ("immediate", "fast", "immediate", "fast"):
        time.sleep(3)
        stage.database.stop(how)
        time.sleep(2)
        stage.database.start()


def cut_network(stage: Stage) -> None:
    """For twenty seconds."""
    time.sleep(5)
    stage.cable.cut()
    time.sleep(CUT_SECONDS)
    stage.cable.mend()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with PostgreSQL(durable=True) as database:
        monkeypatch.setenv(VARIABLE, database.url)
        study = write_study(tmp_path / "study", TOML)
        run = serve(study, create_store(study, fake_plan(study), study.folder, StoreKind.STUDY), study.folder)
        run.platform.set_places(run.posting, PEOPLE)
        run.store.close()
        server = start(study.folder)
        stage = Stage(run, database, server, Cable(int(server.serving["pages"].rpartition(":")[2])))
        yield stage
        stage.cable.close()
        assert stage.server.stop() == 0
        run.platform.close()


@contextmanager
def beside(fault, stage: Stage) -> Iterator[None]:
    """The fault comes while people take part; what it raises, the test raises."""
    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(fault, stage)
        yield
        broken.result()


@pytest.mark.soak
@pytest.mark.parametrize("fault", [kill_server, crash_database, cut_network], ids=lambda fault: fault.__name__)
def test_a_hundred_visits_to_the_real_server_survive(stage, fault):
    run = stage.run
    people = [
        Person(
            stage.cable.url,
            {"participant": f"person-{number}", "submission": run.take(f"person-{number}"), "posting": run.posting},
        )
        for number in range(PEOPLE)
    ]
    with beside(fault, stage), ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(Person.live, people))
    store = Store.open(*database_urls(run.study.folder))
    with store.read() as session:
        states = session.scalars(select(Visit.state)).all()
        kept = session.execute(select(Answer.visit_id, Answer.position, Answer.row).order_by(Answer.visit_id, Answer.position))
        rows = [tuple(row.row for row in rows) for _, rows in itertools.groupby(kept, key=lambda row: row.visit_id)]
    store.close()
    assert sum(person.troubles for person in people) > 0
    assert sorted(states) == PEOPLE * ["submitted"]
    assert sorted(rows) == sorted(tuple(person.acknowledged) for person in people)
