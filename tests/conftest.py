"""What tests of several stages share: a lab key of their own, and databases of both kinds."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import NullPool, create_engine, text

from crowd_imi.plan import Plan
from crowd_imi.store import Clock, Store, StoreKind
from crowd_imi.store.tasks import load_tasks

MakeStore = Callable[..., Store]

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # As browsers do that keep no cookies of another site's frame, in which MTurk shows the pages.
    "--test-third-party-cookie-phaseout",
]

# As the command line does before torch is loaded: threads that spin while they wait starve the other workers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Fixtures that live longer than a test make studies too: none of them is known by the user's own key.
os.environ["CROWD_IMI_LAB_KEY"] = "a key for tests"


@pytest.fixture(autouse=True)
def lab_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or makes the user's own key."""
    monkeypatch.setenv("CROWD_IMI_LAB_KEY", "a key for tests")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all files of a worker: Playwright refuses to be started twice in a process."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """A private PostgreSQL cluster on a socket of its own; each call makes an empty schema in it and returns its URL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(programs[-1]) if programs else shutil.which("initdb")
    assert found, "the tests need PostgreSQL; run `make install`, or install Debian's package postgresql"
    binaries = Path(found).parent
    folder = Path(tempfile.mkdtemp(prefix="imi-pg-"))  # a socket's path may have 107 characters, so not in pytest's folder
    owner = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    shutil.chown(folder, owner)

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries / program), "-D", str(folder / "data"), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", owner, "--", *command]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}"

    run("initdb", "-U", "imi", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=60"
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    server = create_engine(
        f"postgresql+psycopg://imi@/postgres?host={folder}", isolation_level="AUTOCOMMIT", poolclass=NullPool
    )  # some tests end every connection

    def new_schema() -> str:
        name = f"t{uuid.uuid4().hex}"
        with server.connect() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        return f"postgresql+psycopg://imi@/postgres?host={folder}&options=-csearch_path%3D{name}"

    try:
        yield new_schema
    finally:
        server.dispose()
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """URLs of study.db and people.db, empty: the same test runs on SQLite and on a real PostgreSQL."""
    if request.param == "postgresql":
        new_schema = request.getfixturevalue("postgres")
        return new_schema(), new_schema()
    return f"sqlite:///{tmp_path / 'study.db'}", f"sqlite:///{tmp_path / 'people.db'}"


@pytest.fixture
def make_store(database_urls: tuple[str, str]) -> Iterator[MakeStore]:
    """Makes the store of a plan, on both kinds of database."""
    made: list[Store] = []

    def make(plan: Plan, kind: StoreKind = StoreKind.STUDY, clock: Clock | None = None) -> Store:
        about = {"study": plan.study, "plan_sha256": plan.sha256, "pack_sha256": plan.pack_sha256}
        store = Store.create(*database_urls, kind, about, clock)
        with store.write() as session:
            load_tasks(session, plan)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()
