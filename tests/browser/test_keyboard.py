"""A whole visit by somebody without a mouse, on a large screen; every page on the way is looked at by axe-core."""

from typing import Any

from playwright.sync_api import Browser, Page
from sqlalchemy import select

from crowd_imi.store.tables import Answer
from tests import axe
from tests.browser.conftest import Site, open_window
from tests.browser.person import right_row, verdict

FOCUS = """() => {
    const { textContent, value } = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
    return { text: textContent || value || '', ring: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 };
}"""
INSTRUCTIONS = 8


def press(page: Page, name: str) -> None:
    """Tab to a button, see that it has the focus, and press Enter."""
    for _ in range(12):
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        if name in focus["text"] and len(focus["text"]) < 60:
            assert focus["ring"], f"the focus can't be seen on {name}"
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"the Tab key doesn't lead to {name}")


def look(page: Page, heading: str) -> None:
    page.get_by_role("heading", name=heading, level=1).wait_for()
    assert axe.violations(page) == [], heading
    assert page.evaluate("document.activeElement.tagName") == "H1", heading  # where a screen reader begins to read


def do_trial(page: Page, site: Site, trial: dict[str, Any], *, looked_at: bool = False) -> None:
    """Answer rightly with a key, and go on with Enter: Continue has the focus once it is there."""
    page.locator(".level:enabled").first.wait_for()
    if looked_at:
        assert axe.violations(page) == []
        assert "1 2 3 upper image" in page.locator(".keys").inner_text()
    page.keyboard.press("3" if right_row(site, trial) == "upper" else "e")
    assert verdict(page) == "✓ Correct"
    if looked_at:
        assert axe.violations(page) == []
    page.keyboard.press("Enter")


def test_a_visit_by_keyboard_alone_meets_no_serious_obstacle(site: Site, browser: Browser):
    context = browser.new_context(viewport={"width": 1920, "height": 1080}, device_scale_factor=1.25)
    window = open_window(context)
    page = window.page
    with page.expect_response("**/api/visit") as reply:
        page.goto(site.take_place("keyboard"))
    told = reply.value.json()

    look(page, "A tiny study")
    press(page, "I agree")
    look(page, "Before you begin")
    press(page, "go on")
    for number in range(1, INSTRUCTIONS + 1):
        page.get_by_text(f"{number}/{INSTRUCTIONS}").wait_for()
        look(page, "")
        if number == 2:
            page.keyboard.press("ArrowLeft")
            page.get_by_text(f"1/{INSTRUCTIONS}").wait_for()
            page.keyboard.press("ArrowRight")
            page.get_by_text(f"2/{INSTRUCTIONS}").wait_for()
        page.keyboard.press("ArrowRight")
    look(page, "Ready?")
    press(page, "Start")
    for trial in told["practice"]["trials"]:
        do_trial(page, site, trial, looked_at=trial["position"] == 0)
    look(page, "Well done")
    press(page, "Continue")
    for trial in told["main"]:
        page.get_by_text(f"Question {trial['position'] + 1} of").wait_for()
        do_trial(page, site, trial, looked_at=trial["position"] == 1)

    look(page, "All questions answered")
    page.keyboard.press("Tab")
    page.keyboard.type("Without a mouse")
    context.set_offline(True)
    press(page, "Finish")
    page.get_by_role("heading", name="Saving").wait_for()
    page.get_by_text("The connection is interrupted").wait_for()
    context.set_offline(False)
    look(page, "Thank you, everything is saved!")
    press(page, "Complete the study")
    page.get_by_role("heading", name="Thank you for taking part").wait_for()

    with site.store.read() as session:
        ids = set(session.scalars(select(Answer.visit_id).where(Answer.correct, Answer.confidence == 3)))
        given = [len(session.scalars(select(Answer).where(Answer.visit_id == one)).all()) for one in ids]
    assert len(told["main"]) in given
    context.close()
    # That requests failed while the network was gone is what the test does.
    assert [complaint for complaint in window.complaints if "ERR_INTERNET_DISCONNECTED" not in complaint] == []
