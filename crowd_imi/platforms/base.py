"""What every platform does for a study: post, count places, say who arrives, list submissions, pay.

Adapters translate a platform's words into these; ``tests/contract`` holds every one of them to it over HTTP.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from pydantic import Field

from crowd_imi.records import Money, Record


class Capability(StrEnum):
    """What some platforms can do and others can't; whoever needs it looks here first."""

    FEWER_PLACES = "fewer places"
    """``set_places`` may offer fewer places than before."""
    RELEASE = "release"
    """``release`` takes back the place of somebody who is still at it, or asks for it."""
    PAUSE = "pause"
    """``pause`` and ``resume``."""
    REJECT = "reject"
    """``reject``: a submission isn't paid, and its participant is told so."""
    BONUS = "bonus"
    """``send_bonuses``: money beside the reward."""
    BONUS_UNFINISHED = "bonus without handing in"
    """A bonus also for somebody who couldn't hand in."""
    KEYED_BONUS = "keyed bonus"
    """A bonus that is sent again with the same key is paid once."""
    PAYS_RETURNED = "pays who gave the place back"
    """``approve`` also pays somebody who finished and then gave the place back; elsewhere a bonus has to stand in."""
    LISTS_ACTIVE = "lists who is at it"
    """``submissions`` and ``submission`` know a place from the moment when it is taken, not only once it is handed in."""


class Ending(StrEnum):
    """How somebody's part ended, which the completion code tells the platform."""

    COMPLETED = "completed"
    NO_CONSENT = "no_consent"
    """Didn't agree to take part: owed nothing, and asked to give the place back."""
    FAILED_PRACTICE = "failed_practice"
    """Failed the last allowed practice block: paid like everybody else."""
    INCOMPATIBLE_DEVICE = "incompatible_device"
    """Came with a phone, say: owed nothing, and asked to give the place back."""


UNPAID_ENDINGS = frozenset({Ending.NO_CONSENT, Ending.INCOMPATIBLE_DEVICE})
"""Who ends like this never began, and gives the place back."""


class PostingState(StrEnum):
    """Whether a posting lets new participants in."""

    OPEN = "open"
    PAUSED = "paused"
    STOPPED = "stopped"
    """For good: who is under way may finish."""


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
    """Of who is through with it."""
    other_codes: dict[Ending, str] = Field(default_factory=dict)
    """Of who ends otherwise; platforms with one code for all take no notice of them."""


class PlatformSubmission(Record):
    """One participant's submission as the platform sees it."""

    id: str
    posting: str
    """The platform's id of the posting."""
    participant: str
    status: str
    """In the words of ``lifecycle.PlatformStatus``: active, awaiting_review, returned, timed_out, approved, rejected …;
    a word of the platform's own where it has one more."""
    paid: Money | None = None
    """What was paid for it, where that isn't the reward; fees not included."""


class BonusOrder(Record):
    """A bonus that is to be paid."""

    submission: str
    """Whose; the platform's id."""
    money: Money
    key: str
    """Ours, unique for this bonus; platforms that keep it pay it once."""
    reason: str
    """What the participant reads, where the platform shows it."""


class PlatformBonus(Record):
    """A bonus that the platform knows of."""

    amount: Money
    key: str | None
    """What it was sent with, where the platform keeps that."""


class Finish(Record):
    """Where a participant's browser goes once everything is stored."""

    url: str
    form: dict[str, str] | None = None
    """Posted as a form with these fields; None for a link that is followed."""


class Account(Record):
    """Whose money a platform spends."""

    name: str
    balance: Money | None
    """None where the platform has no balance."""


class Platform(Protocol):
    """A platform's requester side.

    Every method but ``send_bonuses`` may be called again after a crash: the same call does the same thing once.

    Raises:
        PlatformError: the platform said no, doesn't know the posting or submission, or couldn't be reached after a bounded
            number of tries. Its message holds no secret.
    """

    name: str
    capabilities: frozenset[Capability]
    frames: tuple[str, ...]
    """Origins that show the task pages in a frame, and take the form at the end; empty where pages stand alone."""
    posting_parameter: str | None
    """What a link calls its posting, where that is looked up before the platform is asked: anybody can make up links. None
    where ``arrive`` finds out by itself."""
    bonus_batch: int
    """The most bonuses that ``send_bonuses`` takes at once; 1 where they are paid one by one."""

    def account(self) -> Account:
        """Whose money is spent: fails with one clear line when the credentials are wrong."""
        ...

    def fee(self, reward: Money) -> Money:
        """What the platform takes for one submission that is paid ``reward``, as it rounds it."""
        ...

    def quote(self, reward: Money, places: int) -> Money | None:
        """What so many places cost by the platform's own calculation, fees included; None where it has none."""
        ...

    def post(self, request: PostingRequest) -> str:
        """Post, and return the platform's id of the posting; the same intent returns the same id."""
        ...

    def find(self, intent: str) -> str | None:
        """The platform's id of the posting that was made for this intent and is open; None when there is none."""
        ...

    def state(self, posting: str) -> PostingState:
        """Whether new participants are let in."""
        ...

    def pause(self, posting: str) -> None:
        """Let nobody new in for now; pausing again changes nothing."""
        ...

    def resume(self, posting: str) -> None:
        """Let people in again; changes nothing when it is open."""
        ...

    def stop(self, posting: str) -> None:
        """Let nobody new in any more; stopping again changes nothing."""
        ...

    def set_places(self, posting: str, places: int) -> None:
        """Offer this many places in all (an absolute number, never an increment)."""
        ...

    def places(self, posting: str) -> int:
        """How many places are offered in all."""
        ...

    def places_taken(self, posting: str) -> int | None:
        """How many of them are taken, as the platform counts; None where it doesn't say, and statuses tell it."""
        ...

    def arrive(self, query: Mapping[str, str]) -> PlatformSubmission:
        """Who comes with a link, on the platform's word: ids in a link prove nothing by themselves.

        Args:
            query: the parameters of the link that the participant followed.

        Raises:
            BadLink: the link lacks the platform's ids.
            UnknownSubmission: the platform knows of no such submission, or it is somebody else's.
            Unreachable: the platform can't be asked at the moment.
            PlatformError: the platform doesn't let us ask: wrong credentials, say.
        """
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

    def reject(self, submission: str, reason: str) -> None:
        """Refuse the reward, with a reason that the participant reads; rejecting again changes nothing."""
        ...

    def send_bonuses(self, orders: Sequence[BonusOrder], note: Callable[[str], None]) -> str:
        """Pay bonuses. **Not to be repeated blindly**: after a crash ``bonuses`` says whether they arrived.

        Args:
            orders: up to ``bonus_batch``, each of another submission of the same posting; paid together or not at all.
            note: called with what the ledger should remember before the money moves, e.g. a batch's id.

        Returns:
            What the books keep as the outcome.
        """
        ...

    def bonuses(self, submission: str) -> tuple[PlatformBonus, ...]:
        """The bonuses of a submission that the platform shows now; some show them a while after they were sent."""
        ...

    def all_bonuses(self, posting: str) -> Mapping[str, tuple[PlatformBonus, ...]]:
        """Submission → its bonuses as the platform shows them now, in as few requests as it allows; others have none."""
        ...

    def release(self, submission: str) -> None:
        """Take back the place of somebody who is still at it (timed_out); changes nothing when the place was given up."""
        ...

    def finish(self, submission: str, completion_code: str, ending: Ending = Ending.COMPLETED) -> Finish | None:
        """Where the browser goes once everything is stored; calling again says the same.

        Args:
            submission: whose part ended.
            completion_code: the posting's for this ending.
            ending: how it ended.

        Returns:
            None where there is nothing to hand in: who didn't begin has given the place back by this, or does it on the platform.
        """
        ...


def price(platform: Platform, reward: Money) -> Money:
    """What one paid submission costs: the reward and the platform's fee."""
    return Money(amount=reward.amount + platform.fee(reward).amount, currency=reward.currency)
