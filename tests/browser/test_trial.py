"""What a trial looks like, and what the plugin records."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.conftest import Site, Window, open_window
from tests.browser.person import Api, pass_practice

WINDOWS = [(940, 600), (1280, 800), (1920, 1080), (700, 480)]
RATIOS = [1.0, 1.25, 2.0]
"""Device pixels to a CSS pixel."""


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    """Of a visit that stands at its first main trial."""
    return pass_practice(site, "looks")


EDGES = """() => {
    const edges = [...document.querySelectorAll('.trial canvas, .trial button, .trial .question')]
        .map(element => element.getBoundingClientRect());
    const root = document.documentElement;
    return {
        count: edges.length,
        left: Math.min(...edges.map(e => e.left)), top: Math.min(...edges.map(e => e.top)),
        right: Math.max(...edges.map(e => e.right)), bottom: Math.max(...edges.map(e => e.bottom)),
        scrolls: root.scrollHeight > root.clientHeight || root.scrollWidth > root.clientWidth,
    };
}"""
"""Where the outermost parts of the trial end, in CSS pixels."""

LAID_OUT = f"""async ([width, height]) => {{
    const end = performance.now() + 20000;
    const fits = () => ({EDGES})().bottom <= height && ({EDGES})().right <= width;
    while (performance.now() < end && !(innerWidth === width && innerHeight === height && fits())) {{
        await new Promise(requestAnimationFrame);
    }}
}}"""
"""Waits until the trial fits into the window; whether it does is asserted after."""


def open_trial(page: Page, site: Site, token: str) -> None:
    page.goto(f"{site.pages}/visit#{token}")
    page.get_by_role("button", name="Start").click()
    page.locator(".trial canvas").first.wait_for()


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_whole_trial_is_visible_without_scrolling(site: Site, browser: Browser, token: str, ratio: float):
    see_in_every_window(browser, site, token, ratio)


def see_in_every_window(browser: Browser, site: Site, token: str, ratio: float) -> None:
    """Nothing of a visit's trial ends beyond a window of any of the sizes, and nothing scrolls."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, device_scale_factor=ratio)
    page = open_window(context).page
    open_trial(page, site, token)
    for width, height in WINDOWS:
        page.set_viewport_size({"width": width, "height": height})
        # The page lays itself out anew in a resize event, which may come after the window has its size. Playwright's own
        # wait_for_function calls eval at its second look, which the page's policy forbids.
        page.evaluate(LAID_OUT, [width, height])
        seen = page.evaluate(EDGES)
        assert seen["count"] == 20 + 7 + 1
        assert seen["left"] >= 0 and seen["top"] >= 0 and seen["right"] <= width and seen["bottom"] <= height, (width, height)
        assert not seen["scrolls"], (width, height)
    context.close()


@pytest.mark.parametrize("ratio", RATIOS)
def test_every_tile_is_drawn_in_its_place_on_whole_device_pixels(site: Site, browser: Browser, token: str, ratio: float):
    context = browser.new_context(viewport={"width": 1011, "height": 633}, device_scale_factor=ratio)
    window = open_window(context)
    open_trial(window.page, site, token)
    drawn = window.page.evaluate("""() => [...document.querySelectorAll('.trial canvas')].map(canvas => {
        const {left, top, width, height} = canvas.getBoundingClientRect();
        return {label: canvas.ariaLabel, box: [left, top, width, height], size: canvas.width, png: canvas.toDataURL()};
    })""")
    visit = Api(site, token).call("/api/visit")
    expected = _expected_tiles(site, visit["main"][0], visit["grid"])
    context.close()

    assert window.complaints == []
    assert {tile["label"] for tile in drawn} == set(expected)
    assert len({tile["size"] for tile in drawn}) == 1  # all alike
    for tile in drawn:
        pixels = np.array(tile["box"]) * ratio
        assert np.allclose(pixels, np.round(pixels), atol=0.02), tile["label"]
        assert round(pixels[2]) == tile["size"]
        content = Image.open(io.BytesIO(base64.b64decode(tile["png"].partition(",")[2]))).convert("RGB")
        # Scaled back to the sprite's size, a tile is nearest to the one that should be there.
        back = np.asarray(content.resize((visit["grid"]["tile"],) * 2, Image.Resampling.BOX), dtype=float)
        differences = {label: float(np.abs(back - pixels).mean()) for label, pixels in expected.items()}
        assert min(differences, key=differences.__getitem__) == tile["label"]
        assert differences[tile["label"]] < 25, tile["label"]


def _expected_tiles(site: Site, trial: dict[str, Any], grid: dict[str, int]) -> dict[str, NDArray[np.float64]]:
    """Label on the page → pixels, from the sprite as Python decodes it."""
    path = site.study.sprites / trial["sprite"].rpartition("/")[2]
    sprite = np.asarray(Image.open(path).convert("RGB"), dtype=float)

    def tile(index: int) -> NDArray[np.float64]:
        row, column = divmod(index, grid["columns"])
        y, x = (grid["gutter"] + at * (grid["tile"] + grid["gutter"]) for at in (row, column))
        return sprite[y : y + grid["tile"], x : x + grid["tile"]]

    places = {"Upper image": trial["upper"], "Lower image": trial["lower"]}
    for side in ("left", "right"):
        places |= {f"Example {number} on the {side}": index for number, index in enumerate(trial[side], 1)}
    return {label: tile(index) for label, index in places.items()}


def test_buttons_stay_locked_for_the_first_moments(site: Site, window: Window, token: str):
    page = window.page
    open_trial(page, site, token)
    assert page.locator(".level:disabled").count() == 6
    page.keyboard.press("1")  # a key does no more than a button
    page.locator(".level:enabled").first.wait_for()
    assert page.locator(".level:enabled").count() == 6


SIMULATION = """async mode => {
    const { default: Plugin } = await import('/static/plugin-two-alternative.js');
    const jsPsych = initJsPsych({ display_element: document.body });
    const stored = [];
    const tiles = { left: [0, 1, 2, 3, 4, 5, 6, 7, 8], right: [9, 10, 11, 12, 13, 14, 15, 16, 17], upper: 18, lower: 19 };
    const canvas = new OffscreenCanvas(208, 168);
    canvas.getContext('2d').fillRect(0, 0, 208, 168);
    await jsPsych.simulate([{
        type: Plugin, sprite: await createImageBitmap(canvas), grid: { columns: 5, rows: 4, tile: 32, gutter: 8 },
        tiles, words: { levels: ['a', 'b', 'c'], question: 'q', left: 'l', right: 'r', left_example: 'l', right_example: 'r',
            upper: 'u', lower: 'o', unsure: 'n', sure: 's', saving: 'w', correct: 'c', wrong: 'x', continue: "g" },
        store: async given => { stored.push(given); return { correct: true }; },
        unlock_ms: 100, verdict_ms: 10, feedback_ms: 10,
    }], mode, { default: { data: { row: 'lower', confidence: 3, rt: 200, displayed_ms: 260 } } });
    return { stored, recorded: jsPsych.data.get().values()[0], declared: Object.keys(Plugin.info.data) };
}"""


@pytest.mark.parametrize("mode", ["data-only", "visual"])
def test_a_simulated_trial_records_every_datum_that_the_plugin_declares(site: Site, window: Window, mode: str):
    window.page.goto(site.take_place("simulated"))
    window.page.get_by_role("button", name="I agree").wait_for()
    outcome = window.page.evaluate(SIMULATION, mode)
    recorded = outcome["recorded"]
    assert set(outcome["declared"]) <= set(recorded)
    assert (recorded["row"], recorded["confidence"]) == ("lower", 3)
    if mode == "visual":
        (stored,) = outcome["stored"]
        assert (stored["row"], stored["confidence"], stored["rt_ms"]) == ("lower", 3, recorded["rt"])
        assert recorded["rt"] >= 100 and recorded["correct"] is True
    else:
        assert outcome["stored"] == [] and recorded["correct"] is None
