"""Who gets which task: an arrival is decided in one transaction, and unique keys guard what it decides.

An arm is drawn among those that have open tasks, each with the same chance; of its open tasks one that the fewest had
before goes out, by ``draw``: so whoever leaves a task halfway to come again as somebody else meets another one, as long as
there is another. A task is open while nobody holds it and fewer than ``most_attempts`` visits of it have ended. Who
comes through the pilot's posting gets one of the pilot's tasks, everybody else one of the study's.
"""

import secrets
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from crowd_imi.errors import Refused
from crowd_imi.keys import keyed_hash, lab_key, participant_hash
from crowd_imi.lifecycle import PAYABLE, UNDER_WAY, Payment, VisitState, move
from crowd_imi.seeds import generator
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.money import current_cap, current_price, spending_beside
from crowd_imi.store.people import Ids, forget_visit, remember
from crowd_imi.store.postings import PILOT
from crowd_imi.store.submissions import NEVER_SHOWN, count_payable
from crowd_imi.store.tables import Event, Posting, Task, Visit
from crowd_imi.store.transactions import transact
from crowd_imi.store.visits import AtTrial, find_visit, finished_at, has_answered_all, visit_of_participant
from crowd_imi.study import Study

S = VisitState

ATTEMPTS = (S.VALID.value, S.EXCLUDED.value, S.FAILED_PRACTICE.value)
"""A visit that ended in one of these was a try at its task; one that was left or declined wasn't."""

PREVIEW_POSTING = "preview"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody at the door, already checked with the platform."""

    platform: str
    platform_participant: str
    platform_submission: str
    posting_id: str
    """``Posting.id``."""
    now: int
    """Milliseconds since 1970 by the store's clock."""


def most_attempts(study: Study, label: str) -> int:
    """How many submissions a task may have. A pilot is about so many people, whether they count or not: it replaces nobody."""
    return 1 if label == PILOT else study.file.tasks.max_attempts


def arrive(store: Store, study: Study, arrival: Arrival) -> Visit:
    """Let somebody in: a new visit with a task, or the one that is under way, with a new generation.

    The ids are written to people.db first, under the id that the visit will have, and taken back when no visit comes of
    it; so a submission always finds its own visit again, and no visit is ever without its ids.

    Raises:
        Refused: with code ``already-took-part``, ``ended`` or ``study-full``.
    """
    participant = participant_hash(hash_key(store, study), arrival.platform, arrival.platform_participant)
    ids = Ids(participant, arrival.platform, arrival.platform_participant, arrival.platform_submission)
    visit_id = _remember(store, study, ids)

    def decide(session: Session) -> Visit:
        release_expired(session, study.file.pages.visit_minutes, arrival.now)
        visit = visit_of_participant(session, participant)
        if visit is not None:
            return _resume(session, visit, visit_id, arrival.now)
        _require_money(session, study, arrival.posting_id)
        # In a rehearsal by the number of the arrival, which is the same on every platform.
        chances = _chances(store, study, "arrival", session.scalar(select(func.count()).select_from(Visit)) or 0)
        label = session.get_one(Posting, arrival.posting_id).label
        task = _choose_task(session, most_attempts(study, label), label, chances)
        visit = _new_visit(visit_id, task.id, chances, arrival.now)
        visit.participant, visit.posting_id, visit.label = participant, arrival.posting_id, label
        session.add(visit)
        return visit

    try:
        visit = transact(store, decide)
    except Refused:
        _forget_unused(store, study, ids, visit_id)
        raise
    if visit.generation == 1:
        # Somebody who was refused at the same moment with the same submission may have taken the ids back.
        _remember(store, study, ids, visit_id)
    return visit


def arrive_for_preview(store: Store, study: Study, now: int) -> Visit:
    """A visit that never counts: any task, held by nobody, so that the supply doesn't end."""
    chances = _fresh_chances()

    def work(session: Session) -> Visit:
        if session.get(Posting, PREVIEW_POSTING) is None:
            session.add(Posting(id=PREVIEW_POSTING, platform="preview", platform_id=None, places=0, state="open", created_at=now))
            session.flush()
        arm = str(chances.choice(sorted(session.scalars(select(Task.arm).distinct()))))
        task = int(chances.choice(session.scalars(select(Task.id).where(Task.arm == arm)).all()))
        visit_id = chances.bytes(8).hex()
        participant = keyed_hash(b"preview", visit_id)
        visit = _new_visit(visit_id, task, chances, now)
        visit.participant, visit.posting_id = participant, PREVIEW_POSTING
        visit.label, visit.holds_task = "preview", False
        session.add(visit)
        return visit

    return transact(store, work)


def release_expired(session: Session, visit_minutes: int, now: int) -> tuple[str, ...]:
    """End the visits that are under way for longer than ``visit_minutes``, so that their tasks are open again.

    Whoever answered every question has submitted, in time or late, also without pressing the last button.

    Returns:
        The ids of those that are timed out now.
    """
    too_long = and_(Visit.state.in_(sorted(UNDER_WAY)), Visit.arrived_at < now - visit_minutes * 60_000)
    finished_late = and_(Visit.state == S.TIMED_OUT.value, has_answered_all())
    query = select(Visit).where(or_(too_long, finished_late)).order_by(Visit.id).with_for_update(skip_locked=True)
    return tuple(visit.id for visit in session.scalars(query).all() if time_out(session, visit, now))


def time_out(session: Session, visit: Visit, now: int) -> bool:
    """End a visit whose time is over: it is submitted with its last answer if nothing is missing, else timed out.

    Args:
        session: in a transaction that writes.
        visit: under way, or timed out before and finished since.
        now: milliseconds since 1970.

    Returns:
        Whether it is timed out.
    """
    finished = finished_at(session, visit.id)
    if finished is None:
        move(visit, S.TIMED_OUT, now)
        return True
    hand_in(session, visit, finished)
    return False


def hand_in(session: Session, visit: Visit, at: int) -> None:
    """Submit a visit that answered everything; a late one gets its task back unless somebody else has it.

    Args:
        session: in a transaction that writes.
        visit: at its trials, or left since.
        at: when it was submitted, milliseconds since 1970.

    Raises:
        Refused: its state doesn't allow it.
    """
    late = visit.state in {S.TIMED_OUT, S.RETURNED}
    move(visit, S.SUBMITTED, at)
    visit.submitted_at = at
    if late:
        retake_task(session, visit)


def hash_key(store: Store, study: Study) -> bytes:
    """The key of participants' hashes: the lab's, so that studies of one lab know each other's participants.

    A rehearsal has its own: it comes out the same on every machine, and its people are nobody's.
    """
    if store.kind is StoreKind.STUDY:
        return lab_key()
    return f"{store.kind}:{study.file.study.seed}".encode()


def retake_task(session: Session, visit: Visit) -> None:
    """Give a late submission its task back, unless somebody else holds it by now."""
    others = select(Visit.id).where(Visit.task_id == visit.task_id, Visit.holds_task, Visit.id != visit.id)
    visit.holds_task = visit.posting_id != PREVIEW_POSTING and session.scalars(others).first() is None


def _resume(session: Session, visit: Visit, visit_id: str, now: int) -> Visit:
    if visit.id != visit_id:
        raise Refused(
            "You have already taken part in this study, or you are taking part in another window. "
            "Each person can take part once. Please give this place back; your earlier part isn't affected.",
            403,
            "already-took-part",
        )
    if has_ended(visit):
        raise Refused(
            "Your time for this study is over, and your place went to somebody else. Please give your place back.",
            410,
            "ended",
        )
    visit.generation += 1
    session.add(Event(visit_id=visit.id, kind="arrived_again", detail={"generation": visit.generation}, at=now))
    return visit


def has_ended(visit: Visit | AtTrial) -> bool:
    """Whether a visit was left before its first trial: whoever was at the trials may still finish."""
    return visit.state in {S.TIMED_OUT, S.RETURNED} and visit.practised_at is None


def _require_money(session: Session, study: Study, posting_id: str) -> None:
    """Let nobody begin who couldn't be paid; late ones don't stand in the way, as they are paid from what is left.

    Harvests offer no more places than the cap allows. The cap may be lowered since, or places added by hand.
    """
    # On PostgreSQL, where transactions run side by side, arrivals count one after the other.
    session.get(Posting, posting_id, with_for_update={"key_share": True})
    pay = study.file.pay
    if not affords_one_more(session, current_cap(session, pay.cap), current_price(session, pay.reward)):
        raise Refused(
            "All the money of this study is promised to others. Please give your place back; you lose nothing by it.",
            409,
            "study-full",
        )


def affords_one_more(session: Session, cap: int, price: int) -> bool:
    """Whether one more could be paid beside everybody who is in time; late ones are paid from what is left.

    Args:
        session: any.
        cap: minor units.
        price: what one reward costs, fees included.
    """
    payable = count_payable(session, PAYABLE, in_time_only=True)
    return (payable + 1) * price <= cap - spending_beside(session, PAYABLE, price, in_time_only=True)


def _choose_task(session: Session, max_attempts: int, label: str, chances: np.random.Generator) -> Task:
    is_open = _is_open(max_attempts, label)
    arms = sorted(session.scalars(select(Task.arm).where(is_open).distinct()))
    for index in chances.permutation(len(arms)):
        seen_by = select(func.count()).where(Visit.task_id == Task.id).scalar_subquery()
        query = select(Task).where(Task.arm == arms[index], is_open).order_by(seen_by, Task.draw).limit(1)
        # PostgreSQL skips tasks that another arrival is about to take; what slips through meets the unique key.
        task = session.scalars(query.with_for_update(skip_locked=True)).one_or_none()
        if task is not None:
            return task
    raise Refused(
        "Every task of this study is taken at the moment. Please give your place back; you lose nothing by it.",
        409,
        "study-full",
    )


def _is_open(max_attempts: int, label: str) -> ColumnElement[bool]:
    held = exists().where(Visit.task_id == Task.id, Visit.holds_task)
    shown = Visit.platform_state.is_distinct_from(NEVER_SHOWN)
    attempts = select(func.count()).where(Visit.task_id == Task.id, Visit.state.in_(ATTEMPTS), shown).scalar_subquery()
    return and_(Task.label == label, Task.retired_at.is_(None), ~held, attempts < max_attempts)


def _new_visit(visit_id: str, task_id: int, chances: np.random.Generator, now: int) -> Visit:
    return Visit(
        id=visit_id,
        task_id=task_id,
        holds_task=True,
        state=S.ARRIVED.value,
        payment=Payment.UNPAID.value,
        generation=1,
        layout_seed=int(chances.integers(2**62)),
        label="main",
        arrived_at=now,
    )


def _remember(store: Store, study: Study, ids: Ids, visit_id: str | None = None) -> str:
    def suggest(earlier: int) -> str:
        return visit_id or _chances(store, study, "visit", ids.participant, earlier).bytes(8).hex()

    try:
        with store.people() as people:
            return remember(people, ids, suggest)
    except IntegrityError:
        # The same participant arrived twice at once, and the other arrival has written its ids.
        with store.people() as people:
            return remember(people, ids, suggest)


def _forget_unused(store: Store, study: Study, ids: Ids, visit_id: str) -> None:
    if _is_used(store, visit_id):
        return
    with store.people() as people:
        forget_visit(people, visit_id)
    # The same submission may have been let in meanwhile: either it writes its ids after this, or they are put back here.
    if _is_used(store, visit_id):
        _remember(store, study, ids, visit_id)


def _is_used(store: Store, visit_id: str) -> bool:
    with store.read() as session:
        return find_visit(session, visit_id) is not None


def _chances(store: Store, study: Study, *purpose: str | int) -> np.random.Generator:
    if store.kind is StoreKind.REHEARSAL:
        return generator(study.file.study.seed, *purpose)
    return _fresh_chances()


def _fresh_chances() -> np.random.Generator:
    return np.random.default_rng(secrets.randbits(128))
