"""The ``crowd-imi`` command: its options for all, and how a failure ends."""

import importlib
import logging
import sys
from typing import Annotated

import typer

from crowd_imi import __version__
from crowd_imi.errors import CrowdImiError

STAGES: tuple[str, ...] = ()
"""Modules of ``crowd_imi.cli`` with commands, in the order of ``--help``."""

app = typer.Typer(
    name="crowd-imi",
    help="Measure how well people understand single units of vision models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _all(
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error; logs go to stderr.")] = "warning",
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Measure how well people understand single units of vision models."""
    levels = logging.getLevelNamesMapping()
    if log_level.upper() not in levels:
        raise typer.BadParameter(f"{log_level!r} is none of debug, info, warning, error", param_hint="--log-level")
    logging.basicConfig(stream=sys.stderr, level=levels[log_level.upper()], format="%(levelname)s %(name)s: %(message)s")


for _stage in STAGES:
    importlib.import_module(f"crowd_imi.cli.{_stage}").register(app)


def main() -> None:
    """Run the command line: status 1 and one clear line per problem when something fails."""
    try:
        app()
    except CrowdImiError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"error: {line}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        raise SystemExit(1) from None
