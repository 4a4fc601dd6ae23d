"""axe-core over the pages beside the visit itself, which ``tests/browser`` looks at: a person of each kind meets one of them."""

import threading
from contextlib import ExitStack, contextmanager

from werkzeug.serving import make_server

from crowd_imi.errors import Refused
from crowd_imi.pages.dashboard import create_app as create_dashboard
from crowd_imi.pages.places import create_app as create_places
from tests import axe
from tests.pages.test_dashboard import crowd, looking  # noqa: F401 - fixtures
from tests.pages.test_link import Guest, Invited, come, finish, path
from tests.tiny import STUDY_TOML

REFUSED = ("ended", "already-took-part", "study-full", "malformed-link", "forged-link", "not-ours")
"""All are one page with other words, which ``test_arrival`` and ``test_link`` get to in earnest."""


@contextmanager
def served(app):
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_no_page_beside_the_visit_has_a_serious_violation(run, crowd, looking, tmp_path, monkeypatch, browser):  # noqa: F811
    study = Invited(tmp_path / "by-link", STUDY_TOML)
    guest = Guest(study.app)
    come(guest, study.url("anna"))
    last = path(finish(guest))
    found = {}
    with ExitStack() as servers:
        tasks, links, places, dashboard = (
            servers.enter_context(served(app))
            for app in (run.app, study.app, create_places(run.platform), create_dashboard(crowd.study, looking, None))
        )
        page = servers.enter_context(browser.new_context(viewport={"width": 940, "height": 600})).new_page()

        def look(address, status=200, wait_for="h1"):
            assert page.goto(address).status == status, address
            page.locator(wait_for).first.wait_for()
            found[address] = axe.violations(page)

        look(f"{links}{path(study.url('ben'))}")
        look(f"{links}{last}")
        look(f"{places}/")
        look(f"{places}/complete?submission=x&code=y", 409)
        for code in REFUSED:
            monkeypatch.setattr("crowd_imi.pages.arrival._arrive", raising(Refused("No.", 403, code)))
            look(f"{tasks}/arrive?{code}", 403, f'[data-refusal="{code}"]')
        look(f"{dashboard}/", wait_for="summary")
        page.locator("summary").first.click()
        found["dashboard, an arm opened"] = axe.violations(page)
        page.set_viewport_size({"width": 390, "height": 844})
        found["dashboard on a phone"] = axe.violations(page)
    study.close()
    assert {where: violations for where, violations in found.items() if violations} == {}


def raising(error):
    def fails():
        raise error

    return fails
