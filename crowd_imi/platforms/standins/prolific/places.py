"""Submissions: taking a place, running out of time, handing in, giving back."""

from collections.abc import Sequence
from urllib.parse import quote

from sqlalchemy import select

from crowd_imi.platforms.standins.prolific import payments, signing, studies
from crowd_imi.platforms.standins.prolific.desk import Desk, Refusal, new_id
from crowd_imi.platforms.standins.prolific.fields import CompletionCode, StudyFields
from crowd_imi.platforms.standins.prolific.submissions import AT_IT, set_status
from crowd_imi.platforms.standins.prolific.tables import Member, Study, Submission

KNOWN_STATUSES = (
    *("RESERVED", "ACTIVE", "AWAITING REVIEW", "APPROVED", "PARTIALLY APPROVED", "REJECTED", "RETURNED", "TIMED-OUT"),
    *("SCREENED OUT", "PROCESSING"),
)
MINUTE = 60_000


def time_out(desk: Desk) -> None:
    """Everybody whose allowed time is over by the request's clock; done before each request looks at anything."""
    late = select(Submission).where(Submission.status.in_(AT_IT), Submission.deadline_at <= desk.now)
    for submission in desk.session.scalars(late).all():
        set_status(desk, submission, "TIMED-OUT")


def take(desk: Desk, study: Study, participant: str) -> Submission:
    """A place for somebody; who is at it already gets the same one again.

    Raises:
        Refusal: 409: no place is free, the study lets nobody in, or not this participant.
    """
    fields = studies.fields_of(study)
    own = desk.session.scalars(
        select(Submission).where(Submission.study_id == study.id, Submission.participant == participant)
    ).all()
    at_it = next((submission for submission in own if submission.status in AT_IT), None)
    if at_it is not None:
        return at_it
    if study.life != "ACTIVE":
        raise _closed(f"study {study.id} is {study.status}: it takes nobody new")
    if len(own) >= fields.submissions_config.max_submissions_per_participant:
        raise _closed(f"{participant} took part in study {study.id} already")
    _check_places(desk, study, fields)
    _check_filters(desk, fields, participant)
    submission = Submission(
        id=new_id(),
        study_id=study.id,
        participant=participant,
        status="RESERVED",
        started_at=desk.now,
        deadline_at=desk.now + fields.allowed_minutes * MINUTE,
        completed_at=None,
        entered_code=None,
        return_requested_at=None,
        note=None,
        rejection_category=None,
    )
    desk.session.add(submission)
    set_status(desk, submission, "ACTIVE")
    return submission


def arrival_url(desk: Desk, submission: Submission) -> str:
    """The study's address with this participant's ids in the place of the placeholders, signed where the study asks for it."""
    study = studies.find_study(desk, submission.study_id)
    fields = studies.fields_of(study)
    url = fields.external_study_url or _allocated_url(desk, study, fields, submission)
    ids = {"PROLIFIC_PID": submission.participant, "STUDY_ID": study.id, "SESSION_ID": submission.id}
    filled = url
    for name, value in ids.items():
        filled = filled.replace("{{%" + name + "%}}", quote(value, safe=""))
    if not fields.is_external_study_url_secure:
        return filled
    token = signing.arrival_token(desk, filled)
    return f"{filled}{'&' if '?' in filled else '?'}prolific_token={token}"


def complete(desk: Desk, participant: str, entered: str) -> Submission:
    """Hand in with a completion code; doing it again changes nothing.

    A participant who ran out of time stays TIMED-OUT, with the code written down.

    Raises:
        Refusal: 409: there is nothing that this participant could hand in.
    """
    own = desk.session.scalars(
        select(Submission).where(Submission.participant == participant).order_by(Submission.number.desc())
    ).all()
    submission = _meant(desk, own, entered)
    if submission is None:
        raise _closed(f"{participant} has no submission that could be handed in")
    if submission.status not in (*AT_IT, "TIMED-OUT"):
        return submission
    submission.entered_code = entered
    submission.completed_at = desk.now
    if submission.status != "TIMED-OUT":
        _carry_out(desk, submission, studies.fields_of(studies.find_study(desk, submission.study_id)).code(entered))
    return submission


def give_back(desk: Desk, submission: Submission) -> None:
    """Leave without handing in, or because a return was asked for.

    Raises:
        Refusal: 409: it was decided already.
    """
    if submission.status not in (*AT_IT, "AWAITING REVIEW", "TIMED-OUT", "RETURNED"):
        raise _closed(f"submission {submission.id} is {submission.status}, so it can't be given back")
    set_status(desk, submission, "RETURNED")


def run_out(desk: Desk, submission: Submission) -> None:
    """Let somebody run out of time now.

    Raises:
        Refusal: 409: nobody is at it.
    """
    if submission.status not in (*AT_IT, "TIMED-OUT"):
        raise _closed(f"submission {submission.id} is {submission.status}, so it can't run out of time")
    set_status(desk, submission, "TIMED-OUT")


def _closed(detail: str) -> Refusal:
    return Refusal(409, "Not possible", detail)


def _check_places(desk: Desk, study: Study, fields: StudyFields) -> None:
    if studies.taken(desk, study) >= fields.total_available_places:
        raise _closed(f"study {study.id}: every place is taken; come back later, some are given back")
    at_once = fields.submissions_config.max_concurrent_submissions
    at_it = select(Submission).where(Submission.study_id == study.id, Submission.status.in_(AT_IT))
    if 0 <= at_once <= len(desk.session.scalars(at_it).all()):
        raise _closed(f"study {study.id}: {at_once} take part at the moment, which is as many as may at a time")


def _check_filters(desk: Desk, fields: StudyFields, participant: str) -> None:
    """Filters that go by what happened here; see ``filters``."""
    took_part = set(desk.session.scalars(select(Submission.study_id).where(Submission.participant == participant)))
    groups = set(desk.session.scalars(select(Member.group_id).where(Member.participant == participant)))
    belongs = {"previous_studies": took_part, "participant_group": groups, "custom": {participant}}
    for chosen in fields.filters:
        kind, _, list_kind = chosen.filter_id.rpartition("_")
        if kind not in belongs:
            continue
        listed = bool(belongs[kind] & set(chosen.selected_values or ()))
        if listed == (list_kind == "blocklist"):
            raise _closed(f"{participant} isn't eligible: filter {chosen.filter_id}")


def _allocated_url(desk: Desk, study: Study, fields: StudyFields, submission: Submission) -> str:
    """The first of ``access_details`` that isn't used up by those who came before."""
    before = select(Submission).where(
        Submission.study_id == study.id, Submission.status.in_(studies.OCCUPYING), Submission.number < submission.number
    )
    position = len(desk.session.scalars(before).all())
    details = fields.access_details or []
    for detail in details:
        position -= detail.total_allocation
        if position < 0:
            return detail.external_url
    return details[-1].external_url


def _meant(desk: Desk, own: Sequence[Submission], entered: str) -> Submission | None:
    """Which of a participant's submissions a code is for.

    One under way whose study has the code; one that was handed in with it; one that ran out of time; any under way.
    """
    at_it = [submission for submission in own if submission.status in AT_IT]
    fitting = [submission for submission in at_it if _has_code(desk, submission, entered)]
    done = [submission for submission in own if submission.entered_code == entered]
    late = [submission for submission in own if submission.status == "TIMED-OUT" and _has_code(desk, submission, entered)]
    return next(iter((*fitting, *done, *late, *at_it)), None)


def _has_code(desk: Desk, submission: Submission, entered: str) -> bool:
    return studies.fields_of(studies.find_study(desk, submission.study_id)).code(entered) is not None


def _carry_out(desk: Desk, submission: Submission, code: CompletionCode | None) -> None:
    """What a code's actions do; a code that the study doesn't have waits for review."""
    if code is None:
        submission.note = "NOCODE: the code isn't one of the study's"
        set_status(desk, submission, "AWAITING REVIEW")
        return
    group = code.action("ADD_TO_PARTICIPANT_GROUP")
    if group is not None and group.participant_group is not None:
        desk.session.merge(Member(group_id=group.participant_group, participant=submission.participant, added_at=desk.now))
    out = code.action("REMOVE_FROM_PARTICIPANT_GROUP")
    if out is not None and out.participant_group is not None:
        member = desk.session.get(Member, (out.participant_group, submission.participant))
        if member is not None:
            desk.session.delete(member)
    asked = code.action("REQUEST_RETURN")
    if asked is not None:
        submission.return_requested_at = desk.now
        submission.note = asked.return_reason
    screened = code.action("FIXED_SCREENOUT")
    if screened is not None and screened.fixed_screenout_reward is not None:
        payments.pay_reward(desk, submission, screened.fixed_screenout_reward)
        set_status(desk, submission, "SCREENED OUT")
    else:
        set_status(desk, submission, "AWAITING REVIEW")
        if code.action("AUTOMATICALLY_APPROVE") is not None:
            payments.approve(desk, submission)
