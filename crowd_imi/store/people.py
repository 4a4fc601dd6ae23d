"""People's ids: written before their visit, so that no visit is without them, and taken back when none comes of it."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from crowd_imi.errors import StoreError
from crowd_imi.store.engine import open_engine
from crowd_imi.store.tables import Person


@dataclass(frozen=True, slots=True)
class Ids:
    """Who somebody is on a platform."""

    participant: str
    """The keyed hash that stands for this person everywhere else."""
    platform: str
    platform_participant: str
    platform_submission: str


def remember(session: Session, ids: Ids, suggest: Callable[[int], str]) -> str:
    """Write the ids down; a submission that is known keeps the visit's id that it has.

    Args:
        session: on people.db.
        ids: who arrives.
        suggest: from how many submissions of this participant are known → the id of the visit.

    Returns:
        The submission's visit id.
    """
    known = session.scalars(select(Person).where(Person.platform_submission == ids.platform_submission)).one_or_none()
    if known is not None:
        return known.visit_id
    same = select(func.count()).where(Person.participant == ids.participant)
    visit_id = suggest(session.scalar(same) or 0)
    session.add(
        Person(
            visit_id=visit_id,
            participant=ids.participant,
            platform=ids.platform,
            platform_participant=ids.platform_participant,
            platform_submission=ids.platform_submission,
        )
    )
    return visit_id


def forget_visit(session: Session, visit_id: str) -> None:
    """Delete the ids of a visit that never began."""
    session.execute(delete(Person).where(Person.visit_id == visit_id))


def submission_of(session: Session, visit_id: str) -> str | None:
    """The platform's id of a visit's submission; None when there is none or it was forgotten."""
    person = session.get(Person, visit_id)
    return None if person is None else person.platform_submission


def is_known(session: Session, platform_submission: str) -> bool:
    """Whether a platform's submission has, or is about to have, a visit here."""
    return session.scalars(select(Person).where(Person.platform_submission == platform_submission)).one_or_none() is not None


def holds_ids(path: Path) -> bool:
    """Whether a people.db has anybody's ids.

    Raises:
        StoreError: the file is something else, or damaged.
    """
    engine = open_engine(f"sqlite:///{path}")
    try:
        with Session(engine) as session:
            return session.scalar(select(func.count()).select_from(Person)) != 0
    except (DatabaseError, sqlite3.DatabaseError) as error:
        reason = error.orig if isinstance(error, DatabaseError) else error
        raise StoreError(
            f"{path}: this can't be read as people's ids ({reason}); restore it from a backup, or move it away"
        ) from None
    finally:
        engine.dispose()
