"""What every step of a round works on."""

from dataclasses import dataclass, field

from crowd_imi.ledger import HeldLease
from crowd_imi.lifecycle import PlatformStatus
from crowd_imi.platforms.base import Platform
from crowd_imi.records import Money
from crowd_imi.store import Store
from crowd_imi.study import Study

OCCUPYING = frozenset({PlatformStatus.ACTIVE, PlatformStatus.AWAITING_REVIEW, PlatformStatus.APPROVED, PlatformStatus.REJECTED})
"""A submission that the platform says this of takes up a place."""


@dataclass(frozen=True, slots=True)
class Round:
    """One harvest: whose, and with what in hand."""

    study: Study
    store: Store
    platform: Platform
    lease: HeldLease
    posting: str
    """Our id."""
    platform_posting: str
    """The platform's."""
    statuses: dict[str, str]
    """The platform's submission id → its status, as read at the beginning of the round; kept up with what the round pays."""
    submissions: dict[str, str]
    """Visit id → the platform's submission id."""
    refused: list[str] = field(default_factory=list)
    """What the platform said no to: one refusal doesn't keep the others waiting."""

    @property
    def reward(self) -> Money:
        return self.study.file.pay.reward_money

    def status_of(self, visit: str) -> str | None:
        """What the platform says of a visit's submission."""
        return self.statuses.get(self.submissions.get(visit, ""))
