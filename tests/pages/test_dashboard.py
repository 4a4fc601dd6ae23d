"""The dashboard: what it counts, that it changes nothing, names nobody, and lets in who may look."""

import json
import re
import threading

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from werkzeug.serving import make_server

from crowd_imi.errors import PagesError, StoreError
from crowd_imi.harvester import harvest, status
from crowd_imi.pages.dashboard import create_app, require_password, snapshot, take_snapshot
from crowd_imi.platforms.base import PostingState
from crowd_imi.publisher.steering import steer
from crowd_imi.store.engine import database_urls
from crowd_imi.store.read_only import ReadOnlyStore
from crowd_imi.store.tables import PageTime, Person, Visit
from tests.harvester.crowd import SMALL, Crowd
from tests.tiny import write_study


@pytest.fixture
def crowd(tmp_path):
    """One valid, one excluded, one at the trials, one who declined, one gone in the instructions, one waiting."""
    crowd = Crowd.posted(tmp_path, SMALL)
    crowd.take_part("anna")
    crowd.take_part("ben", good=False)
    harvest(crowd.study, crowd.store, crowd.platform)
    crowd.platform.set_places(crowd.posting.platform_id, 9)
    crowd.begin(crowd.arrive("carl"))
    crowd.decline(crowd.arrive("dora"))
    gone = crowd.arrive("emil")
    with crowd.store.write() as session:
        row = session.get_one(Visit, gone.id)
        row.state, row.consented_at, row.holds_task = "returned", crowd.clock.now(), False
        session.add(PageTime(visit_id=gone.id, page="task", shown_ms=900, at=crowd.clock.now()))
    crowd.take_part("fay")
    return crowd


@pytest.fixture
def looking(crowd):
    store = ReadOnlyStore.look(database_urls(crowd.folder)[0])
    yield store
    store.close()


def test_everything_is_counted(crowd, looking):
    now = take_snapshot(crowd.study, looking, crowd.clock.now())
    status = [arm.status for arm in now.arms]
    counts = [sum(getattr(arm, name) for arm in status) for name in ("tasks", "valid", "submitted", "under_way", "excluded")]
    assert counts == [4, 1, 1, 1, 1]
    assert sorted(task.where for arm in now.arms for task in arm.tasks) == ["open", "submitted", "under_way", "valid"]
    assert now.excluded_by == {"catch_trials": 1}
    flow = {
        name: sum(getattr(arm.flow, name) for arm in now.arms) for name in ("arrived", "consented", "instructed", "submitted")
    }
    assert flow == {"arrived": 6, "consented": 5, "instructed": 4, "submitted": 3}
    left = [page for arm in now.arms for page in arm.flow.left_at]
    assert sorted(left) == ["declined", "instructions after “task”"]
    # Anna's six main trials are valid answers, one per unit; every unit is planned twice.
    units = [unit for arm in now.arms for unit in arm.units]
    assert (sum(unit.valid for unit in units), {unit.planned for unit in units}) == (6, {2})
    # Each of the three who submitted answered 6 + 2 trials in 2.0 s.
    assert sum(arm.times.answers for arm in now.arms if arm.times) == 24
    assert {arm.times.median for arm in now.arms if arm.times} == {2000}


def test_money_and_the_hourly_pay_are_as_they_really_are(crowd, looking):
    now = take_snapshot(crowd.study, looking, crowd.clock.now())
    # Two paid, Carl and Fay may have to be, at 150 each.
    assert (now.money.spent.amount, now.money.owed.amount, now.money.cap.amount) == (300, 300, 5000)
    # 150 cents in 10 minutes are 9.00 an hour; planned were 6 minutes, 15.00 an hour.
    assert (now.pay.hourly.amount, now.pay.promised.amount, now.pay.minutes) == (900, 1500, 10.0)


def test_owed_is_what_status_has_committed_and_not_spent_with_bonuses_by_rule(tmp_path):
    crowd = Crowd.posted(tmp_path, SMALL.replace("cap = 5000", "cap = 5000\nbonus = 20"))
    looking = ReadOnlyStore.look(database_urls(tmp_path)[0])
    crowd.take_part("anna")
    crowd.take_part("ben", good=False)
    harvest(crowd.study, crowd.store, crowd.platform)
    crowd.take_part("carl")
    crowd.begin(crowd.arrive("dora"))
    now, said = take_snapshot(crowd.study, looking, crowd.clock.now()), status(crowd.study, crowd.store, crowd.platform)
    # Anna has 150 + 20 and Ben, who failed catch trials, 150; Carl and Dora are owed 150, and may earn 20 each.
    assert (now.money.spent.amount, now.money.owed.amount, now.money.held.amount) == (320, 340, 0)
    assert now.money.owed.amount == said.committed.amount - said.spent.amount
    crowd.study = write_study(tmp_path, SMALL.replace("cap = 5000", "cap = 400\nbonus = 20"))
    harvest(crowd.study, crowd.store, crowd.platform)  # Carl's 150 would go over the cap
    now, said = take_snapshot(crowd.study, looking, crowd.clock.now()), status(crowd.study, crowd.store, crowd.platform)
    looking.close()
    assert (now.money.spent.amount, now.money.held.amount) == (320, 150)
    assert now.money.owed.amount == said.committed.amount - said.spent.amount == 340 - 150


def test_a_stopped_study_is_complete_when_status_says_so(tmp_path):
    crowd = Crowd.posted(tmp_path)
    looking = ReadOnlyStore.look(database_urls(tmp_path)[0])
    crowd.take_part("anna")
    carl = crowd.arrive("carl")
    steer(crowd.study, crowd.store, crowd.platform, PostingState.STOPPED)
    found = []
    for _ in range(3):
        shown = take_snapshot(crowd.study, looking, crowd.clock.now()).complete
        found.append((shown, status(crowd.study, crowd.store, crowd.platform).complete))
        harvest(crowd.study, crowd.store, crowd.platform)
        if crowd.state(carl)[0] == "arrived":
            crowd.platform.give_back(crowd.submission_of("carl"))
    looking.close()
    # Carl is at it at first; then he has given it back there, and the next harvest reads that.
    assert found == [(False, False), (False, False), (True, True)]


def test_a_stopped_study_isnt_complete_while_somebody_waits_for_a_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "_study_time", lambda store, visits, now: now)  # a real study's
    crowd = Crowd.posted(tmp_path)
    looking = ReadOnlyStore.look(database_urls(tmp_path)[0])
    crowd.fail_practice(crowd.arrive("carl"))
    steer(crowd.study, crowd.store, crowd.platform, PostingState.STOPPED)
    crowd.clock.set(crowd.clock.now() + 5 * 3_600_000)
    assert not status(crowd.study, crowd.store, crowd.platform).complete
    assert not take_snapshot(crowd.study, looking, crowd.clock.now()).complete
    looking.close()


def test_a_study_without_visits_has_nothing_to_show_and_no_error(tmp_path):
    crowd = Crowd.posted(tmp_path, SMALL)
    looking = ReadOnlyStore.look(database_urls(tmp_path)[0])
    now = take_snapshot(crowd.study, looking, crowd.clock.now())
    looking.close()
    assert now.pay is None and now.excluded_by == {} and [arm.times for arm in now.arms] == [None, None]


def test_problems_are_sentences(crowd, looking):
    crowd.clock.set(crowd.clock.now() + 3 * 3_600_000)
    late = crowd.arrive("gus")
    now = take_snapshot(crowd.study, looking, crowd.clock.now())
    assert late.arrived_at == crowd.clock.now()
    assert any("wait for a verdict" in problem for problem in now.problems), now.problems
    assert all(not re.search(r"[{}]", problem) for problem in now.problems)


def test_who_handed_in_without_having_been_here_is_a_problem_until_somebody_decided(crowd, looking):
    crowd.take("stranger")
    crowd.hand_in("stranger")
    found = []
    for decide in (lambda submission: None, crowd.platform.approve):
        decide(crowd.submission_of("stranger"))
        harvest(crowd.study, crowd.store, crowd.platform)
        found.append([p for p in take_snapshot(crowd.study, looking, crowd.clock.now()).problems if "not finished here" in p])
    assert found == [
        ["1 submissions there are nobody's here or not finished here; `crowd-imi status` says what to do"],
        [],
    ]


def test_the_database_refuses_to_be_written_and_people_arent_reached(crowd, looking):
    with looking.read() as session, pytest.raises(OperationalError, match=r"readonly|query_only|attempt to write"):
        session.execute(text("DELETE FROM visit"))
    with pytest.raises(StoreError, match="opened for looking"), looking.write():
        pass
    with pytest.raises(StoreError, match="without people's ids"), looking.people():
        pass


def test_nobody_is_named(crowd, looking):
    client = create_app(crowd.study, looking, None).test_client()
    shown = client.get("/progress.json").text
    with crowd.store.people() as people:
        persons = people.scalars(select(Person)).all()
    with crowd.store.read() as session:
        visits = session.scalars(select(Visit)).all()
    secret = {word for p in persons for word in (p.platform_participant, p.platform_submission, p.participant, p.visit_id)}
    secret |= {visit.id for visit in visits}
    assert len(secret) > 20
    assert [word for word in secret if word in shown] == []


def test_without_a_password_only_this_machines_names_are_answered(crowd, looking):
    client = create_app(crowd.study, looking, None).test_client()
    assert client.get("/progress.json", headers={"Host": "127.0.0.1:8002"}).status_code == 200
    assert client.get("/progress.json", headers={"Host": "evil.example"}).status_code == 400


def test_a_password_is_asked_for(crowd, looking):
    client = create_app(crowd.study, looking, "a long password").test_client()
    refused = client.get("/progress.json")
    assert (refused.status_code, refused.headers["WWW-Authenticate"].split()[0]) == (401, "Basic")
    assert client.get("/", auth=("dashboard", "a long passwore")).status_code == 401
    assert client.get("/", auth=("somebody", "a long password")).status_code == 401
    assert client.get("/", headers={"Authorization": "Bearer a long password"}).status_code == 401
    assert client.get("/", auth=("dashboard", "a long password"), headers={"Host": "lab.example.org"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "password", "message"),
    [
        ("0.0.0.0", None, "open to everybody who reaches 0.0.0.0; set CROWD_IMI_DASHBOARD_PASSWORD"),
        ("192.0.2.1", "short", "has 5 characters; it takes at least 12"),
        ("127.0.0.1", "", "has 0 characters"),
    ],
)
def test_an_open_dashboard_is_refused(host, password, message):
    with pytest.raises(PagesError, match=message):
        require_password(host, password)


def test_every_reply_is_guarded_and_nothing_can_be_sent(crowd, looking):
    client = create_app(crowd.study, looking, None).test_client()
    for path in ("/", "/style.css", "/dashboard.js", "/progress.json", "/nothing", "/study.db"):
        reply = client.get(path)
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in reply.headers["Content-Security-Policy"] and reply.headers["Cache-Control"] == "no-store"
        assert client.post(path).status_code in (404, 405)
    assert client.get("/study.db").status_code == 404


def test_a_database_that_is_gone_is_said_and_comes_back(crowd, looking, monkeypatch):
    monkeypatch.setattr("crowd_imi.pages.dashboard.app.FRESH_SECONDS", 0.0)
    client = create_app(crowd.study, looking, None).test_client()
    monkeypatch.setattr(looking, "read", lambda: (_ for _ in ()).throw(StoreError("gone")))
    reply = client.get("/progress.json")
    assert (reply.status_code, "Traceback" in reply.text) == (503, False)
    monkeypatch.undo()
    assert client.get("/progress.json").status_code == 200


@pytest.mark.parametrize("width", [390, 1280])
def test_it_updates_without_a_reload_and_fits_a_phone(crowd, looking, browser, monkeypatch, width):
    monkeypatch.setattr("crowd_imi.pages.dashboard.app.FRESH_SECONDS", 0.0)
    server = make_server("127.0.0.1", 0, create_app(crowd.study, looking, None), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        page = browser.new_page(viewport={"width": width, "height": 844})
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.get_by_text("1 of 4").first.wait_for()
        page.locator("summary").first.click()
        page.get_by_text("Units: valid answers").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        harvest(crowd.study, crowd.store, crowd.platform)
        page.get_by_text("2 of 4").first.wait_for()
        assert page.locator("details").first.get_attribute("open") is not None
        assert said == []
        page.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_document_is_json_of_its_own_model(crowd, looking):
    shown = json.loads(create_app(crowd.study, looking, None).test_client().get("/progress.json").text)
    assert shown == json.loads(take_snapshot(crowd.study, looking, shown["at"]).model_dump_json())
