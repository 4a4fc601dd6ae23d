"""What every step of a round works on."""

from dataclasses import dataclass, field

from crowd_imi.ledger import HeldLease
from crowd_imi.lifecycle import PlatformStatus
from crowd_imi.platforms.base import Capability, Platform, PostingState, price
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
    state: PostingState
    """While it is paused or stopped no new participants are wanted."""
    statuses: dict[str, str]
    """The platform's submission id → its status, as read at the beginning of the round; kept up with what the round pays."""
    submissions: dict[str, str]
    """Visit id → the platform's submission id."""
    stranded: list[str] = field(default_factory=list)
    """Visits that are owed their reward, and can't be approved on this platform any more."""
    refused: list[str] = field(default_factory=list)
    """What the platform said no to: one refusal doesn't keep the others waiting."""

    @property
    def price(self) -> Money:
        """What one paid submission costs, the platform's fee included."""
        return price(self.platform, self.study.file.pay.reward_money)

    def status_of(self, visit: str) -> str | None:
        """What the platform says of a visit's submission. Where only those are listed that are handed in, others are active."""
        unlisted = None if Capability.LISTS_ACTIVE in self.platform.capabilities else PlatformStatus.ACTIVE
        return self.statuses.get(self.submissions.get(visit, ""), unlisted)

    def can_be_approved(self, submission: str) -> bool:
        """Whether the platform would let us pay the reward: some know of a submission only once it is handed in."""
        return Capability.LISTS_ACTIVE in self.platform.capabilities or submission in self.statuses
