"""What every platform does for a study: post, count places, list submissions, pay."""

from collections.abc import Iterator
from typing import Protocol

from crowd_imi.records import Money, Record


class PostingRequest(Record):
    """What is asked of a platform."""

    intent: str
    """Our id: posting again with the same intent gives the same posting, not a second one."""
    title: str
    description: str
    arrival_url: str
    """Where participants are sent; the platform adds its own ids as query parameters."""
    reward: Money
    places: int
    minutes: float
    completion_code: str


class PlatformSubmission(Record):
    """One participant's submission as the platform sees it."""

    id: str
    posting: str
    """The platform's id of the posting."""
    participant: str
    status: str
    """The platform's own word: local says active, awaiting_review, returned, timed_out, approved, rejected."""


class Platform(Protocol):
    """A platform's requester side.

    Every method may be called again after a crash: the same call with the same key does the same thing once.

    Raises:
        PlatformError: the platform said no, or doesn't know the posting or submission.
    """

    name: str

    def post(self, request: PostingRequest) -> str:
        """Post, and return the platform's id of the posting; the same intent returns the same id."""
        ...

    def find(self, intent: str) -> str | None:
        """The platform's id of the posting that was made for this intent; None when there is none."""
        ...

    def set_places(self, posting: str, places: int) -> None:
        """Offer this many places in all (an absolute number, never an increment)."""
        ...

    def places(self, posting: str) -> int:
        """How many places are offered in all."""
        ...

    def submissions(self, posting: str) -> Iterator[PlatformSubmission]:
        """All submissions, whatever their number."""
        ...

    def submission(self, submission: str) -> PlatformSubmission:
        """One submission as it is now."""
        ...

    def approve(self, submission: str) -> None:
        """Pay the reward; approving again changes nothing."""
        ...

    def release(self, submission: str) -> None:
        """Take back the place of somebody who is still at it (timed_out); changes nothing when the place was given up."""
        ...

    def finish_url(self, submission: str, completion_code: str) -> str:
        """Where the participant's browser goes once everything is stored."""
        ...
