"""How long a participant on a slow connection waits: Chromium, throttled to 4 Mbit/s and 100 ms, at the real pages.

    python -m benchmarks.loading --json

One task of 45 natural trials from scikit-image's photographs, 224 px as published. Practice is answered at once, the
worst case for what is loaded meanwhile. ``first_trial_s`` is from the click that ends the practice to the opening of the
first trial's buttons, of which 1.5 s are the page's own lock; a main trial was waited for when the page showed its bar
before it. Bytes are those that came over the network, all pages, scripts and practice included, beside the published
visit's images: 45 × 20 PNGs of the same pictures. (The goal for images alone is ``benchmarks.pages``'.)
"""

import argparse
import io
import json
import logging
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from werkzeug.serving import make_server

from benchmarks.document import document
from crowd_imi.design.encoding import encode_tile, grid_for, join_alike
from crowd_imi.keys import study_key
from crowd_imi.pages.app import create_app
from crowd_imi.pages.tokens import Tokens
from crowd_imi.plan import Plan, PlannedTask, PlannedTrial, PracticeTrial
from crowd_imi.publisher.launch import create_store
from crowd_imi.records import SidePair, Tiles
from crowd_imi.seeds import generator
from crowd_imi.store import StoreKind
from crowd_imi.study import Study, load_study
from crowd_imi.study_templates import TemplateName, template

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
NETWORK = {"offline": False, "latency": 100, "downloadThroughput": 4e6 / 8, "uploadThroughput": 4e6 / 8}
SIZE = 224
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field", "immunohistochemistry", "brick")

COUNT_BARS = """() => {
    window.bars = 0;
    new MutationObserver(changes => {
        const added = changes.flatMap(change => [...change.addedNodes]).filter(node => node.querySelector);
        window.bars += added.filter(node => node.querySelector('progress')).length;
    }).observe(document.getElementById('stage'), { childList: true, subtree: true });
}"""


@dataclass(frozen=True, slots=True)
class Amount:
    """How many of everything; as published unless told otherwise."""

    trials: int = 40
    catch: int = 5
    practice: int = 5
    pictures: int = 100
    """Encoded once each; panels draw from them."""


HURRY = """const wait = window.setTimeout;
window.setTimeout = (what, ms, ...more) => wait(what, ms < 4000 ? ms / {} : ms, ...more);"""
"""The page's own delays, so many times shorter; its patience with the network is longer than these, and stays."""

GOALS = {"first_trial_s": {"at_most": 3.0}, "trials_waited_for": {"at_most": 0}}


def crops(seed: int = 1) -> Iterator[np.ndarray]:
    """Endless crops of photographs, shape (SIZE, SIZE, 3)."""
    rng = generator(seed, "loading")
    photographs = [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in PHOTOGRAPHS]
    while True:
        photograph = photographs[rng.integers(len(photographs))]
        side = int(rng.integers(SIZE, min(2 * SIZE, *photograph.size) + 1))
        left, top = (int(rng.integers(edge - side + 1)) for edge in photograph.size)
        crop = photograph.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        yield np.asarray(crop)


def planned(folder: Path, amount: Amount) -> tuple[Study, int]:
    """A study of one task with real sprites, and the bytes of its images as PNGs."""
    (folder / "study.toml").write_text(template(TemplateName.DEFAULT))
    study = load_study(folder)
    key = study_key(study.key)
    study.sprites.mkdir()
    source = crops()
    grid, rng = grid_for(SIZE), generator(1, "panels")
    pictures = [next(source) for _ in range(amount.pictures)]
    encoded = [encode_tile(picture, grid) for picture in pictures]
    count = amount.trials + amount.catch + amount.practice
    panels = [rng.choice(amount.pictures, 20, replace=amount.pictures < 20) for _ in range(count)]
    names = [f"{key[:4].hex()}{number:024x}.avif" for number in range(len(panels))]
    for part in (slice(0, amount.practice), slice(amount.practice, None)):
        for name, content in zip(
            names[part], join_alike([[encoded[at] for at in panel] for panel in panels[part]], grid), strict=True
        ):
            (study.sprites / name).write_bytes(content)
    tiles = Tiles(references=SidePair(min=tuple(range(9)), max=tuple(range(9, 18))), queries=SidePair(min=18, max=19))
    trials = tuple(
        PlannedTrial(
            kind="main" if at < amount.trials else "catch",
            unit=f"resnet50/layer1/{at % amount.trials}",
            batch=0 if at < amount.trials else -1,
            sprite=name,
            tiles=tiles,
        )
        for at, name in enumerate(names[amount.practice :])
    )
    drills = enumerate(names[: amount.practice])
    practice = tuple(PracticeTrial(sprite=name, tiles=tiles, obvious=at < 4) for at, name in drills)
    tasks = (PlannedTask(arm=study.file.arms[0].id, number=1, trials=trials),)
    Plan(study=study.file.study.name, seed=1, pack_sha256="0" * 64, grid=grid, practice=practice, tasks=tasks).save(study.plan)
    sizes = [png_bytes(picture) for picture in pictures]
    return study, sum(sizes[at] for panel in panels[amount.practice :] for at in panel)


def png_bytes(tile: np.ndarray) -> int:
    """How many bytes a picture takes as the published page has it."""
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "PNG")
    return buffer.tell()


@contextmanager
def served(study: Study) -> Iterator[str]:
    """The link of a preview."""
    from crowd_imi.plan import load_plan

    store = create_store(study, load_plan(study.plan), study.folder / "preview", StoreKind.PREVIEW)
    server = make_server("127.0.0.1", 0, create_app(study, store, None, run_folder=study.folder / "preview"), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        token = Tokens(study_key(study.key)).for_preview(study.file.study.name)
        yield f"http://127.0.0.1:{server.server_port}/preview?token={token}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        store.close()


def visit(page: Page, link: str, network: Mapping[str, Any]) -> dict[str, float]:
    """Go through a whole visit as fast as the page allows."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.send("Network.emulateNetworkConditions", dict(network))
    received: list[float] = []
    devtools.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    begun = time.perf_counter()
    with page.expect_response("**/api/visit") as reply:
        page.goto(link)
    told = reply.value.json()
    page.get_by_role("button", name="I agree").click()
    page.get_by_role("button", name="go on").click()
    page.locator("#jspsych-instructions-next").wait_for()
    while page.locator("#jspsych-instructions-next").count():
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(30)
    page.get_by_role("button", name="Start").click()
    page.locator(".trial").wait_for()
    before_practice = time.perf_counter() - begun
    for trial in told["practice"]["trials"]:
        # Tile 19 is the right query of every trial here.
        answer(page, "upper" if trial["upper"] == 19 else "lower")
    waits = []
    page.evaluate(COUNT_BARS)
    page.get_by_role("button", name="Continue").click()
    for _trial in told["main"]:
        clicked = time.perf_counter()
        page.locator(".level:enabled").first.wait_for()
        waits.append(time.perf_counter() - clicked)
        answer(page, "upper")
    page.get_by_role("button", name="Finish").click()
    page.locator("[data-step=done]").wait_for()
    return {
        "before_practice_s": before_practice,
        "first_trial_s": waits[0],
        "later_trial_s": statistics.median(waits[1:]),
        "latest_trial_s": max(waits[1:]),
        "trials_waited_for": page.evaluate("window.bars"),
        "bytes": sum(received),
    }


def answer(page: Page, row: str) -> None:
    """Answer, and click Continue as soon as it is there."""
    page.locator(f'.level[data-row="{row}"][data-confidence="2"]:enabled').click()
    page.locator(".continue:enabled").click()


def measure(amount: Amount | None = None, network: Mapping[str, Any] = NETWORK, hurry: int = 1) -> dict[str, Any]:
    """One visit's document.

    Args:
        amount: of trials and pictures; the published one unless told otherwise.
        network: what Chromium throttles to.
        hurry: how many times shorter the page's own delays are; times count only with 1.
    """
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        study, published = planned(Path(folder), amount or Amount())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with served(study) as link:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(120_000)
            if hurry > 1:
                page.add_init_script(HURRY.format(hurry))
            figures = visit(page, link, network)
        browser.close()
    figures |= {"published_bytes": float(published), "bytes_ratio": published / figures["bytes"]}
    return document(figures, GOALS, ("playwright", "pillow"), network=dict(network))


def table(told: Mapping[str, Any]) -> str:
    """For a person."""
    return "".join(f"{name:20} {value:12.2f}  {GOALS.get(name, '')}\n" for name, value in told["figures"].items())


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description="How long a participant on a slow connection waits.")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    found = measure()
    print(json.dumps(found, indent=1) if asked.json else table(found), end="\n" if asked.json else "")
    sys.exit(0 if found["met"] else 1)


if __name__ == "__main__":
    main()
