"""Queries on postings."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from crowd_imi.store.tables import Posting


def postings(session: Session) -> Sequence[Posting]:
    """Every posting that was made or meant, the oldest first; a preview's isn't one."""
    return session.scalars(select(Posting).where(Posting.platform != "preview").order_by(Posting.created_at, Posting.id)).all()
