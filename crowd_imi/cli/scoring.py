"""``score`` and ``report``: what people answered, in numbers and pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.cli.run_folder import Rehearsal
from crowd_imi.records import Record

if TYPE_CHECKING:
    from rich.table import Table

    from crowd_imi.scoring import Scores
    from crowd_imi.store import Store
    from crowd_imi.study import Study

_NAMED = 5
"""Units without a response are named up to this many; all of them stand in units.csv."""

ScoredFolder = Annotated[
    Path | None, typer.Argument(metavar="STUDY", help="The study's folder, where study.toml is.", show_default=False)
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="FILE", help="Score this table in the published format instead of a study; nothing is written."
    ),
]
Crossed = Annotated[
    bool,
    typer.Option(
        "--crossed/--no-crossed",
        help="Fit the crossed model (units, participants, panels; guess rate 1/2): about a second an arm.",
    ),
]
Note = Annotated[str, typer.Option(help="A remark that the report shows at its top.")]


class Scored(Record):
    """What ``score --json`` prints."""

    units_csv: Path
    models_csv: Path
    comparisons_csv: Path
    reliability_csv: Path
    groups: tuple[dict[str, Any], ...]
    """Each as ``scoring.Group``."""
    comparisons: dict[str, Any]
    """As ``scoring.comparisons.Comparisons``, each with a sentence in plain words."""
    reliability: tuple[dict[str, Any], ...]
    """Each as ``scoring.reliability.Reliability``: how far unit scores can be trusted."""
    unanswered: tuple[str, ...]
    pilot_submissions: int
    """Left out of everything else."""
    notes: tuple[str, ...]
    """Figures that look more certain than they are, a sentence each."""


class Reported(Record):
    """What ``report --json`` prints."""

    report: Path
    units_csv: Path
    models_csv: Path


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def score(
        study: ScoredFolder = None,
        from_file: From = None,
        rehearsal: Rehearsal = None,
        crossed: Crossed = False,
        json: Json = False,
    ) -> None:
        """MIS per unit and per model, with intervals: report/units.csv and report/models.csv."""
        from crowd_imi.scoring import tables
        from crowd_imi.scoring.compare import compare
        from crowd_imi.scoring.notes import notes
        from crowd_imi.scoring.reliability import reliabilities

        output = Output(json)
        if from_file is not None:
            if study is not None or rehearsal is not None:
                raise typer.BadParameter("--from FILE scores a table alone; leave STUDY and --rehearsal out, or leave --from out")
            _score_file(output, from_file, crossed)
            return
        if study is None:
            raise typer.BadParameter("name a STUDY, or a table with --from FILE")
        loaded, _store, folder, scores = _scored(study, rehearsal, output if crossed else None)
        units, models = tables.write(scores, folder)
        comparisons = compare(scores, loaded.file.study.seed)
        compared = tables.write_comparisons(comparisons, folder)
        reliable = reliabilities(scores, loaded.file.study.seed)
        trusted = tables.write_reliability(reliable, folder)
        _show(output, scores)
        output.say(f"units:       {units}\nmodels:      {models}\ncomparisons: {compared}\nreliability: {trusted}")
        output.result(
            Scored(
                units_csv=units,
                models_csv=models,
                comparisons_csv=compared,
                reliability_csv=trusted,
                groups=tuple(group.model_dump() for group in scores.groups),
                comparisons=comparisons.model_dump(mode="json"),
                reliability=tuple(one.model_dump() for one in reliable),
                unanswered=scores.unanswered,
                pilot_submissions=scores.pilot_submissions,
                notes=notes(scores),
            )
        )

    @app.command()
    def report(
        study: StudyFolder, rehearsal: Rehearsal = None, note: Note = "", crossed: Crossed = True, json: Json = False
    ) -> None:
        """One self-contained HTML page with tables, plots and panels: report/report.html."""
        from crowd_imi.scoring import tables
        from crowd_imi.scoring.report import write_report

        output = Output(json)
        loaded, store, folder, scores = _scored(study, rehearsal, output if crossed else None)
        units, models = tables.write(scores, folder)
        page = write_report(loaded, store, scores, folder, note=note)
        output.say(f"report: {page}")
        output.result(Reported(report=page, units_csv=units, models_csv=models))


def _score_file(output: Output, path: Path, crossed: bool) -> None:
    from crowd_imi.cli.group_table import crossed_table, table_of_file
    from crowd_imi.scoring.imi_scores import score_file

    scores = score_file(path, crossed=crossed, track=output.track)
    output.say(table_of_file(scores.groups))
    output.say("")
    _show_crossed(output, crossed_table(scores.groups))
    for remark in scores.remarks:
        output.say(remark)
    output.result(scores)


def _scored(study_folder: Path, rehearsal: str | None, crossed: Output | None) -> "tuple[Study, Store, Path, Scores]":
    """``crossed`` shows the progress of the crossed model; None leaves it out."""
    from crowd_imi.cli.run_folder import run_folder
    from crowd_imi.scoring import score
    from crowd_imi.scoring.stimuli import layer_order
    from crowd_imi.store import Store
    from crowd_imi.store.engine import database_urls
    from crowd_imi.study import load_study

    study = load_study(study_folder)
    folder = run_folder(study, rehearsal)
    store = Store.open(*database_urls(folder))
    scores = score(study, store, layer_order(study, store))
    if crossed is not None:
        from crowd_imi.scoring.crossed_model import with_crossed

        scores = with_crossed(scores, crossed.track)
    return study, store, folder / "report", scores


def _show_crossed(output: Output, fitted: "Table | None") -> None:
    if fitted is not None:
        output.say(fitted)
        output.say("")


def _show(output: Output, scores: "Scores") -> None:
    from crowd_imi.cli.group_table import crossed_table, group_table
    from crowd_imi.scoring.notes import notes
    from crowd_imi.scoring.wording import count

    output.say(group_table(scores.groups))
    output.say("")
    _show_crossed(output, crossed_table(scores.groups))
    if scores.unanswered:
        rest = " …" if len(scores.unanswered) > _NAMED else ""
        output.say(f"without a valid response: {len(scores.unanswered)} units: {', '.join(scores.unanswered[:_NAMED])}{rest}")
    for note in notes(scores):
        output.say(note)
    if scores.pilot_submissions:
        output.say(f"pilot: {count(scores.pilot_submissions, 'submission')}, left out of all of this")
