"""The local platform: places, submissions and payments in books of its own, on this machine.

It stands for a crowd that a lab has by itself, for rehearsals and for trying things out. Its books are one SQLite file
that several processes may use at once; the study's database knows nothing of them.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from sqlalchemy import ForeignKey, Index, MetaData, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from crowd_imi.errors import PlatformError
from crowd_imi.platforms.base import PlatformSubmission, PostingRequest
from crowd_imi.records import Money, Record
from crowd_imi.store.clock import Clock, SystemClock
from crowd_imi.store.engine import open_engine

OCCUPYING = ("active", "awaiting_review", "approved", "rejected")
"""Statuses that take up a place; returned and timed_out ones give it back."""


class OpenPlace(Record):
    """What a participant sees of a posting before taking part."""

    posting: str
    title: str
    description: str
    reward: Money
    minutes: float
    free: int
    """Places that nobody has taken."""


class LocalPayment(Record):
    """A reward that was paid."""

    submission: str
    reward: Money
    at: int
    """Milliseconds since 1970."""


class _Base(DeclarativeBase):
    metadata = MetaData()


class _Setting(_Base):
    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class _Posting(_Base):
    __tablename__ = "posting"

    id: Mapped[str] = mapped_column(primary_key=True)
    intent: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    description: Mapped[str]
    arrival_url: Mapped[str]
    reward: Mapped[int]
    currency: Mapped[str]
    places: Mapped[int]
    minutes: Mapped[float]
    completion_code: Mapped[str]
    posted_at: Mapped[int]


class _Submission(_Base):
    __tablename__ = "submission"
    __table_args__ = (Index("uq_one_active", "posting_id", "participant", unique=True, sqlite_where=text("status = 'active'")),)

    id: Mapped[str] = mapped_column(primary_key=True)
    posting_id: Mapped[str] = mapped_column(ForeignKey("posting.id"), index=True)
    participant: Mapped[str]
    status: Mapped[str]
    taken_at: Mapped[int]


class _Payment(_Base):
    __tablename__ = "payment"

    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), primary_key=True)
    amount: Mapped[int]
    currency: Mapped[str]
    paid_at: Mapped[int]


class LocalPlatform:
    """Both sides of the local platform: the requester's (``platforms.base.Platform``) and the participants'.

    Args:
        path: the platform's SQLite file, made when missing.
        clock: whose time its books show; a rehearsal hands its own in.
    """

    name = "local"

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._engine = open_engine(f"sqlite:///{path}")
        self._reading = self._engine.execution_options(read_only=True)
        with self._engine.begin() as connection:
            _Base.metadata.create_all(connection)
        self._engine.dispose()  # no connection may be open when a server forks its workers

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    # The requester's side.

    def post(self, request: PostingRequest) -> str:
        with self._write() as session:
            posting = session.scalar(select(_Posting).where(_Posting.intent == request.intent))
            if posting is None:
                posting = _Posting(
                    id=secrets.token_hex(8),
                    **request.model_dump(exclude={"reward"}),
                    reward=request.reward.amount,
                    currency=request.reward.currency,
                    posted_at=self._clock.now(),
                )
                session.add(posting)
            return posting.id

    def find(self, intent: str) -> str | None:
        with self._read() as session:
            return session.scalar(select(_Posting.id).where(_Posting.intent == intent))

    def set_places(self, posting: str, places: int) -> None:
        with self._write() as session:
            found = _posting(session, posting)
            taken = _taken(session, posting)
            if places < taken:
                raise PlatformError(f"posting {posting}: {taken} places are taken already, so there can't be {places} in all")
            found.places = places

    def places(self, posting: str) -> int:
        with self._read() as session:
            return _posting(session, posting).places

    def submissions(self, posting: str) -> Iterator[PlatformSubmission]:
        with self._read() as session:
            _posting(session, posting)
            chosen = select(_Submission).where(_Submission.posting_id == posting).order_by(_Submission.taken_at, _Submission.id)
            rows = session.scalars(chosen).all()
        yield from map(_record, rows)

    def submission(self, submission: str) -> PlatformSubmission:
        with self._read() as session:
            return _record(_submission(session, submission))

    def approve(self, submission: str) -> None:
        with self._write() as session:
            row = _submission(session, submission)
            if session.get(_Payment, submission) is not None:
                return
            if row.status == "rejected":
                raise PlatformError(f"submission {submission} was rejected, so it can't be approved")
            posting = _posting(session, row.posting_id)
            row.status = "approved"
            payment = _Payment(
                submission_id=submission, amount=posting.reward, currency=posting.currency, paid_at=self._clock.now()
            )
            session.add(payment)

    def release(self, submission: str) -> None:
        with self._write() as session:
            row = _submission(session, submission)
            if row.status == "active":
                row.status = "timed_out"

    def finish_url(self, submission: str, completion_code: str) -> str:
        with self._read() as session:
            base = session.get(_Setting, "base_url")
        if base is None:
            raise PlatformError("the local platform has no address yet; start its list of places with `crowd-imi serve`")
        return f"{base.value}/complete?{urlencode({'submission': submission, 'code': completion_code})}"

    def set_base_url(self, url: str) -> None:
        """Where the list of places is served; ``finish_url`` points there."""
        with self._write() as session:
            session.merge(_Setting(name="base_url", value=url.rstrip("/")))

    def payments(self) -> tuple[LocalPayment, ...]:
        """Every reward that was paid, the oldest first."""
        with self._read() as session:
            rows = session.scalars(select(_Payment).order_by(_Payment.paid_at, _Payment.submission_id)).all()
        return tuple(
            LocalPayment(submission=r.submission_id, reward=Money(amount=r.amount, currency=r.currency), at=r.paid_at)
            for r in rows
        )

    # The participants' side.

    def open_places(self) -> tuple[OpenPlace, ...]:
        """Postings that still have a free place."""
        return tuple(place for place in self.listed_places() if place.free > 0)

    def listed_places(self) -> tuple[OpenPlace, ...]:
        """Every posting, also those whose places are all taken: who took one may want to go on."""
        with self._read() as session:
            offers = [
                (p, p.places - _taken(session, p.id)) for p in session.scalars(select(_Posting).order_by(_Posting.posted_at))
            ]
        return tuple(
            OpenPlace(
                posting=posting.id,
                title=posting.title,
                description=posting.description,
                reward=Money(amount=posting.reward, currency=posting.currency),
                minutes=posting.minutes,
                free=max(0, free),
            )
            for posting, free in offers
        )

    def take(self, posting: str, participant: str) -> PlatformSubmission:
        """Reserve a place; the same participant gets the same submission while it is active.

        Raises:
            PlatformError: there is no such posting, or no place is free.
        """
        with self._write() as session:
            offer = _posting(session, posting)
            row = _active(session, posting, participant)
            if row is None:
                if _taken(session, posting) >= offer.places:
                    raise PlatformError(f"posting {posting}: every place is taken; come back later, some are given back")
                row = _Submission(
                    id=secrets.token_hex(8),
                    posting_id=posting,
                    participant=participant,
                    status="active",
                    taken_at=self._clock.now(),
                )
                session.add(row)
            return _record(row)

    def place_of(self, posting: str, participant: str) -> PlatformSubmission:
        """The place that a participant has and hasn't handed in.

        Raises:
            PlatformError: there is none.
        """
        with self._read() as session:
            row = _active(session, posting, participant)
            if row is None:
                raise PlatformError(
                    "there is no place under this name; write it as you did when you took the place, or the place was handed in, "
                    "given back or ran out of time"
                )
            return _record(row)

    def arrival_urls(self) -> tuple[str, ...]:
        """Where postings send their participants."""
        with self._read() as session:
            return tuple(session.scalars(select(_Posting.arrival_url).order_by(_Posting.posted_at)))

    def arrival_url_for(self, submission: str) -> str:
        """The link that this participant follows to the task's pages."""
        with self._read() as session:
            row = _submission(session, submission)
            url = _posting(session, row.posting_id).arrival_url
        ids = urlencode({"participant": row.participant, "submission": row.id, "posting": row.posting_id})
        return f"{url}{'&' if '?' in url else '?'}{ids}"

    def complete(self, submission: str, code: str) -> None:
        """Hand in with the completion code; doing it again changes nothing.

        Raises:
            PlatformError: the code is wrong, or the place was given back.
        """
        with self._write() as session:
            row = _submission(session, submission)
            if not secrets.compare_digest(code.encode(), _posting(session, row.posting_id).completion_code.encode()):
                raise PlatformError(f"submission {submission}: {code!r} isn't this posting's completion code")
            if row.status == "returned":
                raise PlatformError(f"submission {submission} was given back, so it can't be handed in any more")
            if row.status in ("active", "timed_out"):
                row.status = "awaiting_review"

    def give_back(self, submission: str) -> None:
        """Leave without handing in, which frees the place.

        Raises:
            PlatformError: it was handed in already.
        """
        with self._write() as session:
            row = _submission(session, submission)
            if row.status in ("awaiting_review", "approved", "rejected"):
                raise PlatformError(f"submission {submission} was handed in already, so it can't be given back")
            row.status = "returned"

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with Session(self._reading, expire_on_commit=False) as session, session.begin():
            yield session


def _posting(session: Session, posting: str) -> _Posting:
    found = session.get(_Posting, posting)
    if found is None:
        raise PlatformError(f"the local platform has no posting {posting}")
    return found


def _submission(session: Session, submission: str) -> _Submission:
    found = session.get(_Submission, submission)
    if found is None:
        raise PlatformError(f"the local platform has no submission {submission}")
    return found


def _active(session: Session, posting: str, participant: str) -> _Submission | None:
    chosen = select(_Submission).where(
        _Submission.posting_id == posting, _Submission.participant == participant, _Submission.status == "active"
    )
    return session.scalar(chosen)


def _taken(session: Session, posting: str) -> int:
    chosen = select(func.count()).where(_Submission.posting_id == posting, _Submission.status.in_(OCCUPYING))
    return session.scalar(chosen) or 0


def _record(row: _Submission) -> PlatformSubmission:
    return PlatformSubmission(id=row.id, posting=row.posting_id, participant=row.participant, status=row.status)
