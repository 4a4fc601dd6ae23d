"""The Mechanical Turk stand-in's state: its books, its clock and who may ask."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flask import has_request_context, request
from sqlalchemy.orm import Session, sessionmaker

from crowd_imi.platforms.standins.clocks import CLOCK_HEADER, StandinClock
from crowd_imi.platforms.standins.faults import Faults
from crowd_imi.platforms.standins.mturk import books
from crowd_imi.platforms.standins.mturk.events import Postman, listen
from crowd_imi.store.clock import Clock
from crowd_imi.store.engine import open_engine

BOOKS = "mturk.db"


@dataclass(frozen=True, slots=True)
class Account:
    """Whose requests are answered."""

    access_key: str | None = None
    """None lets in whoever signs at all."""
    secret_key: str | None = field(default=None, repr=False)
    """None leaves signatures unchecked."""
    opening_balance: int = books.FIRST_BALANCE
    """Cents, for new books."""
    events_endpoint: str | None = None
    """Where SQS and SNS are; a queue's own address where it isn't set."""


class Standin:
    """The books of one folder, for the threads of one process."""

    def __init__(self, folder: Path, account: Account, faults: Faults, clock: Clock | None = None) -> None:
        self.account = account
        self.clock = StandinClock(clock)
        self._engine = open_engine(f"sqlite:///{folder / BOOKS}")
        self._reading = self._engine.execution_options(read_only=True)
        self._writing = threading.Lock()
        with self._engine.begin() as connection:
            books.Base.metadata.create_all(connection)
        with Session(self._engine) as session, session.begin():
            books.open_account(session, account.opening_balance)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        listen(self._sessions, self.now)
        self._postman = Postman(self._engine, faults, account.events_endpoint)
        self._postman.start()

    def now(self) -> int:
        """Milliseconds since 1970; in a request, what it says of a rehearsal's time."""
        return self.clock.now(request.headers.get(CLOCK_HEADER) if has_request_context() else None)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction, on disk when it ends; what time has done comes first."""
        with self._writing, self._sessions() as session, session.begin():
            books.settle(session, self.now())
            yield session
        self._postman.wake()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One transaction that reads, after what time has done is written."""
        with Session(self._reading) as session, session.begin():
            late = bool(books.due(session, self.now()))
        if late:
            with self.write():
                pass
        with Session(self._reading) as session, session.begin():
            yield session

    def close(self) -> None:
        """Send no more, and give back all connections."""
        self._postman.close()
        self._engine.dispose()
