"""What analyses read: one query each, as pandas tables. Only label ``main``; pilots and previews are never analysed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Executable, Select, func, select
from sqlalchemy.orm import Session

from crowd_imi.store.postings import PILOT
from crowd_imi.store.tables import Answer, Intent, Task, Trial, Verdict, Visit

LABEL = "main"


def main_answers(session: Session) -> pd.DataFrame:
    """Answers to main trials (catch trials and voided panels left out) in submissions that were judged, valid or not.

    Three narrow reads that meet in numpy: joined in the database, every answer carries its visit's and its unit's texts, and
    fetching those took half of the time that scoring took.

    Returns:
        One row per answer: ``arm``, ``unit`` (``Unit.key``) and ``visit`` (all three categories), ``batch``, ``correct``,
        ``confidence`` (1 to 3), ``rt_ms``, ``valid`` and ``surplus`` (of the submission's verdict).
    """
    visit, answer, trial = Visit.__table__.c, Answer.__table__.c, Trial.__table__.c
    judged = _columns(
        session,
        select(visit.id, visit.task_id, Task.arm, Verdict.valid, Verdict.surplus)
        .join(Verdict, Verdict.visit_id == visit.id)
        .join(Task, Task.id == visit.task_id)
        .where(visit.label == LABEL),
        (object, np.int64, object, np.bool_, np.bool_),
    )
    shown = _columns(
        session,
        select(trial.task_id, trial.position, trial.unit, trial.batch).where(trial.kind == "main", ~trial.voided),
        (np.int64, np.int64, object, np.int64),
    )
    given = _columns(
        session,
        select(answer.visit_id, answer.position, answer.correct, answer.confidence, answer.rt_ms),
        (object, np.int64, np.bool_, np.int64, np.float64),
    )
    of_visit = pd.Index(judged[0], dtype=object).get_indexer(pd.Index(given[0], dtype=object))
    of_trial = _places(shown[:2], judged[1][of_visit] if len(judged[1]) else of_visit, given[1])
    rows = np.flatnonzero((of_visit >= 0) & (of_trial >= 0))
    of_visit, of_trial = of_visit[rows], of_trial[rows]
    return pd.DataFrame(
        {
            "arm": _categories(judged[2], of_visit),
            "unit": _categories(shown[2], of_trial),
            "batch": shown[3][of_trial],
            "visit": _categories(judged[0], of_visit),
            "correct": given[2][rows],
            "confidence": given[3][rows],
            "rt_ms": given[4][rows],
            "valid": judged[3][of_visit],
            "surplus": judged[4][of_visit],
        }
    )


def _columns(session: Session, statement: Select[Any], types: Sequence[type]) -> list[NDArray[Any]]:
    """The statement's columns, each an array of its type; by the driver's own rows, as SQLAlchemy's take twice the time."""
    rows = session.connection().execute(statement).cursor.fetchall()
    return [np.fromiter((row[place] for row in rows), kind, len(rows)) for place, kind in enumerate(types)]


def _places(keys: Sequence[NDArray[np.int64]], tasks: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each (task, position) stands among the keys; −1 where it doesn't."""
    width = 1 + max(keys[1].max(initial=0), positions.max(initial=0))
    places: NDArray[np.intp] = pd.Index(keys[0] * width + keys[1]).get_indexer(pd.Index(tasks * width + positions))
    return places


def _categories(names: NDArray[Any], places: NDArray[np.intp]) -> pd.Categorical:
    """The names at these places, in the order of the alphabet; names that nothing stands for are left out."""
    codes, values = pd.factorize(names, sort=True)
    return pd.Categorical.from_codes(codes[places], pd.Index(values, dtype=str)).remove_unused_categories()


def planned_units(session: Session) -> pd.DataFrame:
    """Every unit that has a main trial in some task, answered or not: ``arm``, ``unit``, ``responses`` (planned)."""
    statement = (
        select(Task.arm, Trial.unit, func.count().label("responses"))
        .join(Task, Task.id == Trial.task_id)
        .where(Trial.kind == "main", Task.label == LABEL, Task.retired_at.is_(None))
        .group_by(Task.arm, Trial.unit)
    )
    return _table(session, statement, {"responses": int})


def visits(session: Session) -> pd.DataFrame:
    """Every visit and, where it was judged, its verdict.

    Returns:
        One row per visit: ``visit``, ``arm``, ``state``, ``payment``, times in milliseconds since 1970 (NaN where it never
        came to that), ``valid`` and ``surplus`` (missing before the verdict) and ``checks`` (criterion → check, or None).
    """
    times = ("arrived_at", "consented_at", "instructed_at", "practised_at", "submitted_at", "left_at")
    statement = (
        select(
            Visit.id.label("visit"),
            Task.arm,
            Visit.state,
            Visit.payment,
            *(getattr(Visit, time) for time in times),
            Verdict.valid,
            Verdict.surplus,
            Verdict.checks,
        )
        .join(Task, Task.id == Visit.task_id)
        .outerjoin(Verdict, Verdict.visit_id == Visit.id)
        .where(Visit.label == LABEL)
        .order_by(Visit.arrived_at, Visit.id)
    )
    return _table(session, statement, {**dict.fromkeys(times, float), "valid": "boolean", "surplus": "boolean"})


def pilot_submissions(session: Session) -> int:
    """How many submissions the pilot had, judged or not: never analysed, so that a report says how many it leaves out."""
    statement = select(func.count()).where(Visit.label == PILOT, Visit.submitted_at.is_not(None))
    return session.scalars(statement).one()


def intents(session: Session) -> pd.DataFrame:
    """The ledger in sums: ``operation``, ``state``, ``currency``, ``count`` and ``amount`` (minor units)."""
    statement = (
        select(
            Intent.operation,
            Intent.state,
            Intent.currency,
            func.count().label("count"),
            func.sum(Intent.amount).label("amount"),
        )
        .group_by(Intent.operation, Intent.state, Intent.currency)
        .order_by(Intent.operation, Intent.state)
    )
    return _table(session, statement, {"count": int, "amount": int})


def _table(session: Session, statement: Executable, types: Mapping[str, Any]) -> pd.DataFrame:
    """The statement's rows; the types are set so that an empty table has them too."""
    result = session.execute(statement)
    columns = list(result.keys())
    return pd.DataFrame.from_records(list(map(tuple, result)), columns=columns).astype(dict(types))
