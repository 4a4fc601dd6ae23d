"""The workers' side of the Mechanical Turk stand-in: look at a HIT, accept it, work in its frame, hand in."""

from flask import Blueprint, Response, redirect, render_template_string, request
from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.errors import PlatformError
from crowd_imi.platforms.standins.mturk import workers
from crowd_imi.platforms.standins.mturk.books import Assignment, HitType
from crowd_imi.platforms.standins.mturk.state import Standin
from crowd_imi.platforms.standins.mturk.values import dollars

SUBMIT = "/mturk/externalSubmit"
POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src data:; frame-src http: https:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'self'"
)
"""The task's pages stand in a frame, and in the same frame the browser comes back when it hands in."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ title }}</title>
<h1>{{ title }}</h1>
<p>{{ text }}</p>
{% if accept %}
<form method="post" action="/mturk/accept">
<input type="hidden" name="posting" value="{{ accept }}">
<label>Worker <input name="workerId" required></label>
<button>Accept</button>
</form>
{% endif %}
{% if back %}
<form method="post" action="/mturk/return">
<input type="hidden" name="assignmentId" value="{{ back }}"><button>Return</button>
</form>
{% endif %}
{% if frame %}<iframe src="{{ frame }}" title="the task" style="width: 100%; height: 100vh"></iframe>{% endif %}
"""


def routes(standin: Standin) -> Blueprint:
    """``/mturk/preview``, ``accept``, ``work``, ``return`` and ``externalSubmit``."""
    blueprint = Blueprint("site", __name__)

    def preview() -> Response:
        posting = request.args.get("groupId") or request.args.get("hitId") or ""
        with standin.read() as session:
            return _preview(session, posting)

    def accept() -> Response:
        with standin.write() as session:
            taken = workers.take(session, request.form.get("posting", ""), request.form.get("workerId", ""), standin.now())
            return redirect(f"/mturk/work?assignmentId={taken.id}", 303)  # type: ignore[return-value]

    def work() -> Response:
        with standin.read() as session:
            return _work(session, request.args.get("assignmentId", ""))

    def give_back() -> Response:
        with standin.write() as session:
            workers.give_back(session, request.form.get("assignmentId", ""))
        return _page("Returned", "You have returned this HIT.")

    def submit() -> Response:
        with standin.write() as session:
            workers.hand_in(session, request.form.to_dict(), standin.now())
        return _page("Submitted", "The HIT was submitted; you may close this page.")

    blueprint.add_url_rule("/mturk/preview", "preview", preview, methods=["GET"])
    blueprint.add_url_rule("/mturk/work", "work", work, methods=["GET"])
    blueprint.add_url_rule("/mturk/accept", "accept", accept, methods=["POST"])
    blueprint.add_url_rule("/mturk/return", "return", give_back, methods=["POST"])
    blueprint.add_url_rule(SUBMIT, "submit", submit, methods=["POST"])
    blueprint.register_error_handler(PlatformError, _refused)
    return blueprint


def _preview(session: Session, posting: str) -> Response:
    hits = workers.hits_of(session, posting)
    if not hits:
        raise PlatformError(f"there is no HIT of {posting}")
    kind = session.get_one(HitType, hits[0].type_id)
    frame = workers.frame_url(hits[0], {"assignmentId": workers.NOT_AVAILABLE, "hitId": hits[0].id})
    return _page(kind.title, f"{kind.description} Reward: {dollars(kind.reward)} USD.", accept=posting, frame=frame)


def _work(session: Session, assignment: str) -> Response:
    found = session.scalar(select(Assignment).where(Assignment.id == assignment))
    if found is None:
        raise PlatformError(f"there is no assignment {assignment}")
    frame = workers.arrival_url(session, found, request.host_url.rstrip("/"))
    return _page("At work", f"This assignment is {found.status.lower()}.", back=assignment, frame=frame)


def _page(title: str, text: str, **more: str) -> Response:
    return Response(render_template_string(PAGE, title=title, text=text, **more), mimetype="text/html")


def _refused(error: PlatformError) -> tuple[Response, int]:
    return _page("This doesn't work", str(error)), 409
