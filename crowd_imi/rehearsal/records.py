"""What a rehearsal is asked to do, and what it says when it is over."""

from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import Field

from crowd_imi.records import Record

Row = Literal["upper", "lower"]


class LeakName(StrEnum):
    """A leak that can be planted for the positive control; in other words for whether a trial is a catch trial (``Secret``)."""

    ORDER = "order"
    """The upper query's tile has the smaller index when the upper query is right, so the right one's always has."""
    SIZE = "size"
    """The sprite's file is larger when the upper query is right."""
    TIMING = "timing"
    """The sprite comes late when the upper query is right."""
    TOKEN = "token"
    """The sprite's name begins with one of 0–7 when the upper query is right, with one of 8–f when the lower one is."""


class Secret(StrEnum):
    """What a planted leak gives away of each main trial, by any of its channels."""

    ANSWER = "answer"
    """Whether the upper query is right."""
    KIND = "kind"
    """Whether it is a catch trial."""


Channel = Literal["order", "size", "timing", "token", "envelope", "all"]
"""What a cheating participant can look at: tile indices, bytes, waiting times, names, the form of replies, or all of it."""

Ending = Literal["complete", "short", "nothing_open", "participants"]
"""Why a rehearsal ended: every task has its valid response; some tasks have no attempt or no money left and all others
have theirs; nobody is at work and no place is open; or as many participants came as may."""

Troublemaker = Literal[
    "same_row",
    "rushed",
    "random",
    "leaves",
    "gives_back",
    "reloads",
    "comes_twice",
    "two_places",
    "fails_practice",
    "declines",
    "resends",
]

CharacterName = Literal["observer", Troublemaker, "cheater"]

TROUBLEMAKERS: tuple[Troublemaker, ...] = get_args(Troublemaker)
"""One of each."""


class Cast(Record):
    """Who takes part. Everybody who isn't named here is a perceptual observer."""

    troublemakers: tuple[CharacterName, ...] = TROUBLEMAKERS
    cheaters: Annotated[int, Field(ge=0)] = 2
    at_most: Annotated[int, Field(ge=1)] | None = None
    """Participants in all; None: three per task, and one more per troublemaker and cheater. A study ends before when
    every task has its response."""
    only_cheaters: bool = False
    """For the positive control: everybody cheats."""


class Acknowledged(Record):
    """An answer that the server said it has stored."""

    participant: str
    position: int
    row: Row
    confidence: int


class Outcome(Record):
    """How one participant came out."""

    number: int
    """Order of coming, from 1."""
    participant: str
    character: CharacterName
    state: str | None
    """Of the visit; None when there is none."""
    expected: tuple[str, ...]
    refusals: tuple[str, ...]
    """Refusal pages that this participant met."""
    surprises: tuple[str, ...]
    """What didn't go as it should, in words."""
    ok: bool

    @property
    def complaint(self) -> str:
        """One line that says what should have been."""
        found = self.state or "no visit"
        refused = f", refused: {', '.join(self.refusals)}" if self.refusals else ""
        more = f"; {'; '.join(self.surprises)}" if self.surprises else ""
        return f"{self.participant} ({self.character}): {found}{refused}; expected {' or '.join(self.expected)}{more}"


class ChannelResult(Record):
    """How well cheaters bet on one channel alone, after a learning phase."""

    channel: Channel
    bets: int
    right: int
    p_value: float
    """Exact binomial test against ½, one-sided."""


class CheatersResult(Record):
    """Whether anything but the pictures gives the answers away."""

    channels: tuple[ChannelResult, ...]
    p_value: float
    """The smallest p value, times the number of channels (Bonferroni), at most 1."""
    learning: int
    """Bets at the beginning that aren't counted."""

    @property
    def worst(self) -> ChannelResult:
        """The channel that gave away most."""
        return min(self.channels, key=lambda channel: channel.p_value)


class Rehearsal(Record):
    """``rehearsal.json`` in the run's folder."""

    study: str
    name: str
    seed: int
    leak: LeakName | None
    ended: Ending
    short: tuple[str, ...]
    """Tasks that stayed without a valid response, as ``arm/number``."""
    participants: int
    visits: int
    by_state: dict[str, int]
    by_character: dict[str, int]
    outcomes: tuple[Outcome, ...]
    mismatches: tuple[str, ...]
    """One line for every participant who didn't end as expected, and every answer that was lost."""
    acknowledged: int
    """Answers that the server said it stored."""
    lost: int
    """Of these: not in the store, or with another value."""
    cheaters: CheatersResult | None
    requests: int
    retries: int
    """Requests sent again because the connection broke."""
    harvests: int
    simulated_hours: float
    seconds: float
