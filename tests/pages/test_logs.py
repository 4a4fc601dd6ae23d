"""Logs, readiness, unknown addresses, and a graceful end."""

import json
import logging
import signal
import sqlite3
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy.exc import OperationalError

from crowd_imi.pages.context import LONGEST_VISIT_MS
from crowd_imi.pages.logs import JsonLines
from crowd_imi.pages.tokens import Tokens
from tests.pages.test_server import PATIENCE, Participant, Server, stored, wait_until
from tests.pages.visitor import Visitor, right_row


@pytest.fixture
def server(run):
    served = Server(run.study.folder, "serve", str(run.study.folder), "--port", "0", "--places-port", "0", "--workers", "1")
    yield served
    served.stop()


def lines_of(caplog):
    return [record for record in caplog.records if record.name == "crowd_imi.pages.logs"]


def test_a_request_is_one_line_that_names_nobody(run, caplog):
    submission = run.take("JaneDoe")
    visitor = Visitor(run.app)
    with caplog.at_level(logging.INFO, logger="crowd_imi"):
        reply = visitor.arrive("JaneDoe", submission, run.posting)
        visitor.view()
        visitor.get("/nothing/JaneDoe")
    facts = [record.facts for record in lines_of(caplog)]
    assert [(fact["method"], fact["route"], fact["status"]) for fact in facts] == [
        ("GET", "/arrive", 303),
        ("GET", "/api/visit", 200),
        ("GET", "unknown", 404),
    ]
    assert all(fact["ms"] >= 0 for fact in facts)
    written = "\n".join(JsonLines().format(record) for record in caplog.records)
    for secret in ("JaneDoe", submission, run.posting, visitor.token, "127.0.0.1", "werkzeug"):
        assert secret not in written
    assert len(reply.headers["X-Request-Id"]) == 16


def test_a_request_id_is_never_the_browsers(run):
    reply = run.app.test_client().get("/health", headers={"X-Request-Id": "JaneDoe"})
    assert reply.headers["X-Request-Id"] != "JaneDoe"


def test_a_failures_line_holds_its_trace_and_the_requests_id(run, caplog, monkeypatch):
    visitor = run.visitor("ann")
    monkeypatch.setattr("crowd_imi.pages.api.main_view", lambda *_: 1 // 0)
    with caplog.at_level(logging.ERROR), run.app.test_request_context():
        reply = visitor.get("/api/visit")
        line = json.loads(JsonLines().format(caplog.records[-1]))
    assert reply.status_code == 500 and "ZeroDivisionError" in line["trace"]
    assert line["level"] == "error" and line["time"].endswith("Z")


def test_the_servers_log_is_json_throughout(run, server):
    Participant(server, run, "JaneDoe")
    server.stop()
    text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    request = next(line for line in lines if line.get("route") == "/arrive")
    assert (request["status"], request["level"], len(request["request"])) == (303, "info", 16)
    assert "JaneDoe" not in text and "127.0.0.1" not in json.dumps(request)
    # Once it listens, what isn't JSON is what the person reads who started it.
    said = text[text.index("task pages") :].splitlines()
    assert all(line.startswith(("task pages", "open places", "warning", "stop with", "{")) for line in said)


def test_readiness_looks_at_the_database_and_the_pictures(run, monkeypatch):
    client = run.app.test_client()
    assert client.get("/ready").json == {"ready": True, "database": True, "sprites": True}
    for sprite in run.study.sprites.iterdir():
        sprite.unlink()
    assert (client.get("/ready").status_code, client.get("/ready").json["sprites"]) == (503, False)

    def gone(_name):
        raise OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(run.store, "about", gone)
    assert client.get("/ready").json == {"ready": False, "database": False, "sprites": False}
    assert client.get("/health").status_code == 200


def test_readiness_sees_another_plans_database(run, monkeypatch):
    monkeypatch.setattr(run.store, "about", lambda _name: "another")
    assert run.app.test_client().get("/ready").json["database"] is False


@pytest.mark.parametrize("path", ["/nothing", "/wp-login.php", "/visit/../x"])
def test_a_lost_browser_reads_a_page_and_a_script_a_document(run, path):
    client = run.app.test_client()
    page = client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.status_code, page.mimetype) == (404, "text/html") and 'data-refusal="not-found"' in page.text
    assert client.get(path).json["code"] == "not-found"
    assert client.get(f"/api{path}", headers={"Accept": "text/html"}).json["code"] == "not-found"


def test_sigterm_lets_a_request_under_way_end_and_takes_no_other(run, server):
    person = Participant(server, run, "ann")
    row = right_row(person.begin()[0])
    with closing(sqlite3.connect(run.study.database, isolation_level=None)) as lock, ThreadPoolExecutor() as pool:
        lock.execute("BEGIN IMMEDIATE")
        under_way = pool.submit(person.answer, 0, row)
        wait_until(lambda: "POST /api/answers" in server.log.read_text())  # as gunicorn says before it hands it on
        assert answers(server)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not answers(server))
        assert not under_way.done() and stored(run) == []
        lock.execute("ROLLBACK")
        assert under_way.result(PATIENCE)["answered"] == 1  # what isn't a 200 is raised here
    assert server.process.wait(PATIENCE) == 0
    assert stored(run) == [(0, row)]
    assert not answers(server)


def answers(server):
    try:
        with urllib.request.urlopen(f"{server.serving['pages']}/health", timeout=1) as reply:
            return reply.status == 200
    except OSError:
        return False


def test_a_token_ends_after_thirty_days(run, monkeypatch):
    visitor = run.visitor("ann")
    visitor.begin_trials()
    real = run.store.clock.now()
    monkeypatch.setattr(type(run.store.clock), "now", lambda _self: real + LONGEST_VISIT_MS + 60_000)
    for reply in (visitor.get("/api/visit"), visitor.answer(0, "upper")):
        assert (reply.status_code, reply.json["code"]) == (410, "timed-out")


def test_a_token_swapped_with_somebody_elses_answers_only_theirs(run):
    ann, ben = run.visitor("ann"), run.visitor("ben")
    ann.begin_trials()
    ben.token, mine = ann.token, ben.token
    assert ben.view()["step"] == "main"  # who has the token is the visit
    ben.token = mine
    assert ben.view()["step"] == "consent"
    assert ben.answer(0, "upper").json["code"] == "out-of-order"


@pytest.mark.parametrize("generation", [0, 2, 99])
def test_a_generation_that_isnt_the_newest_is_refused(run, generation):
    visitor = run.visitor("ann")
    key = run.study.key.read_bytes().strip()
    visit, _ = Tokens(key).read(visitor.token)
    visitor.token = Tokens(key).for_visit(visit, generation)
    for reply in (visitor.get("/api/visit"), visitor.answer(0, "upper"), visitor.post("/api/submit", {"feedback": ""})):
        assert (reply.status_code, reply.json["code"]) == (401, "ended")


def test_a_token_of_another_study_or_of_no_visit_is_refused(run):
    visitor = run.visitor("ann")
    visit, generation = Tokens(run.study.key.read_bytes().strip()).read(visitor.token)
    for token in (
        Tokens(b"another key, as long as a key is").for_visit(visit, generation),
        Tokens(run.study.key.read_bytes().strip()).for_visit("0" * 16, 1),
        visitor.token[1:],
        visitor.token * 2,
        "é" * 40,
        "." * 5000,
    ):
        visitor.token = token.encode("latin-1").decode("latin-1")
        reply = visitor.get("/api/visit")
        assert (reply.status_code, reply.json["code"]) == (401, "bad-token"), token[:20]
