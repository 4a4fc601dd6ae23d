"""Requests over a real connection, and over one that breaks."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crowd_imi.errors import RehearsalError
from crowd_imi.rehearsal.wire import HttpWire
from crowd_imi.store.clock import SimulatedClock


@contextmanager
def serving(breaks: int = 0, busy: int = 0, cut: int = 0) -> Iterator[tuple[str, list[str]]]:
    """A server that hangs up on the first requests, says 503 to the next, or dies between a reply's head and its body."""
    clocks: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            clocks.append(self.headers["X-Rehearsal-Clock"])
            if len(clocks) <= breaks:
                self.close_connection = True
                return
            self.send_response(503 if len(clocks) <= breaks + busy else 302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "2")
            self.end_headers()
            if len(clocks) <= breaks + busy + cut:
                self.close_connection = True
                return
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", clocks
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_request_says_what_time_it_is_and_follows_no_redirect():
    clock = SimulatedClock(5)
    wire = HttpWire(clock)
    with serving() as (url, clocks):
        assert wire.send("GET", url, {}).status == 302
        clock.set(9)
        assert wire.send("GET", url, {}).headers["Location"] == "/elsewhere"
        wire.close()
    assert clocks == ["5", "9"]


@pytest.mark.parametrize(("breaks", "busy", "cut"), [(2, 0, 0), (0, 2, 0), (0, 0, 2), (1, 0, 1)])
def test_a_broken_connection_a_broken_reply_and_a_busy_server_are_tried_again(breaks, busy, cut):
    wire = HttpWire(SimulatedClock(5))
    with serving(breaks, busy, cut) as (url, clocks):
        assert wire.send("GET", url, {}).content == b"ok"
        wire.close()
    assert len(clocks) == 3 and wire.retries == 2


def test_patience_ends():
    wire = HttpWire(SimulatedClock(5), patience=0.2)
    with pytest.raises(RehearsalError, match="no reply for"):
        wire.send("GET", "http://127.0.0.1:1/", {})
    wire.close()
