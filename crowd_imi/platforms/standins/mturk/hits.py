"""The Mechanical Turk stand-in's operations on HIT types, HITs and assignments."""

from urllib.parse import urlsplit
from xml.etree import ElementTree

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from crowd_imi.platforms.standins.mturk import books
from crowd_imi.platforms.standins.mturk.books import Assignment, Hit, HitType
from crowd_imi.platforms.standins.mturk.qualifications import check_requirements
from crowd_imi.platforms.standins.mturk.values import LOOPBACK, cents, dollars, milliseconds, page, seconds, within, without_none
from crowd_imi.platforms.standins.mturk.wire import Params, turk_error

EXTERNAL_QUESTION = "{http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2006-07-14/ExternalQuestion.xsd}"
YEAR = 31_536_000
DAY_MS = 24 * 3600 * 1000
OVERRIDE_DAYS = 30
MOST_QUESTION_BYTES = 65_535


def create_hit_type(session: Session, params: Params, now: int) -> Params:
    """``CreateHITType``: the same values are the same type."""
    return {"HITTypeId": _hit_type(session, params).id}


def _hit_type(session: Session, params: Params) -> HitType:
    within("Title", len(params["Title"]), 1, 128)
    within("Description", len(params["Description"]), 1, 2000)
    within("Keywords", len(params.get("Keywords", "")), 0, 1000)
    within("AssignmentDurationInSeconds", params["AssignmentDurationInSeconds"], 30, YEAR)
    within("AutoApprovalDelayInSeconds", params.get("AutoApprovalDelayInSeconds", 30 * 86400), 0, 30 * 86400)
    check_requirements(session, params.get("QualificationRequirements", []))
    values = {
        "title": params["Title"],
        "description": params["Description"],
        "keywords": params.get("Keywords"),
        "reward": cents(params["Reward"]),
        "duration": params["AssignmentDurationInSeconds"],
        "auto_approval": params.get("AutoApprovalDelayInSeconds", 30 * 86400),
        "requirements": params.get("QualificationRequirements", []),
    }
    digest = books.digest_of(values)
    found = session.scalar(select(HitType).where(HitType.digest == digest))
    if found is None:
        found = HitType(id=books.new_id(), group_id=books.new_id(), digest=digest, **values)
        session.add(found)
        session.flush()
    return found


def create_hit(session: Session, params: Params, now: int) -> Params:
    """``CreateHIT``: a HIT and its type at once."""
    return _make_hit(session, _hit_type(session, params), params, now)


def create_hit_with_hit_type(session: Session, params: Params, now: int) -> Params:
    """``CreateHITWithHITType``: once for each ``UniqueRequestToken``."""
    found = session.get(HitType, params["HITTypeId"])
    if found is None:
        raise turk_error("HITTypeDoesNotExist", f"HITType {params['HITTypeId']} does not exist. ({now} s)")
    return _make_hit(session, found, params, now)


def _make_hit(session: Session, kind: HitType, params: Params, now: int) -> Params:
    earlier = books.token_made(session, "hit", params.get("UniqueRequestToken"), now)
    if earlier is not None:
        raise turk_error("HitAlreadyExists", f"The HIT {earlier} already exists for this UniqueRequestToken. ({now} s)")
    places = params.get("MaxAssignments", 1)
    within("MaxAssignments", places, 1, 1_000_000_000)
    within("LifetimeInSeconds", params["LifetimeInSeconds"], 30, YEAR)
    within("RequesterAnnotation", len(params.get("RequesterAnnotation", "")), 0, 255)
    question_url(params.get("Question", ""))
    price = kind.reward + books.fee_of(kind.reward, places, kind.masters)
    require_funds(session, price * places, now)
    hit = Hit(
        id=books.new_id(),
        type_id=kind.id,
        question=params["Question"],
        annotation=params.get("RequesterAnnotation"),
        max_assignments=places,
        price=price,
        created_at=now,
        expires_at=now + params["LifetimeInSeconds"] * 1000,
        reviewing=False,
        disposed=False,
    )
    session.add(hit)
    books.keep_token(session, "hit", params.get("UniqueRequestToken"), hit.id, now)
    session.flush()
    return {"HIT": hit_record(session, hit, now)}


def create_additional_assignments_for_hit(session: Session, params: Params, now: int) -> Params:
    """``CreateAdditionalAssignmentsForHIT``: never over the fee step."""
    hit = find_hit(session, params["HITId"])
    if books.token_made(session, "extend", params.get("UniqueRequestToken"), now) is not None:
        raise turk_error("DuplicateRequest", f"The idempotency token has already been processed for HIT {hit.id}. ({now} s)")
    more = params["NumberOfAdditionalAssignments"]
    within("NumberOfAdditionalAssignments", more, 1, 1_000_000_000)
    if hit.max_assignments < books.FEE_STEP <= hit.max_assignments + more:
        raise turk_error(
            "InvalidMaximumAssignmentsIncrease",
            "The total number of assignments can't be raised from fewer than 10 to 10 or more. "
            f"(HIT {hit.id} has {hit.max_assignments}) ({now} s)",
        )
    if now < hit.expires_at:
        require_funds(session, hit.price * more, now)
    hit.max_assignments += more
    books.keep_token(session, "extend", params.get("UniqueRequestToken"), hit.id, now)
    return {}


def update_expiration_for_hit(session: Session, params: Params, now: int) -> Params:
    """``UpdateExpirationForHIT``: closes a HIT to new workers, or opens it again."""
    hit = find_hit(session, params["HITId"])
    when = milliseconds(params["ExpireAt"])
    if when > now + YEAR * 1000:
        raise turk_error("InvalidExpirationIncrement", f"A HIT can't be open for more than 365 days. ({now} s)")
    if when > now >= hit.expires_at:
        require_funds(session, hit.price * books.counts_of(session, [hit])[hit.id].available, now)
    hit.expires_at = when
    return {}


def delete_hit(session: Session, params: Params, now: int) -> Params:
    """``DeleteHIT``: only what is over and decided."""
    hit = find_hit(session, params["HITId"])
    counts = books.counts_of(session, [hit])[hit.id]
    status = books.status_of(hit, counts, now)
    if status not in ("Reviewable", "Reviewing"):
        raise _wrong_hit_state(hit, status, "Reviewing, Reviewable", now)
    if counts.submitted:
        raise turk_error("InvalidHITState", f"HIT {hit.id} has {counts.submitted} assignments that aren't decided. ({now} s)")
    hit.disposed = True
    return {}


def update_hit_review_status(session: Session, params: Params, now: int) -> Params:
    """``UpdateHITReviewStatus``: between Reviewable and Reviewing."""
    hit = find_hit(session, params["HITId"])
    revert = params.get("Revert", False)
    wanted = "Reviewing" if revert else "Reviewable"
    status = books.status_of(hit, books.counts_of(session, [hit])[hit.id], now)
    if status != wanted:
        raise _wrong_hit_state(hit, status, wanted, now)
    hit.reviewing = not revert
    return {}


def get_hit(session: Session, params: Params, now: int) -> Params:
    """``GetHIT``."""
    return {"HIT": hit_record(session, find_hit(session, params["HITId"]), now)}


def list_hits(session: Session, params: Params, now: int) -> Params:
    """``ListHITs``: the newest first."""
    return _hits(session, select(Hit).where(Hit.disposed.is_(False)), params, now)


def list_reviewable_hits(session: Session, params: Params, now: int) -> Params:
    """``ListReviewableHITs``: those in one state."""
    chosen = select(Hit).where(Hit.disposed.is_(False))
    if "HITTypeId" in params:
        chosen = chosen.where(Hit.type_id == params["HITTypeId"])
    hits = list(session.scalars(chosen))
    counts = books.counts_of(session, hits)
    wanted = params.get("Status", "Reviewable")
    ids = [hit.id for hit in hits if books.status_of(hit, counts[hit.id], now) == wanted]
    return _hits(session, select(Hit).where(Hit.id.in_(ids)), params, now)


def list_hits_for_qualification_type(session: Session, params: Params, now: int) -> Params:
    """``ListHITsForQualificationType``: those that require something of it."""
    wanted = params["QualificationTypeId"]
    types = [
        kind.id
        for kind in session.scalars(select(HitType))
        if any(requirement["QualificationTypeId"] == wanted for requirement in kind.requirements)
    ]
    return _hits(session, select(Hit).where(Hit.type_id.in_(types), Hit.disposed.is_(False)), params, now)


def _hits(session: Session, chosen: Select[Hit], params: Params, now: int) -> Params:
    hits, following = page(session, chosen, Hit, params, newest_first=True)
    counts = books.counts_of(session, hits)
    return {"HITs": [hit_record(session, hit, now, counts[hit.id]) for hit in hits], "NumResults": len(hits), **following}


def get_assignment(session: Session, params: Params, now: int) -> Params:
    """``GetAssignment``: knows only what was handed in."""
    assignment = find_assignment(session, params["AssignmentId"], now)
    hit = session.scalars(select(Hit).where(Hit.id == assignment.hit_id)).one()
    return {"Assignment": assignment_record(assignment), "HIT": hit_record(session, hit, now)}


def list_assignments_for_hit(session: Session, params: Params, now: int) -> Params:
    """``ListAssignmentsForHIT``: what was handed in."""
    hit = find_hit(session, params["HITId"])
    asked = params.get("AssignmentStatuses")
    wanted = Assignment.status.in_(asked) if asked else Assignment.status.not_in(books.HIDDEN)
    chosen = select(Assignment).where(Assignment.hit_id == hit.id, wanted)
    found, following = page(session, chosen, Assignment, params)
    return {"Assignments": [assignment_record(one) for one in found], "NumResults": len(found), **following}


def approve_assignment(session: Session, params: Params, now: int) -> Params:
    """``ApproveAssignment``: what was handed in, or rejected in the last 30 days where that is overridden."""
    assignment = find_assignment(session, params["AssignmentId"], now)
    overridden = (
        params.get("OverrideRejection", False)
        and assignment.status == books.REJECTED
        and now - (assignment.rejected_at or 0) <= OVERRIDE_DAYS * DAY_MS
    )
    if assignment.status != books.SUBMITTED and not overridden:
        raise _wrong_assignment_state(now)
    if overridden:
        hit = session.scalars(select(Hit).where(Hit.id == assignment.hit_id)).one()
        require_funds(session, hit.price, now)
    books.pay_reward(session, assignment, now, params.get("RequesterFeedback"))
    return {}


def reject_assignment(session: Session, params: Params, now: int) -> Params:
    """``RejectAssignment``: with a reason."""
    within("RequesterFeedback", len(params["RequesterFeedback"]), 1, 1024)
    assignment = find_assignment(session, params["AssignmentId"], now)
    if assignment.status != books.SUBMITTED:
        raise _wrong_assignment_state(now)
    assignment.status, assignment.rejected_at = books.REJECTED, now
    assignment.feedback = params["RequesterFeedback"]
    return {}


def find_hit(session: Session, hit: str) -> Hit:
    """A HIT that wasn't deleted."""
    found = session.scalar(select(Hit).where(Hit.id == hit))
    if found is None or found.disposed:
        raise turk_error("HITDoesNotExist", f"Hit {hit} does not exist.")
    return found


def find_assignment(session: Session, assignment: str, now: int) -> Assignment:
    """An assignment that was handed in: of others the requester's API knows nothing."""
    found = session.scalar(select(Assignment).where(Assignment.id == assignment))
    if found is None or found.status in books.HIDDEN:
        raise turk_error("AssignmentDoesNotExist", f"Assignment {assignment} does not exist. ({now} s)")
    return found


def _wrong_assignment_state(now: int) -> Exception:
    return turk_error("InvalidAssignmentState", f"This operation can be called with a status of: Submitted ({now} s)")


def _wrong_hit_state(hit: Hit, status: str, wanted: str, now: int) -> Exception:
    message = f"This HIT is currently in the state '{status}'.  This operation can be called with a status of: {wanted} ({now} s)"
    return turk_error("InvalidHITState", message)


def question_url(question: str) -> str:
    """Where an ExternalQuestion sends workers.

    Raises:
        WireError: it is none, too long, or not HTTPS (HTTP is let through for this machine only).
    """
    if len(question.encode()) > MOST_QUESTION_BYTES:
        raise turk_error("QuestionTooLong", f"The question has more than {MOST_QUESTION_BYTES} bytes.")
    try:
        root = ElementTree.fromstring(question)
    except ElementTree.ParseError as error:
        raise turk_error("XMLParseError", f"There was an error parsing the XML question: {error}") from None
    url, height = (root.findtext(f"{EXTERNAL_QUESTION}{name}") for name in ("ExternalURL", "FrameHeight"))
    if root.tag != f"{EXTERNAL_QUESTION}ExternalQuestion" or not url or not (height or "").strip().isdigit():
        raise turk_error("XMLParseError", "The question is no ExternalQuestion with ExternalURL and FrameHeight.")
    parts = urlsplit(url.strip())
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise turk_error("XMLParseError", "ExternalURL must be an HTTPS address.")
    return url.strip()


def require_funds(session: Session, needed: int, now: int) -> None:
    """Refuse what the balance doesn't cover."""
    available = books.balance_of(session) - books.on_hold(session, now)
    if needed > available:
        raise turk_error(
            "InsufficientFunds",
            f"This Requester has insufficient funds in their account to complete this transaction: {dollars(needed)} are needed, "
            f"{dollars(available)} are available. ({now} s)",
        )


def hit_record(session: Session, hit: Hit, now: int, counts: books.Counts | None = None) -> Params:
    """A HIT as the API shows it."""
    kind = session.get_one(HitType, hit.type_id)
    counts = counts or books.counts_of(session, [hit])[hit.id]
    return without_none(
        {
            "HITId": hit.id,
            "HITTypeId": kind.id,
            "HITGroupId": kind.group_id,
            "CreationTime": seconds(hit.created_at),
            "Title": kind.title,
            "Description": kind.description,
            "Question": hit.question,
            "Keywords": kind.keywords,
            "HITStatus": books.status_of(hit, counts, now),
            "MaxAssignments": hit.max_assignments,
            "Reward": dollars(kind.reward),
            "AutoApprovalDelayInSeconds": kind.auto_approval,
            "Expiration": seconds(hit.expires_at),
            "AssignmentDurationInSeconds": kind.duration,
            "RequesterAnnotation": hit.annotation,
            "QualificationRequirements": kind.requirements,
            "HITReviewStatus": "NotReviewed",
            "NumberOfAssignmentsPending": counts.pending,
            "NumberOfAssignmentsAvailable": counts.available,
            "NumberOfAssignmentsCompleted": counts.completed,
        }
    )


def assignment_record(assignment: Assignment) -> Params:
    """An assignment as the API shows it."""
    return without_none(
        {
            "AssignmentId": assignment.id,
            "WorkerId": assignment.worker,
            "HITId": assignment.hit_id,
            "AssignmentStatus": assignment.status,
            "AutoApprovalTime": seconds(assignment.auto_approval_at),
            "AcceptTime": seconds(assignment.accepted_at),
            "SubmitTime": seconds(assignment.submitted_at),
            "ApprovalTime": seconds(assignment.approved_at),
            "RejectionTime": seconds(assignment.rejected_at),
            "Deadline": seconds(assignment.deadline),
            "Answer": assignment.answer,
            "RequesterFeedback": assignment.feedback,
        }
    )
