"""Requests and replies: JSON in, JSON out, pages of a list, and one transaction around each."""

import hmac
import json
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import Response, current_app, request
from werkzeug.wrappers import Response as AnyResponse

from crowd_imi.platforms.standins.clocks import CLOCK_HEADER
from crowd_imi.platforms.standins.prolific.desk import Books, Desk, Refusal, bad_request
from crowd_imi.platforms.standins.prolific.events import WRITTEN, Courier
from crowd_imi.platforms.standins.prolific.places import time_out

PAGE_SIZE = 20
LARGEST_PAGE = 1000

Row = TypeVar("Row")
Result = TypeVar("Result")
View = Callable[..., AnyResponse]


def handled(view: View) -> Callable[..., AnyResponse]:
    """A view that is handed a ``Desk``: what it writes is committed before its reply is sent, and nothing of it if it refuses."""

    @wraps(view)
    def within(**parts: str) -> AnyResponse:
        # Who ran out of time stays so, whatever becomes of the request.
        _in_transaction(time_out)
        return _in_transaction(view, **parts)

    return within


def _in_transaction(what: Callable[..., Result], **parts: str) -> Result:
    books: Books = current_app.extensions["books"]
    with books.transaction() as session:
        result = what(Desk(session, _now(books), books.account), **parts)
    if session.info.get(WRITTEN):
        courier: Courier = current_app.extensions["courier"]
        courier.wake()
    return result


def check_token() -> None:
    """Let nobody in without a token.

    Raises:
        Refusal: 401.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    tokens = current_app.extensions["books"].account.tokens
    known = any(hmac.compare_digest(token.encode(), each.encode()) for each in tokens) if tokens else bool(token.strip())
    if scheme != "Token" or not known:
        raise Refusal(401, "Unauthorized", "Authentication credentials were missing or wrong: send Authorization: Token …")


def reply(document: object, status: int = 200) -> Response:
    """A JSON reply."""
    return Response(json.dumps(document), status, mimetype="application/json")


def refused(refusal: Refusal) -> Response:
    """A refusal in Prolific's form."""
    return reply(refusal.document(), refusal.status)


def asked() -> dict[str, object]:
    """The request's JSON object; an empty one without a body.

    Raises:
        Refusal: 400: it is something else.
    """
    body = request.get_data()
    try:
        values = json.loads(body) if body else {}
        json.dumps(values, ensure_ascii=False).encode()  # half characters can't be kept
    except ValueError:
        raise bad_request("the body isn't JSON") from None
    if not isinstance(values, dict):
        raise bad_request("the body must be a JSON object")
    return values


def page(rows: Sequence[Row], shown: Callable[[Row], dict[str, Any]]) -> Response:
    """One page of a list: ``page`` counts from 1, ``page_size`` is 20 unless the request says more.

    Raises:
        Refusal: 404 past the end, 400 for something that is no page.
    """
    number, size = _positive("page", 1), _positive("page_size", PAGE_SIZE)
    if size > LARGEST_PAGE:
        raise bad_request({"page_size": [f"at most {LARGEST_PAGE}"]})
    last = max(1, -(-len(rows) // size))
    if number > last:
        raise Refusal(404, "Not found", f"page {number} is past the end: there are {last}")
    document = {
        "results": [shown(row) for row in rows[(number - 1) * size : number * size]],
        "meta": {"count": len(rows)},
        "_links": {
            "self": _link(number, "Current"),
            "next": _link(number + 1 if number < last else None, "Next"),
            "previous": _link(number - 1 if number > 1 else None, "Previous"),
            "first": _link(1, "First"),
            "last": _link(last, "Last"),
        },
    }
    return reply(document)


def _link(number: int | None, title: str) -> dict[str, str | None]:
    if number is None:
        return {"href": None, "title": title}
    query = {**request.args.to_dict(), "page": str(number)}
    return {"href": f"{request.base_url}?{urlencode(query)}", "title": title}


def _positive(name: str, default: int) -> int:
    said = request.args.get(name)
    if said is None:
        return default
    if not said.isdecimal() or int(said) < 1:
        raise bad_request({name: [f"{said!r} isn't a number from 1"]})
    return int(said)


def _now(books: Books) -> int:
    try:
        return books.clock.now(request.headers.get(CLOCK_HEADER))
    except ValueError:
        raise bad_request(f"{CLOCK_HEADER} must be milliseconds since 1970") from None
