"""The tables of study.db and of people.db.

Times are milliseconds since 1970 (UTC) by the server's clock unless a column says "browser". Unique keys do the
guarding: they hold whatever two processes do at the same moment.
"""

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, UniqueConstraint, false, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Tables of study.db."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar = {int: BigInteger().with_variant(Integer, "sqlite"), dict[str, Any]: JSON}


class PeopleBase(DeclarativeBase):
    """Tables of people.db, the only place with platforms' ids."""

    metadata = MetaData(naming_convention=_NAMES)


class About(Base):
    """What this database is: its kind, the study's name, digests of plan and pack."""

    __tablename__ = "about"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Task(Base):
    """One task of the plan, and where it stands."""

    __tablename__ = "task"
    __table_args__ = (UniqueConstraint("arm", "label", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    arm: Mapped[str]
    number: Mapped[int]
    draw: Mapped[int]
    """Order in which an arm's tasks are handed out: random, the same for the same seed."""
    label: Mapped[str] = mapped_column(default="main", server_default="main")
    """main or pilot: whose places it is for."""
    retired_at: Mapped[int | None]
    """When ``void`` put another one in its place: from then on nobody new gets it."""


class Trial(Base):
    """One trial of a task, answer included: never sent to the browser as it is."""

    __tablename__ = "trial"

    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    """From 0, over main and catch trials alike."""
    kind: Mapped[str]
    unit: Mapped[str]
    null_unit: Mapped[bool]
    batch: Mapped[int]
    sprite: Mapped[str] = mapped_column(index=True)
    tiles: Mapped[dict[str, Any]]
    """``Tiles`` as JSON."""
    revision: Mapped[int] = mapped_column(default=1, server_default="1")
    """Of the panel that it shows: 1, and one more each time that ``void`` made the unit's panels anew."""
    voided: Mapped[bool] = mapped_column(default=False, server_default=false())
    """``void`` found it bad: answers to it are paid, kept and left out of the analysis."""


class Posting(Base):
    """A request for participants on a platform."""

    __tablename__ = "posting"

    id: Mapped[str] = mapped_column(primary_key=True)
    """Our intent id; the platform's own id is ``platform_id``."""
    platform: Mapped[str]
    platform_id: Mapped[str | None]
    places: Mapped[int]
    state: Mapped[str]
    created_at: Mapped[int]
    label: Mapped[str] = mapped_column(default="main", server_default="main")
    """main or pilot."""


class Amendment(Base):
    """What was changed after publishing, in the order in which it was: ``plan.Amendment`` as JSON."""

    __tablename__ = "amendment"
    __table_args__ = (UniqueConstraint("name"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    content: Mapped[dict[str, Any]]


class Visit(Base):
    """One participant's visit; the unique participant is rule 5: one participant, one study."""

    __tablename__ = "visit"
    __table_args__ = (
        UniqueConstraint("participant"),
        Index(
            "uq_visit_holds_task",
            "task_id",
            unique=True,
            sqlite_where=text("holds_task"),
            postgresql_where=text("holds_task"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """Random; what exports use."""
    participant: Mapped[str]
    """Keyed hash of the platform's id."""
    posting_id: Mapped[str] = mapped_column(ForeignKey("posting.id"))
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"), index=True)
    holds_task: Mapped[bool]
    """True while the task is nobody else's: under way, submitted or valid. Unique per task while true."""
    state: Mapped[str]
    """A state of ``crowd_imi.lifecycle``."""
    payment: Mapped[str]
    """unpaid, paid or rejected."""
    platform_state: Mapped[str | None]
    """What the platform said last, or ``submissions.NEVER_SHOWN``."""
    generation: Mapped[int]
    """Raised at each arrival: a token of an earlier generation has ended."""
    layout_seed: Mapped[int]
    """From which the page's layout follows: which query is the upper one in each trial."""
    label: Mapped[str]
    """main, pilot or preview; only main is analysed."""
    arrived_at: Mapped[int]
    consented_at: Mapped[int | None]
    consent_version: Mapped[str | None]
    instructed_at: Mapped[int | None]
    """When the instructions were finished."""
    practised_at: Mapped[int | None]
    """When practice was passed."""
    submitted_at: Mapped[int | None]
    left_at: Mapped[int | None]
    """When it was returned or timed out."""
    feedback: Mapped[str | None]
    browser: Mapped[dict[str, Any] | None]
    """Browser name, window size, pixel ratio, zoom, tile size; never an address or a user agent."""


class PageTime(Base):
    """Time on one page of the instructions, as the browser measured it."""

    __tablename__ = "page_time"

    id: Mapped[int] = mapped_column(primary_key=True)
    visit_id: Mapped[str] = mapped_column(ForeignKey("visit.id"), index=True)
    page: Mapped[str]
    shown_ms: Mapped[int]
    """Browser."""
    at: Mapped[int]


class PracticeAnswer(Base):
    """One answer to a practice trial."""

    __tablename__ = "practice_answer"

    visit_id: Mapped[str] = mapped_column(ForeignKey("visit.id"), primary_key=True)
    block: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    trial: Mapped[int]
    """Index of the practice trial: the order changes from block to block."""
    row: Mapped[str]
    confidence: Mapped[int]
    correct: Mapped[bool]
    rt_ms: Mapped[float]
    at: Mapped[int]


class Answer(Base):
    """One answer; the primary key is rule 2: one row per (visit, trial)."""

    __tablename__ = "answer"

    visit_id: Mapped[str] = mapped_column(ForeignKey("visit.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    row: Mapped[str]
    """upper or lower: which query was chosen, by where it stood."""
    choice: Mapped[str]
    """min or max: which query was chosen, by what it is."""
    correct: Mapped[bool]
    confidence: Mapped[int]
    """1 to 3."""
    rt_ms: Mapped[float]
    """Browser: from the painted frame to the click."""
    shown_ms: Mapped[float]
    """Browser: the part of ``rt_ms`` during which the page could be seen; less when the tab was in the background."""
    saving_ms: Mapped[float | None]
    """Browser: how long the previous answer took to be stored; None for the first one and after a reload."""
    at: Mapped[int]


class Event(Base):
    """Something worth knowing that happened in a visit: blur, resize, reload, another tab."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(primary_key=True)
    visit_id: Mapped[str] = mapped_column(ForeignKey("visit.id"), index=True)
    kind: Mapped[str]
    detail: Mapped[dict[str, Any]]
    at: Mapped[int]


class Verdict(Base):
    """What the exclusion criteria said about a submitted visit."""

    __tablename__ = "verdict"

    visit_id: Mapped[str] = mapped_column(ForeignKey("visit.id"), primary_key=True)
    valid: Mapped[bool]
    surplus: Mapped[bool]
    """Its task already had its valid response."""
    checks: Mapped[dict[str, Any]]
    """Criterion → ``criteria.Check`` as JSON."""
    at: Mapped[int]


class Intent(Base):
    """The ledger: a row before every paid call, its outcome after."""

    __tablename__ = "intent"
    __table_args__ = (UniqueConstraint("operation", "subject"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str]
    """post, places, approve, bonus or found."""
    subject: Mapped[str]
    """The posting's or the visit's id, with a running number where it can happen again."""
    amount: Mapped[int]
    """Minor units: what this call commits or spends."""
    currency: Mapped[str]
    state: Mapped[str]
    """open, done, refused or held."""
    outcome: Mapped[str | None]
    opened_at: Mapped[int]
    closed_at: Mapped[int | None]


class Stray(Base):
    """A place that somebody took on the platform without arriving here, or whose arrival was refused."""

    __tablename__ = "stray"

    submission: Mapped[str] = mapped_column(primary_key=True)
    """Keyed hash of the platform's id."""
    posting_id: Mapped[str] = mapped_column(ForeignKey("posting.id"))
    seen_at: Mapped[int]
    """When a harvest first saw it."""


class Notice(Base):
    """Something that a platform told by itself: which submission to look at, and that it wasn't told before."""

    __tablename__ = "notice"

    id: Mapped[str] = mapped_column(primary_key=True)
    """Keyed hash of the event's id there: a repeat has the same."""
    submission: Mapped[str]
    """Keyed hash of the platform's id."""
    told_at: Mapped[int]
    taken_at: Mapped[int | None]
    """When a harvest had looked."""


class Lease(Base):
    """Who may spend right now; one row."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    expires_at: Mapped[int]


class Person(PeopleBase):
    """A platform's ids of one visit."""

    __tablename__ = "person"

    visit_id: Mapped[str] = mapped_column(primary_key=True)
    participant: Mapped[str] = mapped_column(index=True)
    """The hash that stands for this person everywhere else."""
    platform: Mapped[str]
    platform_participant: Mapped[str]
    platform_submission: Mapped[str] = mapped_column(unique=True)
