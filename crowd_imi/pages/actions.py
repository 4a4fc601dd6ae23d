"""What a participant's page may do, each in one transaction: consent, instructions, answers, submission.

Every action may be repeated, as a browser does whose connection broke before the reply came: the same request gets the
same reply, and nothing is stored twice.
"""

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from crowd_imi.allocation import hand_in
from crowd_imi.errors import Refused
from crowd_imi.lifecycle import VisitState, move
from crowd_imi.pages.layout import chosen_side, main_upper
from crowd_imi.pages.requests import (
    AnswerRequest,
    ConsentRequest,
    EventRequest,
    InstructionsRequest,
    PageRequest,
    SubmitRequest,
)
from crowd_imi.pages.view import AnswerReply, Step
from crowd_imi.store.tables import Event, PageTime, Visit
from crowd_imi.store.visits import AtTrial, add_answer, answers_of, count_remarks

S = VisitState

INCOMPATIBLE = "incompatible_device"
"""The event of a visit that ended because of the device."""
MOST_EVENTS = 5000
MOST_PAGES = 500
"""More than these a visit's page doesn't send; they keep one visitor from filling the disk."""


def consent(visit: Visit, request: ConsentRequest, form_version: str, now: int) -> None:
    """Agree or decline; what was agreed to, and when, is kept.

    Raises:
        Refused: another version of the form is in force, or the visit is past this step and says otherwise.
    """
    decided = S.CONSENTED if request.agree else S.DECLINED
    agreed_before = request.agree and visit.consented_at is not None
    if agreed_before or visit.state == decided:
        return
    if request.version != form_version:
        raise Refused("The consent form has changed; please reload the page and read it again.", 409, "consent-changed")
    if not request.agree and visit.consented_at is not None:
        raise Refused("You have agreed already; to leave, close this page and give your place back.", 409, "out-of-order")
    move(visit, decided, now)
    visit.consent_version = request.version
    if request.agree:
        visit.consented_at = now


def leave_for_device(session: Session, visit: Visit, now: int) -> None:
    """Leave because the device can't show the study; doing it again changes nothing.

    Raises:
        Refused: the instructions are read already, or the visit has ended.
    """
    if visit.state == S.DECLINED:
        return
    move(visit, S.DECLINED, now)
    session.add(Event(visit_id=visit.id, kind=INCOMPATIBLE, detail={}, at=now))


def left_for_device(session: Session, visit: Visit) -> bool:
    """Whether a visit that was declined was left because of the device."""
    chosen = select(Event.id).where(Event.visit_id == visit.id, Event.kind == INCOMPATIBLE).limit(1)
    return session.scalar(chosen) is not None


def page_time(session: Session, visit: Visit, request: PageRequest, now: int) -> None:
    """Keep how long one page of the instructions was shown.

    Raises:
        Refused: far more pages than there are.
    """
    if count_remarks(session, visit.id, "pages") >= MOST_PAGES:
        raise Refused("There are too many pages in this visit.", 429, "too-many")
    session.add(PageTime(visit_id=visit.id, page=request.page, shown_ms=round(request.shown_ms), at=now))


def finish_instructions(visit: Visit, request: InstructionsRequest, now: int) -> None:
    """The instructions are read: practice begins.

    Raises:
        Refused: there is no consent yet, or the visit has ended.
    """
    if visit.instructed_at is None:
        move(visit, S.PRACTISING, now)
        visit.instructed_at = now
        visit.browser = dict(request.browser)


def answer(connection: Connection, visit: AtTrial, trials: int, request: AnswerRequest, now: int) -> AnswerReply:
    """Store one answer and tell whether it is right, which nobody is told before.

    Raises:
        Refused: ``already-answered`` with another value, ``out-of-order``, or the visit isn't at its trials.
    """
    position = request.position
    if visit.correct is not None:
        if (visit.row, visit.confidence) != (request.row, request.confidence):
            raise Refused(
                f"Question {position + 1} is answered already, and an answer can't be changed.", 409, "already-answered"
            )
        return _answer_reply(visit.correct, visit.answered, visit.right, trials)
    if visit.practised_at is None or visit.submitted_at is not None:
        raise Refused(f"This visit is {visit.state.replace('_', ' ')}, so it takes no answers.", 409, "out-of-order")
    if position != visit.answered or position >= trials:
        raise Refused(f"The next question is number {visit.answered + 1}; please reload the page.", 409, "out-of-order")
    choice = chosen_side(main_upper(visit.layout_seed, position), request.row)
    correct = choice == "max"
    add_answer(connection, {**request.model_dump(), "visit_id": visit.id, "choice": choice, "correct": correct, "at": now})
    return _answer_reply(correct, visit.answered + 1, visit.right + correct, trials)


def event(session: Session, visit: Visit, request: EventRequest, now: int) -> None:
    """Keep something worth knowing: blur, resize, reload.

    Raises:
        Refused: there are thousands of them.
    """
    if count_remarks(session, visit.id, "events") >= MOST_EVENTS:
        raise Refused("There are too many events in this visit.", 429, "too-many")
    session.add(Event(visit_id=visit.id, kind=request.kind, detail=dict(request.detail), at=now))


def submit(session: Session, visit: Visit, trials: int, request: SubmitRequest, now: int) -> None:
    """Hand in. Whoever was timed out meanwhile is late, and gets the task back unless somebody else has it.

    Raises:
        Refused: not every question is answered.
    """
    feedback = request.feedback.strip() or None
    if visit.submitted_at is not None:
        # A repeat, or the time was over while they wrote.
        visit.feedback = visit.feedback or feedback
        return
    missing = trials - len(answers_of(session, visit.id))
    if missing:
        raise Refused(f"{missing} questions aren't answered yet; please reload the page.", 409, "out-of-order")
    hand_in(session, visit, now)
    visit.feedback = feedback


def _answer_reply(correct: bool, answered: int, right: int, trials: int) -> AnswerReply:
    step: Step = "main" if answered < trials else "feedback"
    return AnswerReply(correct=correct, answered=answered, correct_count=right, step=step)
