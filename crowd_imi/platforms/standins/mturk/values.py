"""Values as Mechanical Turk's API writes them: amounts, times, pages."""

import base64
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import Session

from crowd_imi.platforms.standins.mturk.books import Assignment, Grant, Hit, Payment, QualificationType
from crowd_imi.platforms.standins.mturk.wire import Params, turk_error

Row = TypeVar("Row", Assignment, Grant, Hit, Payment, QualificationType)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PAGE = 10
"""Results of a page when ``MaxResults`` isn't given."""


def within(name: str, value: int, least: int, most: int) -> None:
    """Refuse a value out of its range."""
    if not least <= value <= most:
        raise turk_error("ParameterOutOfRange", f"{name} is {value}; valid values range from {least} to {most}")


def cents(amount: str) -> int:
    """``1.5`` → 150."""
    whole, _, part = amount.partition(".")
    return int(whole) * 100 + int(part.ljust(2, "0"))


def dollars(amount: int) -> str:
    """150 → ``1.50``."""
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 100}.{abs(amount) % 100:02d}"


def milliseconds(timestamp: float | str) -> int:
    """A request's timestamp, since 1970."""
    if isinstance(timestamp, str):
        return round(datetime.fromisoformat(timestamp).timestamp() * 1000)
    return round(timestamp * 1000)


def seconds(at: int | None) -> float | None:
    """A timestamp as JSON 1.1 has it."""
    return None if at is None else at / 1000


def page(
    session: Session, chosen: Select[Row], table: type[Row], params: Params, newest_first: bool = False
) -> tuple[list[Row], Params]:
    """One page of rows, and the token of the next one where there is one."""
    most = params.get("MaxResults", PAGE)
    order = table.number.desc() if newest_first else table.number
    if "NextToken" in params:
        last = _read_token(params["NextToken"])
        chosen = chosen.where(table.number < last if newest_first else table.number > last)
    rows = list(session.scalars(chosen.order_by(order).limit(most + 1)))
    following = {"NextToken": _token(rows[most - 1].number)} if len(rows) > most else {}
    return rows[:most], following


def _token(number: int) -> str:
    return base64.urlsafe_b64encode(f"p1:{number}".encode()).decode()


def _read_token(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token).removeprefix(b"p1:"))
    except ValueError:
        raise turk_error("InvalidPaginationToken", "The NextToken is none of this list.") from None


def without_none(record: Params) -> Params:
    """A record without what isn't there."""
    return {name: value for name, value in record.items() if value is not None}
