"""A stand-in in a process of its own, started by the command line as users start it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

STARTED_WITHIN = 60
CORPORATE = ("--fee", "0.428", "--vat", "0.2")
"""A corporate account's fee with VAT: more to get wrong than an academic one's."""


class Server:
    """One running stand-in; ``restart`` brings it back on the same port after ``kill``."""

    def __init__(self, platform: str, folder: Path, *options: str) -> None:
        self._platform, self._folder, self._options = platform, folder, options
        self._start(0)

    def kill(self) -> None:
        """SIGKILL for the master and its worker at once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def restart(self) -> None:
        self._start(urlsplit(self.url).port or 0)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()

    def _start(self, port: int) -> None:
        command = [sys.executable, "-m", "crowd_imi", "standin", self._platform, str(self._folder), "--port", str(port), "--json"]
        deadline = time.monotonic() + STARTED_WITHIN
        while True:
            self._process = subprocess.Popen(
                [*command, *self._options],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
            told = _document(self._process.stdout)
            if told:
                self.url = json.loads(told)["url"]
                return
            self._process.stdout.close()
            assert self._process.wait() == 1 and time.monotonic() < deadline, "the stand-in didn't start"
            time.sleep(0.1)  # the port of the killed one isn't free yet


def _document(lines: Iterable[str]) -> str:
    """What is printed up to the closing brace; nothing when the process ended before."""
    read = []
    for line in lines:
        read.append(line)
        if line == "}\n":
            return "".join(read)
    return ""


class Client:
    """Both sides of Prolific's stand-in over HTTP."""

    def __init__(self, server: Server, token: str = "a-token") -> None:
        self.server = server
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Token {token}"

    @property
    def url(self) -> str:
        return self.server.url

    def close(self) -> None:
        self._session.close()

    def call(self, method: str, path: str, content: object = None, **headers: str) -> requests.Response:
        """One request to the API; ``path`` begins after ``/api/v1``."""
        return self._session.request(method, f"{self.url}/api/v1{path}", json=content, headers=headers, timeout=30)

    def get(self, path: str, **headers: str) -> Any:
        reply = self.call("GET", path, **headers)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def post(self, path: str, content: object = None, **headers: str) -> Any:
        reply = self.call("POST", path, content, **headers)
        assert reply.ok, reply.text
        return reply.json()

    def refused(self, method: str, path: str, content: object = None, status: int = 400) -> Any:
        """The error's detail."""
        reply = self.call(method, path, content)
        assert reply.status_code == status, reply.text
        error = reply.json()["error"]
        assert set(error) == {"status", "error_code", "title", "detail", "additional_information"}
        assert error["status"] == status
        return error["detail"]

    def standin(self, method: str, path: str, content: object = None, **headers: str) -> requests.Response:
        """One request to the participants' side or to what steers the stand-in."""
        return self._session.request(method, f"{self.url}/standin{path}", json=content, headers=headers, timeout=30)

    def books(self) -> Any:
        return self.standin("GET", "/books").json()

    def study(self, **changes: object) -> str:
        """A study that is a draft."""
        return str(self.post("/studies/", study(**changes))["id"])

    def published(self, **changes: object) -> str:
        identity = self.study(**changes)
        self.post(f"/studies/{identity}/transition/", {"action": "PUBLISH"})
        return identity

    def take(self, posting: str, participant: str, **headers: str) -> str:
        reply = self.standin("POST", "/take", {"posting": posting, "participant": participant}, **headers)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["submission"])

    def turned_away(self, posting: str, participant: str) -> str:
        reply = self.standin("POST", "/take", {"posting": posting, "participant": participant})
        assert reply.status_code == 409, reply.text
        return str(reply.json()["error"]["detail"])

    def complete(self, participant: str, code: str = "DONE", **headers: str) -> requests.Response:
        return self._session.get(
            f"{self.url}/submissions/complete",
            params={"cc": code},
            headers={"X-Standin-Participant": participant, **headers},
            timeout=30,
        )

    def handed_in(self, posting: str, participant: str) -> str:
        submission = self.take(posting, participant)
        assert self.complete(participant).status_code == 200
        return submission

    def status(self, submission: str, **headers: str) -> str:
        return str(self.get(f"/submissions/{submission}/", **headers)["status"])


def study(**changes: object) -> dict[str, object]:
    """What a study that is fine says; 1.50 for 10 minutes is 9.00 an hour."""
    done = {"code": "DONE", "code_type": "COMPLETED", "actions": [{"action": "MANUALLY_REVIEW"}], "actor": "participant"}
    return {
        "name": "Which image fits?",
        "internal_name": "crowd-imi intent-1",
        "description": "Look at pictures.",
        "external_study_url": (
            "https://pages.example.org/arrive?PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}"
        ),
        "prolific_id_option": "url_parameters",
        "completion_codes": [done],
        "estimated_completion_time": 10,
        "reward": 150,
        "total_available_places": 3,
        **changes,
    }


@contextmanager
def prolific(folder: Path, *options: str, token: str = "a-token") -> Iterator[Client]:
    """Prolific's stand-in with a client; stopped at the end."""
    server = Server("prolific", folder, *options)
    client = Client(server, token)
    try:
        yield client
    finally:
        client.close()
        server.stop()
