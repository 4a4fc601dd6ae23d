"""The ``crowd-imi`` command: its options for all, and how a failure ends.

Exit status: 0, 1 (it failed: one clear line per problem on stderr, no traceback) or 2 (it was called wrongly).
"""

import errno
import importlib
import logging
import os
import sqlite3
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from crowd_imi import __version__
from crowd_imi.errors import CrowdImiError

STAGES: tuple[str, ...] = (
    *("author", "factory", "predict", "design", "pages", "hosting", "publisher", "invitations"),
    *("steering", "amending", "harvester", "money"),
    *("backups", "scoring", "export", "rehearsal", "standin", "demo"),
)
"""Modules of ``crowd_imi.cli`` with commands, in the order of ``--help``."""

LOG_LEVELS = ("debug", "info", "warning", "error")


class FailingClearly(TyperGroup):
    """A group of commands whose expected failures end with status 1 and one line per problem."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - its class is private to typer
        """Run the command that was asked for."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; run the same command again to go on\n")
        except Exception as error:
            lines = list(failure(error))
            if not lines:
                raise
            for line in lines:
                sys.stderr.write(f"error: {line}\n")
        else:
            return result
        raise typer.Exit(1)


def failure(error: Exception) -> Iterator[str]:
    """What to say about a failure that isn't a mistake in this package; nothing for one that is."""
    if isinstance(error, CrowdImiError):
        yield from str(error).splitlines()
    elif isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        yield f"{where}{error.strerror[:1].lower()}{error.strerror[1:]}{_advice(error)}"
    elif type(error).__name__ == "OutOfMemoryError":  # torch's, which isn't loaded here
        yield "the GPU's memory is too small; free it, or hide the GPU with CUDA_VISIBLE_DEVICES= to compute on the processor"
    elif isinstance(error, MemoryError):
        yield "not enough memory; close other programs, or make the study smaller"
    elif type(error) in (sqlite3.DatabaseError, sqlite3.OperationalError):  # as below
        yield _unusable(error)
    elif type(error).__module__.startswith("sqlalchemy"):
        yield from _database_failure(error)


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "; make room and run the same command again"
        case errno.EFBIG:
            return "; files may not be so large here: use another disk, or raise the limit, and run the same command again"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "; you may not read or write there: change its owner or permissions, or choose another folder"
        case errno.EADDRINUSE:
            return "; another program listens on this port: stop it or choose another with --port"
        case _:
            return ""


def _database_failure(error: Exception) -> Iterator[str]:
    from sqlalchemy.exc import DatabaseError, OperationalError

    # A file that is no database is a plain DatabaseError; its other children (a broken constraint, wrong SQL) are ours.
    if isinstance(error, OperationalError) or type(error) is DatabaseError:
        yield _unusable(error.orig)


def _unusable(reason: object) -> str:
    return f"the database can't be used: {reason}; check the disk and who else uses it, then run the same command again"


def _forget_stdout() -> None:
    """Whoever read our output has gone (``| head``); keep Python's own flush at exit from complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    name="crowd-imi",
    cls=FailingClearly,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crowd-imi {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error; logs go to stderr.")] = "warning",
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Measure how well people understand single units of vision models.

    A STUDY is a folder with a study.toml; `crowd-imi init` makes one, `crowd-imi demo` shows the whole chain.
    """
    if log_level.lower() not in LOG_LEVELS:
        raise typer.BadParameter(f"{log_level!r} is none of {', '.join(LOG_LEVELS)}", param_hint="--log-level")
    logging.basicConfig(stream=sys.stderr, level=log_level.upper(), format="%(levelname)s %(name)s: %(message)s")


for _stage in STAGES:
    importlib.import_module(f"crowd_imi.cli.{_stage}").register(app)


def main() -> None:
    """Run the command line."""
    # torch's threads spin while they wait for one another, which on cores shared with others costs more time than the
    # work itself (training: 142 s instead of 41). It is read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app(prog_name="crowd-imi")
