"""The server as a process of its own: killed at any moment it loses nothing that was acknowledged."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from sqlalchemy import select

from crowd_imi.errors import PagesError
from crowd_imi.pages.server import listen
from crowd_imi.store.tables import Answer
from tests.pages.serving import PATIENCE, Server
from tests.pages.visitor import right_row


@pytest.fixture
def start(run):
    started = []

    def make(*options: str, port: str = "0") -> Server:
        server = Server(run.study.folder, "serve", str(run.study.folder), "--port", port, "--places-port", "0", *options)
        started.append(server)
        return server

    yield make
    for server in started:
        if server.process.poll() is None:
            server.kill()


class Participant:
    """Talks to the server over HTTP."""

    def __init__(self, server: Server, run, name: str) -> None:
        self.base = server.serving["pages"]
        submission = run.take(name)
        url = f"{self.base}/arrive?participant={name}&submission={submission}&posting={run.posting}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            self.token = reply.url.partition("#")[2]

    def call(self, path: str, body: object = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.base + path, data, {"X-Visit-Token": self.token, "Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return json.loads(reply.read() or b"null")

    def begin(self):
        version = self.call("/api/visit")["texts"]["consent"]["version"]
        self.call("/api/consent", {"agree": True, "version": version})
        self.call("/api/instructions", {"browser": {}})
        block = self.call("/api/visit")["practice"]
        for position, trial in enumerate(block["trials"]):
            row = right_row(trial)
            self.call("/api/practice", {"block": 1, "position": position, "row": row, "confidence": 1, "rt_ms": 1})
        return self.call("/api/visit")["main"]

    def answer(self, position: int, row: str):
        body = {"position": position, "row": row, "confidence": 2, "rt_ms": 1, "shown_ms": 1, "saving_ms": None}
        return self.call("/api/answers", body)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def stored(run):
    with run.store.read() as session:
        return [(answer.position, answer.row) for answer in session.scalars(select(Answer).order_by(Answer.position))]


def test_killing_the_server_after_an_acknowledged_answer_loses_nothing(run, start):
    server = start()
    port = server.serving["pages"].rpartition(":")[2]
    participant = Participant(server, run, "ann")
    rows = [right_row(trial) for trial in participant.begin()]
    assert participant.answer(0, rows[0])["answered"] == 1
    workers = server.workers()
    server.kill()
    assert stored(run) == [(0, rows[0])]
    # Workers end by themselves, so that the next server gets the same port.
    wait_until(lambda: all(gone(pid) for pid in workers))
    again = start(port=port)
    assert participant.answer(0, rows[0])["answered"] == 1
    assert participant.answer(1, rows[1])["answered"] == 2
    # A worker killed alone is replaced.
    [os.kill(pid, signal.SIGKILL) for pid in again.workers()]
    wait_until(lambda: reaches(participant, 2, rows[2]))
    assert stored(run) == [(position, rows[position]) for position in range(3)]
    assert again.stop() == 0


def reaches(participant: Participant, position: int, row: str) -> bool:
    try:
        return bool(participant.answer(position, row)["answered"] == position + 1)
    except (urllib.error.URLError, ConnectionError, OSError):
        return False


def test_the_places_answer_on_their_own_port_and_the_pages_on_theirs(run, start):
    server = start("--workers", "1")
    pages, places = server.serving["pages"], server.serving["places"]
    note = run.study.folder / "serving.json"
    assert json.loads(note.read_text()) == server.serving
    with urllib.request.urlopen(f"{places}/", timeout=PATIENCE) as reply:
        assert b"A tiny study" in reply.read()
    for url, host in ((f"{pages}/take", places), (f"{places}/api/visit", pages)):
        request = urllib.request.Request(url, headers={"Host": host.removeprefix("http://")})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=PATIENCE)
        with caught.value:
            assert caught.value.code == 404
    assert run.platform.finish(run.take("ann"), "X").url.startswith(f"{places}/complete?")
    assert server.stop() == 0
    assert not note.exists()


def test_the_servers_log_has_no_addresses_and_no_ids(run, start):
    server = start("--workers", "1")
    Participant(server, run, "JaneDoe")
    host, port = server.serving["pages"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as raw:
        raw.sendall(b"this is no HTTP\r\n\r\n")
        raw.recv(1000)
    server.stop()
    log = server.log.read_text()
    assert "/arrive" in log
    assert "JaneDoe" not in log
    assert run.submissions["JaneDoe"] not in log
    assert "a request that isn't HTTP" in log
    # Our own address stands where the server says where it listens, and nowhere else.
    assert all("127.0.0.1" not in line for line in log.splitlines() if "GET" in line or "HTTP" in line)


def test_a_port_that_is_taken_is_one_clear_line():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PagesError, match=f"can't listen on 127.0.0.1 port {port}: .*; choose another with --port"):
            listen("127.0.0.1", port)


def run_command(*arguments: str):
    command = [sys.executable, "-m", "crowd_imi", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_serving_a_study_that_isnt_published_is_one_clear_line(tmp_path):
    from tests.tiny import fake_plan, write_study

    study = write_study(tmp_path / "study")
    fake_plan(study)
    done = run_command("serve", str(study.folder))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "there is no study database here; run `crowd-imi publish` first" in done.stderr


def test_a_previews_link_leads_to_a_visit(run):
    server = Server(run.study.folder, "preview", str(run.study.folder), "--port", "0")
    try:
        with urllib.request.urlopen(server.serving["link"], timeout=PATIENCE) as reply:
            assert reply.url.partition("#")[0] == f"{server.serving['pages']}/visit"
    finally:
        server.stop()
    printed = run_command("preview", str(run.study.folder), "--print-link", "--port", "8000", "--json")
    link = json.loads(printed.stdout)["link"]
    assert link.partition("/preview")[2] == server.serving["link"].partition("/preview")[2]
    assert (run.study.rehearsal("preview") / "study.db").exists()


def test_previewing_a_plan_without_practice_is_one_clear_line(tmp_path):
    from tests.tiny import fake_plan, write_study

    study = write_study(tmp_path / "study")
    fake_plan(study).model_copy(update={"practice": ()}).save(study.plan)
    done = run_command("preview", str(study.folder), "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "there are no practice trials; run `crowd-imi plan" in done.stderr
    assert not (study.rehearsal("preview") / "serving.json").exists()


def test_serving_another_port_than_the_published_one_names_both(run, start):
    # The tests' studies are posted with http://127.0.0.1/arrive, which is port 80.
    server = start("--workers", "1")
    server.stop()
    [warning] = [line for line in server.log.read_text().splitlines() if "warning" in line]
    assert "http://127.0.0.1," in warning
    assert server.serving["pages"] in warning
