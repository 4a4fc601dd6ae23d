"""What was spent, and what waits."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.lifecycle import Payment
from crowd_imi.store.money import amount_of, held_by_hand, intents_in
from crowd_imi.store.tables import Visit

SPENDING = ("approve", "bonus", "found")
"""Operations that spend, or were found to have spent; posting and places promise what approvals will spend."""


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger in sums, in minor units."""

    spent: int
    """Paid, or sent and not yet known to be paid."""
    held: int
    """Meant to be paid, but over the cap: for a person to decide."""
    held_by_hand: int
    """Of that, what is promised to nobody until it is paid: bonuses by hand, and rewards of submissions without a visit."""
    open_intents: int
    """Calls whose outcome isn't known: a crash left them, and the next run reads them back."""
    refused: tuple[str, ...]
    """What platforms said no to, in their words, for who is still unpaid."""

    @property
    def held_of_owed(self) -> int:
        """What is owed to visits and goes over the cap."""
        return self.held - self.held_by_hand


def books(session: Session) -> Books:
    """Add up the ledger."""
    settled = set(session.scalars(select(Visit.id).where(Visit.payment != Payment.UNPAID)))
    return Books(
        spent=amount_of(session, SPENDING, ("open", "done")),
        held=amount_of(session, SPENDING, ("held",)),
        held_by_hand=held_by_hand(session),
        open_intents=len(intents_in(session, "open")),
        refused=tuple(
            f"{i.operation} {i.subject}: {i.outcome}"
            for i in intents_in(session, "refused", "approve")
            if i.subject not in settled
        ),
    )
