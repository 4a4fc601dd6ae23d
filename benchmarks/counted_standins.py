"""Stand-ins in processes of their own, which count what the requester's side asks of them, and whose people may be steered."""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import requests
from werkzeug.serving import WSGIRequestHandler, make_server

from crowd_imi.platforms.base import Platform
from crowd_imi.platforms.mturk import MturkPlatform
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.platforms.standins.clocks import CLOCK_HEADER
from crowd_imi.study import MturkSection, ProlificSection

Name = Literal["prolific", "mturk"]

START = 1_800_000_000_000
"""When simulated time begins."""
MINUTE = 60_000
VISIT_MINUTES = 120
TOKEN = "the-token-of-the-benchmark"
BALANCE = 1_000_000_000


class Standin:
    """One stand-in in a process of its own; ``calls`` counts the requester's requests."""

    def __init__(self, name: Name, folder: Path) -> None:
        self.name, self._calls = name, multiprocessing.Value("q", 0)
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, folder, theirs, self._calls), daemon=True)
        self._process.start()
        self.url: str = ours.recv()
        self._people = requests.Session()
        self.now = START
        """When the people's requests are made."""
        if name == "mturk":
            self.ask("PUT", "balance", {"amount": BALANCE})

    @property
    def calls(self) -> int:
        return int(self._calls.value)

    def tell_time(self, now: int) -> None:
        """For the requests of the harvester, which say nothing of the time."""
        self.now = now
        self.ask("PUT", "clock", {"now": now})

    def ask(self, method: str, path: str, content: object = None) -> Any:  # noqa: ANN401 (JSON is any of its types)
        """One request to what steers the stand-in; None where it says no."""
        headers = {CLOCK_HEADER: str(self.now)}
        reply = self._people.request(method, f"{self.url}/standin/{path}", json=content, headers=headers, timeout=60)
        return reply.json() if reply.ok and reply.content else None

    def finish(self, participant: str, url: str, form: dict[str, str] | None) -> bool:
        """Go where the last page sends the browser."""
        headers = {"X-Standin-Participant": participant, CLOCK_HEADER: str(self.now)}
        if form is None:
            return self._people.get(url, headers=headers, timeout=60).ok
        return self._people.post(url, data=form, headers=headers, timeout=60).ok

    def platform(self) -> Platform:
        """An adapter as a new process makes it."""
        if self.name == "prolific":
            return ProlificPlatform(TOKEN, ProlificSection(), self.url, first_wait=0.002, visit_minutes=VISIT_MINUTES)
        return MturkPlatform(MturkSection(), endpoint_url=self.url, assignment_minutes=VISIT_MINUTES)

    def close(self) -> None:
        self._people.close()
        self._process.terminate()
        self._process.join()


class _KeepAlive(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        """Says nothing."""


def _serve(name: Name, folder: Path, told: Any, calls: Any) -> None:  # noqa: ANN401 (multiprocessing's own types)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder.mkdir(parents=True, exist_ok=True)
    app: Any
    if name == "prolific":
        from crowd_imi.platforms.standins.prolific.app import create_app
        from crowd_imi.platforms.standins.prolific.desk import Account

        app = create_app(folder, Account(tokens=(TOKEN,), settle_seconds=0, opening_balance=BALANCE, fee=0.333, vat=0))
    else:
        from crowd_imi.platforms.standins.mturk.app import create_app as create_turk

        app = create_turk(folder)

    def counted(environ: dict[str, Any], start_response: Any) -> Any:  # noqa: ANN401 (WSGI's own types)
        if environ["PATH_INFO"].startswith("/api/v1/") or "HTTP_X_AMZ_TARGET" in environ:
            with calls.get_lock():
                calls.value += 1
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=_KeepAlive)
    told.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


@contextmanager
def standin(name: Name, folder: Path) -> Iterator[Standin]:
    """A stand-in, ended with the block."""
    made = Standin(name, folder)
    try:
        yield made
    finally:
        made.close()
