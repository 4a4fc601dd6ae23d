"""The published response tables (Zimmermann, Klein & Brendel 2023): their columns, and our answers written as their rows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from crowd_imi.records import Condition, Difficulty, Unit
from crowd_imi.study import NULL, StudyFile

CATCH_MODEL = "catch/manual"
CATCH_MODE = "catch_trial"
MODES: Mapping[Condition, str] = {"natural": "natural", "synthetic": "optimized"}
"""Our word for the references → theirs."""

CHECKS: Mapping[str, str] = {
    "practice_blocks": "demo_trials",
    "catch_trials": "catch_trials",
    "total_time": "total_response_time",
    "row_choices": "row_variability",
    "instruction_time": "instruction_time",
}
"""Our criterion → the published check."""

COLUMNS: Mapping[str, str] = {
    "rt": "Reaction time in ms by the browser. Ours runs from the painted frame to the click; the published one from the page's "
    "script drawing the trial, so that ours is some frames shorter.",
    "button_pressed": "0 to 2: the upper query with confidence 1 to 3; 3 to 5: the lower one.",
    "switched_queries": "True when query b (max) stood above.",
    "confidence": "1 (low) to 3 (high).",
    "choice": "Which query was chosen: a is the one that drives the unit less (min), b the one that drives it more (max).",
    "correct": "True when choice is b. Computed on the server; in the published data, in the browser.",
    "catch_trial": "True for a catch trial.",
    "is_demo": "Always False: practice answers aren't exported.",
    "trial_type": "jsPsych's name of the trial's plugin: always two-alternative; the published data name another plugin.",
    "trial_index": "Empty: jsPsych's running number of every page isn't recorded here; corrected_trial_index is.",
    "time_elapsed": "ms from arrival to the answer being stored, by the server's clock; in the published data, by the browser's.",
    "response_index": "Counts a task's submissions from 0, in the order in which they were submitted.",
    "participant_id": "An id made for exports of this study: neither a platform's nor one of the study's records.",
    "corrected_trial_index": "Position in the task from 0, main and catch trials alike. Positions of trials that were left out "
    "(see null units) are missing.",
    "task_id": "MODEL_MODE-NUMBER, e.g. resnet50_natural-61; MODEL_MODE_DIFFICULTY-NUMBER where queries aren't easy.",
    "task_number": "The task's number within its arm, from 1.",
    "batch": "Which of the unit's panels was shown, from 0; −1 for a catch trial.",
    "channel": "Channel of the layer, from 0. Of a catch trial: of the unit whose images it is made of.",
    "layer": "Module name of the layer. Published catch trials were made by hand and name their folder here; ours name a layer.",
    "mode": "natural, optimized (synthetic references) or catch_trial.",
    "model": "Name of the model in study.toml; catch/manual for catch trials, although ours are made by a program.",
    "min_query": "Path below pack/ of the query that drives the unit less; its name is the file's SHA-256. Empty for catch "
    "trials, whose crops aren't kept as files, and where the pack isn't at hand.",
    "max_query": "The same of the query that drives it more.",
    "min_references": "JSON list of the nine references that drive the unit least, the most extreme first. Empty as min_query.",
    "max_references": "The same of those that drive it most.",
    "passed_checks": "True when no check was failed.",
    **{
        f"{check}_result": f"True when the submission passed the criterion {name}; empty where nothing could be measured."
        for name, check in CHECKS.items()
    },
    **{f"{check}_details": f"What was measured, and the limit of {name} in words." for name, check in CHECKS.items()},
    "multi_participation": "Always False: a participant is let into a study once.",
}
"""The published columns in the published order, and what ours mean."""

TRIAL_TYPE = "two-alternative"


@dataclass(frozen=True, slots=True)
class PanelFiles:
    """Paths of one panel's images below the pack's folder."""

    min_query: str
    max_query: str
    min_references: tuple[str, ...]
    max_references: tuple[str, ...]


PanelKey = tuple[str, str, int]
"""(arm, ``Unit.key``, batch)."""


def task_stem(model: str, condition: Condition, difficulty: Difficulty) -> str:
    """What stands before a task's number: ``resnet50_natural``."""
    stem = f"{model}_{MODES[condition]}"
    return stem if difficulty == "easy" else f"{stem}_{difficulty}"


def imi_table(
    file: StudyFile,
    answers: pd.DataFrame,
    checks: pd.DataFrame,
    panels: Mapping[PanelKey, PanelFiles],
    *,
    with_null: bool = False,
) -> pd.DataFrame:
    """Answers as rows of the published format.

    Args:
        file: study.toml.
        answers: as ``store.exports.exported_answers`` reads them, ``participant`` replaced by the export's id.
        checks: one row per participant and criterion: ``participant``, ``criterion``, ``passed``, ``measured``, ``limit``.
        panels: images of the panels, as far as the pack is at hand.
        with_null: keep main trials of null units, as those of a model ``null/MODEL``. The published format has no place for
            them, and whoever scored the file would take them for units of the model.

    Returns:
        Exactly ``COLUMNS``; what wasn't measured is missing, never 0.
    """
    counting = answers[~answers["voided"]]  # the published format has no place for panels that were found bad
    kept = counting if with_null else counting[~counting["null_unit"] | (counting["kind"] == "catch")]
    catch = kept["kind"] == "catch"
    units = {key: Unit.from_key(key) for key in kept["unit"].unique()}
    arms = {arm.id: arm for arm in file.arms}
    stems = {key: task_stem(arm.model, arm.condition, arm.difficulty) for key, arm in arms.items()}
    names = {key: f"{NULL}/{unit.model}" if unit.null else unit.model for key, unit in units.items()}
    lower = kept["row"] == "lower"
    table = pd.DataFrame(
        {
            "rt": kept["rt_ms"],
            "button_pressed": kept["confidence"] - 1 + 3 * lower.astype(int),
            # The upper query is the chosen one, or else the other one.
            "switched_queries": (kept["choice"] == "max") != lower,
            "confidence": kept["confidence"],
            "choice": kept["choice"].map({"min": "a", "max": "b"}),
            "correct": kept["correct"],
            "catch_trial": catch,
            "is_demo": False,
            "trial_type": TRIAL_TYPE,
            "trial_index": None,
            "time_elapsed": kept["elapsed_ms"],
            "response_index": _response_index(kept),
            "participant_id": kept["participant"],
            "corrected_trial_index": kept["position"],
            "task_id": kept["arm"].map(stems) + "-" + kept["task"].astype(str),
            "task_number": kept["task"],
            "batch": kept["batch"].where(~catch, -1),
            "channel": kept["unit"].map({key: unit.channel for key, unit in units.items()}),
            "layer": kept["unit"].map({key: unit.layer for key, unit in units.items()}),
            "mode": kept["arm"].map({key: MODES[arm.condition] for key, arm in arms.items()}).where(~catch, CATCH_MODE),
            "model": kept["unit"].map(names).where(~catch, CATCH_MODEL),
        },
        index=kept.index,
    )
    table = table.join(_files(kept, catch, panels))
    table = table.join(_check_columns(checks), on="participant_id")
    failed = checks.loc[checks["passed"] == False, "participant"]  # noqa: E712 - missing is neither
    table["passed_checks"] = ~table["participant_id"].isin(failed)
    table["multi_participation"] = False
    return table[list(COLUMNS)].reset_index(drop=True)


def _response_index(answers: pd.DataFrame) -> "pd.Series[int]":
    """Rows stand in the order of submission, so a task's participants are numbered as they come."""
    first = answers.drop_duplicates(["arm", "task", "participant"])
    number = first.groupby(["arm", "task"]).cumcount()
    return answers["participant"].map(dict(zip(first["participant"], number, strict=True)))


def _files(answers: pd.DataFrame, catch: "pd.Series[bool]", panels: Mapping[PanelKey, PanelFiles]) -> pd.DataFrame:
    rows: list[tuple[str | None, ...]] = []
    for arm, unit, batch, is_catch in zip(answers["arm"], answers["unit"], answers["batch"], catch, strict=True):
        panel = None if is_catch else panels.get((arm, unit, batch))
        if panel is None:
            rows.append((None, None, None, None))
        else:
            rows.append((panel.min_query, panel.max_query, json.dumps(panel.min_references), json.dumps(panel.max_references)))
    return pd.DataFrame(
        rows, columns=["min_query", "max_query", "min_references", "max_references"], index=answers.index, dtype=object
    )


def _check_columns(checks: pd.DataFrame) -> pd.DataFrame:
    """One row per participant: what each check said and why."""
    by_participant: dict[str, dict[str, object]] = {}
    for row in checks.to_dict("records"):
        here = by_participant.setdefault(row["participant"], {})
        check = CHECKS.get(row["criterion"])
        if check is None:
            continue  # switched on beyond the published ones: the data set has no column for it
        here[f"{check}_result"] = None if pd.isna(row["passed"]) else bool(row["passed"])
        measured = "not measured" if pd.isna(row["measured"]) else f"{row['measured']:g}"
        here[f"{check}_details"] = f"{measured}; asked: {row['limit']}"
    columns = [f"{check}_{part}" for part in ("result", "details") for check in CHECKS.values()]
    return pd.DataFrame.from_dict(by_participant, orient="index", columns=columns, dtype=object)
