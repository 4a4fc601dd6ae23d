"""Money: intents before paid calls, outcomes after, the cap, and one spender at a time."""

from crowd_imi.ledger.bonuses import Bonus, decide, pay_bonus, pay_bonuses
from crowd_imi.ledger.books import Books, books
from crowd_imi.ledger.leases import HeldLease, lease
from crowd_imi.ledger.paid_calls import IntentState, Operation, PaidCall, close, give_up, note, spend

__all__ = [
    "Bonus",
    "Books",
    "HeldLease",
    "IntentState",
    "Operation",
    "PaidCall",
    "books",
    "close",
    "decide",
    "give_up",
    "lease",
    "note",
    "pay_bonus",
    "pay_bonuses",
    "spend",
]
