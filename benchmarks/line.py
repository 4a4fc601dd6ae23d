"""A line between a client and a server on this machine: as slow as a real one, or listened to at every request."""

import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

Side = Literal["before", "after"]
"""Before a request is passed on, or after the server has answered and before the client hears of it."""
Listener = Callable[[Side, str], None]

_OWN = frozenset({"connection", "expect", "keep-alive", "transfer-encoding"})
"""Headers that belong to one connection."""
_TIMEOUT_SECONDS = 60


class Cut(Exception):
    """A listener raises it: the request, or its answer, goes no further."""


class Line:
    """Passes HTTP/1.1 requests on, unchanged, from an address of its own.

    Args:
        server: ``http://127.0.0.1:PORT``.
        seconds: what the line adds to each request.
        listener: hears of each request by ``METHOD /path`` (with the operation where the API is AWS's), before and after.
            It hears ``after`` with a request's name for a path under ``/moment/`` too, which goes no further.
    """

    def __init__(self, server: str, *, seconds: float = 0.0, listener: Listener | None = None) -> None:
        self.server, self.seconds, self.listener = server, seconds, listener
        self.requests = 0
        self._lock = Lock()
        self._http = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> "Line":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def count(self) -> None:
        """One more request was passed on."""
        with self._lock:
            self.requests += 1


def _deaf(_side: Side, _name: str) -> None:
    """Nobody listens."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


def _handler(line: Line) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # one packet for headers and body: two would wait for each other

        def handle(self) -> None:
            try:
                super().handle()
            except (Cut, ConnectionError):
                self.close_connection = True

        def handle_expect_100(self) -> bool:
            goes_on = super().handle_expect_100()
            self.wfile.flush()  # else boto3 waits a second before it sends a body
            return goes_on

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            name = f"{self.command} {operation or self.path}"
            listener = line.listener or _deaf
            if self.path.startswith("/moment/"):
                listener("after", name)
                self._answer(204, [], b"")
                return
            listener("before", name)
            line.count()
            time.sleep(line.seconds)
            try:
                status, headers, content = self._ask(body)
            finally:
                listener("after", name)
            self._answer(status, headers, content)

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            # A connection of its own: one that is kept might be closed by the server while the request is on its way.
            with closing(HTTPConnection(urlsplit(line.server).netloc, timeout=_TIMEOUT_SECONDS)) as server:
                server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in _OWN:
                        server.putheader(name, value)
                server.endheaders(body or None)
                try:
                    reply = server.getresponse()
                    return reply.status, reply.getheaders(), reply.read()
                except (OSError, HTTPException) as error:  # cut by the server: the client is cut as well
                    raise Cut from error

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in {*_OWN, "content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _pass_on

        def log_message(self, *_: object) -> None:
            pass

    return Handler
