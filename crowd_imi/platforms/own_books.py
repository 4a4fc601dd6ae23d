"""Books of a platform that has no server: postings, submissions, rewards and bonuses in one SQLite file.

Several processes may use the file at once; what was written is on disk. The study's database knows nothing of it.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import ForeignKey, Index, MetaData, func, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from crowd_imi.errors import PlatformError, UnknownSubmission, Unreachable
from crowd_imi.platforms.base import (
    BonusOrder,
    Capability,
    PlatformBonus,
    PlatformSubmission,
    PostingRequest,
    PostingState,
)
from crowd_imi.records import Money, Record
from crowd_imi.store.clock import Clock, SystemClock
from crowd_imi.store.engine import open_engine

OCCUPYING = ("active", "awaiting_review", "approved", "rejected")
"""Statuses that take up a place; returned and timed_out ones give it back."""
HANDED_IN = ("awaiting_review", "approved", "rejected")


class PaymentNote(Record):
    """A reward that was approved."""

    submission: str
    reward: Money
    at: int
    """Milliseconds since 1970."""


class _Base(DeclarativeBase):
    metadata = MetaData()


class PostingRow(_Base):
    """A posting: what was asked for, and whether it is open."""

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
    state: Mapped[str]


class SubmissionRow(_Base):
    """One participant's place."""

    __tablename__ = "submission"
    __table_args__ = (Index("uq_one_active", "posting_id", "participant", unique=True, sqlite_where=text("status = 'active'")),)

    id: Mapped[str] = mapped_column(primary_key=True)
    posting_id: Mapped[str] = mapped_column(ForeignKey("posting.id"), index=True)
    participant: Mapped[str]
    status: Mapped[str]
    taken_at: Mapped[int]


class PaymentRow(_Base):
    """A reward."""

    __tablename__ = "payment"

    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), primary_key=True)
    amount: Mapped[int]
    currency: Mapped[str]
    paid_at: Mapped[int]


class BonusRow(_Base):
    """A bonus."""

    __tablename__ = "bonus"

    key: Mapped[str] = mapped_column(primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), index=True)
    amount: Mapped[int]
    currency: Mapped[str]
    reason: Mapped[str]
    paid_at: Mapped[int]


class OwnBooks:
    """The requester's side of ``platforms.base.Platform`` as far as it is bookkeeping.

    Args:
        path: the SQLite file, made when missing.
        clock: whose time the books show; a rehearsal hands its own in.
    """

    name: str
    capabilities = frozenset(Capability)
    posting_parameter: str | None = None
    bonus_batch = 1

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._engine = open_engine(f"sqlite:///{path}")
        self._reading = self._engine.execution_options(read_only=True)
        with self._engine.begin() as connection:
            _Base.metadata.create_all(connection)
        self._engine.dispose()  # no connection may be open when a server forks its workers

    frames: tuple[str, ...] = ()

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def fee(self, reward: Money) -> Money:
        return Money(amount=0, currency=reward.currency)

    def quote(self, reward: Money, places: int) -> Money | None:
        return None

    def post(self, request: PostingRequest) -> str:
        with self._write() as session:
            posting = session.scalar(select(PostingRow).where(PostingRow.intent == request.intent))
            if posting is None:
                posting = PostingRow(
                    id=secrets.token_hex(8),
                    **request.model_dump(exclude={"reward", "other_codes"}),
                    reward=request.reward.amount,
                    currency=request.reward.currency,
                    posted_at=self._clock.now(),
                    state=PostingState.OPEN.value,
                )
                session.add(posting)
            return posting.id

    def find(self, intent: str) -> str | None:
        with self._read() as session:
            return session.scalar(select(PostingRow.id).where(PostingRow.intent == intent))

    def postings(self) -> tuple[str, ...]:
        """The ids of all postings, the oldest first."""
        with self._read() as session:
            return tuple(session.scalars(select(PostingRow.id).order_by(PostingRow.posted_at, PostingRow.id)))

    def state(self, posting: str) -> PostingState:
        with self._read() as session:
            return PostingState(self._posting(session, posting).state)

    def pause(self, posting: str) -> None:
        self._become(posting, PostingState.PAUSED)

    def resume(self, posting: str) -> None:
        self._become(posting, PostingState.OPEN)

    def stop(self, posting: str) -> None:
        self._become(posting, PostingState.STOPPED)

    def _become(self, posting: str, state: PostingState) -> None:
        with self._write() as session:
            found = self._posting(session, posting)
            if found.state == PostingState.STOPPED and state is not PostingState.STOPPED:
                raise PlatformError(f"posting {posting} was stopped, which is for good; publish a new study")
            found.state = state.value

    def set_places(self, posting: str, places: int) -> None:
        with self._write() as session:
            found = self._posting(session, posting)
            taken = taken_places(session, posting)
            if places < taken:
                raise PlatformError(f"posting {posting}: {taken} places are taken already, so there can't be {places} in all")
            found.places = places

    def places(self, posting: str) -> int:
        with self._read() as session:
            return self._posting(session, posting).places

    def places_taken(self, posting: str) -> int | None:
        return None

    def free_places(self, posting: str) -> int:
        """How many places nobody has taken; 0 while nobody new is let in."""
        with self._read() as session:
            row = self._posting(session, posting)
            return max(0, row.places - taken_places(session, posting)) if row.state == PostingState.OPEN else 0

    def submissions(self, posting: str) -> Iterator[PlatformSubmission]:
        with self._read() as session:
            self._posting(session, posting)
            chosen = select(SubmissionRow).where(SubmissionRow.posting_id == posting)
            rows = session.scalars(chosen.order_by(SubmissionRow.taken_at, SubmissionRow.id)).all()
        yield from map(as_submission, rows)

    def submission(self, submission: str) -> PlatformSubmission:
        with self._read() as session:
            return as_submission(self._submission(session, submission))

    def approve(self, submission: str) -> None:
        with self._write() as session:
            row = self._submission(session, submission)
            if session.get(PaymentRow, submission) is not None:
                return
            if row.status == "rejected":
                raise PlatformError(f"submission {submission} was rejected, so it can't be approved")
            posting = self._posting(session, row.posting_id)
            row.status = "approved"
            payment = PaymentRow(
                submission_id=submission, amount=posting.reward, currency=posting.currency, paid_at=self._clock.now()
            )
            session.add(payment)

    def reject(self, submission: str, reason: str) -> None:
        with self._write() as session:
            row = self._submission(session, submission)
            if row.status == "approved":
                raise PlatformError(f"submission {submission} was approved and paid, so it can't be rejected")
            if row.status not in ("awaiting_review", "wrong_code", "rejected"):
                raise PlatformError(f"submission {submission} is {row.status.replace('_', ' ')}: only who handed in is rejected")
            row.status = "rejected"

    def send_bonuses(self, orders: Sequence[BonusOrder], note: Callable[[str], None]) -> str:
        with self._write() as session:
            for order in orders:
                self._submission(session, order.submission)
                if session.get(BonusRow, order.key) is None:
                    paid = BonusRow(
                        key=order.key,
                        submission_id=order.submission,
                        amount=order.money.amount,
                        currency=order.money.currency,
                        reason=order.reason,
                        paid_at=self._clock.now(),
                    )
                    session.add(paid)
        return ", ".join(f"bonus {order.key}" for order in orders)

    def bonuses(self, submission: str) -> tuple[PlatformBonus, ...]:
        with self._read() as session:
            posting = self._submission(session, submission).posting_id
        return self.all_bonuses(posting).get(submission, ())

    def all_bonuses(self, posting: str) -> Mapping[str, tuple[PlatformBonus, ...]]:
        chosen = select(BonusRow).join(SubmissionRow, SubmissionRow.id == BonusRow.submission_id)
        with self._read() as session:
            rows = session.scalars(
                chosen.where(SubmissionRow.posting_id == posting).order_by(BonusRow.paid_at, BonusRow.key)
            ).all()
        shown: dict[str, tuple[PlatformBonus, ...]] = {}
        for row in rows:
            bonus = PlatformBonus(amount=Money(amount=row.amount, currency=row.currency), key=row.key)
            shown[row.submission_id] = (*shown.get(row.submission_id, ()), bonus)
        return shown

    def payments(self) -> tuple[PaymentNote, ...]:
        """Every reward that was approved, the oldest first."""
        with self._read() as session:
            rows = session.scalars(select(PaymentRow).order_by(PaymentRow.paid_at, PaymentRow.submission_id)).all()
        return tuple(
            PaymentNote(submission=r.submission_id, reward=Money(amount=r.amount, currency=r.currency), at=r.paid_at)
            for r in rows
        )

    def release(self, submission: str) -> None:
        with self._write() as session:
            row = self._submission(session, submission)
            if row.status == "active":
                row.status = "timed_out"

    def give_back(self, submission: str) -> None:
        """A participant leaves without handing in, which frees the place.

        Raises:
            PlatformError: it was handed in already.
        """
        with self._write() as session:
            row = self._submission(session, submission)
            if row.status in HANDED_IN:
                raise PlatformError(f"submission {submission} was handed in already, so it can't be given back")
            row.status = "returned"

    @contextmanager
    def _write(self) -> Iterator[Session]:
        """One transaction that may write; nobody else writes meanwhile (BEGIN IMMEDIATE)."""
        with self._answering(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with self._answering(), Session(self._reading, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """A file that stays locked, or a disk that is full, is a platform that gives no answer: nothing of it was kept."""
        try:
            yield
        except DatabaseError as error:
            raise Unreachable(
                f"{self._engine.url.database}: the {self.name} platform's books can't be used ({error.orig}); is another program "
                "holding the file, or is the disk full? Run the same command again"
            ) from None

    def _posting(self, session: Session, posting: str) -> PostingRow:
        found = session.get(PostingRow, posting)
        if found is None:
            raise PlatformError(f"the {self.name} platform has no posting {posting}")
        return found

    def _submission(self, session: Session, submission: str) -> SubmissionRow:
        found = session.get(SubmissionRow, submission)
        if found is None:
            raise UnknownSubmission(f"the {self.name} platform has no submission {submission}")
        return found


def taken_places(session: Session, posting: str) -> int:
    """How many places of a posting are somebody's."""
    chosen = select(func.count()).where(SubmissionRow.posting_id == posting, SubmissionRow.status.in_(OCCUPYING))
    return session.scalar(chosen) or 0


def as_submission(row: SubmissionRow) -> PlatformSubmission:
    """A row as everybody else knows it."""
    return PlatformSubmission(id=row.id, posting=row.posting_id, participant=row.participant, status=row.status)
