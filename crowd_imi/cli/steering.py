"""``pause``, ``resume`` and ``stop``."""

from typing import TYPE_CHECKING

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder, Yes
from crowd_imi.records import Record

if TYPE_CHECKING:
    from pathlib import Path

    from crowd_imi.platforms.base import PostingState


class Steered(Record):
    """What these commands print with ``--json``."""

    study: str
    state: str
    """open, paused or stopped."""
    changed: bool


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(pause)
    app.command()(resume)
    app.command()(stop)


def pause(folder: StudyFolder, as_json: Json = False) -> None:
    """Let no new participants in for now; those under way may finish."""
    from crowd_imi.platforms.base import PostingState

    _steer(folder, PostingState.PAUSED, Output(as_json))


def resume(folder: StudyFolder, as_json: Json = False) -> None:
    """Let participants in again."""
    from crowd_imi.platforms.base import PostingState

    _steer(folder, PostingState.OPEN, Output(as_json))


def stop(folder: StudyFolder, yes: Yes = False, as_json: Json = False) -> None:
    """Let no new participants in any more; those under way may finish, and are paid by the next harvests."""
    from crowd_imi.errors import PublishError
    from crowd_imi.platforms.base import PostingState

    if not yes:
        if as_json:
            raise PublishError("stopping is for good: say --yes together with --json")
        typer.confirm("Stop recruiting? It can't be taken up again.", abort=True, err=True)
    _steer(folder, PostingState.STOPPED, Output(as_json))


def _steer(folder: "Path", wanted: "PostingState", output: Output) -> None:
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.publisher.steering import steer
    from crowd_imi.study import load_study

    study = load_study(folder)
    store, platform = open_run(study, None)
    changed = steer(study, store, platform, wanted)
    already = "" if changed else " already"
    output.say(f"{study.file.study.name} on {platform.name} is {wanted}{already}{_what_next(folder, wanted)}")
    output.result(Steered(study=study.file.study.name, state=wanted.value, changed=changed))


def _what_next(folder: "Path", now: "PostingState") -> str:
    from crowd_imi.errors import command
    from crowd_imi.platforms.base import PostingState

    match now:
        case PostingState.STOPPED:
            return (
                f": who is at it may finish; {command('harvest', folder, '--watch')} judges and pays them and ends by itself "
                "(leave the pages running until then)"
            )
        case PostingState.PAUSED:
            return f": who is at it may finish; {command('resume', folder)} lets people in again"
        case _:
            return ""
