"""Sprites that can't be had for a while: a bar shows how many are there, each is asked for again, and the visit goes on."""

from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from tests import axe
from tests.browser.conftest import Site, Window
from tests.browser.person import Api, answer, button, go_on, pass_practice, verdict

SPRITES = "**/sprites/*"
HEADING = "Loading the images"
TROUBLE = "The images can’t be loaded at the moment"
AHEAD = 5
"""Main trials whose sprites are loaded before they are needed."""


def sprites_of(site: Site, token: str) -> list[str]:
    """The sprites of the main trials, in their order."""
    return [trial["sprite"] for trial in Api(site, token).call("/api/visit")["main"]]


def fail(site: Site, page: Page, addresses: list[str], how: Callable[[Route], None]) -> list[str]:
    """Fail every request for these sprites from now on; returns what was asked for, which grows."""
    asked: list[str] = []

    def handle(route: Route) -> None:
        path = route.request.url.removeprefix(site.pages)
        if path.partition("?")[0] in addresses:
            asked.append(path)
            how(route)
        else:
            route.continue_()

    page.route(SPRITES, handle)
    return asked


def let_through(page: Page) -> None:
    page.unroute(SPRITES)
    # Pages wait up to 8 s between two tries, and no longer than until the browser says that it is online again.
    page.evaluate("window.dispatchEvent(new Event('online'))")


def test_while_sprites_fail_a_bar_waits_with_a_message_and_then_the_first_trial_comes(site: Site, window: Window):
    page = window.page
    token = pass_practice(site, "slow-start")
    sprites = sprites_of(site, token)
    asked = fail(site, page, sprites[2:], lambda route: route.abort())

    page.goto(f"{site.pages}/visit#{token}")
    button(page, "Start")
    page.get_by_role("heading", name=HEADING).wait_for()
    expect(page.get_by_text(f"2 of {AHEAD}")).to_be_visible()
    assert page.get_by_role("progressbar", name=HEADING).evaluate("bar => bar.value") == 2 / AHEAD
    expect(page.get_by_text(TROUBLE)).to_be_visible()
    assert page.locator(".trial").count() == 0
    assert axe.violations(page) == []
    with page.expect_request(lambda request: "?again=3" in request.url):
        pass
    assert {path.partition("?")[0] for path in asked} == set(sprites[2:AHEAD])  # no more than those that are needed first

    let_through(page)
    page.get_by_text("Question 1 of").wait_for()
    expect(page.get_by_text(TROUBLE)).to_be_hidden()
    answer(page, "upper", 2)
    verdict(page)
    assert Api(site, token).call("/api/visit")["answered"] == 1
    window.expected = "ERR_FAILED"  # the requests that failed


def test_a_later_sprite_that_comes_damaged_is_asked_for_again_until_it_is_whole(site: Site, window: Window):
    page = window.page
    token = pass_practice(site, "damaged-later")
    later = sprites_of(site, token)[AHEAD]
    whole = (site.study.sprites / later.rpartition("/")[2]).read_bytes()
    asked = fail(site, page, [later], lambda route: route.fulfill(body=whole[: len(whole) // 2], content_type="image/avif"))

    page.goto(f"{site.pages}/visit#{token}")
    button(page, "Start")
    expect(page.get_by_text(TROUBLE)).to_be_visible()
    for position in range(AHEAD):  # those that are there are answered meanwhile
        page.get_by_text(f"Question {position + 1} of").wait_for()
        answer(page, "upper", 2)
        verdict(page)
        go_on(page)
    page.get_by_role("heading", name=HEADING).wait_for()
    expect(page.get_by_text("0 of 1")).to_be_visible()
    assert asked == [later, *(f"{later}?again={number}" for number in range(2, len(asked) + 1))]
    assert len(asked) > 1

    let_through(page)
    page.get_by_text(f"Question {AHEAD + 1} of").wait_for()
    expect(page.get_by_text(TROUBLE)).to_be_hidden()
    answer(page, "lower", 1)
    verdict(page)
    assert Api(site, token).call("/api/visit")["answered"] == AHEAD + 1


def test_a_sprite_that_stalls_is_asked_for_again_after_a_minute(site: Site, window: Window):
    page = window.page
    token = pass_practice(site, "stalls")
    first = sprites_of(site, token)[0]
    asked = fail(site, page, [first], lambda route: None if "?" not in route.request.url else route.continue_())
    page.clock.install()
    page.goto(f"{site.pages}/visit#{token}")
    button(page, "Start")
    page.get_by_role("heading", name=HEADING).wait_for()
    page.clock.fast_forward(59_000)
    expect(page.get_by_text(TROUBLE)).to_be_hidden()
    assert asked == [first]
    page.clock.fast_forward(2_000)
    page.get_by_text("Question 1 of").wait_for()
    assert asked == [first, f"{first}?again=2"]
