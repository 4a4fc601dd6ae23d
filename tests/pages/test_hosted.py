"""Sprites from elsewhere: the same names at another address, a policy that allows just that, canvases that can be read."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page
from werkzeug.serving import make_server

from crowd_imi.errors import PagesError
from crowd_imi.hosted import Hosted, keep_hosted
from crowd_imi.pages.app import create_app
from crowd_imi.pages.server import listen
from crowd_imi.plan import Plan
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.hosting import access, host
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import StoreKind
from tests.browser.conftest import open_window
from tests.pages.conftest import Run
from tests.pages.visitor import Visitor, wrong_row
from tests.storage import Storage, storage
from tests.tiny import STUDY_TOML, fake_plan, write_study

AT = "https://lab.s3.eu-central-1.amazonaws.com/tiny/"


def note(run: Run, **changes: object) -> Hosted:
    hosted = Hosted(
        bucket="lab",
        endpoint_url=None,
        region="eu-central-1",
        prefix="tiny/",
        readable_by="policy",
        public_url=AT,
        origin="http://127.0.0.1",
        names=tuple(sorted(plan_of(run).sprites)),
        complete=True,
    ).model_copy(update=changes)
    keep_hosted(run.study, hosted)
    return hosted


def plan_of(run: Run) -> Plan:
    plan: Plan = run.app.extensions["crowd_imi"].plan
    return plan


def serve_again(run: Run) -> Run:
    """The pages, started anew."""
    run.app = create_app(run.study, run.store, run.platform, run_folder=run.study.folder)
    return run


def sprites_of(view: dict) -> list[str]:
    return [trial["sprite"] for trial in [*view["practice"]["trials"], *view["main"]]]


def test_a_visit_differs_in_nothing_but_where_its_sprites_are(run: Run):
    visitor = run.visitor("ann")
    before = visitor.view()
    note(run)
    serve_again(run)
    visitor.client = run.app.test_client(use_cookies=False)
    after = visitor.view()
    assert sprites_of(after) == [f"{AT}{sprite.removeprefix('/sprites/')}" for sprite in sprites_of(before)]
    for view in (before, after):
        for trial in [*view["practice"]["trials"], *view["main"]]:
            del trial["sprite"]
    assert after == before


def test_practice_that_is_repeated_is_there_too(run: Run):
    note(run)
    visitor = serve_again(run).visitor("ann")
    visitor.consent()
    visitor.read_instructions()
    block = visitor.view()["practice"]
    for position, trial in enumerate(block["trials"]):
        reply = visitor.practise(block, position, wrong_row(trial))
    assert all(trial["sprite"].startswith(AT) for trial in reply.json["practice"]["trials"])


def test_the_policy_allows_pictures_from_there_and_nothing_more(run: Run):
    own = run.app.test_client().get("/health").headers["Content-Security-Policy"]
    note(run)
    theirs = serve_again(run).app.test_client().get("/health").headers["Content-Security-Policy"]
    assert "img-src 'self' blob: data:;" in own
    assert theirs == own.replace("img-src 'self'", "img-src 'self' https://lab.s3.eu-central-1.amazonaws.com")


def test_the_pages_still_have_them_for_who_cant_reach_the_storage(run: Run):
    note(run)
    visitor = serve_again(run).visitor("ann")
    name = sprites_of(visitor.view())[0].removeprefix(AT)
    assert visitor.get(f"/sprites/{name}").data == (run.study.sprites / name).read_bytes()


def test_an_upload_or_removal_under_way_sends_nobody_there(run: Run):
    note(run, complete=False)
    assert sprites_of(serve_again(run).visitor("ann").view())[0].startswith("/sprites/")


def test_rehearsals_get_them_from_the_pages(make_run):
    run = make_run(kind=StoreKind.REHEARSAL)
    note(run)
    assert sprites_of(serve_again(run).visitor("ann").view())[0].startswith("/sprites/")


def test_pages_that_the_storage_doesnt_let_read_arent_served(run: Run):
    note(run, origin="https://elsewhere.example.org")
    with pytest.raises(PagesError, match=r"read the sprites, but participants are sent to http://127\.0\.0\.1; run"):
        serve_again(run)


def test_a_plan_whose_sprites_arent_there_isnt_served(run: Run):
    hosted = note(run)
    note(run, names=hosted.names[1:])
    with pytest.raises(PagesError, match="planned anew since the sprites were hosted"):
        serve_again(run)


@pytest.fixture(scope="module")
def server() -> Iterator[Storage]:
    with storage() as made:
        yield made


@pytest.fixture
def s3(server: Storage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setattr(access, "WAITS", (0.0,))
    server.begin(monkeypatch)
    yield server
    server.client.close()


@pytest.fixture
def hosted_site(tmp_path: Path, s3: Storage) -> Iterator[tuple[str, str]]:
    """Address of pages whose sprites are in the storage, and the token of a visit that stands at its first trial."""
    study = write_study(tmp_path / "study", f'{STUDY_TOML}\n[hosting]\nbucket = "lab"\nendpoint_url = "{s3.url}"\n')
    plan = fake_plan(study)
    for name in plan.sprites:
        _picture(plan).save(study.sprites / name, quality=90, subsampling="4:4:4", speed=9)
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    pages_url = f"http://127.0.0.1:{port}"
    host(study, plan, pages_url)
    store = create_store(study, plan, study.folder, StoreKind.STUDY)
    platform = LocalPlatform(study.folder / "local.db")
    platform.set_base_url("http://127.0.0.1:1")
    posting = launch(study, store, platform, Choice(pages_url=pages_url)).platform_id
    app = create_app(study, store, platform, run_folder=study.folder)
    visitor = Visitor(app)
    visitor.arrive("ann", platform.take(posting, "ann").id, posting)
    visitor.begin_trials()
    server = make_server("127.0.0.1", port, app, threaded=True, fd=listener.fileno())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield pages_url, visitor.token
    server.shutdown()
    thread.join()
    server.server_close()
    listener.close()
    store.close()
    platform.close()


def _picture(plan: Plan) -> Image.Image:
    """A sprite whose tile n is grey, 10·n + 20."""
    grid = plan.grid
    pitch = grid.tile + grid.gutter
    picture = Image.new("RGB", (grid.gutter + grid.columns * pitch, grid.gutter + grid.rows * pitch))
    for tile in range(grid.columns * grid.rows):
        left, top = grid.gutter + tile % grid.columns * pitch, grid.gutter + tile // grid.columns * pitch
        picture.paste((10 * tile + 20,) * 3, (left, top, left + grid.tile, top + grid.tile))
    return picture


GREYS = """() => [...document.querySelectorAll('.trial canvas')].map(canvas =>
    canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[0])"""
"""Fails where a canvas was drawn on with what its page may not read."""


def greys(page: Page, pages_url: str, token: str) -> list[int]:
    page.goto(f"{pages_url}/visit#{token}")
    page.get_by_role("button", name="Start").click()
    page.locator(".trial canvas").first.wait_for()
    found: list[int] = page.evaluate(GREYS)
    return sorted(found)


def test_a_browser_draws_tiles_from_the_storage_and_from_the_pages_when_that_fails(
    hosted_site: tuple[str, str], s3: Storage, browser: Browser
):
    pages_url, token = hosted_site
    expected = pytest.approx([10 * tile + 20 for tile in range(20)], abs=3)
    context = browser.new_context(viewport={"width": 940, "height": 600})
    window, asked = open_window(context), []
    window.page.on("request", lambda request: asked.append(request.url))
    assert greys(window.page, pages_url, token) == expected
    sprites = [url for url in asked if url.endswith(".avif")]
    assert len(sprites) >= 5 and all(url.startswith(f"{s3.url}/lab/") for url in sprites)
    assert window.complaints == []
    context.close()

    s3.refuse["GET /lab/"] = (403, "AccessDenied")
    context = browser.new_context(viewport={"width": 940, "height": 600})
    assert greys(open_window(context).page, pages_url, token) == expected
    context.close()
