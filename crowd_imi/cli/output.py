"""What a command prints: for a person, or one JSON document for a script; and the options that commands share."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from crowd_imi.records import Record

T = TypeVar("T")

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder, where study.toml is.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; everything else goes to stderr.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]

_QUIET_SECONDS = 2.0
"""A step that is over sooner shows no progress."""
_LINE_SECONDS = 15.0
"""Where progress goes to a file, one line is written this often."""


class Output:
    """Where a command's result, its remarks and its progress go."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def say(self, text: str | Table) -> None:
        """A remark or a table for a person; never part of the JSON document."""
        self.console.print(text)

    def result(self, document: Record) -> None:
        """What a script gets; a person has been told by ``say``."""
        if self.as_json:
            sys.stdout.write(document.model_dump_json(indent=2) + "\n")
            sys.stdout.flush()

    def track(self, things: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Go through things and show on stderr how many are done, how fast, and how long the rest takes."""
        if total is None and isinstance(things, Sized):
            total = len(things)
        console = Console(stderr=True)
        return _bar(console, things, what, total) if console.is_interactive else _lines(things, what, total)


def _bar(console: Console, things: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    begin = time.monotonic()
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(what, total=total, rate="")
    try:
        for done, thing in enumerate(things, 1):
            yield thing
            passed = time.monotonic() - begin
            progress.update(task, completed=done, rate=f"{done / max(passed, 1e-3):.1f}/s")
            if passed > _QUIET_SECONDS:
                progress.start()
    finally:
        progress.stop()


def _lines(things: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    begin = time.monotonic()
    due = begin + _QUIET_SECONDS
    said = False
    done = 0
    for done, thing in enumerate(things, 1):
        yield thing
        now = time.monotonic()
        if now >= due:
            sys.stderr.write(f"{what}: {_standing(done, total, now - begin)}\n")
            due = now + _LINE_SECONDS
            said = True
    if said:
        sys.stderr.write(f"{what}: {done} done in {time.monotonic() - begin:.0f} s\n")


def _standing(done: int, total: int | None, passed: float) -> str:
    rate = done / max(passed, 1e-3)
    if total is None:
        return f"{done}, {rate:.1f}/s"
    return f"{done} of {total}, {rate:.1f}/s, {max(total - done, 0) / max(rate, 1e-9):.0f} s left"
