"""``standin``: platforms that run on this machine and speak the real ones' protocols."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crowd_imi.cli.output import Json, Output
from crowd_imi.files import write_atomically

if TYPE_CHECKING:
    from crowd_imi.pages.server import WsgiApp

LOOPBACK = "127.0.0.1"

StandinFolder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder for the stand-in's books; made when missing, kept when there.")
]
StandinPort = Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 lets the system choose.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="A stand-in for a platform, on 127.0.0.1, with books of its own.", no_args_is_help=True)
    group.command()(prolific)
    group.command()(mturk)
    app.add_typer(group, name="standin")


def prolific(  # noqa: PLR0913, PLR0917 (one per option)
    folder: StandinFolder,
    port: StandinPort = 0,
    token: Annotated[list[str] | None, typer.Option(help="An API token that is let in; repeatable; without it, any is.")] = None,
    settle_seconds: Annotated[float, typer.Option(min=0, help="How long a bonus that was paid doesn't show yet.")] = 2.0,
    currency: Annotated[str, typer.Option(help="Of the workspace: USD or GBP.")] = "USD",
    balance: Annotated[int, typer.Option(min=0, help="In cents or pence, for new books.")] = 1_000_000,
    fee: Annotated[
        float, typer.Option(min=0, max=1, help="The platform's share of what is paid; corporate accounts pay 0.428.")
    ] = 0.333,
    vat: Annotated[float, typer.Option(min=0, max=1, help="VAT, as a share of the fee.")] = 0.0,
    retry_seconds: Annotated[
        float, typer.Option(min=0, help="After how long an event is sent again the first time; the wait doubles each time.")
    ] = 40.0,
    json: Json = False,
) -> None:
    """A stand-in that speaks Prolific's API v1; participants at the same address."""
    from crowd_imi.platforms.standins.prolific.app import create_app
    from crowd_imi.platforms.standins.prolific.desk import Account, check_currency

    account = Account(
        tokens=tuple(token or ()),
        settle_seconds=settle_seconds,
        currency=check_currency(currency),
        opening_balance=balance,
        fee=fee,
        vat=vat,
        retry_seconds=retry_seconds,
    )
    serve_standin("prolific", folder, port, partial(create_app, folder.resolve(), account), Output(json))


def mturk(  # noqa: PLR0913, PLR0917 (one per option)
    folder: StandinFolder,
    port: StandinPort = 0,
    access_key: Annotated[str | None, typer.Option(help="The AWS access key that is let in; without it, any is.")] = None,
    secret_key: Annotated[
        str | None, typer.Option(envvar="STANDIN_SECRET_KEY", help="Its secret; without it, signatures aren't checked.")
    ] = None,
    balance: Annotated[int, typer.Option(min=0, help="In cents, for new books.")] = 1_000_000,
    events_endpoint: Annotated[
        str | None, typer.Option(help="Where SQS and SNS are, e.g. moto's server; without it, at the queue's own address.")
    ] = None,
    json: Json = False,
) -> None:
    """A stand-in that speaks Mechanical Turk's requester API, as boto3 does; workers at the same address."""
    from crowd_imi.platforms.standins.mturk.app import create_app
    from crowd_imi.platforms.standins.mturk.state import Account

    account = Account(access_key=access_key, secret_key=secret_key, opening_balance=balance, events_endpoint=events_endpoint)
    serve_standin("mturk", folder, port, partial(create_app, folder.resolve(), account), Output(json))


def serve_standin(platform: str, folder: Path, port: int, app_factory: "Callable[[], WsgiApp]", output: Output) -> None:
    """Serve a stand-in with one process, and say where it is once it listens.

    Args:
        platform: whom it stands in for.
        folder: where ``serving.json`` is written; removed at the end, unless the server is killed.
        port: 0 lets the system choose.
        app_factory: called in the worker, which alone has the books open.
        output: where the address goes.
    """
    from crowd_imi.pages.server import Site, listen, serve_sites
    from crowd_imi.platforms.standins.serving import SERVING_FILE, StandinServing

    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    site = Site(app_factory, listen(LOOPBACK, port))
    serving = StandinServing(platform=platform, url=site.address, pid=os.getpid())
    note = folder / SERVING_FILE

    def ready() -> None:
        write_atomically(note, serving.model_dump_json().encode())
        output.say(f"{platform}'s stand-in: {serving.url}")
        output.say("stop with Ctrl-C; nothing is lost by it")
        output.result(serving)

    serve_sites((site,), 1, ready, lambda: note.unlink(missing_ok=True))
