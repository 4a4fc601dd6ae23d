"""Queries on the ledger's rows: intents and the spender's lease."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crowd_imi.store.tables import Intent, Lease

SPENDER = "spender"
"""The one lease there is: publish, harvest and pay take turns."""


def find_intent(session: Session, operation: str, subject: str) -> Intent | None:
    """The row of one paid call, locked; None when it was never meant."""
    chosen = select(Intent).where(Intent.operation == operation, Intent.subject == subject)
    return session.scalars(chosen.with_for_update()).one_or_none()


def intents_in(session: Session, state: str, operation: str | None = None) -> Sequence[Intent]:
    """Intents in a state, the oldest first."""
    chosen = select(Intent).where(Intent.state == state)
    if operation is not None:
        chosen = chosen.where(Intent.operation == operation)
    return session.scalars(chosen.order_by(Intent.opened_at, Intent.id)).all()


def count_intents(session: Session, operation: str, subject_prefix: str) -> int:
    """How many intents there are for an operation that can happen again."""
    chosen = select(func.count()).where(Intent.operation == operation, Intent.subject.startswith(subject_prefix, autoescape=True))
    return session.scalar(chosen) or 0


def amount_of(session: Session, operations: Sequence[str], states: Sequence[str], *, but: str | None = None) -> int:
    """Sum of intents' amounts in minor units; ``but`` leaves out one intent's id."""
    chosen = select(func.sum(Intent.amount)).where(Intent.operation.in_(operations), Intent.state.in_(states))
    if but is not None:
        chosen = chosen.where(Intent.id != but)
    return session.scalar(chosen) or 0


def lease_row(session: Session) -> Lease | None:
    """Who may spend right now, locked; None when nobody does."""
    return session.get(Lease, SPENDER, with_for_update=True)
