"""Our own tables for others: units, responses, visits and verdicts, joined by participant, arm and unit."""

from collections.abc import Mapping

import pandas as pd

from crowd_imi.records import Unit
from crowd_imi.scoring.imi_table import PanelFiles, PanelKey
from crowd_imi.scoring.tables import UNIT_COLUMNS

MEANINGS: Mapping[str, str] = {
    "units": "One row per arm and unit, with its score.",
    "responses": "One row per answer to a main or catch trial in a judged submission, valid or not.",
    "visits": "One row per participant who consented, finished or not.",
    "verdicts": "One row per judged participant and exclusion criterion.",
}

_PARTICIPANT = "The participant, by an id made for exports of this study."

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "units": UNIT_COLUMNS,
    "responses": {
        "participant": _PARTICIPANT,
        "arm": "The arm: model, condition and difficulty.",
        "task": "The task's number within its arm, from 1.",
        "position": "Position in the task from 0, main and catch trials alike.",
        "kind": "main or catch.",
        "unit": "Key of the unit: model/layer/channel, with ~null behind it for a null unit.",
        "model": "The network.",
        "layer": "Module name of the layer.",
        "channel": "Channel of the layer, from 0.",
        "null": "true for a null unit.",
        "batch": "Which of the unit's panels, from 0; empty for a catch trial.",
        "revision": "Of the unit's panels: 1, and one more each time that they were made anew after publishing (`void`).",
        "voided": "true when the panel, or the task, was found bad: such answers are left out of every score.",
        "row": "upper or lower: which query was chosen, by where it stood.",
        "choice": "min or max: which query was chosen, by what it is; max is right.",
        "correct": "Whether the answer is right.",
        "confidence": "1 (low) to 3 (high).",
        "rt_ms": "From the painted frame to the click, by the browser.",
        "shown_ms": "The part of it during which the page could be seen, by the browser.",
        "saving_ms": "How long the answer before took to be stored, by the browser; empty for the first one and after a reload.",
        "elapsed_ms": "From arrival to the answer being stored, by the server's clock.",
        "valid": "Whether the submission counts.",
        "surplus": "true when it passed every criterion but its task already had its valid response.",
        "min_query": "Path below pack/ of the query that drives the unit less; empty for catch trials, and without the pack.",
        "max_query": "The same of the query that drives it more.",
    },
    "visits": {
        "participant": _PARTICIPANT,
        "arm": "The arm.",
        "task": "The task's number within its arm, from 1.",
        "state": "Where the visit stands.",
        "consent_s": "Seconds from arrival to consent, by the server's clock.",
        "instructions_s": "From consent to the end of the instructions.",
        "practice_s": "From there to practice passed.",
        "trials_s": "From there to submission.",
        "total_s": "From consent to submission.",
        "practice_blocks": "Practice blocks begun.",
        "valid": "Whether it counts; empty before the verdict.",
        "surplus": "true when it passed but its task already had its valid response; empty before the verdict.",
    },
    "verdicts": {
        "participant": _PARTICIPANT,
        "criterion": "The exclusion criterion.",
        "passed": "Empty where there was nothing to measure.",
        "measured": "In the criterion's own unit: a ratio, seconds or a count.",
        "limit": "What was asked for.",
        "clock": "server or browser: whose clock measured it, for times.",
    },
}


def tables(
    answers: pd.DataFrame,
    visits: pd.DataFrame,
    checks: pd.DataFrame,
    panels: Mapping[PanelKey, PanelFiles],
    units: pd.DataFrame,
) -> dict[str, pd.DataFrame]:
    """The four tables by name, each with exactly its ``COLUMNS``.

    Args:
        answers: as ``store.exports.exported_answers`` reads them, ``participant`` replaced by the export's id.
        visits: as ``store.exports.exported_visits`` reads them, the same.
        checks: one row per participant and criterion.
        panels: images of the panels, as far as the pack is at hand.
        units: from ``Scores``.
    """
    found = {"units": units, "responses": _responses(answers, panels), "visits": _visits(visits), "verdicts": checks}
    return {name: table[list(COLUMNS[name])].reset_index(drop=True) for name, table in found.items()}


def _responses(answers: pd.DataFrame, panels: Mapping[PanelKey, PanelFiles]) -> pd.DataFrame:
    units = {key: Unit.from_key(key) for key in answers["unit"].unique()}
    main = answers["kind"] == "main"
    keys = zip(answers["arm"], answers["unit"], answers["batch"], strict=True)
    known = main & ~answers["voided"]  # the pack shows the panels that took the voided ones' place
    shown = [panels.get(key) if is_known else None for key, is_known in zip(keys, known, strict=True)]
    return answers.assign(
        model=answers["unit"].map({key: unit.model for key, unit in units.items()}),
        layer=answers["unit"].map({key: unit.layer for key, unit in units.items()}),
        channel=answers["unit"].map({key: unit.channel for key, unit in units.items()}),
        null=answers["null_unit"],
        batch=answers["batch"].astype("Int64").where(main),
        min_query=pd.Series([None if one is None else one.min_query for one in shown], answers.index, "string"),
        max_query=pd.Series([None if one is None else one.max_query for one in shown], answers.index, "string"),
    )


def _visits(visits: pd.DataFrame) -> pd.DataFrame:
    def seconds(begin: str, end: str) -> "pd.Series[float]":
        return (visits[end] - visits[begin]) / 1000

    return visits.assign(
        consent_s=seconds("arrived_at", "consented_at"),
        instructions_s=seconds("consented_at", "instructed_at"),
        practice_s=seconds("instructed_at", "practised_at"),
        trials_s=seconds("practised_at", "submitted_at"),
        total_s=seconds("consented_at", "submitted_at"),
    )
