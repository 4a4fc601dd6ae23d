"""``backup`` and ``restore``."""

from pathlib import Path
from typing import Annotated

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.records import Record


class Restored(Record):
    """What ``restore --json`` prints."""

    folder: Path
    may_spend: bool


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    folder: StudyFolder,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The tar file to write; never overwritten.")],
    as_json: Json = False,
) -> None:
    """Copy the whole study into one file, while it runs. It holds participants' ids and keys: keep it safe.

    Databases on a server aren't in it; the commands that copy them are printed.
    """
    from crowd_imi.store.backups import back_up

    output = Output(as_json)
    done = back_up(folder, target)
    ids = "the study's key" if done.elsewhere else "participants' ids and the study's key"
    output.say(f"{done.file}: {done.files} files, {done.bytes / 1e6:.1f} MB, with {ids}")
    if done.elsewhere:
        output.say("not in it: what people did and their ids, which are on a server. Copy these as well, in this order:")
        for copying in done.elsewhere:
            output.say(f"  {copying}")
    output.result(done)


def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote; with --take-over, the study's folder.")],
    target: Annotated[Path | None, typer.Argument(metavar="[STUDY]", help="A new folder.", show_default=False)] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="The original is gone: the restored STUDY may spend from now on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a backup into a new folder. It may not spend before it takes over, as two copies would pay twice."""
    from crowd_imi.errors import command
    from crowd_imi.store import Store, backups
    from crowd_imi.store.engine import database_urls
    from crowd_imi.store.server import noted_databases

    output = Output(as_json)
    if take_over:
        if target is not None:
            raise typer.BadParameter("--take-over takes the restored study's folder alone")
        changed = backups.take_over(Store.open(*database_urls(source)))
        output.say(f"{source} {'may spend from now on' if changed else 'is no restored copy, or took over before'}")
        output.result(Restored(folder=source, may_spend=True))
        return
    if target is None:
        raise typer.BadParameter("give the new folder as well: crowd-imi restore FILE STUDY")
    backups.restore(source, target)
    noted = noted_databases(target)
    if noted is not None:
        output.say(
            f"{target}: restored. Its databases are on a server, {noted.study}, as before; if they are gone too, put them back "
            f"with pg_restore. On another server it may not spend before: {command('restore', '--take-over', target)}"
        )
        output.result(Restored(folder=target, may_spend=True))
        return
    output.say(
        f"{target}: restored. It may not spend yet; when the original is gone: {command('restore', '--take-over', target)}"
    )
    output.result(Restored(folder=target, may_spend=False))
