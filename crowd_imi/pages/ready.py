"""``/ready``: whether requests can be answered, for whoever decides where they go; ``/health`` says that the server is up."""

import logging

from flask import Blueprint, Response
from sqlalchemy.exc import SQLAlchemyError

from crowd_imi.errors import StoreError
from crowd_imi.pages.context import as_json, pages
from crowd_imi.records import Record

log = logging.getLogger(__name__)
ready = Blueprint("ready", __name__)


class Readiness(Record):
    """``GET /ready``."""

    ready: bool
    database: bool
    """It answers, and was made for this plan."""
    sprites: bool
    """The plan's pictures are there, or hosted elsewhere."""


@ready.get("/ready")
def readiness() -> Response:
    """200 when a visit could go on here now, else 503 with what is missing."""
    database, sprites = _database(), _sprites()
    both = database and sprites
    return as_json(Readiness(ready=both, database=database, sprites=sprites), 200 if both else 503)


def _database() -> bool:
    here = pages()
    try:
        return here.store.about("plan_sha256") == here.plan_sha256
    except (SQLAlchemyError, StoreError) as error:
        log.error("not ready: the database: %s", type(error).__name__)
        return False


def _sprites() -> bool:
    here = pages()
    if not here.sprites_at.startswith("/"):
        return True
    return (here.study.sprites / min(here.sprites)).is_file()
