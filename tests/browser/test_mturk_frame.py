"""A worker of MTurk's stand-in: the pages stand in its frame, and hand in by its form."""

from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, expect

from crowd_imi.design.plan import make_plan
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import create_store, launch, note_platform, offer_of
from crowd_imi.store import StoreKind
from tests.browser.conftest import TOML, Site, _short_practice
from tests.browser.person import Api, answer_everything
from tests.cli.test_publish_prolific import pages
from tests.contract.mturk import mturk
from tests.tiny import write_pack, write_study


def test_a_worker_works_in_the_frame_and_hands_in_by_the_form(browser: Browser, tmp_path: Path):
    study = write_study(tmp_path / "study", TOML)
    write_pack(study)
    plan = make_plan(study, practice=_short_practice(tmp_path / "practice"))
    with mturk(tmp_path / "mturk") as rig:
        store = create_store(study, plan, study.folder, StoreKind.STUDY)
        choice = Choice(name="mturk", endpoint_url=rig.standin.url)
        note_platform(store, choice, offer_of(study, len(plan.tasks), rig.platform))
        with pages(study) as address:
            posting = launch(study, store, rig.platform, choice.model_copy(update={"pages_url": address}))
            query = rig.take(posting.platform_id, "anna")
            complaints: list[str] = []
            context = browser.new_context()
            page = context.new_page()
            visited: list[str] = []
            page.on("framenavigated", lambda frame: visited.append(frame.url))
            page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)

            page.goto(f"{address}/arrive?{urlencode({**query, 'assignmentId': 'ASSIGNMENT_ID_NOT_AVAILABLE'})}")
            expect(page.get_by_role("heading", name="This is a preview")).to_be_visible()

            page.goto(f"{rig.standin.url}/mturk/work?assignmentId={query['assignmentId']}")
            frame = page.frame_locator("iframe")
            expect(frame.get_by_role("button", name="I agree and take part")).to_be_visible()
            token = next(url.partition("#")[2] for url in visited if "/visit#" in url)  # gone from the address since
            inner = next(found for found in page.frames if found.url.startswith(f"{address}/visit"))
            site = Site(study, plan, store, None, "", address, "")  # type: ignore[arg-type]
            answer_everything(Api(site, token))
            inner.evaluate("location.reload()")
            frame.locator("#complete").click()
            expect(frame.get_by_text("The HIT was submitted")).to_be_visible()
            context.close()
        # A preview is refused with a 403, which the browser's console names, however late.
        assert [complaint for complaint in complaints if "403" not in complaint] == []
        assert rig.platform.submission(query["assignmentId"]).status == "awaiting_review"
        store.close()
