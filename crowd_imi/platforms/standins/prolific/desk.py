"""One request at the stand-in: its clock, its transaction, and how a refusal looks."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.orm import Session

from crowd_imi.errors import PlatformError
from crowd_imi.platforms.standins.clocks import StandinClock
from crowd_imi.platforms.standins.prolific.tables import Base, Setting
from crowd_imi.records import Record
from crowd_imi.store.engine import open_engine

CURRENCIES = ("GBP", "USD")


class Account(Record):
    """What the stand-in is started with."""

    tokens: tuple[str, ...] = Field(default=(), repr=False)
    """Tokens that are let in; none lets in any that isn't empty."""
    settle_seconds: Annotated[float, Field(ge=0)] = 2.0
    currency: str = "USD"
    opening_balance: int = 1_000_000
    """Minor units, for new books."""
    fee: float = 0.333
    """Of academic accounts, as `[prolific]` of study.toml has it by default; corporate ones pay 0.428."""
    vat: float = 0.0
    retry_seconds: float = 40.0


def check_currency(currency: str) -> str:
    """The currency, if workspaces can have it.

    Raises:
        PlatformError: they can't.
    """
    if currency not in CURRENCIES:
        raise PlatformError(f"--currency {currency}: a workspace is in {' or '.join(CURRENCIES)}; choose one of them")
    return currency


class Refusal(Exception):
    """What the API says no to; it becomes Prolific's error form, and nothing of the transaction is kept."""

    def __init__(self, status: int, title: str, detail: str | dict[str, list[str]], *, plain: bool = False) -> None:
        super().__init__(str(detail))
        self.status, self.title, self.detail = status, title, detail
        self.plain = plain
        """Some endpoints answer ``{message, detail}`` instead."""

    def document(self) -> dict[str, Any]:
        if self.plain:
            return {"message": self.title, "detail": self.detail}
        error = {
            "status": self.status,
            "error_code": 140_000 + self.status,
            "title": self.title,
            "detail": self.detail,
            "additional_information": "https://docs.prolific.com/",
        }
        return {"error": error}


def bad_request(detail: str | dict[str, list[str]], *, plain: bool = False) -> Refusal:
    """The request can't be done as it is."""
    return Refusal(400, "Bad request", detail, plain=plain)


def not_found(what: str, *, plain: bool = False) -> Refusal:
    """There is no such thing."""
    return Refusal(404, "Not found", f"{what} wasn't found", plain=plain)


@dataclass(frozen=True, slots=True)
class Desk:
    """What handles one request: a transaction that may write, and the time."""

    session: Session
    now: int
    """Milliseconds since 1970 by the request's clock."""
    account: Account

    def setting(self, name: str) -> str:
        """A setting that is there since the books were made."""
        found = self.session.get_one(Setting, name)
        return found.value


class Books:
    """The database of one stand-in.

    Args:
        folder: where ``prolific.db`` is or will be.
        account: what the stand-in was started with.
    """

    def __init__(self, folder: Path, account: Account) -> None:
        self.account = account
        self.clock = StandinClock()
        self._engine = open_engine(f"sqlite:///{folder / 'prolific.db'}")
        with self._engine.begin() as connection:
            Base.metadata.create_all(connection)
        with Session(self._engine) as session, session.begin():
            opening = {
                "deposit": str(account.opening_balance),
                "user": new_id(),
                "workspace": new_id(),
                "project": new_id(),
            }
            for name, value in opening.items():
                if session.get(Setting, name) is None:
                    session.add(Setting(name=name, value=value))

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction that may write, committed with fsync at the end."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()


def new_id() -> str:
    """An id as Prolific's: 24 hexadecimal digits."""
    return secrets.token_hex(12)


def iso(milliseconds: int | None) -> str | None:
    """A time as the API writes it, in UTC."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
