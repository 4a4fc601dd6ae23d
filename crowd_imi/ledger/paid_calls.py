"""Paid calls: a row before (what, for whom, how much), the outcome after; the cap stands between."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from sqlalchemy.orm import Session

from crowd_imi.errors import CapReached, LedgerError, PlatformError, Unreachable
from crowd_imi.ledger.books import SPENDING
from crowd_imi.ledger.leases import HeldLease
from crowd_imi.records import Money
from crowd_imi.store.money import amount_of, find_intent
from crowd_imi.store.tables import Intent

Operation = Literal["post", "places", "approve", "bonus", "found"]
"""``found``: the platform paid without us, for somebody who has no visit here; it is only ever noted."""


class IntentState(StrEnum):
    """Where a paid call stands."""

    OPEN = "open"
    """Written down; whether the platform heard of it isn't known."""
    DONE = "done"
    REFUSED = "refused"
    """The platform said no; tried again when it comes up again."""
    HELD = "held"
    """Not sent, because the cap forbids it: for a person to decide."""


@dataclass(frozen=True, slots=True)
class PaidCall:
    """What is paid for. The same operation for the same subject is never done twice."""

    operation: Operation
    subject: str
    """The posting's or the visit's id, with a running number where it can happen again."""
    money: Money
    """What it costs; for ``post`` and ``places``, what it may come to cost."""

    def __str__(self) -> str:
        return f"{self.operation} {self.subject}"


def spend(
    lease: HeldLease,
    paid: PaidCall,
    call: Callable[[], str | None],
    *,
    reserved: int = 0,
    read_back: Callable[[], str | None] | None = None,
) -> str | None:
    """Make a paid call once, whatever happens in between: intent, call, outcome.

    Args:
        lease: the right to spend, with the books and the cap.
        paid: what, for whom, how much.
        call: does it; returns what the books keep as the outcome.
        reserved: minor units promised to others and not yet spent, which the cap must hold as well.
        read_back: what the platform says of an intent that a crash left open: the outcome, or None when it never arrived.
            Without it the call is made again, which then has to be harmless.

    Returns:
        The outcome, of now or of an earlier time.

    Raises:
        CapReached: it would go over the cap (the intent is held).
        LedgerError: the lease was lost, or the currency isn't the cap's.
        Unreachable: the platform gave no answer (the intent stays open, to be read back).
        PlatformError: the platform said no (the intent is refused).
    """
    intent, left_open = intend(lease, paid, reserved)
    if intent.state == IntentState.DONE:
        return intent.outcome
    if intent.state == IntentState.HELD:
        raise CapReached(f"{paid}: {intent.outcome}")
    outcome = read_back() if left_open and read_back is not None else None
    if outcome is None:
        try:
            outcome = call()
        except Unreachable:
            raise  # it may have been done: the intent stays open, and the next run reads it back
        except PlatformError as error:
            close(lease, intent.id, IntentState.REFUSED, str(error))
            raise
    close(lease, intent.id, IntentState.DONE, outcome)
    return outcome


def note(lease: HeldLease, paid: PaidCall, outcome: str) -> None:
    """Write down a payment that the platform made without us, so that the books say what was spent."""
    with lease.store.write() as session:
        lease.renew(session)
        intent = find_intent(session, paid.operation, paid.subject) or _new(session, lease, paid)
        if intent.state != IntentState.DONE:
            intent.state, intent.outcome, intent.closed_at = IntentState.DONE.value, outcome, lease.store.now()


def close(lease: HeldLease, intent: str, state: IntentState, outcome: str | None) -> None:
    """Write down how an intent came out."""
    with lease.store.write() as session:
        row = session.get_one(Intent, intent)
        row.state, row.outcome, row.closed_at = state.value, outcome, lease.store.now()


def give_up(lease: HeldLease, outcomes: Mapping[str, str]) -> None:
    """Write down that calls which a crash cut off never arrived.

    Args:
        lease: the right to spend.
        outcomes: intent → how that is known; what isn't open any more stays as it is.

    Raises:
        LedgerError: the lease was lost.
    """
    with lease.store.write() as session:
        lease.renew(session)
        for intent, outcome in outcomes.items():
            row = session.get_one(Intent, intent)
            if row.state == IntentState.OPEN:
                row.state, row.outcome, row.closed_at = IntentState.REFUSED.value, outcome, lease.store.now()


def intend(lease: HeldLease, paid: PaidCall, reserved: int = 0) -> tuple[Intent, bool]:
    """Write down what is about to be paid, or find what was written before.

    Returns:
        The intent as it may be acted upon (done, held or open), and whether an earlier process left it open.

    Raises:
        LedgerError: the lease was lost, or the currency isn't the cap's.
    """
    with lease.store.write() as session:
        lease.renew(session)
        return _intend(session, lease, paid, reserved)


def _intend(session: Session, lease: HeldLease, paid: PaidCall, reserved: int) -> tuple[Intent, bool]:
    cap = lease.cap
    if paid.money.currency != cap.currency:
        raise LedgerError(f"{paid}: {paid.money} can't be held against a cap in {cap.currency}")
    known = find_intent(session, paid.operation, paid.subject)
    if known is not None and known.state in (IntentState.DONE, IntentState.OPEN):
        return known, known.state == IntentState.OPEN
    intent = known or _new(session, lease, paid)
    intent.amount = paid.money.amount  # of one that was refused or held before, what is meant now
    spent = amount_of(session, SPENDING, (IntentState.OPEN, IntentState.DONE), but=intent.id)
    over = spent + reserved + paid.money.amount - cap.amount
    if over > 0:
        excess = Money(amount=over, currency=cap.currency)
        intent.state = IntentState.HELD.value
        intent.outcome = f"it would go {excess} over the cap of {cap}; raise pay.cap to pay it"
    else:
        intent.state, intent.outcome, intent.closed_at = IntentState.OPEN.value, None, None
    return intent, False


def _new(session: Session, lease: HeldLease, paid: PaidCall) -> Intent:
    intent = Intent(
        id=secrets.token_hex(8),
        operation=paid.operation,
        subject=paid.subject,
        amount=paid.money.amount,
        currency=paid.money.currency,
        state=IntentState.OPEN.value,
        opened_at=lease.store.now(),
    )
    session.add(intent)
    return intent
