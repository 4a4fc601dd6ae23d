"""A whole visit through each platform's stand-in: in MTurk's frame on another site, and between Prolific's pages.

In each condition, one in the smallest window that people are asked to have and one in a large one; between them the pixel ratios
are 1, 1.25 and 2.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Frame, Page, Route, ViewportSize, expect

from crowd_imi.design.plan import make_plan
from crowd_imi.plan import load_plan
from crowd_imi.platforms.opening import Choice
from crowd_imi.platforms.standins.prolific.desk import Account
from crowd_imi.publisher.launch import create_store, launch, note_platform, offer_of
from crowd_imi.store import Store, StoreKind
from crowd_imi.study import Study
from tests import axe
from tests.browser.conftest import TOML, Site, short_practice
from tests.browser.person import button, fullscreen, fullscreen_changes, take_part
from tests.browser.test_trial import EDGES, LAID_OUT
from tests.cli.test_publish_prolific import pages
from tests.conftest import CHROMIUM, FLAGS
from tests.contract.mturk import mturk
from tests.contract.prolific import TOKEN, ProlificRig, served
from tests.tiny import write_pack, write_study

SHORT = TOML.replace("trials = 4\ncatch = 2", "trials = 2\ncatch = 1").replace("responses = 30", "responses = 2")
"""Four tasks of three trials."""

COOKIE = "document.cookie = 'kept=yes; SameSite=None; Secure'; document.cookie"


SMALL: ViewportSize = {"width": 940, "height": 600}
LARGE: ViewportSize = {"width": 1920, "height": 1080}


@dataclass(frozen=True, slots=True)
class Case:
    """What is seen, and on which screen."""

    condition: str
    size: ViewportSize
    ratio: float
    hurried: bool = False
    """Almost without the page's own delays, which take three seconds of every trial."""

    def __str__(self) -> str:
        return f"{self.condition}-{self.size['width']}-{self.ratio}"

    def context(self, browser: Browser) -> BrowserContext:
        context = browser.new_context(viewport=self.size, device_scale_factor=self.ratio)
        if self.hurried:
            context.route("**/api/visit", _hurry, times=1)
        return context


def _hurry(route: Route) -> None:
    reply = route.fetch()
    route.fulfill(response=reply, json=reply.json() | {"timing": {"unlock_ms": 50, "verdict_ms": 20, "feedback_ms": 50}})


@pytest.fixture
def study(tmp_path: Path, case: Case) -> Study:
    study = write_study(tmp_path / "study", SHORT.replace('condition = "natural"', f'condition = "{case.condition}"'))
    write_pack(study)
    make_plan(study, practice=short_practice(tmp_path / "practice"))
    return study


def see_whole_trial(frame: Frame, *, may_fill: bool) -> None:
    """Nothing of the trial that is on ends beyond the frame, nothing in it scrolls, and it is in fullscreen where it can be."""
    expect(fullscreen(frame)).to_have_count(1 if may_fill else 0)
    width, height = frame.evaluate("[innerWidth, innerHeight]")
    frame.evaluate(LAID_OUT, [width, height])
    seen = frame.evaluate(EDGES)
    assert seen["count"] >= 20 + 7 + 1  # images, buttons and the question; at the feedback Continue besides
    assert seen["left"] >= 0 and seen["top"] >= 0 and seen["right"] <= width and seen["bottom"] <= height, (seen, width, height)
    assert not seen["scrolls"], (width, height)


def posted(study: Study, platform: Any, choice: Choice) -> tuple[Store, Any]:
    """The study's store, which knows its platform, and its plan."""
    plan = load_plan(study.plan)
    store = create_store(study, plan, study.folder, StoreKind.STUDY)
    note_platform(store, choice, offer_of(study, len(plan.tasks), platform))
    return store, plan


@contextmanager
def with_pixel_ratio(browser: Browser, ratio: float) -> Iterator[Browser]:
    """Another browser like this one: a context's device_scale_factor doesn't reach a frame of another site."""
    flags = [*FLAGS, f"--force-device-scale-factor={ratio}"]
    chromium = browser.browser_type.launch(executable_path=CHROMIUM, args=flags)
    yield chromium
    chromium.close()


def complaints_of(page: Page) -> list[str]:
    found: list[str] = []
    page.on("console", lambda line: found.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


@pytest.mark.parametrize("case", [Case("natural", SMALL, 1), Case("synthetic", LARGE, 1.25, hurried=True)], ids=str)
def test_a_worker_takes_part_in_mturks_frame_where_no_cookie_is_kept(browser: Browser, study: Study, tmp_path: Path, case: Case):
    with mturk(tmp_path / "mturk") as rig, with_pixel_ratio(browser, case.ratio) as chromium:
        choice = Choice(name="mturk", endpoint_url=rig.standin.url)
        store, plan = posted(study, rig.platform, choice)
        with pages(study) as here:
            # Another site than the stand-in's 127.0.0.1, as the pages are another than MTurk's.
            address = here.replace("127.0.0.1", "localhost")
            posting = launch(study, store, rig.platform, choice.model_copy(update={"pages_url": address}))
            context = case.context(chromium)
            page = context.new_page()
            complaints = complaints_of(page)

            page.goto(f"{rig.standin.url}/mturk/preview?groupId={posting.platform_id}")
            frame = page.frame_locator("iframe")
            expect(frame.get_by_role("heading", name="This is a preview")).to_be_visible()
            assert axe.violations(inner(page, address)) == []
            page.get_by_label("Worker").fill("anna")
            with page.expect_response("**/api/visit") as reply:
                button(page, "Accept")
            framed = inner(page, address)
            assert framed.evaluate(COOKIE) == ""
            # As high as the window, as FrameHeight 0 asks for, and a little narrower: beside it are a margin and a scroll bar.
            width, height = framed.evaluate("[innerWidth, innerHeight]")
            assert case.size["width"] - 40 < width < case.size["width"] and height == case.size["height"]
            own = Site(study, plan, store, None, "", address, "")  # type: ignore[arg-type]
            told = reply.value.json()
            assert (told["condition"], framed.evaluate("devicePixelRatio")) == (case.condition, case.ratio)
            # MTurk doesn't allow its frame to ask for fullscreen.
            take_part(frame, own, told, lambda: see_whole_trial(framed, may_fill=False))
            frame.locator("#complete").click()
            expect(frame.get_by_text("The HIT was submitted")).to_be_visible()
            # The same cookie is kept where the pages are the site that is visited.
            page.goto(f"{address}/visit")
            assert "kept=yes" in page.evaluate(COOKIE)
            context.close()
        # A preview is refused with a 403 and a page without a visit with a 401, which the browser's console names; and jsPsych
        # asks for the focus in its text field, which another site's frame isn't given.
        expected = ("403", "401", "Blocked autofocusing")
        assert [complaint for complaint in complaints if not any(part in complaint for part in expected)] == []
        (submission,) = rig.platform.submissions(posting.platform_id)
        assert submission.status == "awaiting_review"
        assert fullscreen_changes(store) == []
        store.close()


def inner(page: Page, address: str) -> Frame:
    return next(frame for frame in page.frames if frame.url.startswith(address))


@pytest.mark.parametrize("case", [Case("synthetic", LARGE, 1), Case("natural", SMALL, 2, hurried=True)], ids=str)
def test_somebody_comes_from_prolific_and_goes_back_with_the_code(
    browser: Browser, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case
):
    monkeypatch.setenv("PROLIFIC_API_TOKEN", TOKEN)
    account = Account(tokens=(TOKEN,), settle_seconds=0, fee=0.333, vat=0.0)
    with served(tmp_path / "standin", account) as url:
        rig = ProlificRig(url)
        choice = Choice(name="prolific", endpoint_url=url)
        store, plan = posted(study, rig.platform, choice)
        with pages(study) as address:
            launch(study, store, rig.again(), choice.model_copy(update={"pages_url": address}))
            context = case.context(browser)
            page = context.new_page()
            complaints = complaints_of(page)
            page.goto(url)
            page.get_by_label("Your name here").fill("berta")
            with page.expect_response("**/api/visit") as reply:
                button(page, "Take part")
            told = reply.value.json()
            assert (told["condition"], page.evaluate("devicePixelRatio")) == (case.condition, case.ratio)
            own = Site(study, plan, store, None, "", address, "")  # type: ignore[arg-type]
            take_part(page, own, told, lambda: see_whole_trial(page.main_frame, may_fill=True))
            expect(fullscreen(page)).to_have_count(0)
            page.locator("#complete").click()
            page.get_by_role("heading", name="Thank you for taking part").wait_for()
            page.get_by_text("Your submission is now AWAITING REVIEW").wait_for()
            assert page.url.startswith(f"{url}/submissions/complete?cc=")
            context.close()
        assert complaints == []
        # The last is sent while the browser may be leaving already.
        assert fullscreen_changes(store)[:1] == [("practice", 0, True)]
        rig.close()
        store.close()
