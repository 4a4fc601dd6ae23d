"""Events that name what isn't this study's: a webhook tells of a whole workspace, and a queue may be shared by mistake.

They are passed over without asking the platform, and counted, so that a person sees that they come.
"""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.keys import keyed_hash
from crowd_imi.store import Store
from crowd_imi.store.notices import KEPT_MS, submission_mark
from crowd_imi.store.tables import Notice
from crowd_imi.store.transactions import transact

UNTOLD = "untold"
"""What stands for the submission of whom no platform lists and who isn't here: it can't be told whose it is."""


def note_untold(store: Store, key: bytes, event: str) -> None:
    """Write down an event of somebody who has a place on a platform that lists only who handed in, and isn't here.

    Args:
        store: in a transaction of its own, on disk when this returns.
        key: the study's.
        event: the platform's id of the event: a repeat has the same.
    """
    mark = keyed_hash(key, "event", event)

    def work(session: Session) -> None:
        if session.get(Notice, mark) is None:
            session.add(Notice(id=mark, submission=UNTOLD, told_at=store.now()))
            session.flush()

    transact(store, work)


def noticed(session: Session, now: int) -> tuple[str, ...]:
    """What stands for the submission of each event of the last days, in no order."""
    return tuple(session.scalars(select(Notice.submission).where(Notice.told_at >= now - KEPT_MS)))


def count_elsewhere(marks: Collection[str], key: bytes, ours: Collection[str]) -> int:
    """How many events named what isn't ours.

    Args:
        marks: as ``noticed`` gave them, read before ``ours``, so that whoever has just come isn't counted.
        key: the study's.
        ours: the platform's id of every submission that it lists in our postings, or that has a visit here.
    """
    known = {UNTOLD, *(submission_mark(key, submission) for submission in ours)}
    return sum(mark not in known for mark in marks)
