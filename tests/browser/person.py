"""What a person does in the browser, and what a visit's own scripts could do over HTTP."""

import json
import urllib.request
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Frame, FrameLocator, Locator, Page
from sqlalchemy import select

from crowd_imi.store import Store
from crowd_imi.store.tables import Event
from tests.browser.conftest import Site

OTHER = {"upper": "lower", "lower": "upper"}


def answer(page: Page | FrameLocator, row: str, confidence: int) -> None:
    """Click one of the six buttons once they open."""
    page.locator(f'.level[data-row="{row}"][data-confidence="{confidence}"]:enabled').click()


def verdict(page: Page | FrameLocator) -> str:
    """What the page says once Continue appears."""
    page.locator(".continue:enabled").wait_for()
    return page.locator(".trial .verdict").inner_text()


def fullscreen(page: Page | Frame | FrameLocator) -> Locator:
    """The page, while it is in fullscreen."""
    return page.locator("html:fullscreen")


def fullscreen_changes(store: Store) -> list[tuple[str, int, bool]]:
    """Step, position and whether it is fullscreen since, of every change in the store that is kept."""
    with store.read() as session:
        changes = session.scalars(select(Event).where(Event.kind == "fullscreen").order_by(Event.id)).all()
    return [(change.detail["step"], change.detail["position"], change.detail["fullscreen"]) for change in changes]


def go_on(page: Page | FrameLocator) -> None:
    page.locator(".continue:enabled").click()


def button(page: Page | FrameLocator, name: str) -> None:
    page.get_by_role("button", name=name).click()


def read_instructions(page: Page | FrameLocator) -> int:
    """Go on from the check of eyesight and window, and click through them; returns how many pages there were."""
    button(page, "go on")
    number = page.locator(".jspsych-instructions-pagenum")
    number.wait_for()
    total = int(number.inner_text().split("/")[1])
    for at in range(1, total + 1):
        page.get_by_text(f"{at}/{total}").wait_for()
        page.locator("#jspsych-instructions-next").click()
    return total


class Api:
    """The API as the page's scripts call it."""

    def __init__(self, site: Site, token: str) -> None:
        self.site = site
        self.token = token

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.site.pages}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Visit-Token": self.token, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as reply:
            return json.loads(reply.read() or b"null")

    def practise(self, block: dict[str, Any], trial: dict[str, Any], row: str) -> Any:
        given = {"block": block["block"], "position": trial["position"], "row": row, "confidence": 3, "rt_ms": 2000.0}
        return self.call("/api/practice", given)


def right_row(site: Site, trial: dict[str, Any]) -> str:
    """The correct answer to a trial as the API describes it, known from the plan."""
    name = trial["sprite"].rpartition("/")[2]
    everything = [*site.plan.practice, *(planned for task in site.plan.tasks for planned in task.trials)]
    planned = next(planned for planned in everything if planned.sprite == name)
    return "upper" if trial["upper"] == planned.tiles.queries.max else "lower"


def begin_practice(site: Site, participant: str) -> tuple[Api, dict[str, Any]]:
    """Take a place, arrive, consent and read the instructions without a browser; returns the first block."""
    return begin_practice_by(site, site.take_place(participant))


def begin_practice_by(site: Site, link: str) -> tuple[Api, dict[str, Any]]:
    """The same for who has a place."""
    with urllib.request.urlopen(link) as reply:
        api = Api(site, str(reply.url).partition("#")[2])
    visit = api.call("/api/visit")
    api.call("/api/consent", {"agree": True, "version": visit["texts"]["consent"]["version"]})
    api.call("/api/instructions", {"browser": {}})
    return api, visit["practice"]


def pass_practice(site: Site, participant: str) -> str:
    """A visit that stands at its first main trial; returns its token."""
    return pass_practice_by(site, site.take_place(participant))


def pass_practice_by(site: Site, link: str) -> str:
    """The same for who has a place."""
    api, block = begin_practice_by(site, link)
    replies = [api.practise(block, trial, right_row(site, trial)) for trial in block["trials"]]
    assert replies[-1]["step"] == "main"
    return api.token


def fail_practice_but_for_one(site: Site, participant: str) -> tuple[str, dict[str, Any]]:
    """A visit at the last trial of its last practice block; returns its token and that trial."""
    api, block = begin_practice(site, participant)
    for _ in range(site.study.file.exclusion.max_practice_blocks - 1):
        for trial in block["trials"]:
            reply = api.practise(block, trial, OTHER[right_row(site, trial)])
        block = reply["practice"]
    *others, last = block["trials"]
    for trial in others:
        api.practise(block, trial, right_row(site, trial))
    return api.token, last


def answer_everything(api: Api) -> None:
    """From the consent to the submission, without a browser, for a visit that has just arrived."""
    visit = api.call("/api/visit")
    api.call("/api/consent", {"agree": True, "version": visit["texts"]["consent"]["version"]})
    api.call("/api/instructions", {"browser": {}})
    block = api.call("/api/visit")["practice"]
    for trial in block["trials"]:
        api.practise(block, trial, right_row(api.site, trial))
    for trial in api.call("/api/visit")["main"]:
        given = {"position": trial["position"], "row": right_row(api.site, trial), "confidence": 3}
        api.call("/api/answers", {**given, "rt_ms": 2000.0, "shown_ms": 2000.0, "saving_ms": None})
    api.call("/api/submit", {"feedback": ""})


def take_part(page: Page | FrameLocator, site: Site, told: dict[str, Any], at_trial: Callable[[], None] = lambda: None) -> None:
    """A whole visit by mouse, from the consent to the page that says it is saved.

    Args:
        page: where it happens.
        site: the study's plan is all that is looked at.
        told: the visit's document.
        at_trial: called at every practice and main trial before it is answered, and once more at its feedback.
    """

    def take(trial: dict[str, Any], confidence: int) -> None:
        page.locator(".level:enabled").first.wait_for()
        at_trial()
        answer(page, right_row(site, trial), confidence)
        page.locator(".continue:enabled").wait_for()
        at_trial()
        go_on(page)

    button(page, "I agree")
    read_instructions(page)
    button(page, "Start")
    for trial in told["practice"]["trials"]:
        take(trial, 3)
    button(page, "Continue")
    for trial in told["main"]:
        page.get_by_text(f"Question {trial['position'] + 1} of").wait_for()
        take(trial, 2)
    button(page, "Finish")
    page.get_by_role("heading", name="Thank you, everything is saved!").wait_for()
