"""The task pages as a Flask app: put together here, with what holds for every reply."""

import logging
from pathlib import Path

from flask import Flask, Response, request
from jinja2 import FileSystemLoader
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from crowd_imi.errors import DesignError, Refused, StoreError, command
from crowd_imi.hit_templates import template_folders
from crowd_imi.hosted import origin_of
from crowd_imi.keys import study_key
from crowd_imi.pages.api import api
from crowd_imi.pages.arrival import arrival, refusal_page
from crowd_imi.pages.assets import assets
from crowd_imi.pages.context import Pages, as_json
from crowd_imi.pages.events import events
from crowd_imi.pages.hosted import OWN, sprite_addresses
from crowd_imi.pages.link import link
from crowd_imi.pages.logs import log_requests
from crowd_imi.pages.ready import ready
from crowd_imi.pages.texts import load_texts
from crowd_imi.pages.tokens import Tokens
from crowd_imi.pages.view import Problem
from crowd_imi.plan import load_plan
from crowd_imi.platforms.base import Platform
from crowd_imi.store import Store
from crowd_imi.study import Study

log = logging.getLogger(__name__)

LARGEST_REQUEST = 64 * 1024

HEADERS = {
    # jsPsych sets style attributes; everything but hosted sprites comes from this server, and no inline script runs.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'{sprites} blob: data:; "
        "connect-src 'self'; form-action {frames}; base-uri 'none'; frame-ancestors {frames}"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app(study: Study, store: Store, platform: Platform | None, *, run_folder: Path) -> Flask:
    """The task pages of one run.

    Args:
        study: read from study.toml.
        store: the run's databases; what they are decides whether requests bring a clock along.
        platform: whom to ask about arrivals; None for a preview.
        run_folder: the study's folder, or a rehearsal's.

    Raises:
        DesignError: there is no plan, or it has no practice.
        PagesError: sprites are hosted for pages at another address, or not all of them are.
        StoreError: the store was made from another plan.
        StudyError: the template has no texts in the study's language, or some that can't be filled.
    """
    plan = load_plan(study.plan)
    if not plan.practice:
        raise DesignError(f"{study.plan}: there are no practice trials; run `{command('plan', study.folder)}` again")
    if store.about("plan_sha256") != plan.sha256:
        raise StoreError(f"{run_folder}: its tasks come from another plan than {study.plan}; put the old plan back")
    sprites_at = sprite_addresses(study, store, plan)
    key = study_key(study.key)
    app = Flask("crowd_imi.pages", static_folder=None, template_folder=None)
    app.jinja_loader = FileSystemLoader([folder.absolute() for folder in template_folders(study)])
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    app.extensions["crowd_imi"] = Pages(
        study=study,
        store=store,
        platform=platform,
        plan=plan,
        texts=load_texts(study),
        key=key,
        tokens=Tokens(key),
        sprites=plan.sprites,
        sprites_at=sprites_at,
    )
    for blueprint in (arrival, link, api, assets, events, ready):
        app.register_blueprint(blueprint)
    log_requests(app)
    _handle_errors(app)
    frames = platform.frames if platform is not None else ()
    _add_headers(app, "" if sprites_at == OWN else f" {origin_of(sprites_at)}", " ".join(frames) or "'none'")
    return app


def _add_headers(app: Flask, sprites: str, frames: str) -> None:
    headers = {name: value.format(sprites=sprites, frames=frames) for name, value in HEADERS.items()}

    @app.after_request
    def add(response: Response) -> Response:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response


def _handle_errors(app: Flask) -> None:
    """Every failure is one sentence for the participant; what went wrong inside is for the log alone."""

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        return _say(error)

    @app.errorhandler(DBAPIError)
    @app.errorhandler(PoolTimeoutError)
    def store_failed(error: Exception) -> Response:
        log.error("%s %s: the store said no: %s", request.method, request.path, type(error).__name__, exc_info=error)
        return _say(Refused("We can't store anything at the moment; please wait, your page tries again.", 503, "try-again"))

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        code = error.name.lower().replace(" ", "-")
        return _say(Refused(f"This doesn't work: {error.name.lower()}.", error.code or 500, code))

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return _say(Refused("Something went wrong on our side; your answers up to here are stored.", 500, "failed"))


RETRY_AFTER = {429: "1", 503: "2"}
"""Status → seconds after which to ask again."""
ARRIVE_AGAIN_AFTER = "10"


def _say(refused: Refused) -> Response:
    """A page for who follows a link or is lost, a document for scripts."""
    if request.blueprint in {"arrival", "link"} or (request.blueprint is None and _wants_page()):
        response = refusal_page(refused)
    else:
        response = as_json(Problem(error=refused.reason, code=refused.code), refused.status)
    if refused.status in RETRY_AFTER:
        response.headers["Retry-After"] = RETRY_AFTER[refused.status]
        if request.blueprint == "arrival":
            response.headers["Refresh"] = ARRIVE_AGAIN_AFTER  # browsers reload the page by themselves
    return response


def _wants_page() -> bool:
    """A browser says that it takes HTML; our scripts, and most others', take anything."""
    return not request.path.startswith("/api/") and "text/html" in {kind for kind, _ in request.accept_mimetypes}
