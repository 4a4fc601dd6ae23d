"""The stand-in's books: one SQLite file, apart from everything that belongs to a study."""

from sqlalchemy import ForeignKey, Index, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables of the stand-in."""

    metadata = MetaData()


class Setting(Base):
    """One thing that a restart must find again: the deposit, the ids of the account, the signing key."""

    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Study(Base):
    """A study; what its requester wrote is kept as it was sent."""

    __tablename__ = "study"

    number: Mapped[int] = mapped_column(primary_key=True)
    """In the order in which they were made."""
    id: Mapped[str] = mapped_column(unique=True)
    life: Mapped[str]
    """UNPUBLISHED, ACTIVE, PAUSED or STOPPED; what the API shows is ``status``."""
    status: Mapped[str]
    fields: Mapped[str]
    """``StudyFields`` as JSON."""
    created_at: Mapped[int]
    published_at: Mapped[int | None]


class Submission(Base):
    """One participant's submission."""

    __tablename__ = "submission"
    __table_args__ = (
        Index("uq_one_active", "study_id", "participant", unique=True, sqlite_where=text("status IN ('RESERVED', 'ACTIVE')")),
        Index("ix_deadline", "deadline_at", sqlite_where=text("status IN ('RESERVED', 'ACTIVE')")),
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"), index=True)
    participant: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    started_at: Mapped[int]
    deadline_at: Mapped[int]
    completed_at: Mapped[int | None]
    entered_code: Mapped[str | None]
    return_requested_at: Mapped[int | None]
    note: Mapped[str | None]
    """What the participant reads: why it was rejected, or a return is asked for."""
    rejection_category: Mapped[str | None]


class Reward(Base):
    """A reward that was paid; at most one per submission."""

    __tablename__ = "reward"

    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), primary_key=True)
    amount: Mapped[int]
    fee: Mapped[int]
    paid_at: Mapped[int]


class BonusBatch(Base):
    """Bonuses that were set up; paying is another call, and each such call pays."""

    __tablename__ = "bonus_batch"

    id: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"))
    lines: Mapped[str]
    """JSON: ``[[submission, amount], …]``."""
    made_at: Mapped[int]


class Bonus(Base):
    """A bonus that was paid."""

    __tablename__ = "bonus"

    number: Mapped[int] = mapped_column(primary_key=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("bonus_batch.id"), index=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), index=True)
    amount: Mapped[int]
    fee: Mapped[int]
    paid_at: Mapped[int]
    settles_at: Mapped[int]
    """When the API begins to show it."""


class Group(Base):
    """A participant group."""

    __tablename__ = "participant_group"

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    made_at: Mapped[int]


class Member(Base):
    """Somebody in a participant group."""

    __tablename__ = "participant_group_member"

    group_id: Mapped[str] = mapped_column(ForeignKey("participant_group.id"), primary_key=True)
    participant: Mapped[str] = mapped_column(primary_key=True)
    added_at: Mapped[int]


class Subscription(Base):
    """Where events of one type are sent."""

    __tablename__ = "subscription"

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    event_type: Mapped[str]
    target_url: Mapped[str]
    confirmation: Mapped[str]
    """The X-Hook-Secret that confirms it."""
    enabled: Mapped[bool]


class Event(Base):
    """An event that a subscription gets; kept after it was delivered."""

    __tablename__ = "event"

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    subscription_id: Mapped[str] = mapped_column(ForeignKey("subscription.id"))
    body: Mapped[str]
    happened_at: Mapped[int]
    next_try_at: Mapped[int | None] = mapped_column(index=True)
    """By the system's clock; None once it was delivered or given up."""
    tries: Mapped[int]
    delivered: Mapped[bool]
