"""What a person does in the browser, and what a visit's own scripts could do over HTTP."""

import json
import urllib.request
from typing import Any

from playwright.sync_api import Page

from crowd_imi.plan import PlannedTrial, PracticeTrial
from tests.browser.conftest import Site

OTHER = {"upper": "lower", "lower": "upper"}


def answer(page: Page, row: str, confidence: int) -> None:
    """Click one of the six buttons once they open."""
    page.locator(f'.level[data-row="{row}"][data-confidence="{confidence}"]:enabled').click()


def verdict(page: Page) -> str:
    """What the page says once Continue appears."""
    page.locator(".continue:enabled").wait_for()
    return page.locator(".trial .verdict").inner_text()


def go_on(page: Page) -> None:
    page.locator(".continue:enabled").click()


def button(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def read_instructions(page: Page) -> int:
    """Click through them; returns how many pages there were."""
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

    def right_row(self, trial: dict[str, Any]) -> str:
        """The correct answer to a trial as the API describes it, known from the plan."""
        return right_row(self.site, trial)


def right_row(site: Site, trial: dict[str, Any]) -> str:
    planned = planned_trial(site, trial["sprite"])
    return "upper" if trial["upper"] == planned.tiles.queries.max else "lower"


def planned_trial(site: Site, sprite: str) -> PlannedTrial | PracticeTrial:
    name = sprite.rpartition("/")[2]
    everything = [*site.plan.practice, *(trial for task in site.plan.tasks for trial in task.trials)]
    return next(trial for trial in everything if trial.sprite == name)


def token_of(site: Site, participant: str) -> str:
    """Arrive without a browser."""
    with urllib.request.urlopen(site.take_place(participant)) as reply:
        return str(reply.url).partition("#")[2]


def pass_practice(site: Site, participant: str) -> str:
    """A visit that stands at its first main trial; returns its token."""
    api = Api(site, token_of(site, participant))
    visit = api.call("/api/visit")
    api.call("/api/consent", {"agree": True, "version": visit["texts"]["consent"]["version"]})
    api.call("/api/instructions", {"browser": {}})
    for trial in visit["practice"]["trials"]:
        right = right_row(site, trial)
        given = {"block": 1, "position": trial["position"], "row": right, "confidence": 3, "rt_ms": 2000.0}
        reply = api.call("/api/practice", given)
    assert reply["step"] == "main"
    return api.token
