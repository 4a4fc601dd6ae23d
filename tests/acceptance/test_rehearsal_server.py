"""Rehearsals through the real server, which is killed in the middle."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crowd_imi.rehearsal.records import Cast
from crowd_imi.rehearsal.run import rehearse
from crowd_imi.rehearsal.server import Server
from crowd_imi.rehearsal.wire import Wire
from crowd_imi.study import Study
from tests.acceptance.rehearsals import answers_table, planned_study, rehearse_here

KILLS_AFTER = (150, 500, 900)
"""Requests."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return planned_study(tmp_path_factory.mktemp("rehearsal"))


@contextmanager
def killing(server: Server, wire: Wire) -> Iterator[None]:
    """Kill the server's whole process group again and again, wherever it is in a request, and start it again."""
    over = threading.Event()
    problems: list[BaseException] = []

    def kill_and_start() -> None:
        try:
            for count in KILLS_AFTER:
                while wire.requests < count and not over.is_set():
                    time.sleep(0.001)
                server.kill()
                server.start()
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=kill_and_start)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert problems == []


@pytest.mark.timeout(400)
def test_killing_the_server_loses_no_answer_and_changes_none(study):
    rehearse_here(study, "undisturbed", Cast())
    killed = rehearse(study, "killed", participants=Cast(), beside=killing)
    assert killed.retries >= len(KILLS_AFTER)
    assert killed.acknowledged > 100
    assert (killed.lost, killed.mismatches, killed.ended) == (0, (), "complete")
    assert answers_table(study, "killed") == answers_table(study, "undisturbed")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("leak", [None, "size"])
def test_the_command_prints_one_document(study, leak):
    command = [sys.executable, "-m", "crowd_imi", "rehearse", str(study.folder), "--name", "by-command", "--json"]
    command += ["--participants", "12", "--cheaters", "0"] if leak is None else ["--participants", "12", "--leak", leak]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    document = json.loads(done.stdout)
    assert (document["participants"], document["ended"], document["lost"]) == (12, "participants", 0)
    if leak is None:
        # Twelve participants aren't enough for the one who comes twice to find a second place in any case.
        assert document["cheaters"] is None
    else:
        assert done.returncode == 0, done.stderr
        assert document["cheaters"]["p_value"] < 0.001
