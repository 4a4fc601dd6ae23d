"""The participants' URLs: JSON below ``/standin/`` for scripts, two pages for people, and where they hand in."""

import json
import secrets
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from flask import Blueprint, Response, redirect, render_template, request
from pydantic import Field, ValidationError
from sqlalchemy import select
from werkzeug.wrappers import Response as AnyResponse

from crowd_imi.platforms.standins.prolific import money, payments, places, studies, submissions
from crowd_imi.platforms.standins.prolific.desk import Desk, Refusal
from crowd_imi.platforms.standins.prolific.documents import handled, reply
from crowd_imi.platforms.standins.prolific.fields import misfits
from crowd_imi.platforms.standins.prolific.tables import Bonus, Event, Reward, Study, Submission
from crowd_imi.records import Money, Record
from crowd_imi.resources import resource

PARTICIPANT_HEADER = "X-Standin-Participant"
PARTICIPANT_COOKIE = "standin_participant"

Asked = TypeVar("Asked", bound=Record)
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._@-]+$")]


class TakeRequest(Record):
    """``POST /standin/take`` and the form of the list."""

    posting: str
    participant: Name


class SubmissionRequest(Record):
    """``POST /standin/give-back`` and ``/standin/time-out``."""

    submission: str


class StatusRequest(Record):
    """``POST /standin/set-status``: a status that otherwise comes about seldom."""

    submission: str
    status: Annotated[str, Field(min_length=1, max_length=40)]
    paid: Annotated[int, Field(gt=0)] | None = None
    """Minor units that are paid with it; None moves no money."""


class BalanceRequest(Record):
    """``PUT /standin/balance``."""

    total: int
    """Minor units that the workspace has in all from now on."""


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study in the list for people."""

    id: str
    name: str
    description: str
    reward: Money
    minutes: int
    free: int


def routes() -> Blueprint:
    """Everything that needs no token."""
    blueprint = Blueprint("people", __name__)
    for rule, method, view in (
        ("/standin/take", "POST", take),
        ("/standin/give-back", "POST", give_back),
        ("/standin/time-out", "POST", time_out),
        ("/standin/set-status", "POST", set_status),
        ("/standin/balance", "PUT", set_balance),
        ("/standin/books", "GET", books),
        ("/standin/places", "GET", list_places),
        ("/", "GET", list_studies),
        ("/take", "POST", take_by_form),
        ("/submissions/complete", "GET", complete),
    ):
        blueprint.add_url_rule(rule, view.__name__, handled(view), methods=[method])
    blueprint.add_url_rule("/style.css", "style", style)
    blueprint.add_url_rule("/health", "health", health)
    return blueprint


def take(desk: Desk) -> Response:
    """Take a place; the same participant gets the same one again while it is under way."""
    asked = _read(TakeRequest)
    submission = places.take(desk, studies.find_study(desk, asked.posting), asked.participant)
    return reply({"submission": submission.id, "arrival_url": places.arrival_url(desk, submission)})


def give_back(desk: Desk) -> Response:
    """Leave without handing in."""
    submission = submissions.find_submission(desk, _read(SubmissionRequest).submission)
    places.give_back(desk, submission)
    return reply(_book_entry(submission))


def time_out(desk: Desk) -> Response:
    """Let the time run out now."""
    submission = submissions.find_submission(desk, _read(SubmissionRequest).submission)
    places.run_out(desk, submission)
    return reply(_book_entry(submission))


def set_status(desk: Desk) -> Response:
    """Any status, also one that nobody knows yet."""
    asked = _read(StatusRequest)
    submission = submissions.find_submission(desk, asked.submission)
    if asked.paid is not None:
        payments.pay_reward(desk, submission, asked.paid)
    submissions.set_status(desk, submission, asked.status)
    return reply(_book_entry(submission))


def set_balance(desk: Desk) -> Response:
    """Pay in or out."""
    money.set_total_balance(desk, _read(BalanceRequest).total)
    desk.session.flush()
    return reply({"total": money.total_balance(desk), "available": money.available_balance(desk)})


def books(desk: Desk) -> Response:
    """Everything that there is and that was paid."""
    session = desk.session
    entries = {
        "studies": [studies.document(desk, study) for study in session.scalars(select(Study).order_by(Study.number))],
        "submissions": [_book_entry(each) for each in session.scalars(select(Submission).order_by(Submission.number))],
        "rewards": [
            {"submission": paid.submission_id, "amount": paid.amount, "fee": paid.fee, "at": paid.paid_at}
            for paid in session.scalars(select(Reward).order_by(Reward.paid_at, Reward.submission_id))
        ],
        "bonuses": [
            {
                "submission": paid.submission_id,
                "amount": paid.amount,
                "fee": paid.fee,
                "batch": paid.batch_id,
                "at": paid.paid_at,
                "settled": paid.settles_at <= desk.now,
            }
            for paid in session.scalars(select(Bonus).order_by(Bonus.number))
        ],
        "events": [
            {"id": event.id, "tries": event.tries, "delivered": event.delivered, **json.loads(event.body)}
            for event in session.scalars(select(Event).order_by(Event.number))
        ],
        "currency": desk.account.currency,
        "balance": money.total_balance(desk),
        "available_balance": money.available_balance(desk),
    }
    return reply(entries)


def list_places(desk: Desk) -> Response:
    """Studies that take people, and how many more, for scripts."""
    open_ones = desk.session.scalars(select(Study).where(Study.life == "ACTIVE").order_by(Study.number)).all()
    return reply({"places": [{"posting": study.id, "free": _open_study(desk, study).free} for study in open_ones]})


def list_studies(desk: Desk) -> Response:
    """The page for people: also studies that let nobody new in, as who closed the window may want to go on."""
    open_ones = desk.session.scalars(select(Study).where(Study.life.in_(("ACTIVE", "PAUSED"))).order_by(Study.number)).all()
    shown = [_open_study(desk, study) for study in open_ones]
    page = render_template("studies.html", studies=shown, suggestion=f"visitor-{secrets.token_hex(3)}")
    return Response(page, mimetype="text/html")


def take_by_form(desk: Desk) -> AnyResponse:
    """Take a place, remember the name in a cookie, and go to the study."""
    try:
        asked = TakeRequest.model_validate(request.form.to_dict())
        submission = places.take(desk, studies.find_study(desk, asked.posting), asked.participant)
    except ValidationError:
        return told("Something is missing", "Choose a study and a name of letters, digits and . _ @ -", 400)
    except Refusal as refusal:
        return told("This isn't possible", f"{refusal.detail}.", refusal.status)
    answer = redirect(places.arrival_url(desk, submission), 303)
    answer.set_cookie(PARTICIPANT_COOKIE, asked.participant, httponly=True, samesite="Lax")
    return answer


def complete(desk: Desk) -> Response:
    """``/submissions/complete?cc=CODE``: who it is, a header says (scripts) or the list's cookie (people)."""
    participant = request.headers.get(PARTICIPANT_HEADER) or request.cookies.get(PARTICIPANT_COOKIE)
    if not participant:
        return told("Who are you?", "Take a place in the list of studies first, in this browser.", 403)
    try:
        submission = places.complete(desk, participant, request.args.get("cc", ""))
    except Refusal as refusal:
        return told("This isn't possible", f"{refusal.detail}.", refusal.status)
    return told("Thank you for taking part", f"Your submission is now {submission.status}.")


def style() -> Response:
    """The same styles as the local platform's list."""
    return Response(resource("hit_templates", "local_places", "style.css").read_bytes(), mimetype="text/css")


def health() -> Response:
    """The server is up."""
    return Response('{"status":"ok"}', mimetype="application/json")


def told(heading: str, text: str, status: int = 200) -> Response:
    """A page that says one thing."""
    return Response(render_template("message.html", heading=heading, text=text), status, mimetype="text/html")


def _read(record: type[Asked]) -> Asked:
    try:
        return record.model_validate_json(request.get_data())
    except ValidationError as error:
        raise misfits(error) from None


def _book_entry(submission: Submission) -> dict[str, Any]:
    return {
        "id": submission.id,
        "study": submission.study_id,
        "participant": submission.participant,
        "status": submission.status,
        "entered_code": submission.entered_code,
        "started_at": submission.started_at,
        "completed_at": submission.completed_at,
        "return_requested_at": submission.return_requested_at,
        "note": submission.note,
        "rejection_category": submission.rejection_category,
    }


def _open_study(desk: Desk, study: Study) -> OpenStudy:
    fields = studies.fields_of(study)
    free = fields.total_available_places - studies.taken(desk, study) if study.life == "ACTIVE" else 0
    return OpenStudy(
        id=study.id,
        name=fields.name,
        description=fields.description,
        reward=Money(amount=fields.reward, currency=desk.account.currency),
        minutes=fields.estimated_completion_time,
        free=max(0, free),
    )
