"""The task pages as a Flask app: put together here, with what holds for every reply."""

import logging
from pathlib import Path

from flask import Flask, Response, request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from crowd_imi.errors import DesignError, Refused, StoreError
from crowd_imi.keys import study_key
from crowd_imi.pages.api import api
from crowd_imi.pages.arrival import arrival, refusal_page
from crowd_imi.pages.assets import assets
from crowd_imi.pages.context import Pages, as_json
from crowd_imi.pages.texts import load_texts
from crowd_imi.pages.tokens import Tokens
from crowd_imi.pages.view import Problem
from crowd_imi.plan import Plan, load_plan
from crowd_imi.platforms.base import Platform
from crowd_imi.resources import resource
from crowd_imi.store import Store
from crowd_imi.study import Study

log = logging.getLogger(__name__)

LARGEST_REQUEST = 64 * 1024

HEADERS = {
    # jsPsych sets style attributes; everything else comes from this server and runs no inline script.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
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
        StoreError: the store was made from another plan.
        StudyError: the template has no texts in the study's language.
    """
    plan = load_plan(study.plan)
    if not plan.practice:
        raise DesignError(f"{study.plan}: there are no practice trials; run `crowd-imi plan {study.folder}` again")
    if store.about("plan_sha256") != plan.sha256:
        raise StoreError(f"{run_folder}: its tasks come from another plan than {study.plan}; put the old plan back")
    key = study_key(study.key)
    templates = resource("hit_templates", study.file.pages.template)
    app = Flask("crowd_imi.pages", static_folder=None, template_folder=templates)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    app.extensions["crowd_imi"] = Pages(
        study=study,
        store=store,
        platform=platform,
        plan=plan,
        texts=load_texts(study.file),
        key=key,
        tokens=Tokens(key),
        sprites=_sprites(plan),
    )
    for blueprint in (arrival, api, assets):
        app.register_blueprint(blueprint)
    _handle_errors(app)
    app.after_request(_add_headers)
    return app


def _sprites(plan: Plan) -> frozenset[str]:
    practice = (trial.sprite for trial in plan.practice)
    return frozenset(practice) | {trial.sprite for task in plan.tasks for trial in task.trials}


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _handle_errors(app: Flask) -> None:
    """Every failure is one sentence for the participant; what went wrong inside is for the log alone."""

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        return refusal_page(error) if request.blueprint == "arrival" else _problem(error.reason, error.code, error.status)

    @app.errorhandler(DBAPIError)
    @app.errorhandler(PoolTimeoutError)
    def store_failed(error: Exception) -> Response:
        log.error("%s %s: the store said no: %s", request.method, request.path, type(error).__name__, exc_info=error)
        response = _problem("We can't store anything at the moment; please wait, your page tries again.", "try-again", 503)
        response.headers["Retry-After"] = "2"
        return response

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        return _problem(f"This doesn't work: {error.name.lower()}.", error.name.lower().replace(" ", "-"), error.code or 500)

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return _problem("Something went wrong on our side; your answers up to here are stored.", "failed", 500)


def _problem(reason: str, code: str, status: int) -> Response:
    return as_json(Problem(error=reason, code=code), status)
