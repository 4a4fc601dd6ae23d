"""What an export reads: every answer of judged submissions, and every visit; label ``main`` only, as in ``store.answers``."""

import pandas as pd
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from crowd_imi.store.answers import LABEL
from crowd_imi.store.tables import Answer, PracticeAnswer, Task, Trial, Verdict, Visit


def exported_answers(session: Session) -> pd.DataFrame:
    """Answers to main and catch trials in submissions that were judged, valid or not.

    Returns:
        One row per answer, by arm, task, time of submission and position; columns named as in the tables, and ``participant``
        is still the lab's hash: what is written holds another one.
    """
    statement = (
        select(
            Visit.participant,
            Task.arm,
            Task.number.label("task"),
            Trial.kind,
            Trial.unit,
            Trial.null_unit,
            Trial.batch,
            Trial.revision,
            Trial.voided,
            Answer.position,
            Answer.row,
            Answer.choice,
            Answer.correct,
            Answer.confidence,
            Answer.rt_ms,
            Answer.shown_ms,
            Answer.saving_ms,
            (Answer.at - Visit.arrived_at).label("elapsed_ms"),
            Verdict.valid,
            Verdict.surplus,
        )
        .select_from(Answer)
        .join(Visit, Visit.id == Answer.visit_id)
        .join(Verdict, Verdict.visit_id == Visit.id)
        .join(Task, Task.id == Visit.task_id)
        .join(Trial, and_(Trial.task_id == Visit.task_id, Trial.position == Answer.position))
        .where(Visit.label == LABEL)
        .order_by(Task.arm, Task.number, Visit.submitted_at, Visit.participant, Answer.position)
    )
    result = session.execute(statement)
    table = pd.DataFrame.from_records(list(map(tuple, result)), columns=list(result.keys()))
    flags = dict.fromkeys(("null_unit", "voided", "correct", "valid", "surplus"), bool)
    whole = dict.fromkeys(("task", "batch", "revision", "position", "confidence", "elapsed_ms"), int)
    return table.astype({**flags, **whole, **dict.fromkeys(("rt_ms", "shown_ms", "saving_ms"), float)})


def exported_visits(session: Session) -> pd.DataFrame:
    """Every visit of somebody who consented, with its verdict where there is one.

    Returns:
        One row per visit: ``participant`` (the lab's hash), ``arm``, ``task``, ``state``, ``arrived_at`` and the other times
        (milliseconds since 1970, NaN where it never came to that), ``practice_blocks``, ``valid``, ``surplus``, ``checks``.
    """
    times = ("arrived_at", "consented_at", "instructed_at", "practised_at", "submitted_at", "left_at")
    blocks = select(func.count(PracticeAnswer.block.distinct())).where(PracticeAnswer.visit_id == Visit.id).scalar_subquery()
    statement = (
        select(
            Visit.participant,
            Task.arm,
            Task.number.label("task"),
            Visit.state,
            *(getattr(Visit, time) for time in times),
            blocks.label("practice_blocks"),
            Verdict.valid,
            Verdict.surplus,
            Verdict.checks,
        )
        .join(Task, Task.id == Visit.task_id)
        .outerjoin(Verdict, Verdict.visit_id == Visit.id)
        .where(Visit.label == LABEL, Visit.consented_at.is_not(None))
        .order_by(Task.arm, Task.number, Visit.submitted_at, Visit.participant)
    )
    result = session.execute(statement)
    table = pd.DataFrame.from_records(list(map(tuple, result)), columns=list(result.keys()))
    return table.astype(
        {**dict.fromkeys(times, float), "practice_blocks": int, "task": int, "valid": "boolean", "surplus": "boolean"}
    )
