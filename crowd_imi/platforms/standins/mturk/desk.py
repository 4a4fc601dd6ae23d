"""The Mechanical Turk stand-in's own doors, ``/standin/…``: for tests and rehearsals, which no real platform has."""

from collections.abc import Callable
from typing import TypeVar

from flask import Blueprint, Response, jsonify, request
from pydantic import Field, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.errors import PlatformError
from crowd_imi.platforms.standins.mturk import books, workers
from crowd_imi.platforms.standins.mturk.books import Assignment, Hit, HitType, Payment, Worker
from crowd_imi.platforms.standins.mturk.state import Standin
from crowd_imi.platforms.standins.mturk.wire import Params
from crowd_imi.records import Record

R = TypeVar("R", bound=Record)


class Taking(Record):
    """``POST /standin/take``: a worker accepts a HIT."""

    posting: str
    """A HIT, a HIT type, a HIT group, or the posting of our adapter."""
    participant: str
    """A worker's id, or any name, for which one is made up."""


class GivingBack(Record):
    """``POST /standin/give-back``: a worker returns a HIT."""

    submission: str


class Declaring(Record):
    """``POST /standin/set-status``: an assignment gets a status that MTurk doesn't have today."""

    submission: str
    status: str = Field(min_length=1, max_length=40)


class Balance(Record):
    """``PUT /standin/balance``: what is left in the account, in cents."""

    balance: int


class Traits(Record):
    """``PUT /standin/worker``: what the system qualifications say of somebody."""

    participant: str
    country: str = "US"
    percent_approved: int = Field(default=100, ge=0, le=100)
    number_approved: int = Field(default=10_000, ge=0)
    masters: bool = True


def routes(standin: Standin) -> Blueprint:
    """What the other side of the counter may do; GET ``books`` shows them, DELETE empties them."""
    blueprint = Blueprint("desk", __name__)

    def take() -> Response:
        asked = _asked(Taking)
        with standin.write() as session:
            taken = workers.take(session, asked.posting, asked.participant, standin.now())
            session.flush()
            url = workers.arrival_url(session, taken, request.host_url.rstrip("/"))
            return jsonify(submission=taken.id, participant=taken.worker, arrival_url=url)

    def give_back() -> Response:
        with standin.write() as session:
            return jsonify(submission=workers.give_back(session, _asked(GivingBack).submission).id)

    def set_status() -> Response:
        asked = _asked(Declaring)
        with standin.write() as session:
            workers.find(session, asked.submission).status = asked.status
        return jsonify(submission=asked.submission, status=asked.status)

    def worker() -> Response:
        asked = _asked(Traits)
        with standin.write() as session:
            traits = asked.model_dump(exclude={"participant"})
            session.merge(Worker(id=workers.worker_id(asked.participant), **traits))
            return jsonify(worker=workers.worker_id(asked.participant))

    def balance() -> Response:
        asked = _asked(Balance)
        with standin.write() as session:
            account = books.paid_in(session)
            account.value += asked.balance - books.balance_of(session)
            return jsonify(balance=asked.balance)

    def show() -> Response:
        with standin.read() as session:
            return jsonify(_books(session, standin.now()))

    def places() -> Response:
        with standin.read() as session:
            return jsonify(places=_places(session, standin.now()))

    def empty() -> Response:
        with standin.write() as session:
            for table in reversed(books.Base.metadata.sorted_tables):
                session.execute(table.delete())
            books.open_account(session, standin.account.opening_balance)
        return jsonify({})

    doors: tuple[tuple[str, str, Callable[[], Response]], ...] = (
        ("POST", "take", take),
        ("POST", "give-back", give_back),
        ("POST", "set-status", set_status),
        ("PUT", "worker", worker),
        ("PUT", "balance", balance),
        ("GET", "places", places),
        ("GET", "books", show),
        ("DELETE", "books", empty),
    )
    for method, name, door in doors:
        blueprint.add_url_rule(f"/standin/{name}", door.__name__, door, methods=[method])
    blueprint.register_error_handler(PlatformError, _refused)
    blueprint.register_error_handler(ValidationError, _misasked)
    return blueprint


def _asked(kind: type[R]) -> R:
    return kind.model_validate_json(request.get_data())


def _refused(error: PlatformError) -> tuple[Response, int]:
    return jsonify(error=str(error)), 409


def _misasked(error: ValidationError) -> tuple[Response, int]:
    return jsonify(error=error.errors(include_url=False, include_context=False)), 400


def _books(session: Session, now: int) -> Params:
    kinds = {kind.id: kind for kind in session.scalars(select(HitType))}
    hits = list(session.scalars(select(Hit).order_by(Hit.number)))
    counts = books.counts_of(session, hits)
    payments = list(session.scalars(select(Payment).order_by(Payment.number)))
    return {
        "hits": [
            {
                "hit": hit.id,
                "type": hit.type_id,
                "posting": kinds[hit.type_id].posting,
                "annotation": hit.annotation,
                "places": hit.max_assignments,
                "status": books.status_of(hit, counts[hit.id], now),
                "expires_at": hit.expires_at,
            }
            for hit in hits
        ],
        "assignments": [
            {"submission": one.id, "hit": one.hit_id, "worker": one.worker, "status": one.status}
            for one in session.scalars(select(Assignment).order_by(Assignment.number))
        ],
        "rewards": [_paid(payment) for payment in payments if payment.kind == "reward"],
        "bonuses": [{**_paid(payment), "key": payment.token} for payment in payments if payment.kind == "bonus"],
        "balance": books.balance_of(session),
    }


def _places(session: Session, now: int) -> list[Params]:
    """What somebody who looks for work sees: a posting that is open, and how many places are free."""
    hits = list(session.scalars(select(Hit).where(Hit.disposed.is_(False)).order_by(Hit.number)))
    counts = books.counts_of(session, hits)
    found: dict[str, Params] = {}
    for hit in hits:
        kind = session.get_one(HitType, hit.type_id)
        place = found.setdefault(kind.posting, {"posting": kind.posting, "title": kind.title, "reward": kind.reward, "free": 0})
        place["free"] += counts[hit.id].available if now < hit.expires_at else 0
    return list(found.values())


def _paid(payment: Payment) -> Params:
    return {"submission": payment.assignment_id, "worker": payment.worker, "amount": payment.amount, "fee": payment.fee}
