"""Second step: verdicts on what was submitted, each in its own transaction."""

from dataclasses import dataclass
from typing import cast

from sqlalchemy.orm import Session

from crowd_imi.allocation import retake_task
from crowd_imi.criteria import Submission, SubmittedAnswer, check_all, counts
from crowd_imi.criteria.submission import Row
from crowd_imi.harvester.context import Round
from crowd_imi.lifecycle import VisitState, move
from crowd_imi.records import TrialKind
from crowd_imi.store.submissions import answered_trials, practice_blocks_of, visits_to_judge
from crowd_imi.store.tables import Verdict, Visit
from crowd_imi.store.transactions import transact
from crowd_imi.store.visits import find_visit

JUDGED_FROM = frozenset({VisitState.SUBMITTED, VisitState.FAILED_PRACTICE})


@dataclass(frozen=True, slots=True)
class Judged:
    """One verdict."""

    task: int
    valid: bool
    surplus: bool


def judge(this: Round) -> list[Judged]:
    """Judge every submission that has no verdict yet; who failed practice is excluded without one more look.

    Who holds a task comes first, so that a late submission is surplus only where the other one stands.
    """
    with this.store.read() as session:
        waiting = visits_to_judge(session, this.posting, JUDGED_FROM)
    judged = [transact(this.store, lambda session, visit=visit: _judge(session, this, visit)) for visit in waiting]  # type: ignore[misc]
    return [verdict for verdict in judged if verdict is not None]


def _judge(session: Session, this: Round, visit_id: str) -> Judged | None:
    visit = find_visit(session, visit_id, lock=True)
    if visit is None or visit.state not in JUDGED_FROM:
        return None
    checks = check_all(_submission(session, visit), this.study.file.exclusion)
    good = counts(checks)
    if good and not visit.holds_task:
        retake_task(session, visit)
    valid = good and visit.holds_task
    surplus = good and not visit.holds_task
    now = this.store.now()
    move(visit, VisitState.VALID if valid else VisitState.EXCLUDED, now)
    documents = {check.criterion: check.model_dump(mode="json") for check in checks}
    session.add(Verdict(visit_id=visit_id, valid=valid, surplus=surplus, checks=documents, at=now))
    session.flush()
    return Judged(visit.task_id, valid, surplus)


def _submission(session: Session, visit: Visit) -> Submission:
    return Submission(
        answers=tuple(
            SubmittedAnswer(
                kind=cast(TrialKind, answer.kind),
                null_unit=answer.null_unit,
                row=cast(Row, answer.row),
                correct=answer.correct,
                at=answer.at,
                saving_ms=answer.saving_ms,
            )
            for answer in answered_trials(session, visit.id)
        ),
        practice_blocks=practice_blocks_of(session, visit.id),
        practice_passed=visit.practised_at is not None,
        consented_at=visit.consented_at,
        instructed_at=visit.instructed_at,
        practised_at=visit.practised_at,
        submitted_at=visit.submitted_at,
    )
