"""``serve`` and ``preview``: the task pages; ``dashboard``: how it goes."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.cli.run_folder import Rehearsal
from crowd_imi.errors import StoreError, command
from crowd_imi.files import write_atomically
from crowd_imi.records import Record, Serving

if TYPE_CHECKING:
    from flask import Flask

    from crowd_imi.pages.server import Site
    from crowd_imi.platforms.opening import Choice
    from crowd_imi.study import Study

Host = Annotated[str, typer.Option(help="Address that the task pages listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port of the task pages; 0 lets the system choose.")]
PlacesPort = Annotated[
    int, typer.Option(min=0, max=65535, help="Port of the local platform's list of places, on 127.0.0.1 only.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]

LOOPBACK = "127.0.0.1"


class Watching(Record):
    """What ``dashboard --json`` prints once it listens."""

    dashboard: str
    pid: int


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(preview)
    app.command()(dashboard)


def serve(  # noqa: PLR0913, PLR0917 (one per option)
    study: StudyFolder,
    host: Host = LOOPBACK,
    port: Port = 8000,
    places_port: PlacesPort = 8001,
    workers: Workers = 2,
    rehearsal: Rehearsal = None,
    json: Json = False,
) -> None:
    """Serve the task pages, and the local platform's list of places."""
    from crowd_imi.design.begun import current_plan
    from crowd_imi.pages.server import Site, listen
    from crowd_imi.publisher.lock import hold_to_lock
    from crowd_imi.study import load_study

    loaded = load_study(study)
    if rehearsal is None:
        hold_to_lock(loaded)
        current_plan(loaded)
    run_folder = loaded.folder if rehearsal is None else loaded.rehearsal(rehearsal)
    choice = _check_run(loaded, run_folder)
    pages = Site(lambda: _pages(loaded, run_folder, choice), listen(host, port))
    if choice.name != "local":
        serving = Serving(pages=pages.address, places=None, pid=os.getpid())
        _serve((pages,), workers, run_folder, serving, Output(json), _other_ports(pages.address, (choice.arrival_url,)))
        return
    places = Site(lambda: _places(run_folder), listen(LOOPBACK, places_port, "--places-port"))
    serving = Serving(pages=pages.address, places=places.address, pid=os.getpid())
    remarks = _other_ports(pages.address, _local_arrivals(run_folder, places.address))
    _serve((pages, places), workers, run_folder, serving, Output(json), remarks)


def preview(  # noqa: PLR0913, PLR0917 (one per option)
    study: StudyFolder,
    host: Host = LOOPBACK,
    port: Port = 8000,
    workers: Workers = 1,
    print_link: Annotated[bool, typer.Option("--print-link", help="Print the link and don't serve.")] = False,
    json: Json = False,
) -> None:
    """A link to click through a task as a participant would; never counted."""
    from crowd_imi.keys import study_key
    from crowd_imi.pages.server import Site, listen
    from crowd_imi.pages.tokens import Tokens
    from crowd_imi.study import load_study

    loaded = load_study(study)
    run_folder = loaded.rehearsal("preview")
    _make_preview(loaded, run_folder)
    _check_run(loaded, run_folder)
    token = Tokens(study_key(loaded.key)).for_preview(loaded.file.study.name)
    if print_link:
        base = f"http://{host}:{port}"
        output, link = Output(json), f"{base}/preview?token={token}"
        output.say(link)
        output.result(Serving(pages=base, places=None, link=link, pid=os.getpid()))
        return
    pages = Site(lambda: _pages(loaded, run_folder, None), listen(host, port))
    link = f"{pages.address}/preview?token={token}"
    serving = Serving(pages=pages.address, places=None, link=link, pid=os.getpid())
    _serve((pages,), workers, run_folder, serving, Output(json))


def dashboard(
    study: StudyFolder,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; any but this machine's own takes a password in CROWD_IMI_DASHBOARD_PASSWORD."),
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the dashboard; 0 lets the system choose.")] = 8002,
    rehearsal: Rehearsal = None,
    json: Json = False,
) -> None:
    """Watch how the study goes in a browser: progress, exclusions, drop-out, times, money, problems. It changes nothing."""
    from crowd_imi.cli.run_folder import run_folder
    from crowd_imi.pages.dashboard import create_app, require_password
    from crowd_imi.pages.server import Site, listen, serve_sites
    from crowd_imi.store.engine import database_urls
    from crowd_imi.store.read_only import ReadOnlyStore
    from crowd_imi.study import load_study

    password = os.environ.get("CROWD_IMI_DASHBOARD_PASSWORD")
    require_password(host, password)
    loaded = load_study(study)
    url, _ = database_urls(run_folder(loaded, rehearsal))
    ReadOnlyStore.look(url).close()
    site = Site(lambda: create_app(loaded, ReadOnlyStore.look(url), password), listen(host, port))
    output, watching = Output(json), Watching(dashboard=site.address, pid=os.getpid())

    def ready() -> None:
        output.say(f"dashboard: {watching.dashboard}{'' if password is None else ' (user: dashboard)'}")
        output.say("stop with Ctrl-C")
        output.result(watching)

    serve_sites((site,), 1, ready)


def _other_ports(pages: str, arrival_urls: Iterable[str]) -> tuple[str, ...]:
    """A remark on each posting that sends people to another port; behind HTTPS something else passes requests on."""
    return tuple(
        f"warning: the study was published with {published.scheme}://{published.netloc}, where participants are sent, but its "
        f"pages are at {pages}; use that port, unless something passes requests on"
        for published in map(urlsplit, arrival_urls)
        if published.scheme == "http" and (published.port or 80) != urlsplit(pages).port
    )


def _local_arrivals(run_folder: Path, places: str) -> tuple[str, ...]:
    """Tell the local platform where its list of places is; returns where its postings send people."""
    from crowd_imi.platforms.local import LocalPlatform

    platform = LocalPlatform(run_folder / "local.db")
    platform.set_base_url(places)
    arrivals = platform.arrival_urls()
    platform.close()
    return arrivals


def _pages(study: "Study", run_folder: Path, choice: "Choice | None") -> "Flask":
    """The task pages; without a platform for a preview."""
    from crowd_imi.pages.app import create_app
    from crowd_imi.platforms.opening import open_platform
    from crowd_imi.store import Store
    from crowd_imi.store.engine import database_urls

    store = Store.open(*database_urls(run_folder))
    platform = None if choice is None else open_platform(study, run_folder, choice, patient=False)
    return create_app(study, store, platform, run_folder=run_folder)


def _places(run_folder: Path) -> "Flask":
    from crowd_imi.pages.places import create_app
    from crowd_imi.platforms.local import LocalPlatform

    return create_app(LocalPlatform(run_folder / "local.db"))


def _check_run(study: "Study", run_folder: Path) -> "Choice":
    """Say what is wrong here, in one line, rather than in every worker; returns which platform the run is on."""
    from crowd_imi.pages.app import create_app
    from crowd_imi.plan import load_plan
    from crowd_imi.platforms.opening import choice_of, open_platform, require_books
    from crowd_imi.store import Store, StoreKind
    from crowd_imi.store.engine import database_urls
    from crowd_imi.store.lab import require_lab_key

    store = Store.open(*database_urls(run_folder))
    try:
        if store.kind is StoreKind.REHEARSAL and store.about("plan_sha256") != load_plan(study.plan).sha256:
            again = command("rehearse", study.folder, "--name", run_folder.name)
            raise StoreError(f"{run_folder}: this is a rehearsal of another plan than {study.plan}; run `{again}`")
        create_app(study, store, None, run_folder=run_folder)
        require_lab_key(store)
        choice = choice_of(store)
        require_books(store, run_folder, choice)
        if store.kind is not StoreKind.PREVIEW:
            open_platform(study, run_folder, choice)
        return choice
    finally:
        store.close()


def _make_preview(study: "Study", run_folder: Path) -> None:
    """The preview's databases; they are made anew when the plan was."""
    from crowd_imi.design.begun import current_plan
    from crowd_imi.publisher.launch import create_store
    from crowd_imi.store import Store, StoreKind
    from crowd_imi.store.engine import database_urls

    plan = current_plan(study)
    if (run_folder / "study.db").exists():
        try:
            store = Store.open(*database_urls(run_folder))
            current = store.kind is StoreKind.PREVIEW and store.about("plan_sha256") == plan.sha256
            store.close()
        except StoreError:
            current = False
        if current:
            return
        shutil.rmtree(run_folder)
    create_store(study, plan, run_folder, StoreKind.PREVIEW).close()


def _serve(  # noqa: PLR0913, PLR0917 (what, how, and what to say of it)
    sites: "tuple[Site, ...]", workers: int, run_folder: Path, serving: Serving, output: Output, remarks: tuple[str, ...] = ()
) -> None:
    from crowd_imi.pages.server import serve_sites

    note = run_folder / "serving.json"

    def ready() -> None:
        write_atomically(note, serving.model_dump_json().encode())
        output.say(f"task pages: {serving.link or serving.pages}")
        if serving.places:
            output.say(f"open places: {serving.places}")
        for remark in remarks:
            output.say(remark)
        output.say("stop with Ctrl-C; nothing is lost by it")
        output.result(serving)

    serve_sites(sites, workers, ready, lambda: note.unlink(missing_ok=True))
