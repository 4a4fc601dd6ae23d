"""What the browser gets: never a trial's kind, its unit or its answer."""

from typing import Any, Literal

from crowd_imi.lifecycle import VisitState
from crowd_imi.pages.layout import main_upper, practice_order, practice_upper
from crowd_imi.plan import Grid, PracticeTrial
from crowd_imi.records import Condition, Record, Side
from crowd_imi.store.tables import Visit
from crowd_imi.store.visits import ShownTrial, TaskTrials

Step = Literal["consent", "instructions", "practice", "main", "feedback", "done", "failed_practice", "declined", "incompatible"]

S = VisitState


_BEFORE_TRIALS: dict[VisitState, Step] = {
    S.ARRIVED: "consent",
    S.DECLINED: "declined",
    S.CONSENTED: "instructions",
    S.PRACTISING: "practice",
    S.FAILED_PRACTICE: "failed_practice",
    S.EXCLUDED: "failed_practice",
}
"""An excluded visit without a passed practice is one that failed it."""


class TrialView(Record):
    """One trial as the page draws it."""

    position: int
    sprite: str
    left: tuple[int, ...]
    right: tuple[int, ...]
    upper: int
    lower: int


class PracticeView(Record):
    """One practice block, and where it stands."""

    block: int
    position: int
    trials: tuple[TrialView, ...]


class TimingView(Record):
    """The page's delays. Source: the published experiment, ``protocol`` of the study's documentation."""

    unlock_ms: int = 1500
    verdict_ms: int = 350
    feedback_ms: int = 1150


class CompletionView(Record):
    """Where the browser goes at the end."""

    url: str
    form: dict[str, str] | None = None
    """Posted there as a form with these fields; None for a link."""


class VisitView(Record):
    """``GET /api/visit``."""

    step: Step
    condition: Condition
    grid: Grid
    trials: int
    answered: int
    correct: int
    practice: PracticeView | None
    main: tuple[TrialView, ...]
    timing: TimingView = TimingView()
    texts: dict[str, Any]
    completion: CompletionView | None


class StepReply(Record):
    """Where the visit stands now."""

    step: Step
    completion: CompletionView | None = None
    """Where to go when it ends here."""


class PracticeReply(Record):
    """``POST /api/practice``."""

    correct: bool
    step: Step
    practice: PracticeView | None
    """The next block when one begins."""
    completion: CompletionView | None = None
    """Where to go when it was the last allowed block and it was failed."""


class AnswerReply(Record):
    """``POST /api/answers``."""

    correct: bool
    answered: int
    correct_count: int
    step: Step


class SubmitReply(Record):
    """``POST /api/submit``."""

    step: Step
    completion: CompletionView | None


class Problem(Record):
    """Why a request wasn't done; ``error`` is one sentence for the participant."""

    error: str
    code: str


def step_of(visit: Visit, answered: int, trials: int) -> Step:
    """What the participant does next; a visit that was left goes on where it was as long as it may."""
    if visit.submitted_at is not None:
        return "done"
    if visit.practised_at is not None:
        return "main" if answered < trials else "feedback"
    return _BEFORE_TRIALS[S(visit.state)]


def main_view(visit: Visit, task: TaskTrials, sprites_at: str) -> tuple[TrialView, ...]:
    """All trials of the task in order."""
    return tuple(
        _trial_view(position, trial, main_upper(visit.layout_seed, position), sprites_at)
        for position, trial in enumerate(task.trials)
    )


def practice_view(visit: Visit, trials: tuple[PracticeTrial, ...], sprites_at: str, block: int, position: int) -> PracticeView:
    """One block of the practice in its order."""
    order = practice_order(visit.layout_seed, block, len(trials))
    shown = tuple(
        _trial_view(index, trials[trial], practice_upper(visit.layout_seed, block, index), sprites_at)
        for index, trial in enumerate(order)
    )
    return PracticeView(block=block, position=position, trials=shown)


def _trial_view(position: int, trial: ShownTrial | PracticeTrial, upper: Side, sprites_at: str) -> TrialView:
    tiles = trial.tiles
    first, second = (tiles.queries.min, tiles.queries.max) if upper == "min" else (tiles.queries.max, tiles.queries.min)
    return TrialView(
        position=position,
        sprite=f"{sprites_at}{trial.sprite}",
        left=tiles.references.min,
        right=tiles.references.max,
        upper=first,
        lower=second,
    )
