"""The local platform's list of places: an app of its own, on a port of its own, for this machine alone."""

import logging
import secrets
from typing import TypeVar

from flask import Flask, Response, current_app, redirect, render_template, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.utils import host_is_trusted
from werkzeug.wrappers import Response as AnyResponse

from crowd_imi.errors import PlatformError
from crowd_imi.pages.requests import Id
from crowd_imi.platforms.local import LocalPlatform, OpenPlace
from crowd_imi.records import Record
from crowd_imi.resources import resource

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self' http: https:; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""A form's target may lead on to the task pages, which stand at another address. Without any referrer, browsers would hide
where our own forms come from."""

TRUSTED_HOSTS = ("127.0.0.1", "localhost")


class TakeRequest(Record):
    """``POST /take`` and ``POST /continue``."""

    posting: Id
    participant: Id


class GiveBackRequest(Record):
    """``POST /give-back``."""

    submission: Id


class CompleteRequest(Record):
    """``GET /complete``."""

    submission: Id
    code: Id


class Ticket(Record):
    """A place that was taken."""

    submission: str
    arrival_url: str


class Places(Record):
    """The list, for scripts."""

    places: tuple[OpenPlace, ...]


class Told(Record):
    """What happened, in words."""

    message: str


R = TypeVar("R", bound=Record)
_FIELDS = {*TakeRequest.model_fields, *CompleteRequest.model_fields}


def create_app(platform: LocalPlatform) -> Flask:
    """The list of places of one run."""
    folder = resource("hit_templates", "local_places")
    app = Flask("crowd_imi.pages.places", static_folder=None, template_folder=folder)
    app.config["MAX_CONTENT_LENGTH"] = 16 * 1024
    app.extensions["local_platform"] = platform
    app.before_request(_only_from_here)
    app.add_url_rule("/", view_func=list_places)
    app.add_url_rule("/take", view_func=take, methods=["POST"])
    app.add_url_rule("/continue", view_func=go_on, methods=["POST"])
    app.add_url_rule("/complete", view_func=complete)
    app.add_url_rule("/give-back", view_func=give_back, methods=["POST"])
    app.add_url_rule("/style.css", view_func=style)
    app.add_url_rule("/health", view_func=health)
    app.register_error_handler(PlatformError, _refused)
    app.register_error_handler(ValidationError, _incomplete)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _failed)
    app.after_request(_add_headers)
    return app


def list_places() -> Response:
    """Every posting: its free places for newcomers, and the way back for who closed the window; scripts get the free ones."""
    if _wants_json():
        return _json(Places(places=_platform().open_places()))
    page = render_template("places.html", places=_platform().listed_places(), suggestion=f"visitor-{secrets.token_hex(3)}")
    return Response(page, mimetype="text/html")


def take() -> AnyResponse:
    """Take a place, and go to the task."""
    asked = _asked(TakeRequest)
    platform = _platform()
    submission = platform.take(asked.posting, asked.participant).id
    url = platform.arrival_url_for(submission)
    if _wants_json():
        return _json(Ticket(submission=submission, arrival_url=url))
    return redirect(url, 303)


def go_on() -> AnyResponse:
    """Back to a task that was begun, by the name that the place was taken under."""
    asked = _asked(TakeRequest)
    platform = _platform()
    return redirect(platform.arrival_url_for(platform.place_of(asked.posting, asked.participant).id), 303)


def complete() -> Response:
    """Where the task pages send people at the end."""
    asked = CompleteRequest.model_validate({name: request.args.get(name, "") for name in CompleteRequest.model_fields})
    _platform().complete(asked.submission, asked.code)
    return _tell("Thank you for taking part", "Your work is registered and will be looked at and paid.")


def give_back() -> Response:
    """Leave without handing in."""
    _platform().give_back(_asked(GiveBackRequest).submission)
    return _tell("Your place was given back", "Somebody else can take it now. It doesn't count against you.")


def style() -> Response:
    """The pages' styles."""
    return Response(resource("hit_templates", "local_places", "style.css").read_bytes(), mimetype="text/css")


def health() -> Response:
    """The server is up."""
    return Response('{"status":"ok"}', mimetype="application/json")


def _only_from_here() -> Response | None:
    """Keep other sites out, which a browser on this machine may have open.

    A name of theirs may be made to point here (then the Host is theirs), and a form of theirs may be sent here (then the
    browser says so). Scripts say nothing of where they come from, and are on this machine.
    """
    if not host_is_trusted(request.headers.get("Host"), TRUSTED_HOSTS):
        text = (
            "Please open the list of open places by the address that crowd-imi serve printed, which begins with http://127.0.0.1."
        )
        return _tell("This address isn't ours", text, 400)
    if request.method in ("GET", "HEAD"):
        return None
    site, origin = request.headers.get("Sec-Fetch-Site", "none"), request.headers.get("Origin")
    if site not in ("same-origin", "none") or (origin is not None and origin != request.host_url.rstrip("/")):
        text = "Another site sent this, and nothing was done. To take part, go to the list of open places yourself."
        return _tell("This didn't come from the list of places", text, 403)
    return None


def _platform() -> LocalPlatform:
    found: LocalPlatform = current_app.extensions["local_platform"]
    return found


def _asked(model: type[R]) -> R:
    if request.is_json:
        return model.model_validate_json(request.get_data(cache=False))  # which refuses what is nested a thousand times
    return model.model_validate(request.form.to_dict())


def _wants_json() -> bool:
    best = request.accept_mimetypes.best_match(["text/html", "application/json"])
    return best == "application/json"


def _tell(heading: str, text: str, status: int = 200) -> Response:
    if _wants_json():
        return _json(Told(message=text), status)
    return Response(render_template("message.html", heading=heading, text=text), status, mimetype="text/html")


def _json(document: Record, status: int = 200) -> Response:
    return Response(document.model_dump_json(), status, mimetype="application/json")


def _refused(error: PlatformError) -> Response:
    return _tell("This isn't possible", f"The local platform says: {error}.", 409)


def _incomplete(error: ValidationError) -> Response:
    wrong = {str(part) for problem in error.errors() for part in problem["loc"][:1]}
    missing = ", ".join(sorted(wrong & _FIELDS)) or "what was sent"
    return _tell("Something is missing", f"Please look at these again: {missing}.", 400)


def _http_error(error: HTTPException) -> Response:
    return _tell(error.name, "Please go back to the list of open places.", error.code or 500)


def _failed(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _tell("Something went wrong here", "Please go back to the list of open places and try again.", 500)


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
