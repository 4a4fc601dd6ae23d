"""Second step: verdicts on what was submitted, each in its own transaction."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from crowd_imi.allocation import retake_task
from crowd_imi.criteria import check_all, counts
from crowd_imi.harvester.context import Round
from crowd_imi.harvester.reading import read_submission
from crowd_imi.lifecycle import Payment, VisitState, move
from crowd_imi.stock import JUDGED_FROM
from crowd_imi.store.submissions import visits_to_judge
from crowd_imi.store.tables import Verdict
from crowd_imi.store.transactions import transact
from crowd_imi.store.visits import find_visit


@dataclass(frozen=True, slots=True)
class Judged:
    """One verdict."""

    task: int
    valid: bool
    surplus: bool


def judge(this: Round) -> list[Judged]:
    """Judge every submission that has no verdict yet; who failed practice is excluded without one more look.

    Answers count once the platform knows of their submission.

    Who holds a task comes first, so that a late submission is surplus only where the other one stands.
    """
    with this.store.read() as session:
        waiting = [visit for visit in visits_to_judge(session, this.posting, JUDGED_FROM) if this.has_shown_up(visit)]
    judged = [transact(this.store, lambda session, visit=visit: _judge(session, this, visit)) for visit in waiting]  # type: ignore[misc]
    return [verdict for verdict in judged if verdict is not None]


def _judge(session: Session, this: Round, visit_id: str) -> Judged | None:
    visit = find_visit(session, visit_id, lock=True)
    if visit is None or visit.state not in JUDGED_FROM:
        return None
    checks = check_all(read_submission(session, visit), this.study.file.exclusion)
    good = counts(checks) and visit.payment != Payment.REJECTED  # by a person, before anybody judged
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
