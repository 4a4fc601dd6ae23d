"""Queries on postings."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.store.tables import About, Posting

PLATFORM = "platform"

MAIN, PILOT = "main", "pilot"
"""What a posting, its tasks and its visits are for."""


def postings(session: Session, label: str | None = None) -> Sequence[Posting]:
    """Every posting that was made or meant, the oldest first, or those of one label; a preview's isn't one."""
    chosen = select(Posting).where(Posting.platform != "preview").order_by(Posting.created_at, Posting.id)
    return session.scalars(chosen if label is None else chosen.where(Posting.label == label)).all()


def keep_platform(session: Session, choice: str) -> None:
    """Note which platform the study is on, as JSON of ``platforms.opening``."""
    session.merge(About(name=PLATFORM, value=choice))


def chosen_platform(session: Session) -> str | None:
    """What ``keep_platform`` noted; None when the study isn't published, or was by a version that knew one platform."""
    row = session.get(About, PLATFORM)
    return None if row is None else row.value
