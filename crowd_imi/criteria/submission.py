"""What criteria look at, and what they say."""

from dataclasses import dataclass
from typing import Literal

from crowd_imi.records import Record, TrialKind

Criterion = Literal[
    "catch_trials",
    "total_time",
    "instruction_time",
    "row_choices",
    "practice_blocks",
    "reaction_times",
    "button_runs",
    "time_away",
    "tile_size",
    "main_accuracy",
]

Row = Literal["upper", "lower"]


class Check(Record):
    """What one criterion said of one submission."""

    criterion: Criterion
    passed: bool | None
    """None where there was nothing to measure: it then counts neither for nor against the participant."""
    measured: float | None
    """In the criterion's own unit: a ratio, seconds or a count."""
    limit: str
    """What was asked for, in words."""
    clock: Literal["server", "browser"] | None = None
    """Whose clock measured it, for times."""


@dataclass(frozen=True, slots=True)
class SubmittedAnswer:
    """One answer, as far as criteria care."""

    kind: TrialKind
    null_unit: bool
    """The trial asks about a null unit, which nobody can answer."""
    row: Row
    correct: bool
    at: int | None = None
    """Server: when it was stored."""
    saving_ms: float | None = None
    """Browser: how long the answer before it took to be stored."""
    confidence: int = 2
    """1 to 3; with the row, which of the six buttons was pressed."""
    rt_ms: float | None = None
    """Browser: from the painted frame to the click."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the browser reported of itself at a moment."""

    kind: str
    """blur, hidden, focus, visible, resize …; ``start`` for what it said before the first trial."""
    at: int
    """Server: when the report came."""
    tile_px: float | None
    """Browser: CSS pixels on a side of one picture."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One participant's finished work; times are milliseconds since 1970 by the server's clock.

    Who failed practice has no answers and never submitted.
    """

    answers: tuple[SubmittedAnswer, ...]
    practice_blocks: int
    practice_passed: bool
    consented_at: int | None = None
    instructed_at: int | None = None
    practised_at: int | None = None
    submitted_at: int | None = None
    looks: tuple[Look, ...] = ()
    """In the order in which they came."""

    @property
    def judged_answers(self) -> tuple[SubmittedAnswer, ...]:
        """Answers to main trials, without those on null units: these say nothing about the participant."""
        return tuple(answer for answer in self.answers if answer.kind == "main" and not answer.null_unit)
