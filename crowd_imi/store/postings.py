"""Queries on postings."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.store.tables import About, Posting

PLATFORM = "platform"
STOPPED_THERE = "stopped there/"
"""What the name begins with under which it is noted that the platform called a posting stopped, which nobody here did."""

MAIN, PILOT = "main", "pilot"
"""What a posting, its tasks and its visits are for."""


def postings(session: Session, label: str | None = None) -> Sequence[Posting]:
    """Every posting that was made or meant, the oldest first, or those of one label; a preview's isn't one."""
    chosen = select(Posting).where(Posting.platform != "preview").order_by(Posting.created_at, Posting.id)
    return session.scalars(chosen if label is None else chosen.where(Posting.label == label)).all()


def note_state(session: Session, posting: str, state: str, *, by_the_platform: bool) -> None:
    """Note whether people are let in; what a person stopped here stays stopped, whatever the platform says.

    Args:
        session: in a transaction that writes.
        posting: our id.
        state: open, paused or stopped.
        by_the_platform: it says so, where nobody here asked for it: what it says later counts, also of a stopped one.
    """
    if by_the_platform and is_stopped_here(session, posting):
        return
    session.get_one(Posting, posting).state = state
    session.merge(About(name=f"{STOPPED_THERE}{posting}", value=str(int(by_the_platform and state == "stopped"))))


def is_stopped_here(session: Session, posting: str) -> bool:
    """Whether a person stopped a posting here, which is for good, whatever the platform calls it later."""
    there = session.get(About, f"{STOPPED_THERE}{posting}")
    return session.get_one(Posting, posting).state == "stopped" and (there is None or there.value != "1")


def keep_platform(session: Session, choice: str) -> None:
    """Note which platform the study is on, as JSON of ``platforms.opening``."""
    session.merge(About(name=PLATFORM, value=choice))


def chosen_platform(session: Session) -> str | None:
    """What ``keep_platform`` noted; None when the study isn't published, or was by a version that knew one platform."""
    row = session.get(About, PLATFORM)
    return None if row is None else row.value
