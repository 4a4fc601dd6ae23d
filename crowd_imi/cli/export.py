"""``export``: a study's tables for others."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.cli.run_folder import Rehearsal
from crowd_imi.records import Record

if TYPE_CHECKING:
    from crowd_imi.study import Study


class ExportFormat(StrEnum):
    """What ``export`` writes."""

    IMI = "imi"
    PARQUET = "parquet"
    CSV = "csv"


Form = Annotated[
    ExportFormat | None,
    typer.Option(
        "--format", help="imi: the published tables; parquet, csv: units, responses, visits and verdicts.", show_default=False
    ),
]
Prereg = Annotated[bool, typer.Option("--prereg", help="Instead of answers: the preregistration, as preregistration.md.")]
To = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Where to write; an earlier export there is replaced. Default: export/FORMAT.", show_default=False
    ),
]
WithNull = Annotated[bool, typer.Option("--with-null", help="Keep null units in the imi format, as a model null/MODEL.")]
Board = Annotated[bool, typer.Option("--board", help="Instead of answers: a sheet for a review board, as review-board.md.")]


class TextWritten(Record):
    """What ``export --prereg`` and ``export --board`` print with ``--json``."""

    file: Path
    sha256: str


class Exported(Record):
    """What ``export --json`` prints."""

    folder: Path
    format: str
    rehearsal: bool
    rows: dict[str, int]
    """File → rows."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def export(  # noqa: PLR0913, PLR0917 - one parameter per option
        study: StudyFolder,
        form: Form = None,
        prereg: Prereg = False,
        board: Board = False,
        to: To = None,
        with_null: WithNull = False,
        rehearsal: Rehearsal = None,
        json: Json = False,
    ) -> None:
        """Tables of all answers for others, with a data sheet: no platform ids, no times of day."""
        from crowd_imi.cli.run_folder import run_folder
        from crowd_imi.scoring.export import write_export
        from crowd_imi.store import Store
        from crowd_imi.store.engine import database_urls
        from crowd_imi.study import load_study

        output = Output(json)
        loaded = load_study(study)
        if prereg + board + (form is not None) != 1:
            raise typer.BadParameter("give one of --format, --prereg and --board")
        if form is None:
            (_preregister if prereg else _tell_board)(output, loaded, to)
            return
        run = run_folder(loaded, rehearsal)
        folder = to or run / "export" / form.value
        done = write_export(loaded, Store.open(*database_urls(run)), folder, form.value, with_null=with_null)
        for name, file in done.files.items():
            output.say(f"{folder / name}: {file.rows} rows")
        output.say(f"data sheet: {folder / 'README.md'}")
        rows = {name: file.rows for name, file in done.files.items()}
        output.result(Exported(folder=folder, format=form.value, rehearsal=done.rehearsal, rows=rows))


def _preregister(output: Output, study: "Study", to: Path | None) -> None:
    from crowd_imi.design.begun import current_plan
    from crowd_imi.publisher.lock import hold_to_lock
    from crowd_imi.publisher.prereg import preregistration
    from crowd_imi.scoring.power import of_arms
    from crowd_imi.store import SystemClock

    hold_to_lock(study)
    text = preregistration(study, current_plan(study), SystemClock().now(), list(of_arms(study.file)))
    file = _write(output, (to or study.folder) / "preregistration.md", text)
    output.say(f"{file}: write down your hypotheses, then register it, e.g. on OSF, before you publish")


def _tell_board(output: Output, study: "Study", to: Path | None) -> None:
    from crowd_imi.pages.review_sheet import review_sheet

    file = _write(output, (to or study.folder) / "review-board.md", review_sheet(study))
    output.say(f"{file}: what only you can say is marked *fill in*")


def _write(output: Output, file: Path, text: str) -> Path:
    """Write a text, keeping one that was filled in."""
    from hashlib import sha256

    from crowd_imi.errors import PublishError
    from crowd_imi.files import write_atomically

    content = text.encode()
    if file.exists() and file.read_bytes() != content:
        raise PublishError(f"{file}: is there already, perhaps filled in; move it away, or name another folder with --to")
    write_atomically(file, content)
    output.result(TextWritten(file=file, sha256=sha256(content).hexdigest()))
    return file
