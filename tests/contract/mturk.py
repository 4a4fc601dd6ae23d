"""Mechanical Turk behind unmodified boto3 and real HTTP: its stand-in is a process of its own."""

import atexit
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from crowd_imi.platforms.mturk import MturkPlatform
from crowd_imi.platforms.standins.serving import SERVING_FILE, StandinServing
from crowd_imi.study import MturkSection

if TYPE_CHECKING:
    from crowd_imi.platforms.base import Finish, Platform

KEY, SECRET = "AKIAFORTESTSONLY0000", "the-secret-of-the-tests"
CODE = "C0DE123456"


class StandinProcess:
    """The stand-in, started and killed as a user's machine might."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._port = 0
        self.start()

    def start(self) -> None:
        """Start it, again at the address that it had."""
        note = self._folder / SERVING_FILE
        note.unlink(missing_ok=True)
        options = ["--port", str(self._port), "--access-key", KEY]
        command = [sys.executable, "-m", "crowd_imi", "standin", "mturk", str(self._folder), *options]
        log = self._folder.parent / f"{self._folder.name}.log"
        with log.open("ab") as written:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=written,
                env={**os.environ, "STANDIN_SECRET_KEY": SECRET},
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not note.exists():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the stand-in doesn't start"
            time.sleep(0.02)
        self.url = StandinServing.model_validate_json(note.read_bytes()).url
        self._port = urlsplit(self.url).port or 0

    def kill(self) -> None:
        """SIGKILL for the master and its worker at once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def ask(self, method: str, path: str, **more: Any) -> Any:
        reply = requests.request(method, f"{self.url}/standin/{path}", timeout=30, **more)
        assert reply.ok, reply.text
        return reply.json()

    def set_answer(self, assignment: str, xml: str | None) -> None:
        """What the API shows as an assignment's Answer from now on, whatever was handed in."""
        with closing(sqlite3.connect(self._folder / "mturk.db", timeout=30)) as books, books:
            changed = books.execute("UPDATE assignment SET answer = ? WHERE id = ?", (xml, assignment))
            assert changed.rowcount == 1


_shared: list[StandinProcess] = []


def shared_standin() -> StandinProcess:
    """One for all tests of a worker, with empty books: starting a process takes longer than most tests."""
    if not _shared:
        folder = Path(tempfile.mkdtemp(prefix="imi-mturk-"))
        _shared.append(StandinProcess(folder / "books"))
        atexit.register(_end_shared, folder)
    for what in ("faults", "books"):
        _shared[0].ask("DELETE", what)
    return _shared[0]


def _end_shared(folder: Path) -> None:
    _shared[0].kill()
    shutil.rmtree(folder)


class MturkRig:
    """An adapter, and workers who go through the stand-in's doors for them."""

    def __init__(self, standin: StandinProcess, **section: Any) -> None:
        self.standin = standin
        self._section = MturkSection(**section)
        self.platform = self.again()

    def again(self) -> "Platform":
        return MturkPlatform(self._section, endpoint_url=self.standin.url, attempts=5)

    def take(self, posting: str, participant: str) -> dict[str, str]:
        taken = self.standin.ask("POST", "take", json={"posting": posting, "participant": participant})
        return dict(parse_qsl(urlsplit(taken["arrival_url"]).query))

    def hand_in(self, query: dict[str, str]) -> None:
        finish = self.platform.finish(query["assignmentId"], CODE)
        assert finish is not None and finish.url.startswith(query["turkSubmitTo"])
        assert requests.post(finish.url, data=finish.form, timeout=30).ok

    def follow(self, query: dict[str, str], finish: "Finish") -> None:
        assert requests.post(finish.url, data=finish.form, timeout=30).ok

    def leave(self, query: dict[str, str]) -> None:
        self.standin.ask("POST", "give-back", json={"submission": query["assignmentId"]})

    def books(self) -> Any:
        return self.standin.ask("GET", "books")

    def postings(self) -> list[str]:
        return list(dict.fromkeys(hit["posting"] for hit in self.books()["hits"]))

    def rewards(self) -> dict[str, int]:
        rewards = self.books()["rewards"]
        assert len({paid["submission"] for paid in rewards}) == len(rewards)
        return {paid["submission"]: paid["amount"] for paid in rewards}

    def bonuses(self) -> list[tuple[str, int]]:
        return [(paid["submission"], paid["amount"]) for paid in self.books()["bonuses"]]

    def declare(self, submission: str, status: str) -> None:
        self.standin.ask("POST", "set-status", json={"submission": submission, "status": status})

    def fail(self, *faults: str) -> None:
        self.standin.ask("PUT", "faults", json={"next": faults})


@contextmanager
def mturk(folder: Path, **section: Any) -> "Iterator[MturkRig]":
    """A rig, with AWS's credentials where users have them: in the environment."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_ACCESS_KEY_ID", KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            environment.setenv(name, str(folder / "none"))
        yield MturkRig(shared_standin(), **section)
