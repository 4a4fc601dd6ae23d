"""One participant's work as criteria look at it, read from the store."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from sqlalchemy.orm import Session

from crowd_imi.criteria import Look, Submission, SubmittedAnswer
from crowd_imi.criteria.submission import Row
from crowd_imi.records import TrialKind
from crowd_imi.store.submissions import answered_trials, events_of, practice_blocks_of
from crowd_imi.store.tables import Visit

_TILE = "tile_css_px"


def read_submission(session: Session, visit: Visit) -> Submission:
    """Everything that a criterion may ask about."""
    return Submission(
        answers=tuple(
            SubmittedAnswer(
                kind=cast(TrialKind, answer.kind),
                null_unit=answer.null_unit,
                row=cast(Row, answer.row),
                correct=answer.correct,
                at=answer.at,
                saving_ms=answer.saving_ms,
                confidence=answer.confidence,
                rt_ms=answer.rt_ms,
            )
            for answer in answered_trials(session, visit.id)
        ),
        practice_blocks=practice_blocks_of(session, visit.id),
        practice_passed=visit.practised_at is not None,
        consented_at=visit.consented_at,
        instructed_at=visit.instructed_at,
        practised_at=visit.practised_at,
        submitted_at=visit.submitted_at,
        looks=tuple(_looks(session, visit)),
    )


def _looks(session: Session, visit: Visit) -> Iterator[Look]:
    if visit.instructed_at is not None:
        yield Look("start", visit.instructed_at, _tile(visit.browser or {}))
    for event in events_of(session, visit.id):
        yield Look(event.kind, event.at, _tile(event.detail))


def _tile(said: Mapping[str, Any]) -> float | None:
    """The browser may say anything: what is no size counts as not said."""
    size = said.get(_TILE)
    return float(size) if isinstance(size, int | float) and not isinstance(size, bool) else None
