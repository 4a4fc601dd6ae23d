"""What axe-core finds on a page: for every page that people meet, participants' pages and the report alike.

axe-core comes with the PyPI package axe-playwright-python, which only tests need, so nothing of it is in the wheel.
"""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Frame, Page

BAD = ("serious", "critical")
"""Impacts that a page of ours may not have; "minor" and "moderate" ones are advice."""


def violations(page: Page | Frame) -> list[str]:
    """One line for each element of a page with a serious or critical violation: the rule, and the element."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]}"
        for rule in found
        if rule["impact"] in BAD
        for node in rule["nodes"]
    ]
