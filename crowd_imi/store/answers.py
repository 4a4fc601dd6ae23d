"""What analyses read: one query each, as pandas tables. Only label ``main``; pilots and previews are never analysed."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from sqlalchemy import Executable, and_, func, select
from sqlalchemy.orm import Session

from crowd_imi.store.tables import Answer, Intent, Task, Trial, Verdict, Visit

LABEL = "main"


def main_answers(session: Session) -> pd.DataFrame:
    """Answers to main trials (catch trials left out) in submissions that were judged, valid or not.

    Returns:
        One row per answer: ``arm``, ``unit`` (``Unit.key``), ``batch``, ``visit``, ``correct``, ``confidence`` (1 to 3),
        ``rt_ms``, ``valid`` and ``surplus`` (of the submission's verdict).
    """
    statement = (
        select(
            Task.arm,
            Trial.unit,
            Trial.batch,
            Answer.visit_id.label("visit"),
            Answer.correct,
            Answer.confidence,
            Answer.rt_ms,
            Verdict.valid,
            Verdict.surplus,
        )
        .select_from(Answer)
        .join(Visit, Visit.id == Answer.visit_id)
        .join(Verdict, Verdict.visit_id == Visit.id)
        .join(Task, Task.id == Visit.task_id)
        .join(Trial, and_(Trial.task_id == Visit.task_id, Trial.position == Answer.position))
        .where(Visit.label == LABEL, Trial.kind == "main")
    )
    types = {"correct": bool, "confidence": int, "rt_ms": float, "valid": bool, "surplus": bool}
    return _table(session, statement, types)


def planned_units(session: Session) -> pd.DataFrame:
    """Every unit that has a main trial in some task, answered or not: ``arm``, ``unit``, ``responses`` (planned)."""
    statement = (
        select(Task.arm, Trial.unit, func.count().label("responses"))
        .join(Task, Task.id == Trial.task_id)
        .where(Trial.kind == "main")
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
