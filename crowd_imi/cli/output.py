"""What a command prints: for a person, or one JSON document for a script."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crowd_imi.records import Record

T = TypeVar("T")

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder, where study.toml is.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; progress goes to stderr.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


class Output:
    """Where a command's result, its remarks and its progress go."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A remark for a person; never part of the JSON document."""
        self.console.print(text)

    def result(self, document: Record) -> None:
        """What a script gets; a person has been told by ``say``."""
        if self.as_json:
            sys.stdout.write(document.model_dump_json(indent=2) + "\n")

    def track(self, things: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Go through things with a bar that shows how many are done and how long the rest takes."""
        if total is None and isinstance(things, Sized):
            total = len(things)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        begin = time.monotonic()
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(what, total=total, rate="")
            for done, thing in enumerate(things, 1):
                yield thing
                rate = done / max(time.monotonic() - begin, 1e-3)
                progress.update(task, advance=1, rate=f"{rate:.1f}/s")
