"""Serving WSGI apps with gunicorn: a master that listens, and workers that end with it."""

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from crowd_imi.errors import PagesError
from crowd_imi.pages.logs import JsonLines, log_as_json

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

THREADS = 8
"""Per worker: browsers open connections ahead of need, and slow ones must not keep others waiting."""

TIMEOUT_SECONDS = 90
"""A worker that shows no life for so long is replaced; longer than a transaction waits for its turn."""

GRACE_SECONDS = 10
PARENT_CHECK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Site:
    """An app, and the socket it answers on."""

    app_factory: Callable[[], WsgiApp]
    """Called in each worker, after the fork: no connection to a database is ever shared by two processes."""
    listener: socket.socket

    @property
    def address(self) -> str:
        """``http://HOST:PORT`` with the port that the system chose where it was asked to."""
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that listens.

    Args:
        host: an address of this machine.
        port: 0 lets the system choose.
        option: what the error message tells people to change.

    Raises:
        PagesError: the port is taken, or the host isn't ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise PagesError(f"can't listen on {host} port {port}: {error.strerror or error}; choose another with {option}") from None


def serve(
    app_factory: Callable[[], WsgiApp], host: str, port: int, workers: int, ready: Callable[[str], None] | None = None
) -> None:
    """Serve one app until the process is told to stop (SIGTERM, SIGINT).

    Args:
        app_factory: makes the app, in each worker.
        host: address to listen on.
        port: 0 lets the system choose.
        workers: processes.
        ready: called with the app's address once it listens.

    Raises:
        PagesError: the port is taken.
        SystemExit: always, at the end.
    """
    site = Site(app_factory, listen(host, port))
    serve_sites((site,), workers, (lambda: ready(site.address)) if ready else None)


def serve_sites(
    sites: Sequence[Site],
    workers: int,
    ready: Callable[[], None] | None = None,
    leaving: Callable[[], None] | None = None,
) -> None:
    """Serve several apps, each on its own socket, with the same workers.

    Args:
        sites: the apps.
        workers: processes.
        ready: called in the master once all sockets listen.
        leaving: called in the master at the end, unless it was killed.

    Raises:
        SystemExit: always, at the end.
    """
    log_as_json()
    _Server(sites, workers, ready, leaving).run()


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn without its own command line and configuration files."""

    def __init__(
        self, sites: Sequence[Site], workers: int, ready: Callable[[], None] | None, leaving: Callable[[], None] | None
    ) -> None:
        self._factories = {int(site.listener.getsockname()[1]): site.app_factory for site in sites}
        self._settings: dict[str, Any] = {
            "bind": [f"fd://{site.listener.detach()}" for site in sites],
            "workers": workers,
            "worker_class": "gthread",
            "threads": THREADS,
            "timeout": TIMEOUT_SECONDS,
            "graceful_timeout": GRACE_SECONDS,
            "loglevel": logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower(),
            "logger_class": QuietLogger,
            "control_socket_disable": True,
            "post_fork": lambda server, worker: end_with(server.pid),
        }
        if ready is not None:
            self._settings["when_ready"] = lambda server: ready()
        if leaving is not None:
            self._settings["on_exit"] = lambda server: leaving()
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            if name in self.cfg.settings:  # older versions have no control socket to disable
                self.cfg.set(name, value)

    def load(self) -> WsgiApp:
        app = by_listener({port: factory() for port, factory in self._factories.items()})
        # The plan of a large study is a million objects that stay: going through them again and again stops every thread.
        gc.collect()
        gc.freeze()
        return app


def by_listener(apps: Mapping[int, WsgiApp]) -> WsgiApp:
    """An app that hands each request to the app of the port it came in by, whatever its headers say."""
    if len(apps) == 1:
        return next(iter(apps.values()))

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        port = environ["gunicorn.socket"].getsockname()[1]
        return apps[port](environ, start_response)

    return app


def end_with(parent: int) -> None:
    """End this process soon after its parent: workers of a killed master would keep its port."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="end with the master", daemon=True).start()


class QuietLogger(Logger):  # type: ignore[misc]
    """gunicorn's log as JSON lines, without anybody's address and what stands behind a ``?``, where platforms put ids."""

    def setup(self, cfg: object) -> None:
        super().setup(cfg)
        self.error_log.addFilter(_without_people)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonLines())


def _without_people(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    if str(record.msg).startswith("Invalid request from"):
        record.msg = "a request that isn't HTTP"
    return True
