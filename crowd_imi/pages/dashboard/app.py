"""The dashboard as a Flask app: one page, its script and style, and the document that the script asks for again and again."""

import hashlib
import hmac
import logging
import threading
import time
from pathlib import Path

from flask import Flask, Response, request
from sqlalchemy.exc import DBAPIError
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.utils import host_is_trusted

from crowd_imi.errors import PagesError, StoreError
from crowd_imi.pages.dashboard.snapshot import take_snapshot
from crowd_imi.store import Store
from crowd_imi.study import Study

log = logging.getLogger(__name__)

USER = "dashboard"
SHORTEST_PASSWORD = 12
FRESH_SECONDS = 2.0
"""Counts are shared by all who look within so short a time."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'none'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FILES = {"dashboard.js": "text/javascript", "style.css": "text/css"}
_PAGE = Path(__file__).parent / "page"


def require_password(host: str, password: str | None) -> None:
    """Whoever lets others reach the dashboard protects it.

    Raises:
        PagesError: it would listen on another address than this machine's own without a password, or with a short one.
    """
    if password is None and host not in LOOPBACK:
        raise PagesError(
            f"the dashboard would be open to everybody who reaches {host}; set CROWD_IMI_DASHBOARD_PASSWORD to at least "
            f"{SHORTEST_PASSWORD} characters, or leave --host at 127.0.0.1 and use a tunnel: ssh -L 8002:127.0.0.1:8002"
        )
    if password is not None and len(password) < SHORTEST_PASSWORD:
        raise PagesError(f"CROWD_IMI_DASHBOARD_PASSWORD has {len(password)} characters; it takes at least {SHORTEST_PASSWORD}")


class _Counts:
    """The document, counted at most once in ``FRESH_SECONDS`` whoever asks, and its digest."""

    def __init__(self, study: Study, store: Store) -> None:
        self._study = study
        self._store = store
        self._lock = threading.Lock()
        self._until = 0.0
        self._document = b""

    def current(self) -> bytes:
        with self._lock:
            if time.monotonic() >= self._until:
                self._document = take_snapshot(self._study, self._store, self._store.now()).model_dump_json().encode()
                self._until = time.monotonic() + FRESH_SECONDS
            return self._document


def create_app(study: Study, store: Store, password: str | None) -> Flask:
    """The dashboard of one run.

    Args:
        study: read from study.toml.
        store: opened with ``ReadOnlyStore.look``.
        password: asked for as the user ``dashboard``; None where only this machine can reach it.
    """
    app = Flask("crowd_imi.pages.dashboard", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 1024
    counts = _Counts(study, store)

    @app.get("/")
    def page() -> Response:
        return Response((_PAGE / "index.html").read_bytes(), mimetype="text/html")

    @app.get("/<any('dashboard.js', 'style.css'):name>")
    def file(name: str) -> Response:
        return Response((_PAGE / name).read_bytes(), mimetype=FILES[name])

    @app.get("/progress.json")
    def progress() -> Response:
        return Response(counts.current(), mimetype="application/json")

    @app.get("/health")
    def health() -> Response:
        return Response('{"status":"ok"}', mimetype="application/json")

    app.before_request(lambda: _guard(password))
    _handle_errors(app)
    app.after_request(_add_headers)
    return app


def _guard(password: str | None) -> Response | None:
    """Without a password only this machine's own names are answered: another site's name may be made to point here."""
    if password is None:
        if not host_is_trusted(request.headers.get("Host"), LOOPBACK):
            return _say(
                "Open the dashboard by the address that crowd-imi dashboard printed, which begins with http://127.0.0.1.", 400
            )
        return None
    given = request.authorization
    known = given is not None and given.type == "basic" and given.username == USER
    if known and given is not None and _same(given.password or "", password):
        return None
    refused = _say(f"Log in as {USER} with the password that this dashboard was started with.", 401)
    refused.headers["WWW-Authenticate"] = 'Basic realm="dashboard", charset="UTF-8"'
    return refused


def _same(given: str, password: str) -> bool:
    return hmac.compare_digest(*(hashlib.sha256(text.encode()).digest() for text in (given, password)))


def _handle_errors(app: Flask) -> None:
    @app.errorhandler(DBAPIError)
    @app.errorhandler(StoreError)
    def unreadable(error: Exception) -> Response:
        log.error("%s: the database can't be read: %s", request.path, type(error).__name__)
        return _say("The study's database can't be read at the moment; this page tries again.", 503)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        return _say(f"This doesn't work: {error.name.lower()}.", error.code or 500)

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        log.error("%s failed", request.path, exc_info=error)
        return _say("Something went wrong; the log says what.", 500)


def _say(sentence: str, status: int) -> Response:
    return Response(sentence + "\n", status, mimetype="text/plain")


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
