"""What tests of several stages share: a lab key of their own, and databases of both kinds."""

import atexit
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from pathlib import Path

import botocore.loaders
import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright

from benchmarks.postgresql import PostgreSQL
from crowd_imi.design import encoding
from crowd_imi.design.pictures import Pixels
from crowd_imi.plan import Grid, Plan
from crowd_imi.store import Clock, Store, StoreKind
from crowd_imi.store.tasks import load_tasks

MakeStore = Callable[..., Store]
EncodeTile = Callable[[Pixels, Grid], bytes]

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

TESTS = Path(__file__).parent
WAIT = (
    "browser/",
    "contract/test_platforms.py",
    "factory/test_cluster.py",
    "acceptance/test_render_killed.py",
    "cli/test_publish_prolific.py",
    "pages/test_dashboard.py",
    "platforms/test_",
    "harvester/test_events.py",
)
"""Files whose tests mostly wait: for delays of the pages, for answers that don't come, for processes that start and end."""

# As the command line does before torch is loaded: threads that spin while they wait starve the other workers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Small networks and matrices, and a worker for every core: a second thread would only wait for the first.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time, however long one takes on a machine that has other things to do.
settings.register_profile("same", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")

# Fixtures that live longer than a test make studies too: none of them is known by the user's own key.
os.environ["CROWD_IMI_LAB_KEY"] = "a key for tests"

# A process asks AWS through a client or two, the tests make hundreds: they share the descriptions of its services.
botocore.loaders.create_loader = functools.cache(botocore.loaders.create_loader)


# What is imported stays: looking through it again and again takes an eighth of the suite's time.
gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that mostly wait alternate with files that compute, so that the workers don't all do the same at a time."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path.relative_to(TESTS).as_posix(), []).append(item)
    waiting, computing = ([path for path in files if path.startswith(WAIT) is waits] for waits in (True, False))
    turns = chain.from_iterable(zip_longest(computing, waiting))
    items[:] = [item for path in turns if path is not None for item in files[path]]


def pytest_collection_finish() -> None:
    """From here on there is garbage, among which no import is looked for; and studies of the same few pictures."""
    encoding.encode_tile = _encoded_once(encoding.encode_tile)
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.unfreeze)  # or libraries complain about what is left at the end


def _encoded_once(encode_tile: EncodeTile) -> EncodeTile:
    """Each tile's bytes follow from the tile alone, so a tile that many tests' studies show is encoded once.

    The tests of the encoder itself have imported it by then, and do all its work.
    """
    encoded: dict[tuple[bytes, Grid], bytes] = {}

    def encode(tile: Pixels, grid: Grid) -> bytes:
        asked = tile.tobytes(), grid
        if asked not in encoded:
            encoded[asked] = encode_tile(tile, grid)
        return encoded[asked]

    return encode


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Networks and images that a test draws are the same, whatever its worker did before."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


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
    """A private PostgreSQL server; each call makes an empty schema in it and returns its URL."""
    with PostgreSQL(durable=False) as server:
        yield server.new_schema


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
