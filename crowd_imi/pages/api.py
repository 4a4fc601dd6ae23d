"""``/api/``: what the task page's scripts call. An answer is committed before its reply leaves."""

import logging
from collections.abc import Callable
from typing import TypeVar

from flask import Blueprint, Response
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from crowd_imi.errors import PlatformError
from crowd_imi.keys import completion_code
from crowd_imi.pages import actions
from crowd_imi.pages.context import as_json, asked, asked_token, open_visit, pages, request_clock, require_open
from crowd_imi.pages.practice import practise, standing
from crowd_imi.pages.requests import (
    AnswerRequest,
    ConsentRequest,
    EventRequest,
    InstructionsRequest,
    PageRequest,
    PracticeRequest,
    SubmitRequest,
)
from crowd_imi.pages.view import (
    AnswerReply,
    CompletionView,
    PracticeReply,
    Step,
    StepReply,
    SubmitReply,
    VisitView,
    main_view,
    practice_view,
    step_of,
)
from crowd_imi.platforms.base import Ending
from crowd_imi.store.people import submission_of
from crowd_imi.store.tables import Visit
from crowd_imi.store.transactions import transact, transact_rows
from crowd_imi.store.visits import answers_of, load_task, visit_at_trial

T = TypeVar("T")

log = logging.getLogger(__name__)
api = Blueprint("api", __name__, url_prefix="/api")

BEFORE_MAIN = ("consent", "instructions", "practice")
ENDINGS: dict[Step, Ending] = {
    "done": Ending.COMPLETED,
    "failed_practice": Ending.FAILED_PRACTICE,
    "declined": Ending.NO_CONSENT,
    "incompatible": Ending.INCOMPATIBLE_DEVICE,
}
"""Step at which a visit ends → what the platform is told."""


@api.get("/visit")
def visit() -> Response:
    """Everything that the page needs to begin, or to go on where it was."""
    here = pages()
    request_clock(here.store)
    with here.store.read() as session:
        found = open_visit(session, asked_token(), lock=False)
        task = load_task(session, found.task_id)
        answers = answers_of(session, found.id)
        step = _step(session, found)
        practice = None
        if step in BEFORE_MAIN:
            block = standing(session, found, len(here.plan.practice))
            practice = practice_view(found, here.plan.practice, here.sprites_at, *block)
    return as_json(
        VisitView(
            step=step,
            condition=here.study.file.arm(task.arm).condition,
            grid=here.plan.grid,
            trials=len(task.trials),
            answered=len(answers),
            correct=sum(answer.correct for answer in answers),
            practice=practice,
            main=main_view(found, task, here.sprites_at),
            texts=here.texts,
            completion=_completion(found, step),
        )
    )


@api.post("/consent")
def consent() -> Response:
    """Agree or decline."""
    wish = asked(ConsentRequest)
    version = str(pages().texts["consent"]["version"])

    def work(session: Session, visit: Visit, now: int) -> tuple[Visit, Step]:
        actions.consent(visit, wish, version, now)
        return visit, _step(session, visit)

    return _step_reply(*_act(work))


@api.post("/incompatible")
def incompatible() -> Response:
    """The device can't show the study: leave before the first question."""

    def work(session: Session, visit: Visit, now: int) -> tuple[Visit, Step]:
        actions.leave_for_device(session, visit, now)
        return visit, _step(session, visit)

    return _step_reply(*_act(work))


@api.post("/page")
def page() -> Response:
    """How long a page of the instructions was shown."""
    wish = asked(PageRequest)
    _act(lambda session, visit, now: actions.page_time(session, visit, wish, now))
    return _nothing()


@api.post("/instructions")
def instructions() -> Response:
    """All of them are read."""
    wish = asked(InstructionsRequest)

    def work(session: Session, visit: Visit, now: int) -> tuple[Visit, Step]:
        actions.finish_instructions(visit, wish, now)
        return visit, _step(session, visit)

    return _step_reply(*_act(work))


@api.post("/practice")
def practice() -> Response:
    """One practice answer."""
    wish = asked(PracticeRequest)
    here = pages()
    blocks = here.study.file.exclusion.max_practice_blocks

    def work(session: Session, visit: Visit, now: int) -> tuple[Visit, PracticeReply]:
        reply = practise(session, visit, here.plan.practice, wish, sprites_at=here.sprites_at, max_blocks=blocks, now=now)
        return visit, reply

    visit, reply = _act(work)
    return as_json(reply.model_copy(update={"completion": _completion(visit, reply.step)}))


@api.post("/answers")
def answers() -> Response:
    """One answer."""
    wish = asked(AnswerRequest)
    here = pages()
    now = request_clock(here.store).now()
    visit_id, generation = asked_token()

    def work(connection: Connection) -> AnswerReply:
        visit = require_open(visit_at_trial(connection, visit_id, wish.position), generation)
        return actions.answer(connection, visit, here.trials(connection, visit.task_id), wish, now)

    return as_json(transact_rows(here.store, work))


@api.post("/events")
def events() -> Response:
    """Something worth knowing happened in the browser."""
    wish = asked(EventRequest)
    _act(lambda session, visit, now: actions.event(session, visit, wish, now))
    return _nothing()


@api.post("/submit")
def submit() -> Response:
    """Hand in; the reply says where to go."""
    wish = asked(SubmitRequest)
    here = pages()

    def work(session: Session, visit: Visit, now: int) -> Visit:
        actions.submit(session, visit, here.trials(session, visit.task_id), wish, now)
        return visit

    return as_json(SubmitReply(step="done", completion=_completion(_act(work), "done")))


def _act(action: Callable[[Session, Visit, int], T]) -> T:
    """Run an action on the asking visit in one transaction, which is on disk when this returns."""
    store = pages().store
    now = request_clock(store).now()
    token = asked_token()
    return transact(store, lambda session: action(session, open_visit(session, token, lock=True), now))


def _step(session: Session, visit: Visit) -> Step:
    step = step_of(visit, len(answers_of(session, visit.id)), pages().trials(session, visit.task_id))
    return "incompatible" if step == "declined" and actions.left_for_device(session, visit) else step


def _step_reply(visit: Visit, step: Step) -> Response:
    return as_json(StepReply(step=step, completion=_completion(visit, step)))


def _completion(visit: Visit, step: Step) -> CompletionView | None:
    """Where the participant goes, with the code that tells the platform how it ended.

    None before that, in a preview, after ``forget``, and where the platform needn't be told.
    """
    if step not in ENDINGS:
        return None
    here = pages()
    if here.platform is None:
        return None
    with here.store.people() as people:
        submission = submission_of(people, visit.id)
    if submission is None:
        return None
    try:
        ending = ENDINGS[step]
        finish = here.platform.finish(submission, completion_code(here.key, visit.posting_id, ending), ending)
        return None if finish is None else CompletionView(url=finish.url, form=finish.form)
    except PlatformError as error:
        # The answers are stored all the same; the page asks again when it is reloaded.
        log.error("visit %s: no way back to the platform: %s", visit.id, str(error).replace(submission, "its submission"))
        return None


def _nothing() -> Response:
    return Response(status=204, headers={"Cache-Control": "no-store"})
