"""Makes the README's screenshots from the real pages.

    python docs/screenshots.py STUDY OUT

Starts ``crowd-imi preview STUDY``, clicks through it with Chromium up to the third question, and writes OUT/trial.png, which
waits to be answered, and OUT/report.png, the top of the report.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from crowd_imi.plan import Plan, load_plan

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
WINDOW = {"width": 1100, "height": 680}
REPORT_WINDOW = {"width": 1100, "height": 1300}
QUESTION = 3
"""Which question is pictured; the ones before it are answered."""


def main() -> None:
    """Parse the command line and make the pictures."""
    parser = argparse.ArgumentParser(description="Make screenshots of a trial and of the report.")
    parser.add_argument("study", type=Path, metavar="STUDY", help="a study's folder, with a plan")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the pictures")
    parser.add_argument("--report", type=Path, help="the report to picture; STUDY's own, else its newest rehearsal's")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    report = chosen.report or newest_report(chosen.study)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with preview(chosen.study) as link:
            picture_trial(browser, link, load_plan(chosen.study / "plan.json"), chosen.out)
        page = browser.new_page(viewport=REPORT_WINDOW)
        page.goto(report.resolve().as_uri())
        page.screenshot(path=chosen.out / "report.png")
        browser.close()


def newest_report(study: Path) -> Path:
    """The study's report or, as in the demo, that of its newest rehearsal."""
    own = study / "report" / "report.html"
    reports = [own] if own.exists() else list(study.glob("rehearsals/*/report/report.html"))
    if not reports:
        sys.exit(f"{study}: there is no report yet; run crowd-imi report")
    return max(reports, key=lambda report: report.stat().st_mtime)


@contextmanager
def preview(study: Path) -> Iterator[str]:
    """The link of a preview, which is served meanwhile."""
    command = [sys.executable, "-c", "from crowd_imi.cli import main; main()", "preview", str(study), "--port", "0"]
    note = study / "rehearsals" / "preview" / "serving.json"
    note.unlink(missing_ok=True)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not note.exists():
            if server.poll() is not None:
                sys.exit(f"crowd-imi preview {study} ended with status {server.returncode}")
            time.sleep(0.1)
        yield json.loads(note.read_text())["link"]
    finally:
        server.terminate()
        server.wait()


def picture_trial(browser: Browser, link: str, plan: Plan, out: Path) -> None:
    """Click through to a main trial and picture it."""
    page = browser.new_page(viewport=WINDOW)
    with page.expect_response("**/api/visit") as reply:
        page.goto(link)
    visit = reply.value.json()
    page.get_by_role("button", name="I agree").click()
    page.get_by_role("button", name="go on").click()
    page.locator("#jspsych-instructions-next").wait_for()
    while page.locator("#jspsych-instructions-next").count():
        page.locator("#jspsych-instructions-next").click()
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Start").click()
    for trial in visit["practice"]["trials"]:
        answer(page, plan, trial)
        page.locator(".continue:enabled").click()
    page.get_by_role("button", name="Continue").click()
    for trial in visit["main"][:QUESTION]:
        page.get_by_text(f"Question {trial['position'] + 1} of").wait_for()
        page.locator(".level:enabled").first.wait_for()
        page.mouse.move(0, 0)
        page.screenshot(path=out / "trial.png")
        answer(page, plan, trial)
        page.locator(".continue:enabled").click()
    page.close()


def answer(page: Page, plan: Plan, trial: dict[str, Any]) -> None:
    """Give the right answer, which the plan knows."""
    name = trial["sprite"].rpartition("/")[2]
    planned = [*plan.practice, *(trial for task in plan.tasks for trial in task.trials)]
    right = next(known for known in planned if known.sprite == name).tiles.queries.max
    row = "upper" if trial["upper"] == right else "lower"
    page.locator(f'.level[data-row="{row}"][data-confidence="3"]:enabled').click()


if __name__ == "__main__":
    main()
