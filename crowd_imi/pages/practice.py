"""Practice: the same trials in another order until a block is all right, or the last allowed block is failed."""

from sqlalchemy.orm import Session

from crowd_imi.errors import Refused
from crowd_imi.lifecycle import VisitState, move
from crowd_imi.pages.layout import chosen_side, practice_order, practice_upper
from crowd_imi.pages.requests import PracticeRequest
from crowd_imi.pages.view import PracticeReply, PracticeView, practice_view, step_of
from crowd_imi.plan import PracticeTrial
from crowd_imi.store.tables import PracticeAnswer, Visit
from crowd_imi.store.visits import practice_answers_of

S = VisitState


def standing(session: Session, visit: Visit, trials: int) -> tuple[int, int]:
    """The block that a practising visit is in, counted from 1, and the position of its next trial."""
    given = practice_answers_of(session, visit.id)
    if not given:
        return 1, 0
    block = given[-1].block
    return (block, len(given)) if len(given) < trials else (block + 1, 0)


def practise(  # noqa: PLR0913 (a transaction, who, what, limits)
    session: Session,
    visit: Visit,
    trials: tuple[PracticeTrial, ...],
    request: PracticeRequest,
    *,
    sprites_at: str,
    max_blocks: int,
    now: int,
) -> PracticeReply:
    """Store one practice answer; the last one of a block decides how it goes on.

    Raises:
        Refused: ``already-answered`` with another value, or ``out-of-order``.
    """
    stored = session.get(PracticeAnswer, (visit.id, request.block, request.position))
    if stored is not None:
        if (stored.row, stored.confidence) != (request.row, request.confidence):
            raise Refused("This practice question is answered already.", 409, "already-answered")
        return _reply(visit, trials, request, stored.correct, sprites_at)
    if visit.state != S.PRACTISING or (request.block, request.position) != standing(session, visit, len(trials)):
        raise Refused("This isn't the practice question that comes next; please reload the page.", 409, "out-of-order")
    correct = _store(session, visit, trials, request, now)
    if request.position == len(trials) - 1:
        answers = practice_answers_of(session, visit.id, request.block)
        if all(answer.correct for answer in answers):
            move(visit, S.ANSWERING, now)
            visit.practised_at = now
        elif request.block >= max_blocks:
            move(visit, S.FAILED_PRACTICE, now)
    return _reply(visit, trials, request, correct, sprites_at)


def _store(session: Session, visit: Visit, trials: tuple[PracticeTrial, ...], request: PracticeRequest, now: int) -> bool:
    upper = practice_upper(visit.layout_seed, request.block, request.position)
    correct = chosen_side(upper, request.row) == "max"
    session.add(
        PracticeAnswer(
            visit_id=visit.id,
            block=request.block,
            position=request.position,
            trial=practice_order(visit.layout_seed, request.block, len(trials))[request.position],
            row=request.row,
            confidence=request.confidence,
            correct=correct,
            rt_ms=request.rt_ms,
            at=now,
        )
    )
    session.flush()
    return correct


def _reply(
    visit: Visit, trials: tuple[PracticeTrial, ...], request: PracticeRequest, correct: bool, sprites_at: str
) -> PracticeReply:
    following: PracticeView | None = None
    if request.position == len(trials) - 1 and visit.state == S.PRACTISING:
        following = practice_view(visit, trials, sprites_at, request.block + 1, 0)
    return PracticeReply(correct=correct, step=step_of(visit, 0, 1), practice=following)
