"""The local platform: places, submissions and payments in books of its own, on this machine.

It stands for a crowd that a lab has by itself, for rehearsals and for trying things out.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from sqlalchemy import Connection, MetaData, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from crowd_imi.errors import BadLink, PlatformError, UnknownSubmission
from crowd_imi.platforms.base import UNPAID_ENDINGS, Account, Ending, Finish, PlatformSubmission, PostingState
from crowd_imi.platforms.own_books import OwnBooks, PostingRow, SubmissionRow, as_submission, taken_places
from crowd_imi.records import Money, Record
from crowd_imi.store.clock import Clock

_IDS = ("participant", "submission", "posting")
"""What the list of places adds to the arrival link."""


class OpenPlace(Record):
    """What a participant sees of a posting before taking part."""

    posting: str
    title: str
    description: str
    reward: Money
    minutes: float
    free: int
    """Places that nobody has taken."""


class _Base(DeclarativeBase):
    metadata = MetaData()


class _Setting(_Base):
    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class LocalPlatform(OwnBooks):
    """Both sides of the local platform: the requester's (``platforms.base.Platform``) and the participants'.

    Args:
        path: the platform's SQLite file, made when missing.
        clock: whose time its books show; a rehearsal hands its own in.
    """

    name = "local"

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        super().__init__(path, clock)
        with self._engine.begin() as connection:
            _Base.metadata.create_all(connection)
            _upgrade(connection)
        self._engine.dispose()

    # The requester's side, where it is more than bookkeeping.

    def account(self) -> Account:
        return Account(name="the local platform, on this machine", balance=None)

    def arrive(self, query: Mapping[str, str]) -> PlatformSubmission:
        participant, submission, posting = (query.get(name, "") for name in _IDS)
        if not (participant and submission and posting):
            raise BadLink("the link lacks ids of the local platform")
        with self._read() as session:
            if session.get(PostingRow, posting) is None:
                raise BadLink("the link names no posting of the local platform")
        found = self.submission(submission)
        if (found.participant, found.posting) != (participant, posting):
            raise UnknownSubmission(f"submission {submission} isn't this participant's, or is of another posting")
        return found

    def finish(self, submission: str, completion_code: str, ending: Ending = Ending.COMPLETED) -> Finish | None:
        """Who didn't begin gives the place back by this; everybody else hands in with the posting's one code."""
        if ending in UNPAID_ENDINGS:
            self.give_back(submission)
            return None
        with self._read() as session:
            base = session.get(_Setting, "base_url")
            code = self._posting(session, self._submission(session, submission).posting_id).completion_code
        if base is None:
            raise PlatformError("the local platform has no address yet; start its list of places with `crowd-imi serve`")
        return Finish(url=f"{base.value}/complete?{urlencode({'submission': submission, 'code': code})}")

    def set_base_url(self, url: str) -> None:
        """Where the list of places is served; ``finish`` points there."""
        with self._write() as session:
            session.merge(_Setting(name="base_url", value=url.rstrip("/")))

    # The participants' side.

    def open_places(self) -> tuple[OpenPlace, ...]:
        """Postings that still have a free place."""
        return tuple(place for place in self.listed_places() if place.free > 0)

    def listed_places(self) -> tuple[OpenPlace, ...]:
        """Every posting, also those whose places are all taken: who took one may want to go on."""
        with self._read() as session:
            offers = [
                (p, p.places - taken_places(session, p.id) if p.state == PostingState.OPEN else 0)
                for p in session.scalars(select(PostingRow).order_by(PostingRow.posted_at))
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
            offer = self._posting(session, posting)
            row = _active(session, posting, participant)
            if row is None:
                if offer.state != PostingState.OPEN:
                    raise PlatformError(f"posting {posting} is {offer.state}: it takes nobody new")
                if taken_places(session, posting) >= offer.places:
                    raise PlatformError(f"posting {posting}: every place is taken; come back later, some are given back")
                row = SubmissionRow(
                    id=secrets.token_hex(8),
                    posting_id=posting,
                    participant=participant,
                    status="active",
                    taken_at=self._clock.now(),
                )
                session.add(row)
            return as_submission(row)

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
            return as_submission(row)

    def arrival_urls(self) -> tuple[str, ...]:
        """Where postings send their participants."""
        with self._read() as session:
            return tuple(session.scalars(select(PostingRow.arrival_url).order_by(PostingRow.posted_at)))

    def arrival_url_for(self, submission: str) -> str:
        """The link that this participant follows to the task's pages."""
        with self._read() as session:
            row = self._submission(session, submission)
            url = self._posting(session, row.posting_id).arrival_url
        ids = urlencode({"participant": row.participant, "submission": row.id, "posting": row.posting_id})
        return f"{url}{'&' if '?' in url else '?'}{ids}"

    def complete(self, submission: str, code: str) -> None:
        """Hand in with the completion code; doing it again changes nothing.

        Raises:
            PlatformError: the code is wrong, or the place was given back.
        """
        with self._write() as session:
            row = self._submission(session, submission)
            if not secrets.compare_digest(code.encode(), self._posting(session, row.posting_id).completion_code.encode()):
                raise PlatformError(f"submission {submission}: {code!r} isn't this posting's completion code")
            if row.status == "returned":
                raise PlatformError(f"submission {submission} was given back, so it can't be handed in any more")
            if row.status in ("active", "timed_out"):
                row.status = "awaiting_review"


def _upgrade(connection: Connection) -> None:
    """Books of versions before 0.2 didn't say whether a posting is open: every one was."""
    if "state" not in {column["name"] for column in inspect(connection).get_columns("posting")}:
        connection.execute(text("ALTER TABLE posting ADD COLUMN state VARCHAR NOT NULL DEFAULT 'open'"))


def _active(session: Session, posting: str, participant: str) -> SubmissionRow | None:
    chosen = select(SubmissionRow).where(
        SubmissionRow.posting_id == posting, SubmissionRow.participant == participant, SubmissionRow.status == "active"
    )
    return session.scalar(chosen)
