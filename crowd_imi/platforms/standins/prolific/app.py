"""The stand-in as one WSGI app: the API behind its faults, and the participants' side beside it."""

from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from crowd_imi.platforms.standins import clocks, faults
from crowd_imi.platforms.standins.people import HEADERS, stranger
from crowd_imi.platforms.standins.prolific import api, people
from crowd_imi.platforms.standins.prolific.desk import Account, Books, Refusal
from crowd_imi.platforms.standins.prolific.documents import handled, refused
from crowd_imi.platforms.standins.prolific.events import Courier
from crowd_imi.resources import resource

LARGEST_BODY = 1024 * 1024


class Standin(faults.FaultyRequests):
    """The stand-in as a WSGI app; ``close`` ends its thread and gives back the books."""

    def __init__(self, app: Flask, schedule: faults.Faults) -> None:
        super().__init__(app, schedule, _api_request, _fault)
        self._courier: Courier = app.extensions["courier"]
        self._books: Books = app.extensions["books"]

    def close(self) -> None:
        self._courier.close()
        self._books.close()


def create_app(folder: Path, account: Account) -> Standin:
    """The stand-in; to be called in the process that serves it.

    Args:
        folder: where its books are or will be.
        account: whom it serves.
    """
    schedule = faults.Faults()
    books = Books(folder, account)
    app = Flask(__name__, static_folder=None, template_folder=resource("hit_templates", "standins", "prolific"))
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.extensions["books"] = books
    app.extensions["courier"] = Courier(books, schedule)
    app.before_request(_only_from_here)
    app.register_blueprint(api.routes())
    app.register_blueprint(people.routes())
    app.register_blueprint(faults.routes(schedule))
    app.register_blueprint(clocks.routes(books.clock))
    app.add_url_rule("/.well-known/study/jwks.json", "jwks", handled(api.jwks))
    app.register_error_handler(Refusal, refused)
    app.register_error_handler(HTTPException, _http_error)
    app.after_request(_add_headers)
    return Standin(app, schedule)


def _api_request(environ: dict[str, Any]) -> str | None:
    """``POST /api/v1/studies/``; None for all that isn't the requester's API."""
    path = str(environ.get("PATH_INFO", ""))
    return f"{environ['REQUEST_METHOD']} {path}" if path.startswith(api.PREFIX) else None


def _fault(fault: faults.Fault, plan: faults.FaultPlan) -> Response:
    if fault is faults.Fault.THROTTLE:
        answer = refused(Refusal(429, "Too many requests", f"Request was throttled. Expected available in {plan.retry_after} s."))
        answer.headers["Retry-After"] = str(plan.retry_after)
        return answer
    return refused(Refusal(500, "Internal server error", "Something went wrong."))


def _only_from_here() -> Response | None:
    return stranger()


def _http_error(error: HTTPException) -> Response:
    """Unknown URLs, wrong methods, bodies that are too long."""
    status = error.code or 500
    if request.path.startswith("/api/") or request.path.startswith("/standin/"):
        return refused(Refusal(status, error.name, error.description or error.name))
    return people.told(error.name, "Please go back to the list of studies.", status)


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
