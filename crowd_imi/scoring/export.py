"""A study's tables for others: in the published format, or our own as Parquet or CSV; without ids and without times of day.

Participants' ids are keyed hashes by the study's key: the same in every export of a study, so that exports can be joined,
and unrelated to those of its records and of every other study. Moments are left out: days of a crowd platform's records and
times to the second would find a person again, and no analysis needs them. Durations are kept.
"""

import hashlib
import io
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import ValidationError

from crowd_imi import __version__
from crowd_imi.errors import ScoringError
from crowd_imi.files import write_atomically
from crowd_imi.keys import keyed_hash, study_key
from crowd_imi.pack import Pack, image_path
from crowd_imi.records import Record
from crowd_imi.scoring import mis, own_tables
from crowd_imi.scoring.imi_table import COLUMNS, PanelFiles, PanelKey, imi_table
from crowd_imi.scoring.reliability import with_shrunk
from crowd_imi.scoring.stimuli import layer_order, open_pack
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.exports import exported_answers, exported_visits
from crowd_imi.study import Study

Format = Literal["imi", "parquet", "csv"]

MARK = "export.json"
SHEET = "README.md"


class ExportedFile(Record):
    """One table of an export."""

    rows: int
    sha256: str


class Export(Record):
    """``export.json``: what lies in the folder, and by it a later export knows that the folder is one."""

    schema_version: Literal[1] = 1
    study: str
    format: Format
    rehearsal: bool
    made_by: str
    files: dict[str, ExportedFile]


@dataclass(frozen=True, slots=True)
class _Material:
    """What every format is made of; participants already carry the export's ids."""

    study: Study
    store: Store
    answers: pd.DataFrame
    visits: pd.DataFrame
    checks: pd.DataFrame
    panels: Mapping[PanelKey, PanelFiles]
    pack_problem: str


def write_export(study: Study, store: Store, folder: Path, form: Format, *, with_null: bool = False) -> Export:
    """Write a folder with tables, a data sheet and ``export.json``: all of it at once, in place of an earlier export.

    Args:
        study: the study.
        store: its own, or a rehearsal's.
        folder: made when missing; an earlier export that lies there is replaced.
        form: ``imi`` is the published format.
        with_null: keep null units in the published format. Our own tables always hold them, in a column of their own.

    Returns:
        What was written.

    Raises:
        ScoringError: nothing was judged yet, or something else than an export lies in the folder.
    """
    _refuse_what_is_no_export(folder)
    material = _read(study, store)
    tables = _published(material, with_null) if form == "imi" else _own(material)
    contents = {f"{name}.{_suffix(form)}": (len(table), _bytes(table, form)) for name, table in tables.items()}
    export = Export(
        study=study.file.study.name,
        format=form,
        rehearsal=store.kind is StoreKind.REHEARSAL,
        made_by=f"crowd-imi {__version__}",
        files={name: ExportedFile(rows=rows, sha256=_sha256(content)) for name, (rows, content) in contents.items()},
    )
    files = {name: content for name, (_rows, content) in contents.items()}
    files[SHEET] = _data_sheet(material, export, with_null).encode()
    files[MARK] = export.model_dump_json(indent=1).encode() + b"\n"
    _replace(folder, files)
    return export


def _refuse_what_is_no_export(folder: Path) -> None:
    """Replacing a folder takes away what lies in it, so that must be an export and nothing else."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise ScoringError(f"{folder}: this is no folder; name another one with --to")
    there = {path.name for path in folder.iterdir()}
    if not there:
        return
    try:
        export = Export.model_validate_json((folder / MARK).read_bytes())
    except (OSError, ValidationError):
        raise ScoringError(
            f"{folder}: this folder isn't an export (it has no {MARK} that says so), and what lies in it would be lost; "
            "name another one with --to"
        ) from None
    others = sorted(there - {*export.files, MARK, SHEET})
    if others:
        raise ScoringError(
            f"{folder}: besides an earlier export there is {', '.join(others)}, which would be lost; move it, or name another "
            "folder with --to"
        )


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """The folder with these files and no others; whoever looks sees the old one or the new one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        new, old = beside / "new", beside / "old"
        for name, content in files.items():
            write_atomically(new / name, content)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _read(study: Study, store: Store) -> _Material:
    with store.read() as session:
        answers, visits = exported_answers(session), exported_visits(session)
    if answers.empty:
        raise ScoringError("there is nothing to export: no submission has been judged yet; run `crowd-imi harvest` first")
    key = study_key(study.key)
    ids = {each: participant_id(key, each) for each in visits["participant"]}
    pack, problem = open_pack(study, store)
    answers = answers.assign(participant=answers["participant"].map(ids))
    visits = visits.assign(participant=visits["participant"].map(ids))
    panels = _panel_files(pack) if pack else {}
    return _Material(study, store, answers, visits, _checks(visits), panels, problem)


def participant_id(key: bytes, participant: str) -> str:
    """A participant in a study's exports: nothing leads back without the study's key and the lab's.

    Args:
        key: the study's.
        participant: the lab's hash, as the study's records hold it.
    """
    return "P" + keyed_hash(key, "export", participant)[:16]


def _checks(visits: pd.DataFrame) -> pd.DataFrame:
    columns = ("criterion", "passed", "measured", "limit", "clock")
    rows = [
        (participant, *(check.get(column) for column in columns))
        for participant, checks in zip(visits["participant"], visits["checks"], strict=True)
        for check in (checks.values() if isinstance(checks, dict) else ())
    ]
    table = pd.DataFrame(rows, columns=["participant", *columns])
    return table.astype({"passed": "boolean", "measured": float, "clock": "string"})


def _panel_files(pack: Pack) -> dict[PanelKey, PanelFiles]:
    def path(digest: str) -> str:
        return image_path(Path(), digest).as_posix()

    return {
        (arm.arm, entry.unit.key, panel.batch): PanelFiles(
            min_query=path(panel.queries.min.image),
            max_query=path(panel.queries.max.image),
            min_references=tuple(path(each.image) for each in panel.references.min),
            max_references=tuple(path(each.image) for each in panel.references.max),
        )
        for arm in pack.manifest.arms
        for entry in arm.units
        for panel in entry.panels
    }


def _published(material: _Material, with_null: bool) -> dict[str, pd.DataFrame]:
    answers = material.answers

    def rows(chosen: "pd.Series[bool]") -> pd.DataFrame:
        return whole[chosen.reindex(kept).to_numpy()]

    # The response index counts all of a task's submissions, so the table is made whole and cut afterwards.
    whole = imi_table(material.study.file, answers, material.checks, material.panels, with_null=with_null)
    kept = answers.index if with_null else answers.index[~answers["null_unit"] | (answers["kind"] == "catch")]
    main = answers["valid"] & ~answers["surplus"]
    return {"responses_main": rows(main), "responses_lower_quality": rows(~main), "responses_all": whole}


def _own(material: _Material) -> dict[str, pd.DataFrame]:
    study, store = material.study, material.store
    units = with_shrunk(mis.score(study, store, layer_order(study, store)))
    return own_tables.tables(material.answers, material.visits, material.checks, material.panels, units)


def _suffix(form: Format) -> str:
    return "parquet" if form == "parquet" else "csv"


def _bytes(table: pd.DataFrame, form: Format) -> bytes:
    if form == "parquet":
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        return buffer.getvalue()
    if form == "csv":
        flags = [name for name in table.columns if pd.api.types.is_bool_dtype(table[name])]
        table = table.assign(**{name: table[name].map({True: "true", False: "false"}) for name in flags})
    return table.to_csv(index=False, lineterminator="\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _data_sheet(material: _Material, export: Export, with_null: bool) -> str:
    if export.format == "imi":
        files = {
            "responses_main": "Valid responses: what is analysed.",
            "responses_lower_quality": "Responses of submissions that don't count: those that failed a check, and surplus ones, "
            "which passed (passed_checks is True) but came when their task already had its valid response.",
            "responses_all": "Both.",
        }
        sections = [_columns("columns of all three", COLUMNS)]
    else:
        files = dict(own_tables.MEANINGS)
        sections = [_columns(name, columns) for name, columns in own_tables.COLUMNS.items()]
    suffix = _suffix(export.format)
    listed = "\n".join(f"| {name}.{suffix} | {export.files[f'{name}.{suffix}'].rows} | {text} |" for name, text in files.items())
    return "\n".join(
        [
            f"# {material.study.file.study.title}: data\n",
            f"| file | rows | what |\n|---|---|---|\n{listed}\n",
            "An empty cell was not measured; it is never 0 or −1 (but for the batch of catch trials in the published format).\n",
            f"## Provenance\n\n{_provenance(material, export)}\n",
            f"## Null units\n\n{_null_units(material, export.format, with_null)}\n",
            f"## Left out for privacy\n\n{_LEFT_OUT}\n",
            *sections,
        ]
    )


_LEFT_OUT = """\
- Platforms' ids and the ids of the study's records. `participant_id` (`participant`) is a keyed hash made for exports of this
  study; whoever has neither the study's key nor the lab's can't trace it back.
- Dates and times of day of every visit and answer: together with a platform's records they would find a person again. Durations
  are kept, and counted from arrival or from the step before.
- What participants wrote on the last page (it may say who they are), browser, window size, and events such as a change of tab.
- Pay.
- Whoever arrived and didn't consent; practice answers; answers in submissions that weren't finished or judged."""


def _provenance(material: _Material, export: Export) -> str:
    study, store = material.study, material.store
    facts = {
        "study": export.study,
        "responses by": "simulated participants (a rehearsal)" if export.rehearsal else "people",
        "arrivals": _days(material.visits["arrived_at"]),
        "study.toml (SHA-256)": _sha256(study.toml.read_bytes()),
        "pack (SHA-256)": store.about("pack_sha256"),
        "plan (SHA-256)": store.about("plan_sha256"),
        "images": f"left out ({material.pack_problem})" if material.pack_problem else "named by their SHA-256",
        "written by": export.made_by,
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _days(arrivals: "pd.Series[float]") -> str:
    """The study's first and last day as a whole, which says nothing about one participant among many."""
    first, last = (datetime.fromtimestamp(each / 1000, UTC).strftime("%Y-%m-%d") for each in (arrivals.min(), arrivals.max()))
    return f"{first} to {last} (UTC)"


def _null_units(material: _Material, form: Format, with_null: bool) -> str:
    answers = material.answers
    number = int((answers["null_unit"] & (answers["kind"] == "main")).sum())
    what = f"Activations of null units were permuted, so nobody can answer them above chance; {number} answers are on them."
    if form != "imi":
        return f"{what} They are marked in the column `null`; leave them out of a model's mean."
    if with_null:
        return f"{what} They stand under the model `null/MODEL`, which the published format doesn't know."
    return f"{what} They are left out here, as the published format has no place for them."


def _columns(name: str, columns: Mapping[str, str]) -> str:
    rows = "\n".join(f"| {column} | {text} |" for column, text in columns.items())
    return f"## {name}\n\n| column | meaning |\n|---|---|\n{rows}\n"
