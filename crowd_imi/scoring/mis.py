"""Human MIS: proportion correct per unit, and the mean of unit means per model, condition and difficulty."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from crowd_imi.errors import ScoringError
from crowd_imi.records import Condition, Difficulty, Record, Unit, query_share
from crowd_imi.scoring.intervals import Estimate, bootstrap_mean, clustered, jeffreys, wilson
from crowd_imi.seeds import generator
from crowd_imi.store import Store
from crowd_imi.store.answers import main_answers, pilot_submissions, planned_units, visits
from crowd_imi.study import NULL, Study, StudyFile

CONDITIONS: tuple[Condition, ...] = ("natural", "synthetic")

LayerOrder = Mapping[str, Sequence[str]]
"""A model's name → its layers from the first to the last, in the order of the network's modules."""


class Group(Record):
    """The units of one model (or all null units) in one condition at one difficulty."""

    model: str
    """A model of study.toml, or ``null`` for the null units."""
    condition: Condition
    difficulty: Difficulty
    arm: str
    """The arm; for null units that come from several arms, all of them joined by " + "."""
    units: int
    """Units with at least one response: the mean is taken over these."""
    unanswered: int
    """Units that nobody has answered yet: left out of the mean, and named in ``Scores.unanswered``."""
    responses: int
    """Main trials answered in valid submissions."""
    valid: int
    """Submissions of the arm that count."""
    excluded: int
    """Submissions of the arm that failed a criterion, failed practice among them."""
    mean: float | None
    """Mean of the units' proportions correct; None without any response."""
    low: float | None
    """Lower end of the 95 % bootstrap interval over units; None for fewer than two units."""
    high: float | None
    mean_all: float | None
    """The same with nobody excluded."""
    low_all: float | None
    high_all: float | None
    crossed: float | None = None
    """Marginal probability by the crossed model; None where it wasn't fitted."""
    crossed_low: float | None = None
    crossed_high: float | None = None
    unit_sd: float | None = None
    """Spread of units by the crossed model, in logits with the guess rate taken out."""
    participant_sd: float | None = None
    panel_sd: float | None = None
    """Spread of panels within a unit."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What people answered, in numbers."""

    units: pd.DataFrame
    """One row per (arm, unit), unrounded; columns as in ``tables.UNIT_COLUMNS``, and ``batch_shown``: a panel that was
    answered."""
    groups: tuple[Group, ...]
    """Natural before synthetic, easy before hard, models as in study.toml, null units last."""
    unanswered: tuple[str, ...]
    """``ARM UNIT`` of every unit without a response from a valid submission."""
    by_name: tuple[str, ...] = ()
    """Models whose layers stand in the order of their names, as that of their modules isn't known."""
    counted: pd.DataFrame = field(default_factory=pd.DataFrame)
    """The answers behind ``units``: ``arm``, ``unit``, ``batch``, ``visit``, ``correct``, ``confidence``, ``rt_ms``; a visit is a
    participant."""
    pilot_submissions: int = 0
    """Submissions of the study's pilot: left out of everything else."""

    def group(self, model: str, condition: Condition, difficulty: Difficulty = "easy") -> Group:
        """One group.

        Raises:
            ScoringError: there is none.
        """
        for group in self.groups:
            if (group.model, group.condition, group.difficulty) == (model, condition, difficulty):
                return group
        raise ScoringError(f"no units of {model} were shown with {condition} references at the {difficulty} difficulty")

    def members(self, group: Group) -> pd.DataFrame:
        """The rows of ``units`` that belong to a group."""
        units = self.units
        of_model = units["null"] if group.model == NULL else ~units["null"] & (units["model"] == group.model)
        return units[of_model & (units["condition"] == group.condition) & (units["difficulty"] == group.difficulty)]


def score(study: Study, store: Store, layers: LayerOrder | None = None) -> Scores:
    """Score everything that a store holds: valid submissions of label ``main``, main trials.

    Args:
        study: the study.
        store: its own, or a rehearsal's.
        layers: the order of each model's layers; by name where it isn't given.

    Raises:
        ScoringError: there is nothing to score, or the store holds an arm that study.toml doesn't.
    """
    with store.read() as session:
        scores = score_tables(study.file, main_answers(session), planned_units(session), visits(session), layers)
        return replace(scores, pilot_submissions=pilot_submissions(session))


def score_tables(
    file: StudyFile, answers: pd.DataFrame, planned: pd.DataFrame, visited: pd.DataFrame, layers: LayerOrder | None = None
) -> Scores:
    """Score tables as ``store.answers`` reads them.

    Surplus submissions, which came when their task already had its valid response, don't count: else units would have
    unequal numbers of responses for reasons that aren't chance. They are in the figures with nobody excluded.

    Args:
        file: study.toml.
        answers: from ``main_answers``.
        planned: from ``planned_units``.
        visited: from ``visits``.
        layers: the order of each model's layers.

    Raises:
        ScoringError: as ``score``.
    """
    _check(file, answers, planned)
    units, by_name = _unit_table(file, answers, planned, layers or {})
    verdicts = visited[visited["valid"].notna()]
    counts, surplus = verdicts["valid"].astype(bool), verdicts["surplus"].astype(bool)
    valid = verdicts.loc[counts & ~surplus, "arm"].value_counts()
    excluded = verdicts.loc[~counts & ~surplus, "arm"].value_counts()
    groups = tuple(_group(file.study.seed, key, members, valid, excluded) for key, members in _grouped(units, tuple(file.models)))
    silent = units[units["responses"] == 0]
    return Scores(units, groups, tuple(silent["arm"] + " " + silent["unit"]), by_name, _counted(answers))


def _counted(answers: pd.DataFrame) -> pd.DataFrame:
    counts = answers["valid"] & ~answers["surplus"]
    return answers.loc[counts, ["arm", "unit", "batch", "visit", "correct", "confidence", "rt_ms"]].reset_index(drop=True)


def _check(file: StudyFile, answers: pd.DataFrame, planned: pd.DataFrame) -> None:
    known = {arm.id for arm in file.arms}
    unknown = sorted(set(planned["arm"]) - known)
    if unknown:
        raise ScoringError(
            f"the store holds tasks of {', '.join(unknown)}, which study.toml doesn't have (it has {', '.join(sorted(known))}); "
            "score with the study.toml that the study was published with"
        )
    if answers.empty:
        raise ScoringError(
            "there is nothing to score: no submission has been judged yet, the pilot's aside; run `crowd-imi harvest` first"
        )
    if not (answers["valid"] & ~answers["surplus"]).any():
        raise ScoringError(
            f"there is nothing to score: all {answers['visit'].nunique()} judged submissions with answers are excluded; "
            "see `crowd-imi status` for the criteria that they failed"
        )


def _unit_table(
    file: StudyFile, answers: pd.DataFrame, planned: pd.DataFrame, layers: LayerOrder
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row per unit, and the models whose layers stand in the order of their names."""
    by_unit = ["arm", "unit"]
    counted = answers[answers["valid"] & ~answers["surplus"]]
    counting = counted.assign(sure=counted["confidence"] * counted["correct"]).groupby(by_unit, observed=True)
    table = planned[by_unit].set_index(by_unit)
    table = table.join(
        counting.agg(
            responses=("correct", "size"),
            correct=("correct", "sum"),
            confidence_mean=("confidence", "mean"),
            rt_median_ms=("rt_ms", "median"),
            batch_shown=("batch", "min"),
            confidence=("confidence", "sum"),
            sure=("sure", "sum"),
        )
    ).join(answers.groupby(by_unit, observed=True).agg(responses_all=("correct", "size"), correct_all=("correct", "sum")))
    counts = ["responses", "correct", "responses_all", "correct_all"]
    table[counts] = table[counts].fillna(0).astype(int)
    table["proportion_correct"] = _share(table["correct"], table["responses"])
    table["confidence_weighted"] = _share(table["sure"], table["confidence"])
    table["proportion_correct_all"] = _share(table["correct_all"], table["responses_all"])
    counts_of = table["correct"].to_numpy(), table["responses"].to_numpy()
    table["low"], table["high"] = wilson(*counts_of)
    table["jeffreys_low"], table["jeffreys_high"] = jeffreys(*counts_of)
    panels = counting.obj.groupby([*by_unit, "batch"], observed=True)["correct"].agg(["sum", "size"]).reset_index()
    place = table.index.get_indexer(pd.MultiIndex.from_frame(panels[by_unit]))
    table["panels"] = np.bincount(place, minlength=len(table))
    table["panel_low"], table["panel_high"] = clustered(
        panels["sum"].to_numpy(), panels["size"].to_numpy(), place.astype(np.int64), len(table)
    )
    table[["crossed", "crossed_low", "crossed_high"]] = np.nan
    return _described(file, table.reset_index(), layers)


def _share(correct: "pd.Series[int]", responses: "pd.Series[int]") -> "pd.Series[float]":
    """NaN where there is no response: an unmeasured unit isn't a unit at chance."""
    return correct / responses.where(responses > 0)


def _described(file: StudyFile, table: pd.DataFrame, layers: LayerOrder) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Adds what the keys of arm and unit say, and sorts: arms as in study.toml, null units last, layers by depth."""
    arms = {arm.id: arm for arm in file.arms}
    units = {key: Unit.from_key(key) for key in table["unit"].unique()}
    table["condition"] = table["arm"].map({key: arm.condition for key, arm in arms.items()})
    table["difficulty"] = table["arm"].map({key: arm.difficulty for key, arm in arms.items()})
    for part in ("model", "layer", "channel", "null"):
        table[part] = table["unit"].map({key: getattr(unit, part) for key, unit in units.items()})
    table["depth"], by_name = 0, []
    for model, here in table.groupby("model")["layer"]:
        ordered, known = _in_order(list(here.unique()), layers.get(str(model), ()))
        table.loc[here.index, "depth"] = here.map({layer: place for place, layer in enumerate(ordered, 1)})
        by_name += [] if known else [str(model)]
    table["place"] = table["arm"].map({key: place for place, key in enumerate(arms)})
    return table.sort_values(["place", "null", "depth", "channel"], ignore_index=True).drop(columns="place"), tuple(by_name)


def _in_order(layers: Sequence[str], modules: Sequence[str]) -> tuple[list[str], bool]:
    """A model's layers from the first to the last, and whether that is by its modules; else it is by name."""
    ordered = sorted(layers, key=_depth)
    places = {module: place for place, module in enumerate(modules)}
    # layer3@sae is a readout of layer3, and may be listed itself.
    read = {layer: places.get(layer, places.get(layer.partition("@")[0])) for layer in ordered}
    known = {layer: place for layer, place in read.items() if place is not None}
    return (sorted(ordered, key=known.__getitem__), True) if len(known) == len(ordered) else (ordered, False)


def _depth(layer: str) -> tuple[tuple[int, str], ...]:
    """Where a layer stands by its name: with numbers as numbers, and a block behind the layers in it."""
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", layer)]
    return (*parts, (sys.maxsize, ""))


GroupKey = tuple[str, Condition, Difficulty]


def _grouped(units: pd.DataFrame, models: tuple[str, ...]) -> Iterator[tuple[GroupKey, pd.DataFrame]]:
    label = units["model"].where(~units["null"], NULL)
    for condition in CONDITIONS:
        for difficulty in sorted(set(units["difficulty"]), key=lambda each: query_share(each) or 0):
            here = (units["condition"] == condition) & (units["difficulty"] == difficulty)
            for model in (*models, NULL):
                members = units[here & (label == model)]
                if len(members):
                    yield (model, condition, difficulty), members


def _group(seed: int, key: GroupKey, members: pd.DataFrame, valid: "pd.Series[int]", excluded: "pd.Series[int]") -> Group:
    model, condition, difficulty = key
    arms = list(dict.fromkeys(members["arm"]))
    estimate = _estimate(seed, key, members["proportion_correct"], "valid")
    everybody = _estimate(seed, key, members["proportion_correct_all"], "all")
    answered = int((members["responses"] > 0).sum())
    return Group(
        model=model,
        condition=condition,
        difficulty=difficulty,
        arm=" + ".join(arms),
        units=answered,
        unanswered=len(members) - answered,
        responses=int(members["responses"].sum()),
        valid=int(valid.reindex(arms, fill_value=0).sum()),
        excluded=int(excluded.reindex(arms, fill_value=0).sum()),
        mean=estimate.mean if estimate else None,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
        mean_all=everybody.mean if everybody else None,
        low_all=everybody.low if everybody else None,
        high_all=everybody.high if everybody else None,
    )


def _estimate(seed: int, key: GroupKey, proportions: "pd.Series[float]", whose: str) -> Estimate | None:
    values = np.asarray(proportions.dropna(), dtype=np.float64)
    return bootstrap_mean(values, generator(seed, "bootstrap", *key, whose)) if len(values) else None
