"""How requests reach the servers: over HTTP, or straight into the WSGI apps where a test wants speed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from json import dumps
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import requests
import requests.structures
from requests.adapters import HTTPAdapter

from crowd_imi.errors import RehearsalError
from crowd_imi.store.clock import Clock

CLOCK_HEADER = "X-Rehearsal-Clock"
BUSY = 503
"""The pages ask to be asked again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, as a browser has it."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    seconds: float
    """Real time from the request to the whole reply."""

    @property
    def ok(self) -> bool:
        return self.status < 400


class Wire(Protocol):
    """Sends one request and waits for its reply; redirects aren't followed."""

    requests: int
    retries: int

    def send(
        self, method: str, url: str, headers: dict[str, str], json: object = None, form: Mapping[str, str] | None = None
    ) -> Reply: ...


class HttpWire:
    """One connection per server that is kept open, as browsers do; every request says what time it is.

    A request whose connection breaks is sent again after a pause, which every request of the pages allows: so a
    rehearsal goes on when the server is killed and started again.
    """

    def __init__(self, clock: Clock, patience: float = 60.0) -> None:
        self.requests = 0
        self.retries = 0
        self._clock = clock
        self._patience = patience
        # The adapter alone, without a session: no proxies, cookies or .netrc are looked up, which takes longer than a reply.
        self._adapter = HTTPAdapter(pool_connections=4, pool_maxsize=4)

    def send(
        self, method: str, url: str, headers: dict[str, str], json: object = None, form: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request.

        Raises:
            RehearsalError: the server didn't answer for as long as the patience lasts.
        """
        headers = {**headers, CLOCK_HEADER: str(self._clock.now())}
        begin, pause = time.monotonic(), 0.05
        while True:
            reply = self._try(method, url, headers, *_body(json, form))
            if isinstance(reply, Reply):
                return reply
            if time.monotonic() - begin > self._patience:
                raise RehearsalError(
                    f"{method} {url}: no reply for {self._patience:g} s ({reply}); see the server's log in the run's folder"
                )
            self.retries += 1
            time.sleep(pause)
            pause = min(1.0, pause * 2)

    def _try(self, method: str, url: str, headers: dict[str, str], body: bytes | None, kind: str) -> Reply | str:
        """The reply, or why there was none."""
        self.requests += 1
        sent = time.perf_counter()
        try:
            reply = self._adapter.send(_prepared(method, url, headers, body, kind), timeout=(5, self._patience))
            content = reply.content  # read here: the server can be killed between the reply's head and its body
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            return str(error)
        if reply.status_code == BUSY:
            return "503"
        return Reply(reply.status_code, reply.headers, content, time.perf_counter() - sent)

    def close(self) -> None:
        self._adapter.close()


def _body(json: object, form: Mapping[str, str] | None) -> tuple[bytes | None, str]:
    """What is sent, and its content type."""
    if form is not None:
        return urlencode(form).encode(), "application/x-www-form-urlencoded"
    return None if json is None else dumps(json).encode(), "application/json"


def _prepared(method: str, url: str, headers: dict[str, str], body: bytes | None, kind: str) -> requests.PreparedRequest:
    """A request as it goes out; everything about it is known to be plain ASCII."""
    request = requests.PreparedRequest()
    request.method, request.url = method, url
    sized = {} if body is None else {"Content-Type": kind, "Content-Length": str(len(body))}
    request.headers = requests.structures.CaseInsensitiveDict({**headers, **sized})
    request.body = body
    return request


class DirectWire:
    """Calls WSGI apps in this process, one per address."""

    def __init__(self, clock: Clock, apps: Mapping[str, Any]) -> None:
        """Take apps.

        Args:
            clock: whose time requests carry.
            apps: address (``http://host:port``) → WSGI app.
        """
        from werkzeug.test import Client

        self.requests = 0
        self.retries = 0
        self._clock = clock
        self._clients = {address: Client(app, use_cookies=False) for address, app in apps.items()}

    def send(
        self, method: str, url: str, headers: dict[str, str], json: object = None, form: Mapping[str, str] | None = None
    ) -> Reply:
        parts = urlsplit(url)
        address = f"{parts.scheme}://{parts.netloc}"
        self.requests += 1
        body, kind = _body(json, form)
        sent = time.perf_counter()
        reply = self._clients[address].open(
            path=parts.path,
            query_string=parts.query,
            base_url=address,
            method=method,
            headers={**headers, CLOCK_HEADER: str(self._clock.now())},
            data=body,
            content_type=None if body is None else kind,
        )
        content = reply.get_data()
        return Reply(reply.status_code, dict(reply.headers), content, time.perf_counter() - sent)
