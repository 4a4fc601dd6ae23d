"""Prolific behind real requests and real HTTP; its stand-in runs in a thread here, and in a process in its own tests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import requests
from werkzeug.serving import make_server

from crowd_imi.platforms.base import Finish
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.platforms.standins.prolific.app import create_app
from crowd_imi.platforms.standins.prolific.desk import Account
from crowd_imi.study import ProlificSection

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from tests.contract.rigs import Rig

TOKEN = "the-token-of-the-tests"


class ProlificRig:
    """The stand-in's two sides: the adapter for researchers, JSON for participants."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._people = requests.Session()
        self.platform = self.again()

    def again(self, **section: Any) -> ProlificPlatform:
        return ProlificPlatform(
            TOKEN,
            ProlificSection(**{"fee_percent": 33.3, **section}),
            endpoint=self.url,
            first_wait=0.01,
            pages="https://pages.example.org",
        )

    def take(self, posting: str, participant: str) -> dict[str, str]:
        taken = self.standin("POST", "take", {"posting": posting, "participant": participant})
        return dict(parse_qsl(urlsplit(taken["arrival_url"]).query))

    def hand_in(self, query: dict[str, str]) -> None:
        from tests.contract.rigs import CODE

        self.complete(query, CODE)

    def complete(self, query: dict[str, str], code: str) -> None:
        """Hand in with a code, whether or not this person was on the task pages."""
        url = self.platform.finish(query["SESSION_ID"], code).url
        reply = self._people.get(url, headers={"X-Standin-Participant": query["PROLIFIC_PID"]}, timeout=30)
        assert reply.ok, reply.text

    def follow(self, query: dict[str, str], finish: Finish) -> None:
        assert self._people.get(finish.url, headers={"X-Standin-Participant": query["PROLIFIC_PID"]}, timeout=30).ok

    def leave(self, query: dict[str, str]) -> None:
        self.standin("POST", "give-back", {"submission": query["SESSION_ID"]})

    def postings(self) -> list[str]:
        return [str(study["id"]) for study in self.books()["studies"]]

    def rewards(self) -> dict[str, int]:
        paid = self.books()["rewards"]
        assert len({reward["submission"] for reward in paid}) == len(paid)
        return {reward["submission"]: reward["amount"] for reward in paid}

    def bonuses(self) -> list[tuple[str, int]]:
        return [(bonus["submission"], bonus["amount"]) for bonus in self.books()["bonuses"]]

    def fail(self, *faults: str) -> None:
        self.standin("PUT", "faults", {"next": list(faults), "retry_after": 0})

    def declare(self, submission: str, status: str) -> None:
        self.standin("POST", "set-status", {"submission": submission, "status": status})

    def books(self) -> Any:
        return self.standin("GET", "books")

    def standin(self, method: str, path: str, content: object = None) -> Any:
        reply = self._people.request(method, f"{self.url}/standin/{path}", json=content, timeout=30)
        assert reply.ok, reply.text
        return reply.json() if reply.content else None

    def close(self) -> None:
        self._people.close()


@contextmanager
def listening(app: "WSGIApplication") -> Iterator[str]:
    """An app's address, on a port of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def served(folder: Path, account: Account) -> Iterator[str]:
    """A stand-in's address, on a port of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    app = create_app(folder, account)
    try:
        with listening(app) as url:
            yield url
    finally:
        app.close()


@contextmanager
def prolific(folder: Path) -> "Iterator[Rig]":
    with served(folder, Account(tokens=(TOKEN,), settle_seconds=0)) as url:
        rig = ProlificRig(url)
        yield rig
        rig.close()
