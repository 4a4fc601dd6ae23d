"""Queries on notices: what platforms told by themselves."""

from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from crowd_imi.keys import keyed_hash
from crowd_imi.store.engine import Store
from crowd_imi.store.tables import Notice
from crowd_imi.store.transactions import transact

KEPT_MS = 3 * 24 * 3_600_000
"""Taken notices are kept so long, to tell repeats: platforms try for a day."""


@dataclass(frozen=True, slots=True)
class Notices:
    """Notices that no round has looked at yet."""

    ids: frozenset[str]
    submissions: frozenset[str]


def submission_mark(key: bytes, submission: str) -> str:
    """What stands for a platform's submission in a notice, as its ids stay in people.db; ``key`` is the study's."""
    return keyed_hash(key, "notice", submission)


def note(store: Store, key: bytes, event: str, submission: str) -> bool:
    """Write down that something happened to a submission.

    Args:
        store: in a transaction of its own, on disk when this returns.
        key: the study's.
        event: the platform's id of the event: a repeat has the same.
        submission: the platform's id.

    Returns:
        Whether it is news: False for a repeat.
    """
    mark = keyed_hash(key, "event", event)

    def work(session: Session) -> bool:
        if session.get(Notice, mark) is not None:
            return False
        session.add(Notice(id=mark, submission=submission_mark(key, submission), told_at=store.now()))
        session.flush()
        return True

    return transact(store, work)


def untaken(session: Session) -> Notices:
    """What no round has looked at yet."""
    rows = session.execute(select(Notice.id, Notice.submission).where(Notice.taken_at.is_(None))).all()
    return Notices(frozenset(row.id for row in rows), frozenset(row.submission for row in rows))


def take_untaken(session: Session, notices: Notices, now: int) -> None:
    """A round has looked at these; what is old is deleted."""
    session.execute(update(Notice).where(Notice.id.in_(sorted(notices.ids))).values(taken_at=now))
    session.execute(delete(Notice).where(Notice.taken_at < now - KEPT_MS))
