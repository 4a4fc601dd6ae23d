"""A platform in memory: it costs no time, says every status of the table, and has the abilities of the platform it is like."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from crowd_imi.errors import PlatformError, UnknownSubmission, Unreachable
from crowd_imi.lifecycle import PlatformStatus
from crowd_imi.platforms.base import Capability, PlatformSubmission, PostingRequest, PostingState
from crowd_imi.platforms.mturk import MturkPlatform
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.records import Money

P = PlatformStatus
Like = Literal["local", "prolific", "mturk"]
LIKE: dict[Like, frozenset[Capability]] = {
    "local": frozenset(Capability),
    "prolific": ProlificPlatform.capabilities,
    "mturk": MturkPlatform.capabilities,
}
FREE = frozenset({P.RETURNED, P.TIMED_OUT, P.SCREENED_OUT})
"""Whose place somebody else can have."""
HANDED_IN = frozenset({P.AWAITING_REVIEW, P.APPROVED, P.REJECTED})


@dataclass(slots=True)
class Place:
    """One submission."""

    participant: str
    status: str = P.ACTIVE
    asked_back: bool = False


@dataclass(slots=True)
class Board:
    """One posting, with its submissions and its books."""

    like: Like = "local"
    name: str = "local"
    offered: int = 0
    letting_in: PostingState = PostingState.OPEN
    submissions_made: dict[str, Place] = field(default_factory=dict)
    rewarded: list[str] = field(default_factory=list)
    """Submissions whose reward was paid through us, in order."""
    fails_at: tuple[int, str] | None = None
    """The number of the next call that fails, and whether before or after it was carried out."""
    frames: tuple[str, ...] = ()
    posting_parameter: str | None = None
    bonus_batch: int = 1

    @property
    def capabilities(self) -> frozenset[Capability]:
        return LIKE[self.like]

    def fee(self, reward: Money) -> Money:
        return Money(amount=0, currency=reward.currency)

    # The requester's side.

    def post(self, request: PostingRequest) -> str:
        self.offered = request.places
        return "posting"

    def find(self, intent: str) -> str | None:
        return None

    def state(self, posting: str) -> PostingState:
        with self._call():
            return self.letting_in

    def places(self, posting: str) -> int:
        with self._call():
            return self.offered

    def places_taken(self, posting: str) -> int | None:
        return None

    def set_places(self, posting: str, places: int) -> None:
        with self._call():
            if places < self.offered and Capability.FEWER_PLACES not in self.capabilities:
                raise PlatformError("places can't be taken back")
            if places < self.taken:
                raise PlatformError(f"{self.taken} places are taken already")
            self.offered = places

    def submissions(self, posting: str) -> Iterator[PlatformSubmission]:
        with self._call():
            shown = [self._shown(identity) for identity in self.submissions_made if self._is_listed(identity)]
        return iter(shown)

    def submission(self, submission: str) -> PlatformSubmission:
        with self._call():
            if not self._is_listed(submission):
                raise UnknownSubmission("no such submission")
            return self._shown(submission)

    def approve(self, submission: str) -> None:
        with self._call():
            place = self.submissions_made[submission]
            if place.status == P.APPROVED:
                return
            unpayable = {P.REJECTED, P.SCREENED_OUT} | (set() if Capability.PAYS_RETURNED in self.capabilities else {P.RETURNED})
            if place.status in unpayable or not self._is_listed(submission):
                raise PlatformError(f"a submission that is {place.status} can't be approved")
            place.status = P.APPROVED
            self.rewarded.append(submission)

    def release(self, submission: str) -> None:
        with self._call():
            place = self.submissions_made[submission]
            if place.status == P.ACTIVE and self.like == "prolific":
                place.asked_back = True  # it is the participant's to give it back
            elif place.status == P.ACTIVE:
                place.status = P.TIMED_OUT

    # The participants' side, and that of a person who works on the platform's website.

    @property
    def taken(self) -> int:
        return sum(place.status not in FREE for place in self.submissions_made.values())

    @property
    def free(self) -> int:
        return max(0, self.offered - self.taken) if self.letting_in is PostingState.OPEN else 0

    def take(self, participant: str) -> str | None:
        """A new submission, where a place is free."""
        if not self.free:
            return None
        identity = f"s{len(self.submissions_made)}"
        self.submissions_made[identity] = Place(participant)
        return identity

    def become(self, submission: str, status: str, *before: str) -> None:
        """Another status, from one of those that allow it; from others nothing happens."""
        place = self.submissions_made[submission]
        if place.status in before:
            place.status = status

    def _is_listed(self, submission: str) -> bool:
        listed = Capability.LISTS_ACTIVE in self.capabilities
        return submission in self.submissions_made and (listed or self.submissions_made[submission].status in HANDED_IN)

    def _shown(self, submission: str) -> PlatformSubmission:
        place = self.submissions_made[submission]
        return PlatformSubmission(id=submission, posting="posting", participant=place.participant, status=place.status)

    def _call(self) -> "_Call":
        return _Call(self)


@dataclass(slots=True)
class _Call:
    """One request: it may fail before it is carried out, or its answer may be lost."""

    board: Board
    fails: str | None = None

    def __enter__(self) -> None:
        if self.board.fails_at is None:
            return
        left, when = self.board.fails_at
        self.board.fails_at = (left - 1, when)
        self.fails = when if left == 0 else None
        if self.fails == "before":
            raise Unreachable("no answer")

    def __exit__(self, *_: object) -> None:
        if self.fails == "after":
            raise Unreachable("the answer was lost")
