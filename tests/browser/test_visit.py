"""A person in a real browser, at the real server."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect
from sqlalchemy import select

from crowd_imi.platforms.base import PlatformSubmission
from crowd_imi.store.tables import Answer, PageTime, Person, PracticeAnswer, Visit
from tests import axe
from tests.browser.conftest import Site, Window, open_window
from tests.browser.person import (
    OTHER,
    answer,
    button,
    fail_practice_but_for_one,
    fullscreen,
    go_on,
    pass_practice,
    pass_practice_by,
    read_instructions,
    right_row,
    verdict,
)

TRIALS = 6


def described(page: Page) -> dict[str, Any]:
    """What the API tells the page's scripts about their visit."""
    told: dict[str, Any] = page.evaluate(
        "fetch('/api/visit', {headers: {'X-Visit-Token': sessionStorage.getItem('visit-token')}}).then(r => r.json())"
    )
    return told


def test_a_person_completes_a_task_and_the_store_holds_what_was_clicked(site: Site, window: Window):
    page = window.page
    sprites: list[str] = []
    page.on("request", lambda request: _note_sprite(sprites, request))

    page.goto(site.places)
    page.get_by_label("Your name here").fill("a-person")
    button(page, "Take part")
    page.get_by_role("heading", name="A tiny study").wait_for()
    assert page.url == f"{site.pages}/visit"  # the token isn't in the address bar
    button(page, "I agree")
    pages_read = read_instructions(page)
    button(page, "Start")
    page.locator(".trial").wait_for()

    told = described(page)
    first = [trial["sprite"] for trial in (*told["practice"]["trials"], *told["main"][:5])]
    assert sorted(sprites) == sorted(first)  # practice and the first five, before the first trial, and no more

    practised = _practise(site, page, told["practice"], wrong_at=0)
    button(page, "Continue")
    practised += _practise(site, page, described(page)["practice"], wrong_at=None)
    button(page, "Continue")

    clicked = []
    for position, trial in enumerate(told["main"]):
        if position == 3:
            page.reload()
            button(page, "Continue")
        page.get_by_text(f"Question {position + 1} of {TRIALS}").wait_for()
        right = right_row(site, trial)
        row = OTHER[right] if position in (1, 4) else right
        clicked.append((position, row, 1 + position % 3, row == right))
        answer(page, row, 1 + position % 3)
        assert verdict(page) == ("✓ Correct" if row == right else "✗ Not correct")
        correct = sum(known for *_, known in clicked)
        assert page.locator(".count").inner_text() == f"Correct: {correct} of {position + 1}"
        go_on(page)

    page.locator("textarea").fill("It went well")
    button(page, "Finish")
    page.get_by_role("link", name="Complete the study").click()
    page.get_by_role("heading", name="Thank you for taking part").wait_for()

    with site.store.read() as session:
        visit = session.get_one(Visit, _visit_of(site, "a-person"))
        answers = session.scalars(select(Answer).where(Answer.visit_id == visit.id).order_by(Answer.position)).all()
        practice = session.scalars(select(PracticeAnswer).where(PracticeAnswer.visit_id == visit.id)).all()
        times = session.scalars(select(PageTime).where(PageTime.visit_id == visit.id)).all()
    assert [(row.position, row.row, row.confidence, row.correct) for row in answers] == clicked
    assert all(row.rt_ms >= row.shown_ms >= 1500 for row in answers)  # the buttons open after 1,500 ms
    # The first answer after each time the page was loaded has none before it whose storing was timed.
    assert [row.saving_ms is None for row in answers] == [True, False, False, True, False, False]
    assert sorted((row.block, row.position, row.row, row.correct) for row in practice) == practised
    assert len(times) == pages_read
    assert (visit.state, visit.feedback) == ("submitted", "It went well")
    assert visit.browser is not None
    assert (visit.browser["window_width"], visit.browser["window_height"]) == (940, 600)
    assert _place_of(site, "a-person").status == "awaiting_review"


def _note_sprite(sprites: list[str], request: Request) -> None:
    address = request.url.partition("/sprites/")[2]
    if address:
        sprites.append(f"/sprites/{address}")


def _practise(site: Site, page: Page, block: dict[str, Any], wrong_at: int | None) -> list[tuple[int, int, str, bool]]:
    given = []
    for trial in block["trials"]:
        position = trial["position"]
        page.get_by_text(f"Practice {position + 1} of {len(block['trials'])}").wait_for()
        right = right_row(site, trial)
        row = OTHER[right] if position == wrong_at else right
        given.append((block["block"], position, row, row == right))
        answer(page, row, 2)
        assert verdict(page) == ("✓ Correct" if row == right else "✗ Not correct")
        go_on(page)
    return given


COVERED = """() => {
    const notice = document.getElementById('notice').getBoundingClientRect();
    const parts = document.querySelectorAll('.trial :is(canvas, button, .headline, .count, .question, .caption, .verdict)');
    return [...parts].filter(part => {
        const box = part.getBoundingClientRect();
        return box.left < notice.right && box.right > notice.left && box.top < notice.bottom && box.bottom > notice.top;
    }).map(part => part.className);
}"""
"""What of the trial the notice stands on; Continue has its place before it can be seen."""


def test_an_answer_given_without_a_network_waits_and_is_stored_once(site: Site, window: Window):
    page = window.page
    page.goto(f"{site.pages}/visit#{pass_practice(site, 'offline')}")
    button(page, "Start")
    visit_id = _visit_of(site, "offline")
    page.locator(".level:enabled").first.wait_for()
    window.context.set_offline(True)
    page.keyboard.press("w")  # the middle button above the lower image
    page.get_by_text("The connection is interrupted").wait_for()
    assert page.evaluate(COVERED) == []
    assert page.locator(".continue:enabled").count() == 0
    assert _answers(site, visit_id) == []
    window.context.set_offline(False)
    verdict(page)
    assert not page.get_by_text("The connection is interrupted").is_visible()
    assert _answers(site, visit_id) == [(0, "lower", 2)]
    # That the requests failed is what the test is about.
    window.expected = "ERR_INTERNET_DISCONNECTED"


def _answers(site: Site, visit_id: str) -> list[tuple[int, str, int]]:
    with site.store.read() as session:
        rows = session.scalars(select(Answer).where(Answer.visit_id == visit_id)).all()
    return [(row.position, row.row, row.confidence) for row in rows]


def _place_of(site: Site, participant: str) -> PlatformSubmission:
    return next(place for place in site.platform.submissions(site.posting) if place.participant == participant)


def _visit_of(site: Site, participant: str) -> str:
    place = _place_of(site, participant)
    with site.store.people() as people:
        return people.scalars(select(Person.visit_id).where(Person.platform_submission == place.id)).one()


def test_opening_the_study_again_ends_the_first_tab(site: Site, window: Window):
    link = site.take_place("two-tabs")
    window.page.goto(link)
    window.page.get_by_role("button", name="I agree").wait_for()
    second = open_window(window.context)
    second.page.goto(link)
    button(second.page, "I agree")
    second.page.get_by_role("heading", name="Before you begin").wait_for()
    button(window.page, "I agree")
    window.page.get_by_role("heading", name="This page has ended").wait_for()
    assert second.complaints == []
    window.expected = "401"  # that it was refused


def test_a_duplicated_tab_ends_the_one_it_was_made_from(site: Site, window: Window):
    page = window.page
    page.goto(site.take_place("duplicated"))
    page.get_by_role("button", name="I agree").wait_for()
    # Opened by the page itself, the new tab begins with a copy of its session storage, as a duplicate does.
    with window.context.expect_page() as opened:
        page.evaluate("window.open('/visit')")
    opened.value.get_by_role("button", name="I agree").wait_for()
    page.get_by_role("heading", name="This page has ended").wait_for()


def test_a_tab_that_was_ended_sends_nothing_any_more_whatever_key_is_pressed(site: Site, window: Window):
    page = window.page
    page.goto(f"{site.pages}/visit#{pass_practice(site, 'ended-at-a-trial')}")
    button(page, "Start")
    page.locator(".level:enabled").first.wait_for()
    with window.context.expect_page() as opened:
        page.evaluate("window.open('/visit')")
    opened.value.get_by_role("button", name="Start").wait_for()
    page.get_by_role("heading", name="This page has ended").wait_for()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.bring_to_front()
    for key in ("1", "w", "ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert sent == []
    button(opened.value, "Start")
    answer(opened.value, "lower", 3)
    verdict(opened.value)
    assert _answers(site, _visit_of(site, "ended-at-a-trial")) == [(0, "lower", 3)]


def test_a_browser_that_denies_storage_shows_the_study_all_the_same(site: Site, window: Window):
    # As Firefox does for a site whose cookies are blocked.
    denied = "throw new DOMException('The operation is insecure.', 'SecurityError')"
    window.page.add_init_script(f"window.BroadcastChannel = class {{ constructor() {{ {denied} }} }}")
    window.page.add_init_script(f"Object.defineProperty(window, 'sessionStorage', {{ get() {{ {denied} }} }})")
    window.page.goto(site.take_place("denies-storage"))
    button(window.page, "I agree")
    window.page.get_by_role("heading", name="Before you begin").wait_for()


def test_going_back_by_mistake_loses_nothing(site: Site, window: Window):
    page = window.page
    page.goto(site.places)
    page.goto(site.take_place("goes-back"))
    button(page, "I agree")
    button(page, "go on")
    page.locator(".instructions").wait_for()
    page.evaluate("history.back()")
    page.wait_for_timeout(300)
    assert page.url == f"{site.pages}/visit"
    page.locator("#jspsych-instructions-next").click()
    page.get_by_text("2/").wait_for()


def test_who_starts_is_in_fullscreen_and_after_a_reload_again(site: Site, window: Window):
    page = window.page
    page.goto(f"{site.pages}/visit#{pass_practice(site, 'fills-the-screen')}")
    for _ in range(2):
        button(page, "Start")
        expect(fullscreen(page)).to_have_count(1)
        page.locator(".trial").wait_for()
        page.reload()
        page.get_by_role("button", name="Start").wait_for()
        expect(fullscreen(page)).to_have_count(0)


def test_who_declines_is_thanked_and_asked_nothing_more(site: Site, window: Window):
    page = window.page
    page.goto(site.take_place("declines"))
    button(page, "I don’t want to take part")
    page.get_by_role("heading", name="You are not taking part").wait_for()
    page.reload()
    page.get_by_role("heading", name="You are not taking part").wait_for()


def test_without_a_link_the_page_says_so(site: Site, window: Window):
    window.page.goto(f"{site.pages}/visit")
    window.page.get_by_role("heading", name="This page belongs to no place in the study").wait_for()
    assert window.page.get_by_text("open the study again from the page where you chose it").is_visible()
    window.expected = "401"


def test_who_fails_the_last_practice_block_is_thanked_and_sent_back_to_be_paid(site: Site, window: Window):
    page = window.page
    token, last = fail_practice_but_for_one(site, "fails-practice")
    page.goto(f"{site.pages}/visit#{token}")
    button(page, "Continue")
    answer(page, OTHER[right_row(site, last)], 1)
    go_on(page)
    page.get_by_role("heading", name="Thank you for trying").wait_for()
    page.get_by_role("link", name="Complete the study").click()
    page.get_by_role("heading", name="Thank you for taking part").wait_for()
    assert _place_of(site, "fails-practice").status == "awaiting_review"


def test_a_refusal_says_in_plain_words_why_and_what_to_do(site: Site, window: Window):
    window.page.goto(f"{site.pages}/arrive?participant=somebody")
    window.page.get_by_role("heading", name="This link is incomplete").wait_for()
    assert window.page.locator("main").get_attribute("data-refusal") == "bad-link"
    assert window.page.get_by_text("Please open the study from the page where you chose it").is_visible()
    assert axe.violations(window.page) == []
    window.expected = "404"


def test_two_tabs_cant_both_answer(site: Site, window: Window):
    link = site.take_place("answers-twice")
    token = pass_practice_by(site, link)
    page = window.page
    page.goto(f"{site.pages}/visit#{token}")
    button(page, "Start")
    page.locator(".level:enabled").first.wait_for()
    second = open_window(window.context)
    second.page.goto(link)
    second.page.get_by_role("button", name="Start").wait_for()
    answer(page, "upper", 1)
    page.get_by_role("heading", name="This page has ended").wait_for()
    assert _answers(site, _visit_of(site, "answers-twice")) == []
    button(second.page, "Start")
    answer(second.page, "lower", 3)
    verdict(second.page)
    assert _answers(site, _visit_of(site, "answers-twice")) == [(0, "lower", 3)]
    assert second.complaints == []
    window.expected = "401"  # that the first tab's answer was refused


def test_who_cant_take_part_leaves_before_the_instructions(site: Site, window: Window):
    page = window.page
    page.goto(site.take_place("phone"))
    button(page, "I agree")
    page.get_by_text("Your window is large enough").wait_for()
    page.set_viewport_size({"width": 800, "height": 500})
    page.get_by_text("Your window has 800 × 500 points. Please make it larger if you can").wait_for()
    page.set_viewport_size({"width": 390, "height": 780})
    page.get_by_text("which is too small for the images").wait_for()
    assert page.get_by_role("button", name="go on").count() == 0
    button(page, "I can’t take part")
    page.get_by_role("heading", name="You are not taking part").wait_for()
    assert axe.violations(page) == []


def test_without_javascript_or_with_an_old_browser_the_page_says_so(site: Site, browser: Browser):
    for options, script, heading in (
        ({"java_script_enabled": False}, "", "This study needs JavaScript"),
        ({}, "delete window.createImageBitmap", "Your browser can’t show this study"),
    ):
        context = browser.new_context(**options)
        page = context.new_page()
        if script:
            page.add_init_script(script)
        page.goto(f"{site.pages}/visit")
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        page.wait_for_timeout(1200)  # "Loading" would appear after a second
        expect(page.locator("#loading")).to_be_hidden()
        context.close()


@pytest.mark.parametrize(
    ("script", "heading"),
    [
        ("vendor/jspsych.js", "Loading …"),
        ("sprites.js", "Loading …"),
        ("supported.js", "Something went wrong"),
        ("vendor/plugin-instructions.js", "Something went wrong"),
    ],
)
def test_a_script_that_doesnt_come_leaves_words_that_say_what_to_do(site: Site, window: Window, script: str, heading: str):
    page = window.page
    page.route(f"**/static/{script}", lambda route: route.abort())
    page.goto(site.take_place("without-a-script"))
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    expect(page.get_by_text("reload the page", exact=False).first).to_be_visible()
    assert axe.violations(page) == []
    page.unroute(f"**/static/{script}")
    page.reload()
    page.get_by_role("button", name="I agree").wait_for()
    assert page.locator("#loading").count() == 0
    window.complaints.clear()  # that a script is missing, and what misses it
