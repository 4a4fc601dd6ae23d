"""The Mechanical Turk stand-in's workers: taking a HIT, giving it back, handing it in."""

import hashlib
import re
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.errors import PlatformError
from crowd_imi.platforms.standins.mturk import books
from crowd_imi.platforms.standins.mturk.books import Assignment, Hit, HitType
from crowd_imi.platforms.standins.mturk.hits import question_url
from crowd_imi.platforms.standins.mturk.qualifications import qualifies

NOT_AVAILABLE = "ASSIGNMENT_ID_NOT_AVAILABLE"
_WORKER_ID = re.compile(r"A[A-Z0-9]{1,63}")
_ANSWERS = "http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2005-10-01/QuestionFormAnswers.xsd"


def worker_id(participant: str) -> str:
    """A worker's id for a name: the name itself where it is one, else always the same made-up one."""
    if _WORKER_ID.fullmatch(participant):
        return participant
    return "A" + hashlib.sha256(participant.encode()).hexdigest()[:13].upper()


def hits_of(session: Session, posting: str) -> list[Hit]:
    """The HITs that are meant: one, those of a type or group, or those of the adapter's posting; the oldest first."""
    kinds = [kind.id for kind in session.scalars(select(HitType)) if posting in (kind.id, kind.group_id, kind.posting)]
    chosen = select(Hit).where((Hit.id == posting) | Hit.type_id.in_(kinds), Hit.disposed.is_(False))
    return list(session.scalars(chosen.order_by(Hit.number)))


def take(session: Session, posting: str, participant: str, now: int) -> Assignment:
    """Accept a HIT; who is at one of them already gets the same assignment.

    Raises:
        PlatformError: no place is free, or the worker isn't let in.
    """
    hits, worker = hits_of(session, posting), worker_id(participant)
    if not hits:
        raise PlatformError(f"there is no HIT of {posting}")
    mine = select(Assignment).where(Assignment.worker == worker, Assignment.hit_id.in_([hit.id for hit in hits]))
    taken = {one.hit_id: one for one in session.scalars(mine.where(Assignment.status.in_(books.OCCUPYING)))}
    under_way = [one for one in taken.values() if one.status == books.ACCEPTED]
    if under_way:
        return under_way[0]
    counts = books.counts_of(session, hits)
    free = [hit for hit in hits if books.status_of(hit, counts[hit.id], now) == "Assignable" and hit.id not in taken]
    if not free:
        raise PlatformError(f"no HIT of {posting} has a free place for {participant}")
    kind = session.get_one(HitType, free[0].type_id)
    if not qualifies(session, worker, kind.requirements):
        raise PlatformError(f"{participant} doesn't meet the qualifications of this HIT")
    assignment = Assignment(
        id=books.new_id(),
        hit_id=free[0].id,
        worker=worker,
        status=books.ACCEPTED,
        accepted_at=now,
        deadline=now + kind.duration * 1000,
    )
    session.add(assignment)
    return assignment


def arrival_url(session: Session, assignment: Assignment, site: str) -> str:
    """The link that this worker's frame shows."""
    ids = {"assignmentId": assignment.id, "hitId": assignment.hit_id, "workerId": assignment.worker, "turkSubmitTo": site}
    return frame_url(_hit(session, assignment.hit_id), ids)


def frame_url(hit: Hit, ids: dict[str, str]) -> str:
    """A HIT's own page, with ids added to it."""
    url = question_url(hit.question)
    return f"{url}{'&' if '?' in url else '?'}{urlencode(ids)}"


def give_back(session: Session, assignment: str) -> Assignment:
    """Return a HIT; doing it again changes nothing.

    Raises:
        PlatformError: nobody has it, or it was handed in.
    """
    found = find(session, assignment)
    if found.status not in (books.ACCEPTED, books.RETURNED):
        raise PlatformError(f"assignment {assignment} is {found.status}, so it can't be returned")
    found.status = books.RETURNED
    return found


def hand_in(session: Session, fields: dict[str, str], now: int) -> Assignment:
    """What the form of a worker's page sends; sending it again changes nothing.

    Raises:
        PlatformError: nothing but the assignment is in the form, or the assignment isn't under way.
    """
    found = find(session, fields.get("assignmentId", ""))
    answers = {name: value for name, value in fields.items() if name != "assignmentId"}
    if not answers:
        raise PlatformError("the form has no field but assignmentId; Mechanical Turk wants at least one more")
    if found.status == books.ACCEPTED:
        kind = session.get_one(HitType, _hit(session, found.hit_id).type_id)
        found.status, found.submitted_at, found.answer = books.SUBMITTED, now, _answers(answers)
        found.auto_approval_at = now + kind.auto_approval * 1000
    elif found.status not in books.SHOWN:
        raise PlatformError(f"this assignment was {found.status.lower()}, so it can't be handed in any more")
    return found


def _answers(fields: dict[str, str]) -> str:
    inner = "".join(
        f"<Answer><QuestionIdentifier>{escape(name)}</QuestionIdentifier><FreeText>{escape(value)}</FreeText></Answer>"
        for name, value in fields.items()
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><QuestionFormAnswers xmlns="{_ANSWERS}">{inner}</QuestionFormAnswers>'


def _hit(session: Session, hit: str) -> Hit:
    return session.scalars(select(Hit).where(Hit.id == hit)).one()


def find(session: Session, assignment: str) -> Assignment:
    """An assignment, whatever its state.

    Raises:
        PlatformError: there is none.
    """
    found = session.scalar(select(Assignment).where(Assignment.id == assignment))
    if found is None:
        raise PlatformError(f"there is no assignment {assignment}")
    return found
