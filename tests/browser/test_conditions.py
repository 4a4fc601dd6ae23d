"""The synthetic condition in another language: its trial, and a visit with two device pixels to a CSS pixel."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests import axe
from tests.browser.conftest import TOML, Site, open_window, serve_site
from tests.browser.person import answer, go_on, pass_practice, right_row
from tests.browser.test_trial import RATIOS, see_in_every_window
from tests.pages.test_texts import translated, write_texts
from tests.tiny import write_study

SYNTHETIC = (
    TOML.replace('condition = "natural"', 'condition = "synthetic"')
    .replace("trials = 4\ncatch = 2", "trials = 2\ncatch = 1")
    .replace("responses = 30", "responses = 2")
    .replace("[pages]", '[pages]\nlanguage = "eo"')
)

UNTRANSLATED = """() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
        const { parentElement, textContent } = walker.currentNode;
        const block = parentElement.closest('h1, h2, p, button, span, [role=status]') ?? parentElement;
        const shown = parentElement.checkVisibility() && /[a-z]{2}/i.test(textContent);
        if (shown && !block.textContent.includes('¤')) found.push(textContent.trim());
    }
    return found;
}"""
"""Words that are shown and don't come from the file of texts."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    study = write_study(tmp_path_factory.mktemp("synthetic") / "study", SYNTHETIC)
    write_texts(study, translated(), "eo")
    with serve_site(study) as served:
        yield served


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    """Of a visit that stands at its first main trial."""
    return pass_practice(site, "looks")


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_whole_synthetic_trial_is_visible_without_scrolling(site: Site, browser: Browser, token: str, ratio: float):
    see_in_every_window(browser, site, token, ratio)


def test_every_word_of_a_synthetic_visit_comes_from_the_languages_file(site: Site, browser: Browser):
    context = browser.new_context(viewport={"width": 1920, "height": 1080}, device_scale_factor=2)
    window = open_window(context)
    page = window.page

    def look(heading: str) -> None:
        page.get_by_role("heading", name=f"¤{heading}").wait_for()
        assert page.evaluate(UNTRANSLATED) == [], heading
        assert axe.violations(page) == [], heading

    with page.expect_response("**/api/visit") as reply:
        page.goto(site.take_place("ludoviko"))
    told = reply.value.json()
    assert told["condition"] == "synthetic"
    look("A tiny study")
    page.get_by_role("button", name="¤I agree").click()
    look("Before you begin")
    page.get_by_role("button", name="¤My eyesight").click()
    for number in range(1, 10):  # one page more than in the natural condition
        page.get_by_text(f"{number}/9").wait_for()
        assert page.evaluate(UNTRANSLATED) == [], number
        if number == 5:
            look("The examples are made by a computer")
            page.locator(".picture canvas").first.wait_for()
        page.locator("#jspsych-instructions-next").click()
    look("Ready?")
    page.get_by_role("button", name="¤Start").click()
    for trial in [*told["practice"]["trials"], None, *told["main"]]:
        if trial is None:
            look("Well done")
            page.get_by_role("button", name="¤Continue").click()
            continue
        answer(page, right_row(site, trial), 1)
        page.locator(".continue:enabled").wait_for()
        assert page.evaluate(UNTRANSLATED) == []
        go_on(page)
    look("All questions answered")
    page.locator("input[type=submit]").click()
    look("Thank you, everything is saved!")
    context.close()
    assert window.complaints == []
