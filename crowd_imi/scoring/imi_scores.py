"""Scores of a table in the published format, without a study: ``responses_main.csv``, ours or the published one."""

import csv
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crowd_imi.errors import ScoringError
from crowd_imi.progress import Track, silent
from crowd_imi.records import Difficulty, Record
from crowd_imi.scoring.crossed_model import Marginal, fit_crossed
from crowd_imi.scoring.imi_table import CATCH_MODE, MODES
from crowd_imi.scoring.intervals import bootstrap_mean, clustered, jeffreys, wilson
from crowd_imi.seeds import generator
from crowd_imi.study import NULL

SEED = 0
"""A table has no seed of its own; the bootstrap's is always this."""

NEEDED = (
    "rt",
    "confidence",
    "correct",
    "catch_trial",
    "is_demo",
    "response_index",
    "participant_id",
    "corrected_trial_index",
    "task_id",
    "batch",
    "channel",
    "layer",
    "mode",
    "model",
    "passed_checks",
)
"""The columns that scoring reads; the others may be missing."""

_ROW_KEY = ["participant_id", "task_id", "response_index", "corrected_trial_index"]
_UNIT = ["model", "mode", "difficulty", "layer", "channel"]
_GROUP = ["model", "mode", "difficulty"]
_NAMED = 5
"""Lines, units and values are named up to this many; all are counted."""


class TableUnit(Record):
    """One unit of a table."""

    model: str
    mode: str
    difficulty: Difficulty | None
    """As ``task_id`` says it; None where it doesn't, as in the published tables."""
    layer: str
    channel: int
    responses: int
    correct: int
    proportion_correct: float | None
    """None without responses."""
    low: float | None
    """Lower end of the 95 % Wilson interval, which ignores that answers share panels."""
    high: float | None
    jeffreys_low: float | None
    """Lower end of the 95 % Jeffreys interval, which ignores it too."""
    jeffreys_high: float | None
    panels: int
    """Panels (batches of images) that these answers were given to."""
    panel_low: float | None
    """Lower end of the 95 % interval that knows about the panels; None for fewer than two of them."""
    panel_high: float | None
    confidence_mean: float | None
    rt_median_ms: float | None
    crossed: float | None = None
    """Probability of a right answer by the crossed model; None where it wasn't fitted."""
    crossed_low: float | None = None
    crossed_high: float | None = None


class TableGroup(Record):
    """The units of one model in one mode."""

    model: str
    mode: str
    difficulty: Difficulty | None
    units: int
    """Units with at least one response: the mean is taken over these."""
    unanswered: int
    responses: int
    fewest: int | None
    """Responses of the unit with the fewest, among those with any."""
    most: int | None
    participants: int
    mean: float | None
    """Mean of the units' proportions correct; None without any response."""
    low: float | None
    """Lower end of the 95 % bootstrap interval over units; None for fewer than two units."""
    high: float | None
    crossed: float | None = None
    """By the crossed model, over units, participants and panels; None where it wasn't fitted."""
    crossed_low: float | None = None
    crossed_high: float | None = None
    unit_sd: float | None = None
    """Spread of units by that model, in logits with the guess rate taken out."""
    participant_sd: float | None = None
    panel_sd: float | None = None


class TableScores(Record):
    """What a table of responses says."""

    table: Path
    rows: int
    seed: int = SEED
    """Of the bootstrap."""
    groups: tuple[TableGroup, ...]
    units: tuple[TableUnit, ...]
    remarks: tuple[str, ...]
    """What a reader must know of these figures, each with its count."""


def score_file(path: Path, *, crossed: bool = False, track: Track = silent) -> TableScores:
    """Read and score a table in the published format. Each row counts alike, whoever gave it.

    Units may have unequal numbers of responses. Rows of catch trials and of practice are set aside.

    Args:
        path: a CSV file with at least the columns ``NEEDED``.
        crossed: whether the crossed model is fitted to each group, null units' (``null/MODEL``) left out.
        track: shows how that is getting on.

    Raises:
        ScoringError: the file can't be read, a column is missing or has values of a wrong type, rows come twice, a mode isn't
            known, or there is nothing to score. Each problem is named with the lines where it is.
    """
    raw = _read(path)
    table = _typed(path, raw)
    _check_rows(path, table)
    main = table[~table["catch_trial"] & ~table["is_demo"]]
    if main["correct"].isna().all():
        raise ScoringError(f"{path}: there is nothing to score: none of its {len(table)} rows is an answer to a main trial")
    main = main.assign(difficulty=_difficulties(main))
    units = _units(main)
    keys = list(dict.fromkeys(zip(*(units[name] for name in _GROUP), strict=True)))
    groups = tuple(_group(main, units, key) for key in keys)
    if crossed:
        fitted = [
            _crossed(main, units, *both) for both in track(list(zip(keys, groups, strict=True)), "crossed model", len(keys))
        ]
        groups = tuple(fitted)
    return TableScores(
        table=path,
        rows=len(table),
        groups=groups,
        units=tuple(_unit(row) for row in units.to_dict("records")),
        remarks=tuple(_remarks(table, main, units, groups)),
    )


def _read(path: Path) -> pd.DataFrame:
    """The needed columns as text, with the file's lines as the index.

    Not by pandas, which drops surplus cells and fills up a line that was cut off without a word.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    ragged: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_header(path, header)
            places = [header.index(name) for name in NEEDED]
            for cells in filter(None, reader):
                if len(cells) == len(header):
                    rows.append([cells[place] for place in places])
                    lines.append(reader.line_num)
                else:
                    ragged.append(reader.line_num)
    except OSError as error:
        raise ScoringError(f"{path}: can't be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ScoringError(f"{path}: this is no CSV file in UTF-8 ({error})") from None
    if ragged:
        where = _lines(pd.Series(True, index=ragged))
        raise ScoringError(f"{path}: {where} of another length than the header's {len(header)} cells; was the file cut off?")
    if not rows:
        raise ScoringError(f"{path}: there is nothing to score: the table has no rows")
    return pd.DataFrame(rows, columns=list(NEEDED), index=lines, dtype=object)


def _check_header(path: Path, header: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise ScoringError(
            f"{path}: {_count(len(missing), 'column')} missing: {', '.join(missing)} (there: {', '.join(header) or 'none'}); "
            "it must be a table in the published format, like responses_main.csv of `crowd-imi export --format imi`"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ScoringError(f"{path}: {_count(len(twice), 'column')} there more than once: {', '.join(twice)}")


def _flag(cells: "pd.Series[str]") -> "pd.Series[bool]":
    return (
        cells.str.lower().map({"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}).astype("boolean")
    )


def _number(cells: "pd.Series[str]") -> "pd.Series[float]":
    numbers = pd.to_numeric(cells, errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def _within(low: float, high: float, *, whole: bool = False) -> Callable[["pd.Series[str]"], "pd.Series[float]"]:
    def parsed(cells: "pd.Series[str]") -> "pd.Series[float]":
        numbers = _number(cells)
        right = (numbers >= low) & (numbers <= high)
        return numbers.where(right & (numbers % 1 == 0) if whole else right)

    return parsed


def _text(cells: "pd.Series[str]") -> "pd.Series[str]":
    return cells.where(cells != "")


_Parser = Callable[["pd.Series[str]"], "pd.Series"]

_TYPES: dict[str, tuple[_Parser, str, bool]] = {
    "correct": (_flag, "True or False", True),
    "catch_trial": (_flag, "True or False", False),
    "is_demo": (_flag, "True or False", False),
    "passed_checks": (_flag, "True or False", True),
    "rt": (_within(0, np.inf), "milliseconds, at least 0", True),
    "confidence": (_within(1, 3, whole=True), "1, 2 or 3", True),
    "participant_id": (_text, "not empty", False),
    "task_id": (_text, "not empty", False),
    "response_index": (_within(0, np.inf, whole=True), "a whole number, at least 0", False),
    "corrected_trial_index": (_within(-np.inf, np.inf, whole=True), "a whole number", False),
}
"""Column → how it is read, what is right in words, and whether it may be empty."""

_OF_MAIN_TRIALS: dict[str, tuple[_Parser, str, bool]] = {
    "model": (_text, "not empty", False),
    "layer": (_text, "not empty", False),
    "batch": (_within(0, np.inf, whole=True), "a whole number, at least 0", False),
    "channel": (_within(0, np.inf, whole=True), "a whole number, at least 0", False),
}
"""Catch trials made by hand and practice have no channel and no batch."""

_EMPTY = ("", "nan", "none", "null", "na")
_NAMES = ("model", "layer", "participant_id", "task_id")
"""Columns in which "none" may be a name."""


def _typed(path: Path, raw: pd.DataFrame) -> pd.DataFrame:
    """The table with values of their types; every wrong column is named at once."""
    problems: list[str] = []
    table = raw.copy()

    def read(name: str, parser: _Parser, right: str, may_be_empty: bool, rows: "pd.Series[bool]") -> None:
        cells = raw[name].str.strip()
        empty = (cells == "") if name in _NAMES else cells.str.lower().isin(_EMPTY)
        parsed = parser(cells.where(~empty, ""))
        wrong = rows & parsed.isna() & ~(empty if may_be_empty else False)
        if wrong.any():
            values = ", ".join(repr(value) for value in list(dict.fromkeys(cells[wrong]))[:_NAMED])
            problems.append(f"{name} must be {right}, and isn't in {_lines(wrong)} (there: {values})")
        table[name] = parsed

    everywhere = pd.Series(True, index=raw.index)
    for name, (parser, right, may_be_empty) in _TYPES.items():
        read(name, parser, right, may_be_empty, everywhere)
    if not problems:
        main = ~(table["catch_trial"].astype(bool) | table["is_demo"].astype(bool))
        for name, (parser, right, may_be_empty) in _OF_MAIN_TRIALS.items():
            read(name, parser, right, may_be_empty, main)
    if problems:
        raise ScoringError("\n".join(f"{path}: {problem}" for problem in problems))
    return table.astype({"catch_trial": bool, "is_demo": bool})


def _check_rows(path: Path, table: pd.DataFrame) -> None:
    problems = []
    asked = table[~table["is_demo"]]
    known = (*MODES.values(), CATCH_MODE)
    unknown = ~asked["mode"].isin(known)
    if unknown.any():
        values = ", ".join(repr(value) for value in sorted(set(asked.loc[unknown, "mode"]))[:_NAMED])
        problems.append(f"mode must be one of {', '.join(known)}, and isn't in {_lines(unknown)} (there: {values})")
    torn = ~unknown & (asked["catch_trial"] != (asked["mode"] == CATCH_MODE))
    if torn.any():
        problems.append(f"catch_trial and mode say different things in {_lines(torn)}")
    again = asked.duplicated(_ROW_KEY)
    if again.any():
        problems.append(
            f"{_lines(again)} come again: the same {', '.join(_ROW_KEY)} stands in a line before; take the duplicates out"
        )
    if problems:
        raise ScoringError("\n".join(f"{path}: {problem}" for problem in problems))


def _difficulties(main: pd.DataFrame) -> "pd.Series[str]":
    """What our exports write into ``task_id`` behind model and mode; missing where it isn't of that form."""
    ids = main[["model", "mode", "task_id"]].drop_duplicates()
    found = {}
    for model, mode, task_id in ids.itertuples(index=False):
        # A null unit's model is written null/MODEL, and its task is the model's.
        stem = re.escape(f"{str(model).rpartition('/')[2]}_{mode}")
        match = re.fullmatch(rf"{stem}(?:_(medium|hard|very_hard|p\d\d(?:\.\d{{1,4}})?))?-\d+", str(task_id))
        found[model, mode, task_id] = None if match is None else match[1] or "easy"
    keys = zip(main["model"], main["mode"], main["task_id"], strict=True)
    return pd.Series([found[key] for key in keys], index=main.index, dtype=object)


def _units(main: pd.DataFrame) -> pd.DataFrame:
    """One row per unit, in the order of the file's groups; units whose answers are all missing have 0 responses."""
    answered = main.assign(correct=main["correct"].astype(float))
    table = answered.groupby(_UNIT, dropna=False, sort=False).agg(
        responses=("correct", "count"),
        correct=("correct", "sum"),
        confidence_mean=("confidence", "mean"),
        rt_median_ms=("rt", "median"),
    )
    table = table.astype({"responses": int, "correct": int}).reset_index().astype({"channel": int})
    table["difficulty"] = table["difficulty"].astype(object).where(table["difficulty"].notna(), None)
    table["proportion_correct"] = table["correct"] / table["responses"].where(table["responses"] > 0)
    counts = table["correct"].to_numpy(), table["responses"].to_numpy()
    table["low"], table["high"] = wilson(*counts)
    table["jeffreys_low"], table["jeffreys_high"] = jeffreys(*counts)
    # A panel's unit is known by its place in the order in which groupby met the units: the order of the rows above.
    place = answered.groupby(_UNIT, dropna=False, sort=False).ngroup().rename("place")
    given = answered[answered["correct"].notna()]
    panels = given.groupby([place.reindex(given.index), "batch"])["correct"].agg(["sum", "size"]).reset_index()
    units = panels["place"].to_numpy(dtype=np.int64)
    table["panels"] = np.bincount(units, minlength=len(table))
    right, asked = (panels[name].to_numpy(dtype=np.int64) for name in ("sum", "size"))
    table["panel_low"], table["panel_high"] = clustered(right, asked, units, len(table))
    order = {key: number for number, key in enumerate(dict.fromkeys(zip(*(table[name] for name in _GROUP), strict=True)))}
    groups = [order[key] for key in zip(*(table[name] for name in _GROUP), strict=True)]
    return table.assign(group=groups).sort_values(["group", "layer", "channel"], ignore_index=True).drop(columns="group")


def _unit(row: Mapping[Hashable, Any]) -> TableUnit:
    return TableUnit.model_validate(
        {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}
    )


def _members(table: pd.DataFrame, key: tuple[str, str, str | None]) -> pd.DataFrame:
    model, mode, difficulty = key
    of_difficulty = table["difficulty"].isna() if difficulty is None else table["difficulty"] == difficulty
    return table[(table["model"] == model) & (table["mode"] == mode) & of_difficulty]


def _group(main: pd.DataFrame, units: pd.DataFrame, key: tuple[str, str, str | None]) -> TableGroup:
    members = _members(units, key)
    answered = members[members["responses"] > 0]
    values = answered["proportion_correct"].to_numpy(dtype=np.float64)
    estimate = bootstrap_mean(values, generator(SEED, "bootstrap", *(part or "" for part in key))) if len(values) else None
    return TableGroup(
        model=key[0],
        mode=key[1],
        difficulty=key[2],
        units=len(answered),
        unanswered=len(members) - len(answered),
        responses=int(answered["responses"].sum()),
        fewest=int(answered["responses"].min()) if len(answered) else None,
        most=int(answered["responses"].max()) if len(answered) else None,
        participants=int(_members(main, key)["participant_id"].nunique()),
        mean=estimate.mean if estimate else None,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
    )


def _crossed(main: pd.DataFrame, units: pd.DataFrame, key: tuple[str, str, str | None], group: TableGroup) -> TableGroup:
    """The group with the crossed model's figures, which are written into its rows of ``units``, too."""
    given = _members(main, key)
    given = given[given["correct"].notna()]
    if key[0].startswith(f"{NULL}/") or given.empty:
        return group
    names = given["layer"].astype(str) + "/" + given["channel"].astype(int).astype(str)
    answers = pd.DataFrame({"unit": names, "batch": given["batch"], "visit": given["participant_id"]})
    fit = fit_crossed(answers.assign(correct=given["correct"].astype(bool)))
    if fit is None:
        return group
    members = _members(units, key)
    members = members[members["responses"] > 0]
    places = fit.units.get_indexer(pd.Index(members["layer"].astype(str) + "/" + members["channel"].astype(str)))
    for name, values in (("", fit.of_units.value), ("_low", fit.of_units.low), ("_high", fit.of_units.high)):
        units.loc[members.index, f"crossed{name}"] = values[places]
    arm = {f"crossed{name}": float(ends[0]) for name, ends in zip(("", "_low", "_high"), _ends(fit.of_arm), strict=True)}
    spreads = {"unit_sd": fit.unit_sd, "participant_sd": fit.participant_sd, "panel_sd": fit.panel_sd}
    return group.model_copy(update={**arm, **spreads})


def _ends(found: Marginal) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return found.value, found.low, found.high


def _remarks(table: pd.DataFrame, main: pd.DataFrame, units: pd.DataFrame, groups: Sequence[TableGroup]) -> Iterator[str]:
    demo, catch = int(table["is_demo"].sum()), int((table["catch_trial"] & ~table["is_demo"]).sum())
    if catch or demo:
        yield f"set aside: {_count(catch, 'row')} of catch trials, {demo} of practice"
    failed = main["passed_checks"].eq(False).fillna(False)
    if failed.any():
        yield f"{int(failed.sum())} of {len(main)} main trials are of submissions that failed a check; they count like the others"
    for name, what in (
        ("correct", "isn't counted"),
        ("confidence", "the mean leaves it out"),
        ("rt", "the median leaves it out"),
    ):
        empty = main[name].isna()
        if empty.any():
            yield f"{name} is empty in {_lines(empty)} of main trials: {what}"
    silent = units[units["responses"] == 0]
    if len(silent):
        yield f"{_count(len(silent), 'unit')} without a response, left out of every mean: {_named(silent)}"
    single = units[units["responses"] == 1]
    if len(single):
        yield f"{_count(len(single), 'unit')} with a single response, hence very wide intervals: {_named(single)}"
    for group in groups:
        where = f"{group.model} {group.mode}" + (f" {group.difficulty}" if group.difficulty else "")
        if group.mean is not None and group.mean in (0.0, 1.0):
            how = "right" if group.mean == 1 else "wrong"
            answers = f"{_count(group.responses, 'answer')}, all {how}"
            yield f"{where}: {answers}, so that the bootstrap sees no spread; its interval without width isn't certainty"
        if group.units == 1:
            yield f"{where}: a single unit, hence no interval over units"
        if group.fewest != group.most:
            yield f"{where}: {group.fewest} to {group.most} responses per unit; each unit weighs alike in the mean"


def _named(units: pd.DataFrame) -> str:
    names = [f"{row.model}/{row.layer}/{row.channel}" for row in units.head(_NAMED).itertuples()]
    return ", ".join(names) + (" …" if len(units) > _NAMED else "")


def _lines(rows: "pd.Series[Any]") -> str:
    """``3 rows (lines 4, 7, 9)``; the header is line 1."""
    where = list(rows.index[rows.fillna(False).astype(bool)])
    named = ", ".join(str(line) for line in where[:_NAMED]) + (" …" if len(where) > _NAMED else "")
    return f"{len(where)} row{'' if len(where) == 1 else 's'} (line{'' if len(where) == 1 else 's'} {named})"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
