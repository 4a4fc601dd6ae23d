"""Writes docs/reference/cli.md from the commands' own help and docs/reference/study.md from the models of study.toml.

``python docs/generate.py`` writes them; with ``--check`` it says what is out of date and ends with status 1.
"""

import ast
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from typer.main import get_command
from typer.testing import CliRunner

from crowd_imi import study
from crowd_imi.cli.app import app
from crowd_imi.mistakes import expectation, written
from crowd_imi.records import Record

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `make docs`; don't edit. -->\n\n"

SECTIONS: dict[str, type[Record]] = {
    "[study]": study.StudySection,
    "[images]": study.ImagesSection,
    "[models.NAME]": study.ModelSection,
    "[[arms]]": study.ArmSection,
    "[models.NAME.readouts.READOUT]": study.ReadoutSection,
    "[panels]": study.PanelsSection,
    "[recording]": study.RecordingSection,
    "[visualisation]": study.VisualisationSection,
    "[tasks]": study.TasksSection,
    "[exclusion]": study.ExclusionSection,
    "[pages]": study.PagesSection,
    "[pay]": study.PaySection,
    "[prolific]": study.ProlificSection,
    "[link]": study.LinkSection,
    "[mturk]": study.MturkSection,
    "[hosting]": study.HostingSection,
}


def main() -> int:
    """Write both pages, or check them."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path} is out of date: run `make docs` and commit what it writes\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages()[path], encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")
    return 0


def pages() -> dict[Path, str]:
    """Path → text of every generated page."""
    return {REFERENCE / "cli.md": cli_page(), REFERENCE / "study.md": study_page()}


def cli_page() -> str:
    """The help of every command, in the order of ``crowd-imi --help``."""
    parts = [
        NOTE,
        "# The command line\n\n",
        "Every command takes `--json`: one JSON document on stdout, all else on stderr. It ends with status 0, with 1 (it\n"
        "failed: one line per problem on stderr) or with 2 (it was called wrongly). Running a command again goes on where it\n"
        "stopped.\n\n",
        _help(),
    ]
    for name in _commands():
        parts.append(f"\n## crowd-imi {' '.join(name)}\n\n{_help(*name)}")
    return "".join(parts)


def _commands() -> Iterator[tuple[str, ...]]:
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        if inner is None:
            yield (name,)
        else:
            yield from ((name, each) for each in inner)


def _help(*command: str) -> str:
    os.environ["COLUMNS"] = "100"
    done = CliRunner().invoke(app, [*command, "--help"], prog_name="crowd-imi")
    lines = [line.rstrip() for line in done.output.strip().splitlines()]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def study_page() -> str:
    """Every key of study.toml: what it must be, what it is when left out, and what it means."""
    parts = [
        NOTE,
        "# study.toml\n\n",
        "The file starts with `schema = 1`. Paths are relative to it. `crowd-imi init` writes a commented one, and\n"
        "`crowd-imi check` says everything that doesn't fit at once.\n",
    ]
    for title, section in SECTIONS.items():
        about = inspect.cleandoc(section.__doc__ or "").partition(": ")[2]
        parts.append(f"\n## `{title}`\n\n{about[:1].upper()}{about[1:]}\n\n")
        parts.append("| key | must be | when left out | meaning |\n|---|---|---|---|\n")
        meanings = _meanings(section)
        schema = section.model_json_schema()
        for key, field in section.model_fields.items():
            must = expectation(schema["properties"][key], schema).replace("|", "\\|")
            parts.append(f"| `{key}` | {must} | {_default(field)} | {meanings.get(key, '')} |\n")
    return "".join(parts)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "an error"
    default: Any = field.get_default(call_default_factory=True, validated_data={})
    return "–" if default is None else f"`{written(default)}`"


def _meanings(section: type[Record]) -> dict[str, str]:
    """The texts that stand under a class's fields."""
    (tree,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(tree, ast.ClassDef)
    meanings: dict[str, str] = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        field = before.target if isinstance(before, ast.AnnAssign) else None
        text = after.value if isinstance(after, ast.Expr) else None
        if isinstance(field, ast.Name) and isinstance(text, ast.Constant) and isinstance(text.value, str):
            meanings[field.id] = inspect.cleandoc(text.value).replace("\n", " ").replace("``", "`")
    return meanings


if __name__ == "__main__":
    sys.exit(main())
