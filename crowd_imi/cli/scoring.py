"""``score`` and ``report``: what people answered, in numbers and pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.cli.run_folder import Rehearsal
from crowd_imi.records import Record

if TYPE_CHECKING:
    from crowd_imi.scoring import Scores
    from crowd_imi.store import Store
    from crowd_imi.study import Study

_NAMED = 5
"""Units without a response are named up to this many; all of them stand in units.csv."""

Note = Annotated[str, typer.Option(help="A remark that the report shows at its top.")]


class Scored(Record):
    """What ``score --json`` prints."""

    units_csv: Path
    models_csv: Path
    groups: tuple[dict[str, Any], ...]
    """Each as ``scoring.Group``."""
    unanswered: tuple[str, ...]


class Reported(Record):
    """What ``report --json`` prints."""

    report: Path
    units_csv: Path
    models_csv: Path


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def score(study: StudyFolder, rehearsal: Rehearsal = None, json: Json = False) -> None:
        """MIS per unit and per model, with intervals: report/units.csv and report/models.csv."""
        from crowd_imi.scoring import tables

        output = Output(json)
        _study, _store, folder, scores = _scored(study, rehearsal)
        units, models = tables.write(scores, folder)
        _show(output, scores)
        output.say(f"units:  {units}\nmodels: {models}")
        groups = tuple(group.model_dump() for group in scores.groups)
        output.result(Scored(units_csv=units, models_csv=models, groups=groups, unanswered=scores.unanswered))

    @app.command()
    def report(study: StudyFolder, rehearsal: Rehearsal = None, note: Note = "", json: Json = False) -> None:
        """One self-contained HTML page with tables, plots and panels: report/report.html."""
        from crowd_imi.scoring import tables
        from crowd_imi.scoring.report import write_report

        output = Output(json)
        loaded, store, folder, scores = _scored(study, rehearsal)
        units, models = tables.write(scores, folder)
        page = write_report(loaded, store, scores, folder, note=note)
        output.say(f"report: {page}")
        output.result(Reported(report=page, units_csv=units, models_csv=models))


def _scored(study_folder: Path, rehearsal: str | None) -> "tuple[Study, Store, Path, Scores]":
    from crowd_imi.cli.run_folder import run_folder
    from crowd_imi.scoring import score
    from crowd_imi.store import Store
    from crowd_imi.store.engine import database_urls
    from crowd_imi.study import load_study

    study = load_study(study_folder)
    folder = run_folder(study, rehearsal)
    store = Store.open(*database_urls(folder))
    return study, store, folder / "report", score(study, store)


def _show(output: Output, scores: "Scores") -> None:
    from crowd_imi.cli.group_table import group_table

    output.say(group_table(scores.groups))
    output.say("")
    if scores.unanswered:
        rest = " …" if len(scores.unanswered) > _NAMED else ""
        output.say(f"without a valid response: {len(scores.unanswered)} units: {', '.join(scores.unanswered[:_NAMED])}{rest}")
