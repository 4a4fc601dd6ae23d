"""Files: scripts and styles of the task page, and sprites, whose headers tell nothing about them."""

import re
from pathlib import Path

from flask import Blueprint, Response, abort, request, send_file

from crowd_imi.errors import CrowdImiError
from crowd_imi.hit_templates import template_file
from crowd_imi.keys import health_answer
from crowd_imi.pages.context import as_json, pages
from crowd_imi.records import Record
from crowd_imi.resources import built

assets = Blueprint("assets", __name__)

SERVED = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".avif": "image/avif"}
"""Suffixes below /static/; pages and texts have addresses of their own."""

SPRITE = re.compile(r"[0-9a-f]{32}\.avif")
"""What the design names sprites."""
_CHALLENGE = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)+", re.IGNORECASE)


class Health(Record):
    """``GET /health``."""

    status: str
    answer: str | None
    """The challenge, the kind of store and the platform under the study's key; None when there was no challenge."""


@assets.get("/health")
def health() -> Response:
    """The server is up; asked with a challenge, it shows whose it is, and whom it lets in."""
    here, challenge = pages(), request.args.get("challenge", "")
    platform = here.platform.name if here.platform else ""
    answer = health_answer(here.key, challenge, here.store.kind, platform) if _CHALLENGE.fullmatch(challenge) else None
    return as_json(Health(status="ok", answer=answer))


@assets.get("/static/<name>")
def static_file(name: str) -> Response:
    """A file of the study's template."""
    return _file(template_file(pages().study, name) if _may_be_served(name) else None, name)


@assets.get("/static/vendor/<name>")
def vendor_file(name: str) -> Response:
    """jsPsych, as the build took it from the npm registry."""
    try:
        return _file(built(name) if _may_be_served(name) else None, name)
    except CrowdImiError:
        abort(404)


@assets.get("/sprites/<name>")
def sprite(name: str) -> Response:
    """One sprite. No date, no tag: when a file was written could tell trials apart."""
    # By its form first: what couldn't be a sprite asks no database, and PostgreSQL takes no NUL.
    if not SPRITE.fullmatch(name) or not pages().serves(name):
        abort(404)
    try:
        content = (pages().study.sprites / name).read_bytes()
    except FileNotFoundError:
        abort(404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(content, mimetype="image/avif", headers=headers)


def _may_be_served(name: str) -> bool:
    return _suffix(name) in SERVED and _NAME.fullmatch(name) is not None


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2]


def _file(path: Path | None, name: str) -> Response:
    if path is None:
        abort(404)
    response = send_file(path.absolute(), mimetype=SERVED[_suffix(name)], conditional=True)
    response.headers["Cache-Control"] = "no-cache"
    return response
