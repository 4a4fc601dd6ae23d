"""Submissions as requesters see them: finding one, its status, asking for its return."""

import json
from typing import Any

from sqlalchemy import select

from crowd_imi.platforms.standins.prolific import events, studies
from crowd_imi.platforms.standins.prolific.desk import Desk, bad_request, iso, not_found
from crowd_imi.platforms.standins.prolific.tables import Bonus, Reward, Submission

AT_IT = ("RESERVED", "ACTIVE")


def find_submission(desk: Desk, submission: str) -> Submission:
    """A submission.

    Raises:
        Refusal: 404.
    """
    found = desk.session.scalar(select(Submission).where(Submission.id == submission))
    if found is None:
        raise not_found(f"submission {submission}")
    return found


def set_status(desk: Desk, submission: Submission, status: str) -> None:
    """The one place where a status changes: subscribers are told, and the study follows."""
    if status == submission.status:
        return
    submission.status = status
    desk.session.flush()
    events.record_submission(desk, submission)
    studies.refresh(desk, studies.find_study(desk, submission.study_id))


def request_return(desk: Desk, submission: Submission, reasons: object) -> None:
    """Ask a participant to give the place back; asking again changes nothing."""
    if not isinstance(reasons, list) or not reasons or not all(isinstance(reason, str) and reason for reason in reasons):
        raise bad_request({"request_return_reasons": ["must be a list of at least one reason"]})
    if submission.status not in (*AT_IT, "AWAITING REVIEW"):
        raise bad_request(f"submission {submission.id} is {submission.status}: a return can't be asked for")
    if submission.return_requested_at is None:
        submission.return_requested_at = desk.now
        submission.note = "; ".join(reasons)


def summary(desk: Desk, submission: Submission) -> dict[str, Any]:
    """A submission in a list."""
    study = studies.find_study(desk, submission.study_id)
    paid = desk.session.get(Reward, submission.id)
    return {
        "id": submission.id,
        "participant_id": submission.participant,
        "study_id": submission.study_id,
        "status": submission.status,
        "started_at": iso(submission.started_at),
        "completed_at": iso(submission.completed_at),
        "is_complete": submission.completed_at is not None,
        "time_taken": _seconds(submission),
        "reward": json.loads(study.fields)["reward"] if paid is None else paid.amount,
        "study_code": _code_shown(submission),
        "return_requested": iso(submission.return_requested_at),
        "bonus_payments": _settled(desk, submission),
    }


def document(desk: Desk, submission: Submission) -> dict[str, Any]:
    """A submission as ``GET /submissions/{id}/`` shows it."""
    return {
        "id": submission.id,
        "participant": submission.participant,
        "study_id": submission.study_id,
        "parent_study_id": None,
        "status": submission.status,
        "started_at": iso(submission.started_at),
        "completed_at": iso(submission.completed_at),
        "entered_code": _code_shown(submission),
        "return_requested": iso(submission.return_requested_at),
        "bonus_payments": _settled(desk, submission),
    }


def _code_shown(submission: Submission) -> str | None:
    if submission.completed_at is None:
        return None
    return submission.entered_code or "NOCODE"


def _seconds(submission: Submission) -> float | None:
    return None if submission.completed_at is None else (submission.completed_at - submission.started_at) / 1000


def _settled(desk: Desk, submission: Submission) -> list[int]:
    """Minor units of each bonus that shows by now."""
    settled = select(Bonus.amount).where(Bonus.submission_id == submission.id, Bonus.settles_at <= desk.now)
    return list(desk.session.scalars(settled.order_by(Bonus.number)))
