"""The Mechanical Turk stand-in's books: HIT types, HITs, assignments, qualifications, money; one SQLite file.

Everything that time does (an assignment that runs out, a submission that is approved by itself) is done lazily, by ``settle``.
"""

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, MetaData, case, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

ACCEPTED, RETURNED, ABANDONED = "Accepted", "Returned", "Abandoned"
"""States of an assignment that the requester's API never shows."""
SUBMITTED, APPROVED, REJECTED = "Submitted", "Approved", "Rejected"
OCCUPYING = (ACCEPTED, SUBMITTED, APPROVED, REJECTED)
HIDDEN = (ACCEPTED, RETURNED, ABANDONED)
SHOWN = (SUBMITTED, APPROVED, REJECTED)
"""What the API shows by default, beside states that ``/standin/set-status`` makes up, which count as submitted."""

FEE_STEP = 10
"""From so many assignments of a HIT on, the fee is doubled."""
TOKEN_MS = 24 * 3600 * 1000
MASTERS = ("2F1QJWKUDD8XADTFD2Q0G6UTO95ALH", "2ARFPLSP75KLA8M8DH1HTEQVJT3SY6")
LOCALE, PERCENT_APPROVED, NUMBER_APPROVED = "00000000000000000071", "000000000000000000L0", "00000000000000000040"
SYSTEM_QUALIFICATIONS = frozenset({*MASTERS, LOCALE, PERCENT_APPROVED, NUMBER_APPROVED})
PAID_IN = "paid in"
FIRST_BALANCE = 10_000_00
"""Cents that a new account has, as in the sandbox."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def new_id(first: str = "3") -> str:
    """Thirty capitals and digits, as MTurk's ids are."""
    return first + "".join(secrets.choice(_ALPHABET) for _ in range(29))


class Base(DeclarativeBase):
    """All tables of the stand-in."""

    metadata = MetaData()


class Setting(Base):
    """The account's balance, in cents paid in so far."""

    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class HitType(Base):
    """What HITs have in common; the same values are the same type."""

    __tablename__ = "hit_type"

    id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    group_id: Mapped[str]
    title: Mapped[str]
    description: Mapped[str]
    keywords: Mapped[str | None]
    reward: Mapped[int]
    duration: Mapped[int]
    """Seconds that a worker has."""
    auto_approval: Mapped[int]
    """Seconds after handing in."""
    requirements: Mapped[list[dict[str, Any]]] = mapped_column(JSON)

    @property
    def posting(self) -> str:
        """What the adapter calls a posting: the qualification of its first requirement, else the type itself."""
        return str(self.requirements[0]["QualificationTypeId"]) if self.requirements else self.id

    @property
    def masters(self) -> bool:
        return any(requirement["QualificationTypeId"] in MASTERS for requirement in self.requirements)


class Hit(Base):
    """One HIT; times are milliseconds since 1970."""

    __tablename__ = "hit"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    type_id: Mapped[str] = mapped_column(ForeignKey("hit_type.id"), index=True)
    question: Mapped[str]
    annotation: Mapped[str | None]
    max_assignments: Mapped[int]
    price: Mapped[int]
    """Reward and fee of one assignment."""
    created_at: Mapped[int]
    expires_at: Mapped[int]
    reviewing: Mapped[bool] = mapped_column(default=False)
    disposed: Mapped[bool] = mapped_column(default=False)


class Assignment(Base):
    """One worker's try at a HIT."""

    __tablename__ = "assignment"
    __table_args__ = (Index("by_status", "status"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    hit_id: Mapped[str] = mapped_column(ForeignKey("hit.id"), index=True)
    worker: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    accepted_at: Mapped[int]
    deadline: Mapped[int]
    submitted_at: Mapped[int | None]
    auto_approval_at: Mapped[int | None]
    approved_at: Mapped[int | None]
    rejected_at: Mapped[int | None]
    answer: Mapped[str | None]
    feedback: Mapped[str | None]


class Payment(Base):
    """A reward or a bonus that a worker got."""

    __tablename__ = "payment"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str]
    assignment_id: Mapped[str] = mapped_column(ForeignKey("assignment.id"), index=True)
    worker: Mapped[str]
    amount: Mapped[int]
    fee: Mapped[int]
    reason: Mapped[str | None]
    token: Mapped[str | None]
    paid_at: Mapped[int]


class RequestToken(Base):
    """A ``UniqueRequestToken`` and what was made with it."""

    __tablename__ = "request_token"

    scope: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(primary_key=True)
    made: Mapped[str]
    at: Mapped[int]


class QualificationType(Base):
    """A qualification that the requester made."""

    __tablename__ = "qualification_type"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str]
    keywords: Mapped[str | None]
    status: Mapped[str]
    created_at: Mapped[int]


class Grant(Base):
    """A worker's qualification."""

    __tablename__ = "grant"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    type_id: Mapped[str] = mapped_column(index=True)
    worker: Mapped[str] = mapped_column(index=True)
    value: Mapped[int]
    granted_at: Mapped[int]
    notified: Mapped[bool]
    status: Mapped[str]


class Worker(Base):
    """What the system qualifications say of a worker; nobody's row is missing in ``worker_of``."""

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(primary_key=True)
    country: Mapped[str]
    percent_approved: Mapped[int]
    number_approved: Mapped[int]
    masters: Mapped[bool]


class Subscription(Base):
    """Where what happens to the HITs of a type is told."""

    __tablename__ = "subscription"

    type_id: Mapped[str] = mapped_column(ForeignKey("hit_type.id"), primary_key=True)
    destination: Mapped[str]
    transport: Mapped[str]
    events: Mapped[list[str]] = mapped_column(JSON)
    active: Mapped[bool]


class Notice(Base):
    """A notification that was or will be sent."""

    __tablename__ = "notice"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    document: Mapped[str]
    destination: Mapped[str]
    transport: Mapped[str]
    body: Mapped[str]
    tries: Mapped[int]
    delivered: Mapped[bool] = mapped_column(default=False)
    at: Mapped[int]


@dataclass(frozen=True, slots=True)
class Counts:
    """How a HIT's assignments stand."""

    available: int
    pending: int
    submitted: int
    completed: int


def percent_of(amount: int, percent: int) -> int:
    """A fee: rounded up, at least one cent."""
    return max(1, -(-amount * percent // 100))


def fee_of(reward: int, places: int, masters: bool) -> int:
    """What MTurk takes of one assignment: 20 %, 20 % more from ten assignments on, 5 % more for Masters."""
    fee = percent_of(reward, 20)
    fee += percent_of(reward, 20) if places >= FEE_STEP else 0
    return fee + (percent_of(reward, 5) if masters else 0)


def digest_of(values: dict[str, Any]) -> str:
    """Tells HIT types apart."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def counts_of(session: Session, hits: Iterable[Hit]) -> dict[str, Counts]:
    """How the assignments of these HITs stand, in one query."""
    hits = list(hits)
    chosen = (
        select(Assignment.hit_id, Assignment.status, func.count())
        .where(Assignment.hit_id.in_([hit.id for hit in hits]), Assignment.status.not_in((RETURNED, ABANDONED)))
        .group_by(Assignment.hit_id, Assignment.status)
    )
    found: Counter[tuple[str, str]] = Counter()
    for hit_id, status, number in session.execute(chosen):
        found[hit_id, status if status in OCCUPYING else SUBMITTED] += number
    counts = {}
    for hit in hits:
        accepted, submitted, approved, rejected = (found[hit.id, status] for status in OCCUPYING)
        taken = accepted + submitted + approved + rejected
        counts[hit.id] = Counts(hit.max_assignments - taken, accepted, submitted, approved + rejected)
    return counts


def status_of(hit: Hit, counts: Counts, now: int) -> str:
    """A HIT's state, in MTurk's words."""
    if hit.disposed:
        return "Disposed"
    if counts.available > 0 and now < hit.expires_at:
        return "Assignable"
    if counts.pending > 0:
        return "Unassignable"
    return "Reviewing" if hit.reviewing else "Reviewable"


def open_account(session: Session, balance: int) -> None:
    """Pay in the first money; changes nothing when that was done."""
    if session.get(Setting, PAID_IN) is None:
        session.add(Setting(name=PAID_IN, value=balance))


def paid_in(session: Session) -> Setting:
    """What was paid into the account so far."""
    return session.get_one(Setting, PAID_IN)


def balance_of(session: Session) -> int:
    """Cents that were paid in and not paid out."""
    spent = session.scalar(select(func.sum(Payment.amount + Payment.fee))) or 0
    return paid_in(session).value - spent


def on_hold(session: Session, now: int) -> int:
    """Cents that open HITs and undecided assignments may still cost."""
    is_open = (Hit.expires_at > now) & Hit.disposed.is_(False)
    offered = session.scalar(select(func.sum(Hit.price * Hit.max_assignments)).where(is_open)) or 0
    decided = case((is_open & Assignment.status.in_((APPROVED, REJECTED)), -Hit.price), else_=0)
    under_way = case((~is_open & Assignment.status.in_((ACCEPTED, SUBMITTED)), Hit.price), else_=0)
    changed = session.scalar(select(func.sum(decided + under_way)).select_from(Assignment).join(Hit, Hit.id == Assignment.hit_id))
    return offered + (changed or 0)


def pay_reward(session: Session, assignment: Assignment, now: int, feedback: str | None = None) -> None:
    """Approve an assignment and pay its worker."""
    hit = session.scalars(select(Hit).where(Hit.id == assignment.hit_id)).one()
    reward = session.get_one(HitType, hit.type_id).reward
    assignment.status, assignment.approved_at, assignment.rejected_at = APPROVED, now, None
    assignment.feedback = feedback
    session.add(
        Payment(
            kind="reward",
            assignment_id=assignment.id,
            worker=assignment.worker,
            amount=reward,
            fee=hit.price - reward,
            reason=None,
            token=None,
            paid_at=now,
        )
    )


def due(session: Session, now: int) -> list[Assignment]:
    """Assignments that time has changed since anybody looked."""
    ran_out = (Assignment.status == ACCEPTED) & (Assignment.deadline <= now)
    approved = (Assignment.status == SUBMITTED) & (Assignment.auto_approval_at <= now)
    return list(session.scalars(select(Assignment).where(ran_out | approved)))


def settle(session: Session, now: int) -> list[Assignment]:
    """Let time do its work; returns what changed."""
    changed = due(session, now)
    for assignment in changed:
        if assignment.status == ACCEPTED:
            assignment.status = ABANDONED
        else:
            pay_reward(session, assignment, assignment.auto_approval_at or now)
    return changed


def token_made(session: Session, scope: str, token: str | None, now: int) -> str | None:
    """What was made with this token in the last 24 hours."""
    found = session.get(RequestToken, (scope, token)) if token else None
    if found is not None and now - found.at >= TOKEN_MS:
        session.delete(found)
        session.flush()
        return None
    return found.made if found else None


def keep_token(session: Session, scope: str, token: str | None, made: str, now: int) -> None:
    """Remember what a token was used for."""
    if token:
        session.add(RequestToken(scope=scope, token=token, made=made, at=now))
