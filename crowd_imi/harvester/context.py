"""What every step of a round works on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crowd_imi.ledger import HeldLease
from crowd_imi.lifecycle import PlatformStatus
from crowd_imi.platforms.base import Capability, Platform, PlatformSubmission, PostingState, price
from crowd_imi.records import Money
from crowd_imi.store import Store
from crowd_imi.study import Study

COMING_BACK = frozenset({PlatformStatus.ACTIVE, PlatformStatus.RETURN_ASKED})
"""A submission that the platform says this of takes up a place that may become free again."""
OCCUPYING = COMING_BACK | {
    PlatformStatus.AWAITING_REVIEW,
    PlatformStatus.WRONG_CODE,
    PlatformStatus.APPROVED,
    PlatformStatus.REJECTED,
}
"""A submission that the platform says this of takes up a place."""
KNOWN = frozenset(PlatformStatus)
"""Statuses of the table; a platform may come to say others."""


@dataclass(frozen=True, slots=True)
class Round:
    """One harvest: whose, and with what in hand."""

    study: Study
    store: Store
    platform: Platform
    lease: HeldLease
    posting: str
    """Our id."""
    label: str
    """main or pilot."""
    platform_posting: str
    """The platform's."""
    state: PostingState
    """While it is paused or stopped no new participants are wanted."""
    stop_is_news: bool
    """The platform calls it stopped for the first time: it may be a full one, a place of which is just being given back."""
    statuses: dict[str, str]
    """The platform's submission id → its status, as read at the beginning of the round; kept up with what the round pays."""
    submissions: dict[str, str]
    """Visit id → the platform's submission id."""
    listed: dict[str, PlatformSubmission] = field(default_factory=dict)
    """The platform's submission id → what the platform said of it at the beginning of the round."""
    stranded: list[str] = field(default_factory=list)
    """Visits that are owed their reward, and can't be approved on this platform any more."""
    whole: bool = True
    """Every submission was read anew; else only those that the platform told of, and others may stand elsewhere by now."""
    refused: list[str] = field(default_factory=list)
    """What the platform said no to: one refusal doesn't keep the others waiting."""

    @property
    def price(self) -> Money:
        """What one paid submission costs, the platform's fee included."""
        return price(self.platform, self.study.file.pay.reward_money)

    def price_of(self, submission: str | None) -> Money:
        """What a submission that was paid on the platform cost: the price, unless the platform says that it was another."""
        found = self.listed.get(submission or "")
        return self.price if found is None or found.paid is None else price(self.platform, found.paid)

    def status_of(self, visit: str) -> str | None:
        """What the platform says of a visit's submission. Where only those are listed that are handed in, others are active."""
        unlisted = None if Capability.LISTS_ACTIVE in self.platform.capabilities else PlatformStatus.ACTIVE
        return self.statuses.get(self.submissions.get(visit, ""), unlisted)

    def is_stranded(self, visit: str) -> bool:
        """Whether the platform doesn't pay a visit's submission any more, so that a compensation has to stand in."""
        return self.status_of(visit) == PlatformStatus.RETURNED and Capability.PAYS_RETURNED not in self.platform.capabilities

    def can_be_approved(self, submission: str) -> bool:
        """Whether the platform would let us pay the reward: some know of a submission only once it is handed in."""
        return Capability.LISTS_ACTIVE in self.platform.capabilities or submission in self.statuses

    def has_shown_up(self, visit: str) -> bool:
        """Whether the platform knows of a visit's submission.

        Where it lists only who handed in, a link is believed until then, and anybody can make up one.
        """
        submission = self.submissions.get(visit)
        return submission is None or self.can_be_approved(submission)


def held_by_unknown(platform: Platform, posting: str, statuses: Mapping[str, str]) -> int:
    """How many submissions of statuses that nobody here has heard of take up a place: as the platform counts, else all.

    Args:
        platform: is only asked when there is such a status.
        posting: the platform's id.
        statuses: of every submission of the posting.
    """
    unknown = sum(status not in KNOWN for status in statuses.values())
    taken = platform.places_taken(posting) if unknown else None
    if taken is None:
        return unknown
    return min(unknown, max(0, taken - sum(status in OCCUPYING for status in statuses.values())))
