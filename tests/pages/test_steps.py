"""Consent, instructions, events, submission: each once, in order, repeatable."""

import pytest
from sqlalchemy import select

from crowd_imi.allocation import release_expired
from crowd_imi.lifecycle import VisitState, move
from crowd_imi.store.tables import Event, PageTime, Visit
from crowd_imi.store.visits import answers_of
from tests.pages.visitor import Visitor


def the_visit(run):
    with run.store.read() as session:
        return session.scalars(select(Visit)).one()


def test_consent_keeps_its_version_and_time(run_anywhere):
    visitor = run_anywhere.visitor("ann")
    assert visitor.consent().json["step"] == "instructions"
    first = the_visit(run_anywhere)
    assert first.consent_version == visitor.view()["texts"]["consent"]["version"]
    assert visitor.consent().json["step"] == "instructions"  # a repeat
    assert the_visit(run_anywhere).consented_at == first.consented_at


def test_consent_to_another_form_is_refused(run):
    reply = run.visitor("ann").post("/api/consent", {"agree": True, "version": "of last year"})
    assert (reply.status_code, reply.json["code"]) == (409, "consent-changed")


def test_declining_ends_the_visit_and_frees_the_task(run):
    visitor = run.visitor("ann")
    assert visitor.consent(agree=False).json == {"step": "declined", "completion": None}
    assert visitor.consent(agree=False).json == {"step": "declined", "completion": None}
    assert visitor.consent(agree=True).status_code == 409
    visit = the_visit(run)
    assert (visit.state, visit.holds_task, visit.consented_at) == ("declined", False, None)
    assert visitor.view()["completion"] is None


def test_a_device_that_cant_show_the_study_ends_the_visit_before_or_after_consent(run):
    for name in ("ann", "ben"):
        visitor = run.visitor(name)
        if name == "ben":
            visitor.consent()
        for _ in range(2):
            assert visitor.post("/api/incompatible", {}).json["step"] == "incompatible"
        assert visitor.view()["step"] == "incompatible"
    with run.store.read() as session:
        visits = session.scalars(select(Visit)).all()
    assert {(visit.state, visit.holds_task) for visit in visits} == {("declined", False)}
    # The local platform takes the place back by itself: there is nothing to hand in.
    assert {found.status for found in run.platform.submissions(run.platform.postings()[0])} == {"returned"}


def test_the_device_is_no_way_out_of_the_trials(run):
    visitor = run.visitor("ann")
    visitor.consent()
    visitor.read_instructions()
    assert visitor.post("/api/incompatible", {}).status_code == 409


def test_consent_cant_be_taken_back_by_declining(run):
    visitor = run.visitor("ann")
    visitor.consent()
    assert visitor.consent(agree=False).status_code == 409
    assert the_visit(run).state == "consented"


def test_instructions_come_after_consent_and_keep_the_browser(run):
    visitor = run.visitor("ann")
    assert visitor.read_instructions().status_code == 409
    visitor.consent()
    assert visitor.read_instructions().json["step"] == "practice"
    assert visitor.read_instructions().json["step"] == "practice"
    visit = the_visit(run)
    assert visit.browser == {"name": "Firefox", "window_width": 1280, "pixel_ratio": 1.5}
    assert visit.instructed_at is not None


def test_a_user_agent_is_too_long_to_be_stored(run):
    visitor = run.visitor("ann")
    visitor.consent()
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
    assert visitor.post("/api/instructions", {"browser": {"name": agent}}).status_code == 400


def test_page_times_and_events_are_kept(run_anywhere):
    visitor = run_anywhere.visitor("ann")
    assert visitor.post("/api/page", {"page": "welcome", "shown_ms": 2100.6}).status_code == 204
    assert visitor.post("/api/events", {"kind": "blur", "detail": {"step": "consent", "zoom": 1.25}}).status_code == 204
    with run_anywhere.store.read() as session:
        page, event = session.scalars(select(PageTime)).one(), session.scalars(select(Event)).one()
    assert (page.page, page.shown_ms) == ("welcome", 2101)
    assert (event.kind, event.detail) == ("blur", {"step": "consent", "zoom": 1.25})


def test_one_page_cant_fill_the_disk(run, monkeypatch):
    monkeypatch.setattr("crowd_imi.pages.actions.MOST_EVENTS", 2)
    visitor = run.visitor("ann")
    replies = [visitor.post("/api/events", {"kind": "blur"}).status_code for _ in range(3)]
    assert replies == [204, 204, 429]


def test_submitting_says_where_to_go_and_may_be_repeated(run_anywhere):
    run = run_anywhere
    visitor = run.visitor("ann")
    visitor.answer_all()
    first = visitor.post("/api/submit", {"feedback": " It was fun. "})
    assert first.json["step"] == "done"
    assert first.json["completion"]["url"].startswith("http://127.0.0.1:1/complete?submission=")
    visit = the_visit(run)
    assert (visit.state, visit.feedback, visit.holds_task) == ("submitted", "It was fun.", True)
    assert visitor.post("/api/submit", {"feedback": "again"}).json == first.json
    assert the_visit(run).feedback == "It was fun."
    assert visitor.view()["completion"] == first.json["completion"]
    # The link's code is the one that the platform was told when the study was posted.
    code = first.json["completion"]["url"].partition("code=")[2]
    run.platform.complete(run.submissions["ann"], code)
    assert run.platform.submission(run.submissions["ann"]).status == "awaiting_review"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (r"a\u0000b", "a\ufffdb"),
        (r"half \ud83d", "half \ufffd"),
        (r"\uDE00\ud83d\uDe00", "\ufffd\U0001f600"),
        (r"\ud83d\ud83d\ude00\ud83dx", "\ufffd\U0001f600\ufffdx"),
        (r"as text: \\u0000 \\\\ud83d, \n\u00e9", "as text: \\u0000 \\\\ud83d, \n\u00e9"),
        (r"\u0000", "\ufffd"),
    ],
)
def test_characters_that_no_database_keeps_stop_nobody(run_anywhere, written, kept):
    visitor = run_anywhere.visitor("ann")
    visitor.answer_all()
    body = f'{{"feedback": "{written}"}}'.encode()
    headers = {"X-Visit-Token": visitor.token}
    reply = visitor.client.post("/api/submit", data=body, content_type="application/json", headers=headers)
    assert (reply.status_code, reply.json["step"]) == (200, "done")
    assert the_visit(run_anywhere).feedback == kept


def test_events_keep_no_such_characters_either(run_anywhere):
    visitor = run_anywhere.visitor("ann")
    assert visitor.post("/api/events", {"kind": "blur", "detail": {"step": "a\x00\ud83d"}}).status_code == 204
    with run_anywhere.store.read() as session:
        assert session.scalars(select(Event)).one().detail == {"step": "a\ufffd\ufffd"}


def test_feedback_that_was_written_while_the_time_ran_out_is_kept(run_anywhere):
    run = run_anywhere
    visitor = run.visitor("ann")
    visitor.answer_all()
    time_out(run)
    visit = the_visit(run)
    assert (visit.state, visit.holds_task, visit.left_at) == ("submitted", True, None)
    with run.store.read() as session:
        assert visit.submitted_at == answers_of(session, visit.id)[-1].at
    reply = visitor.post("/api/submit", {"feedback": "Long, but good."})
    assert reply.json["step"] == "done" and reply.json["completion"] is not None
    after = the_visit(run)
    assert (after.feedback, after.submitted_at) == ("Long, but good.", visit.submitted_at)


def test_who_closed_the_page_before_going_back_to_the_platform_can_still_do_so(run):
    visitor = run.visitor("ann")
    visitor.answer_all()
    completion = visitor.post("/api/submit", {"feedback": ""}).json["completion"]
    again = run.visitor("ann").view()
    assert completion["url"] and completion["form"] is None
    assert (again["step"], again["completion"]) == ("done", completion)


def test_submitting_early_is_refused(run):
    visitor = run.visitor("ann")
    visitor.begin_trials()
    reply = visitor.post("/api/submit", {"feedback": ""})
    assert (reply.status_code, reply.json["code"]) == (409, "out-of-order")
    assert "8 questions" in reply.json["error"]


def time_out(run):
    with run.store.write() as session:
        release_expired(session, 0, run.store.now() + 1)


def test_a_late_submission_gets_its_task_back_when_nobody_else_has_it(run_anywhere):
    visitor = run_anywhere.visitor("ann")
    visitor.begin_trials()
    time_out(run_anywhere)
    assert not the_visit(run_anywhere).holds_task
    visitor.answer_all()
    assert visitor.post("/api/submit", {"feedback": ""}).json["step"] == "done"
    visit = the_visit(run_anywhere)
    assert (visit.state, visit.holds_task) == ("submitted", True)


def test_a_late_submission_whose_task_is_somebody_elses_is_kept_without_it(run_anywhere):
    run = run_anywhere
    visitor = run.visitor("ann")
    visitor.begin_trials()
    time_out(run)
    late = the_visit(run)
    run.platform.set_places(run.posting, 7)
    for n in range(6):  # all tasks
        run.visitor(f"person-{n}")
    visitor.answer_all()
    assert visitor.post("/api/submit", {"feedback": ""}).json["step"] == "done"
    with run.store.read() as session:
        holders = session.scalars(select(Visit).where(Visit.task_id == late.task_id, Visit.holds_task)).all()
        visit = session.get_one(Visit, late.id)
    assert (visit.state, visit.holds_task) == ("submitted", False)
    assert len(holders) == 1


def test_who_was_timed_out_before_the_trials_reads_that_it_is_over(run):
    visitor = run.visitor("ann")
    visitor.consent()
    time_out(run)
    for reply in (visitor.get("/api/visit"), visitor.read_instructions()):
        assert (reply.status_code, reply.json["code"]) == (410, "timed-out")


def test_a_judged_visit_still_shows_the_way_back(run):
    visitor = run.visitor("ann")
    visitor.answer_all()
    visitor.post("/api/submit", {"feedback": ""})
    with run.store.write() as session:
        move(session.scalars(select(Visit)).one(), VisitState.EXCLUDED, 1)
    assert visitor.view()["step"] == "done"


@pytest.mark.parametrize("token", ["", "x", "WyJhIiwxXQ.forged", "WyJhIiwxXQ"])
def test_a_token_that_nobody_here_signed_is_refused(run, token):
    visitor = Visitor(run.app)
    visitor.token = token
    reply = visitor.get("/api/visit")
    assert (reply.status_code, reply.json["code"]) == (401, "bad-token")


def test_a_token_that_something_was_added_to_is_refused(run):
    visitor = run.visitor("ann")
    visitor.token += 6000 * "!"  # which decoding passes over
    assert visitor.get("/api/visit").status_code == 401


def test_a_changed_token_is_refused(run):
    visitor = run.visitor("ann")
    payload, _, signature = visitor.token.partition(".")
    visitor.token = f"{payload}.{signature[:-1]}{'A' if signature[-1] != 'A' else 'E'}"
    assert visitor.get("/api/visit").status_code == 401


def test_a_preview_token_is_no_visits_token(run):
    from crowd_imi.pages.tokens import Tokens

    visitor = Visitor(run.app)
    visitor.token = Tokens(run.study.key.read_bytes()).for_preview("tiny")
    assert visitor.get("/api/visit").status_code == 401
