"""report.html: everything about a study's results on one page that needs nothing but itself."""

import hashlib
import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from scipy.stats import binomtest

from crowd_imi import __version__
from crowd_imi.files import write_atomically
from crowd_imi.pack import Manifest
from crowd_imi.scoring import (
    answers_by,
    figure_files,
    figures,
    figures_of_answers,
    figures_of_visits,
    participants,
    tables,
    wording,
)
from crowd_imi.scoring.agreement import Machine, machine_against_people, read_predictions
from crowd_imi.scoring.canvas import Picture, palette
from crowd_imi.scoring.compare import compare
from crowd_imi.scoring.compare_wording import ALPHA
from crowd_imi.scoring.crossed_tests import against_zero, spread
from crowd_imi.scoring.machine import SELECTED, groups_of
from crowd_imi.scoring.mis import Group, Scores
from crowd_imi.scoring.notes import notes
from crowd_imi.scoring.panels import disputed, extremes
from crowd_imi.scoring.post_hoc import post_hoc
from crowd_imi.scoring.reliability import reliabilities
from crowd_imi.scoring.resampling import Crossing
from crowd_imi.scoring.stimuli import open_pack
from crowd_imi.scoring.thresholds import what_ifs
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.answers import intents, main_answers, visits
from crowd_imi.store.money import current_price
from crowd_imi.store.tasks import amendments
from crowd_imi.study import NULL, Study

CHANCE = 0.5

_VERSIONS = ("matplotlib", "numpy", "pandas", "scikit-posthocs", "scipy", "sqlalchemy", "statsmodels")


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence that a reader must not miss."""

    kind: str
    """good, warning or plain."""
    text: str


def write_report(study: Study, store: Store, scores: Scores, folder: Path, *, note: str = "") -> Path:
    """Write ``folder/report.html``; the same store gives the same page, byte for byte.

    Beside it come comparisons.csv, reliability.csv, and in ``figures/`` each figure as SVG with its data as CSV.

    Args:
        study: the study.
        store: where visits, verdicts and money are read.
        scores: from ``score`` on the same store.
        folder: made when missing.
        note: a remark shown at the top, e.g. that figures can't be compared with others.

    Returns:
        The page's path.
    """
    pack, problem = open_pack(study, store)
    with store.read() as session:
        visited, answers = visits(session), main_answers(session)
        spent = participants.spending(study.file, intents(session), current_price(session, study.file.pay.reward))
    comparisons = compare(scores, study.file.study.seed)
    tables.write_comparisons(comparisons, folder)
    reliable = reliabilities(scores, study.file.study.seed)
    tables.write_reliability(reliable, folder)
    predicted = read_predictions(study.folder / "report", store.about("pack_sha256"))
    machine = machine_against_people(scores, *predicted[:2], reliable, study.file.study.seed) if predicted else None
    people, pictures = _people(study, visited, answers), _pictures(study, scores, machine)
    money = figures_of_visits.money_spent(spent)
    drawn = {**pictures, **{name.removesuffix("_picture"): found for name, found in people.items() if name.endswith("_picture")}}
    figure_files.write({**drawn, "money": money}, figure_files.data(scores, people, spent, machine), folder)
    context = {
        "study": study.file,
        "note": note,
        "rehearsal": store.kind is StoreKind.REHEARSAL,
        "remarks": remarks(scores),
        "groups": scores.groups,
        "comparisons": comparisons,
        "reliabilities": reliable,
        "machine": machine,
        "predicted": groups_of(predicted[2], study.file.study.seed) if predicted else (),
        "selected": SELECTED,
        "crossed": any(group.crossed is not None for group in scores.groups),
        "pictures": pictures,
        "pairs": len(figures.in_both_conditions(scores)),
        "panels": extremes(scores, pack) if pack else (),
        "disputed": disputed(scores, pack) if pack else (),
        "panels_problem": problem,
        "unanswered": scores.unanswered,
        "by_name": scores.by_name,
        **people,
        "spending": spent,
        "money_picture": money,
        "post_hoc": post_hoc(study, visited),
        "facts": _facts(study, store, pack.manifest if pack else None, visited),
        "unit_columns": tables.UNIT_COLUMNS,
        "model_columns": tables.MODEL_COLUMNS,
        "comparison_columns": tables.COMPARISON_COLUMNS,
        "reliability_columns": tables.RELIABILITY_COLUMNS,
        "says": wording,
    }
    path = folder / "report.html"
    write_atomically(path, _environment().get_template("report.html").render(context).encode())
    return path


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def remarks(scores: Scores) -> tuple[Remark, ...]:
    """What the null units say about the rest, and what is missing."""
    found = [_control(scores, group) for group in scores.groups if group.model == NULL]
    if not found:
        text = "This study has no null units, so nothing on this page shows that the chain doesn't leak answers."
        found.append(Remark("plain", text))
    if scores.unanswered:
        number = wording.count(len(scores.unanswered), "unit has", "units have")
        found.append(Remark("warning", f"{number} no valid response yet and {_is(scores.unanswered)} left out of every mean."))
    found += [Remark("plain", note) for note in notes(scores)]
    if scores.pilot_submissions:
        number = wording.count(scores.pilot_submissions, "submission")
        found.append(Remark("plain", f"The pilot had {number}, which no figure on this page counts but those of money."))
    return tuple(found)


def _is(things: tuple[str, ...]) -> str:
    return "is" if len(things) == 1 else "are"


def _control(scores: Scores, group: Group) -> Remark:
    """What the negative control says."""
    where = wording.setting(group.condition, group.difficulty)
    p = _apart_from_chance(scores, group)
    tested = "" if p is None else f", {wording.p_value(p)}"
    found = f"({where}: {wording.share(group.mean)} {wording.interval(group.low, group.high)}{tested})"
    if group.mean is None or p is None:
        return Remark("plain", f"There are too few answered null units to show that nothing leaks the answers {found}.")
    if p < ALPHA and group.mean > CHANCE:
        return Remark(
            "warning",
            f"Null units, which nobody can answer, were answered above chance {found}. Something leaks the answers, or luck did "
            "what it does to one study in forty: trust no other number here before you know which.",
        )
    if p < ALPHA:
        return Remark(
            "warning",
            f"Null units were answered below chance {found}. That happens to one study in forty; more often it means a "
            "mistake in how queries are drawn.",
        )
    return Remark("good", f"Control passed: null units, which nobody can answer, are at chance {found}.")


def _apart_from_chance(scores: Scores, group: Group) -> float | None:
    """How probable null units' mean is at 0.5, two-sided: t over units and participants; None where it can't be told.

    Where units don't spread at all there is no t. All right or all wrong then is told from chance by the binomial test.
    """
    members = scores.members(group)
    units = members.loc[members["responses"] > 0, "unit"]
    if len(units) < 2:
        return None
    of_mean = spread(Crossing.of(scores.counted[scores.counted["arm"].isin(members["arm"])], pd.Index(units)))
    test = against_zero(replace(of_mean, mean=of_mean.mean - CHANCE)) if of_mean else None
    if test:
        return test.p
    p = float(binomtest(int(members["correct"].sum()), group.responses, CHANCE).pvalue)
    return p if p < ALPHA else None


def _pictures(study: Study, scores: Scores, machine: Machine | None) -> dict[str, Picture | None]:
    colours = palette(tuple(study.file.models))
    pairs = figures.in_both_conditions(scores)
    return {
        "groups": figures.group_means(scores, colours),
        "units": figures.sorted_units(scores, colours),
        "machine": figures.machine_against_people(machine, colours) if machine else None,
        "conditions": figures.natural_against_synthetic(pairs, colours) if len(pairs) else None,
        "depth": figures.by_depth(scores, colours) if (~scores.units["null"]).any() else None,
        "calibration": figures_of_answers.calibration(answers_by.by_confidence(scores), colours),
        "reaction_times": figures_of_answers.reaction_times(answers_by.by_time(scores), [arm.id for arm in study.file.arms]),
    }


def _people(study: Study, visited: pd.DataFrame, answers: pd.DataFrame) -> dict[str, Any]:
    arms = [arm.id for arm in study.file.arms]
    flow = participants.flow(visited).reindex(arms, fill_value=0)
    found = participants.exclusions(visited)
    taken = participants.minutes(visited)
    steps = taken.groupby("arm")[["instructions", "practice", "trials", "total"]].median()
    steps = steps.loc[[arm for arm in arms if arm in steps.index]]
    return {
        "flow": flow.astype(int).to_dict("index"),
        "flow_totals": flow.sum().astype(int).to_dict(),
        "flow_names": participants.FLOW,
        "flow_picture": figures_of_visits.participants_flow(flow.sum()),
        "attrition_picture": figures_of_visits.attrition(flow.astype(int)),
        "what_ifs": what_ifs(visited, answers, study.file.exclusion),
        "taken": taken,
        "exclusions": found,
        "criterion_names": participants.CRITERION_NAMES,
        "exclusion_picture": figures_of_visits.exclusion_bars(found) if any(one.failed for one in found) else None,
        "minutes": steps.to_dict("index"),
        "minutes_picture": figures_of_visits.visit_times(taken, arms, study.file.exclusion) if len(taken) else None,
    }


def _facts(study: Study, store: Store, manifest: Manifest | None, visited: pd.DataFrame) -> dict[str, str]:
    """Where the numbers come from, in the order in which the page lists it."""
    facts = {
        "Study": study.file.study.name,
        "Seed": str(study.file.study.seed),
        "Database": {StoreKind.STUDY: "study", StoreKind.REHEARSAL: "rehearsal", StoreKind.PREVIEW: "preview"}[store.kind],
        "First arrival": _time(visited["arrived_at"].min()),
        "Last submission": _time(visited["submitted_at"].max()),
        "study.toml (SHA-256)": hashlib.sha256(study.toml.read_bytes()).hexdigest(),
        "Pack (SHA-256)": store.about("pack_sha256"),
        "Plan (SHA-256)": store.about("plan_sha256"),
    }
    with store.read() as session:
        pilots = [str(amendment) for amendment in amendments(session) if not amendment.post_hoc]
    if pilots:
        facts["Pilot"] = " ".join(pilots)
    if manifest is not None:
        facts["Images"] = f"{manifest.image_count:,} images; {manifest.provenance or 'no provenance given'}; {manifest.licence}"
        for name, model in manifest.models.items():
            facts[f"Model {name}"] = f"{model.source}, weights {model.weights_sha256}"
        facts["Stimuli made with"] = ", ".join(f"{name} {number}" for name, number in sorted(manifest.versions.items())) or "–"
    packages = ", ".join(f"{name} {version(name)}" for name in _VERSIONS)
    facts["Scored with"] = f"crowd-imi {__version__}, Python {platform.python_version()}, {packages}"
    return facts


def _time(milliseconds: float) -> str:
    if isnan(milliseconds):
        return wording.NOTHING
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
