"""What holds for every reply: headers, files, failures."""

import logging
import sqlite3

import pytest
from sqlalchemy import event

from crowd_imi.design.minting import Batch
from crowd_imi.errors import DesignError, StoreError, StudyError
from crowd_imi.pages.app import create_app
from crowd_imi.pages.assets import SPRITE
from crowd_imi.plan import Grid
from crowd_imi.platforms.link import LinkPlatform
from crowd_imi.platforms.mturk import MturkPlatform
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.study import LinkSection, MturkSection, ProlificSection
from tests.pages.visitor import Visitor
from tests.tiny import STUDY_TOML, fake_plan


def test_every_reply_carries_the_guarding_headers(run):
    visitor = run.visitor("ann")
    sprite = visitor.view()["main"][0]["sprite"]
    for path in ("/visit", "/api/visit", sprite, "/static/visit.js", "/health", "/nothing-here", "/arrive"):
        headers = visitor.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in headers


@pytest.fixture
def aws_key(monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFORTESTSONLY0000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-of-the-tests")


PLATFORMS = {
    "mturk-live": (lambda _: MturkPlatform(MturkSection()), "https://www.mturk.com https://worker.mturk.com"),
    "mturk-sandbox": (lambda _: MturkPlatform(MturkSection(), sandbox=True), "https://workersandbox.mturk.com"),
    "prolific": (lambda _: ProlificPlatform("a-token", ProlificSection()), "'none'"),
    "link": (lambda folder: LinkPlatform(folder / "link.db", b"k" * 32, LinkSection(), "http://127.0.0.1:8000"), "'none'"),
}
"""Name → how the platform is opened, and the origins that may show the task pages in a frame."""


@pytest.mark.parametrize(("opened", "origins"), PLATFORMS.values(), ids=PLATFORMS.keys())
def test_only_where_a_platform_works_may_the_pages_stand_in_a_frame(run, tmp_path, aws_key, opened, origins):
    platform = opened(tmp_path)
    client = create_app(run.study, run.store, platform, run_folder=run.study.folder).test_client()
    for path in ("/visit", "/arrive", "/api/visit", "/static/visit.js"):
        policy = client.get(path, buffered=True).headers["Content-Security-Policy"]
        directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
        assert directives["frame-ancestors"] == origins, path
        assert directives["form-action"] == origins, path  # the same origins take what is handed in
    if isinstance(platform, LinkPlatform):
        platform.close()


def test_nobody_keeps_a_copy_of_the_apis_replies(run):
    assert run.visitor("ann").get("/api/visit").headers["Cache-Control"] == "no-store"


def test_a_sprites_headers_say_nothing_but_its_size(run):
    visitor = run.visitor("ann")
    view = visitor.view()
    for trial in (view["main"][0], view["practice"]["trials"][0]):
        reply = visitor.get(trial["sprite"])
        assert (reply.status_code, reply.mimetype) == (200, "image/avif")
        assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert not {"ETag", "Last-Modified", "Content-Disposition", "Accept-Ranges"} & set(reply.headers.keys())
        assert reply.data == (run.study.sprites / trial["sprite"].removeprefix("/sprites/")).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/sprites/",
        "/sprites/../plan.json",
        "/sprites/%2e%2e%2fplan.json",
        "/sprites/plan.json",
        "/sprites/" + "0" * 32 + ".avif",
        "/sprites/" + "0" * 32 + ".avif%0a",
        "/sprites/%00",
        "/static/",
        "/static/visit.html",
        "/static/texts/en.toml",
        "/static/..%2f..%2fpyproject.toml",
        "/static/vendor/..%2fapp.py",
        "/static/vendor/built-from.txt",
        "/plan.json",
        "/study.db",
    ],
)
def test_only_what_pages_need_is_served(run, path):
    assert run.app.test_client().get(path).status_code == 404


def test_a_sprites_name_is_known_by_its_form():
    [name] = Batch("a task", ((),)).file_names(b"key", Grid(columns=5, rows=4, tile=32, gutter=8))
    assert SPRITE.fullmatch(name)


@pytest.mark.parametrize(
    "path",
    [
        "/sprites/%00",
        "/sprites/%00.avif",
        "/static/%00.js",
        "/arrive?participant=%00&submission=a&posting=b",
        "/arrive?participant=a&submission=%00&posting=b",
        "/arrive?participant=a&submission=b&posting=%00",
        "/join?invitation=%00",
        "/finished?token=%00",
        "/preview?token=%00",
    ],
)
def test_a_nul_in_an_address_is_refused_and_comes_to_no_database(run_anywhere, path):
    # PostgreSQL takes none; asked with it, it would be as if the database were away.
    assert run_anywhere.app.test_client().get(path).status_code in (403, 404)


def test_scripts_styles_and_jspsych_are_served_with_their_types(run):
    types = {"visit.js": "text/javascript", "style.css": "text/css", "vendor/jspsych.js": "text/javascript"}
    for name, mimetype in types.items():
        reply = run.app.test_client().get(f"/static/{name}", buffered=True)
        assert (reply.status_code, reply.mimetype) == (200, mimetype)


def test_a_huge_request_is_refused(run):
    visitor = run.visitor("ann")
    reply = visitor.post("/api/submit", {"feedback": "x" * 70_000})
    assert (reply.status_code, reply.json["code"]) == (413, "request-entity-too-large")


def test_unknown_addresses_and_methods_get_a_sentence(run):
    client = run.app.test_client()
    assert client.get("/api/nothing").json == {"error": "This doesn't work: not found.", "code": "not-found"}
    assert client.get("/api/answers").status_code == 405


def test_a_locked_database_is_a_503_and_the_same_request_works_later(run):
    visitor = run.visitor("ann")
    version = visitor.view()["texts"]["consent"]["version"]
    run.store.close()
    event.listen(run.store._engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=20"))
    other = sqlite3.connect(run.study.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    reply = visitor.post("/api/consent", {"agree": True, "version": version})
    assert (reply.status_code, reply.json["code"]) == (503, "try-again")
    assert reply.headers["Retry-After"] == "2"
    other.execute("ROLLBACK")
    other.close()
    assert visitor.consent().json["step"] == "instructions"


def test_a_failure_inside_shows_nothing_of_itself(run, monkeypatch, caplog):
    visitor = run.visitor("JaneDoe")
    monkeypatch.setattr("crowd_imi.pages.api.main_view", lambda *_: 1 // 0)
    with caplog.at_level(logging.ERROR):
        reply = visitor.get("/api/visit")
    assert (reply.status_code, reply.json["code"]) == (500, "failed")
    assert "ZeroDivision" not in reply.text
    assert "ZeroDivisionError" in caplog.text


def plain_page(reply):
    assert reply.mimetype == "text/html"
    assert "<h1>" in reply.text and "<!doctype html>" in reply.text
    return reply.text.partition('data-refusal="')[2].partition('"')[0]


def test_who_arrives_while_the_database_is_locked_reads_what_to_do(run):
    submission = run.take("ann")
    run.store.close()
    event.listen(run.store._engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=20"))
    other = sqlite3.connect(run.study.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    reply = Visitor(run.app).arrive("ann", submission, run.posting)
    assert (reply.status_code, reply.headers["Retry-After"], plain_page(reply)) == (503, "2", "try-again")
    assert "wait half a minute, then reload this page" in reply.text
    other.execute("ROLLBACK")
    other.close()
    assert Visitor(run.app).arrive("ann", submission, run.posting).status_code == 303


def test_who_arrives_where_something_fails_reads_what_to_do(run, monkeypatch):
    monkeypatch.setattr("crowd_imi.pages.arrival.arrive", lambda *_: 1 // 0)
    reply = Visitor(run.app).arrive("ann", run.take("ann"), run.posting)
    assert (reply.status_code, plain_page(reply)) == (500, "failed")
    assert "reload this page" in reply.text and run.study.file.pages.contact in reply.text
    assert "ZeroDivision" not in reply.text


def test_the_log_names_nobody(run, monkeypatch, caplog):
    submission = run.take("JaneDoe")
    monkeypatch.setattr("crowd_imi.pages.arrival.arrive", lambda *_: 1 // 0)
    with caplog.at_level(logging.DEBUG, logger="crowd_imi"):
        Visitor(run.app).arrive("JaneDoe", submission, run.posting)
    assert "/arrive failed" in caplog.text
    assert "JaneDoe" not in caplog.text
    assert submission not in caplog.text


def test_pages_of_another_plan_arent_served(run):
    changed = fake_plan(run.study).model_copy(update={"seed": 99})
    changed.save(run.study.plan)
    with pytest.raises(StoreError, match="its tasks come from another plan"):
        create_app(run.study, run.store, run.platform, run_folder=run.study.folder)


def test_a_plan_without_practice_isnt_served(run):
    fake_plan(run.study).model_copy(update={"practice": ()}).save(run.study.plan)
    with pytest.raises(DesignError, match="no practice trials"):
        create_app(run.study, run.store, run.platform, run_folder=run.study.folder)


def test_a_language_without_texts_says_which_there_are(make_run):
    with pytest.raises(StudyError, match=r"pages.language = 'eo': two_alternative has no such texts \(there: en\)"):
        make_run(STUDY_TOML.replace("[pages]", '[pages]\nlanguage = "eo"'))
