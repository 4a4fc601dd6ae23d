"""Coming in: the platform's word counts, and who can't take part reads why."""

import pytest
from sqlalchemy import select

from crowd_imi.allocation import Arrival, arrive
from crowd_imi.errors import BadLink, ForgedLink, MalformedLink, PlatformError, Refused
from crowd_imi.pages.texts import load_texts
from crowd_imi.pages.tokens import Tokens
from crowd_imi.store import StoreKind
from crowd_imi.store.tables import Person, Visit
from tests.pages.visitor import Visitor


def visits(run):
    with run.store.read() as session:
        return session.scalars(select(Visit)).all()


def refusal(reply):
    assert reply.mimetype == "text/html"
    assert "<h1>" in reply.text
    return reply.status_code, reply.text.partition('data-refusal="')[2].partition('"')[0]


def test_arriving_gives_a_task_and_a_token_behind_the_hash(run_anywhere):
    visitor = run_anywhere.visitor("ann")
    [visit] = visits(run_anywhere)
    assert (visit.state, visit.payment, visit.holds_task, visit.label) == ("arrived", "unpaid", True, "main")
    assert "ann" not in visit.participant
    assert visitor.view()["step"] == "consent"
    with run_anywhere.store.people() as people:
        person = people.get_one(Person, visit.id)
    assert (person.platform_participant, person.platform_submission) == ("ann", run_anywhere.submissions["ann"])


def test_a_link_without_its_ids_is_refused(run):
    assert refusal(Visitor(run.app).get("/arrive", participant="ann")) == (404, "bad-link")
    assert refusal(Visitor(run.app).get("/arrive", participant="a b", submission="x", posting="y")) == (404, "malformed-link")


def test_ids_that_the_platform_doesnt_know_are_refused(run):
    visitor = Visitor(run.app)
    assert refusal(visitor.arrive("ann", "invented", run.posting)) == (404, "unknown-submission")
    assert refusal(visitor.arrive("ann", run.take("ann"), "invented")) == (403, "not-ours")
    assert visits(run) == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(BadLink, 403, "not-ours"), (MalformedLink, 404, "malformed-link"), (ForgedLink, 403, "forged-link")],
)
def test_made_up_malformed_and_forged_ids_are_told_apart(run, monkeypatch, error, status, code):
    def refuses(query):
        raise error("what the platform found wrong")

    monkeypatch.setattr(run.platform, "arrive", refuses)
    reply = Visitor(run.app).arrive("ann", run.take("ann"), run.posting)
    assert refusal(reply) == (status, code)
    assert "what the platform found wrong" not in reply.text
    assert f"<h1>{load_texts(run.study)['refusals'][code]['heading']}</h1>" in reply.text
    assert run.study.file.pages.contact in reply.text
    assert visits(run) == []


def test_somebody_elses_submission_is_no_use(run):
    assert refusal(Visitor(run.app).arrive("bob", run.take("ann"), run.posting)) == (404, "unknown-submission")


def test_a_place_that_was_given_back_has_ended(run):
    submission = run.take("ann")
    run.platform.give_back(submission)
    assert refusal(Visitor(run.app).arrive("ann", submission, run.posting)) == (410, "ended")


def test_who_has_handed_in_and_takes_another_place_reads_that_they_took_part(run):
    visitor = run.visitor("ann")
    visitor.answer_all()
    url = visitor.post("/api/submit", {"feedback": ""}).json["completion"]["url"]
    first = run.submissions["ann"]
    run.platform.complete(first, url.partition("code=")[2])
    assert refusal(Visitor(run.app).arrive("ann", first, run.posting)) == (403, "already-took-part")
    reply = Visitor(run.app).arrive("ann", run.take("ann"), run.posting)
    assert refusal(reply) == (403, "already-took-part")
    assert run.study.file.pages.contact in reply.text
    assert len(visits(run)) == 1


def test_a_full_study_says_so(run):
    for n in range(6):
        comer = Arrival("local", f"person-{n}", f"s{n}", visits(run)[0].posting_id if n else first_posting(run), run.store.now())
        arrive(run.store, run.study, comer)
    run.platform.set_places(run.posting, 7)
    assert refusal(Visitor(run.app).arrive("late", run.take("late"), run.posting)) == (409, "study-full")


def first_posting(run):
    from crowd_imi.store.tables import Posting

    with run.store.read() as session:
        return session.scalars(select(Posting.id)).one()


def test_opening_the_link_again_ends_the_old_page_and_goes_on(run):
    old = run.visitor("ann")
    old.consent()
    new = run.visitor("ann")
    assert new.view()["step"] == "instructions"
    reply = old.get("/api/visit")
    assert (reply.status_code, reply.json["code"]) == (401, "ended")
    assert old.read_instructions().json["code"] == "ended"
    assert new.read_instructions().json["step"] == "practice"


def test_nothing_of_a_link_comes_back_in_the_page(run):
    reply = Visitor(run.app).get("/arrive", participant="<script>alert(1)</script>", submission="{{7*7}}", posting="${1}")
    assert refusal(reply) == (403, "not-ours")
    assert "alert" not in reply.text
    assert "49" not in reply.text


def test_link_checkers_take_no_task(run):
    submission = run.take("ann")
    reply = Visitor(run.app).client.head(f"/arrive?participant=ann&submission={submission}&posting={run.posting}")
    assert reply.status_code == 405
    assert visits(run) == []


def test_the_page_is_the_same_for_everybody_and_has_no_script_inside(run):
    reply = Visitor(run.app).get("/visit")
    assert reply.status_code == 200
    assert "<script>" not in reply.text
    assert reply.data == run.visitor("ann").get("/visit").data


@pytest.mark.parametrize("said", [None, "", "now", "-5", "1.5", "٣", "9" * 16])
def test_a_rehearsal_wants_to_know_the_time(make_run, said):
    run = make_run(kind=StoreKind.REHEARSAL)
    client = run.app.test_client()
    headers = {} if said is None else {"X-Rehearsal-Clock": said.encode().decode("latin1")}
    reply = client.get("/api/visit", headers=headers)
    assert (reply.status_code, reply.json["code"]) == (400, "bad-request")


def test_a_rehearsals_time_is_the_one_it_is_told(make_run):
    run = make_run(kind=StoreKind.REHEARSAL)
    visitor = run.visitor("ann")
    visitor.clock += 12_345
    visitor.consent()
    [visit] = visits(run)
    assert (visit.arrived_at, visit.consented_at) == (run.clock, run.clock + 12_345)


def test_a_real_study_refuses_to_be_told_the_time(run):
    visitor = run.visitor("ann")
    visitor.clock = 1
    assert visitor.get("/api/visit").status_code == 400


def test_a_previews_link_works_again_and_again_and_only_for_a_preview(make_run):
    run = make_run(kind=StoreKind.PREVIEW)
    token = Tokens(run.study.key.read_bytes()).for_preview("tiny")
    for _ in range(8):  # more than there are tasks
        visitor = Visitor(run.app)
        reply = visitor.get("/preview", token=token)
        assert reply.status_code == 303
        visitor.token = reply.headers["Location"].partition("#")[2]
        assert visitor.view()["step"] == "consent"
    visitor.answer_all()
    assert visitor.post("/api/submit", {"feedback": "fine"}).json == {"step": "done", "completion": None}
    assert refusal(Visitor(run.app).get("/preview", token=token + "x")) == (403, "not-ours")
    assert refusal(Visitor(run.app).get("/preview")) == (404, "bad-link")
    assert {visit.label for visit in visits(run)} == {"preview"}


def test_a_studys_own_pages_have_no_preview(run):
    token = Tokens(run.study.key.read_bytes()).for_preview("tiny")
    assert refusal(Visitor(run.app).get("/preview", token=token)) == (404, "bad-link")


def test_a_repeat_visitors_place_is_given_back_at_once(run):
    run.visitor("ann").answer_all()
    first = run.submissions["ann"]
    run.platform.give_back(first)
    second = run.take("ann")
    reply = Visitor(run.app).arrive("ann", second, run.posting)
    assert refusal(reply) == (403, "already-took-part")
    assert "We gave the place that you took just now back" in reply.text
    assert run.platform.submission(second).status == "timed_out"
    [place] = run.platform.open_places()
    assert place.free == 6


def test_who_finds_the_study_full_keeps_no_place(run):
    run.platform.set_places(run.posting, 7)
    for n in range(6):
        run.visitor(f"person-{n}")
    submission = run.take("late")
    reply = Visitor(run.app).arrive("late", submission, run.posting)
    assert refusal(reply) == (409, "study-full")
    assert "We gave your place back" in reply.text
    assert run.platform.submission(submission).status == "timed_out"
    assert [place.free for place in run.platform.open_places()] == [1]


def test_a_place_that_cant_be_given_back_is_asked_for(run, monkeypatch, caplog):
    def fails(submission):
        raise PlatformError(f"submission {submission} is locked")

    monkeypatch.setattr(run.platform, "release", fails)
    monkeypatch.setattr("crowd_imi.pages.arrival.arrive", refuse_as_full)
    submission = run.take("ann")
    reply = Visitor(run.app).arrive("ann", submission, run.posting)
    assert refusal(reply) == (409, "study-full")
    assert "Please give your place back" in reply.text
    assert "is locked" in caplog.text
    assert submission not in caplog.text


def test_who_was_let_in_by_a_second_click_keeps_the_place(run, monkeypatch):
    run.visitor("ann")
    monkeypatch.setattr("crowd_imi.pages.arrival.arrive", refuse_as_full)
    reply = Visitor(run.app).arrive("ann", run.submissions["ann"], run.posting)
    assert refusal(reply) == (409, "study-full")
    assert "Please give your place back" in reply.text
    assert run.platform.submission(run.submissions["ann"]).status == "active"


def refuse_as_full(*_):
    raise Refused("Every task is taken.", 409, "study-full")


def test_a_platform_that_refuses_us_says_to_try_again_and_tells_the_log_without_ids(run, monkeypatch, caplog):
    def refuses(query):
        raise PlatformError(f"the token was revoked (asked for {query['submission']} of {query['participant']})")

    monkeypatch.setattr(run.platform, "arrive", refuses)
    submission = run.take("annabel")
    assert refusal(Visitor(run.app).arrive("annabel", submission, run.posting)) == (503, "try-again")
    [record] = caplog.records
    assert record.levelname == "ERROR" and "the token was revoked" in caplog.text
    assert submission not in caplog.text and "annabel" not in caplog.text


def test_a_platform_is_only_asked_about_postings_of_ours(run, monkeypatch):
    asked = []
    monkeypatch.setattr(run.platform, "posting_parameter", "posting")
    monkeypatch.setattr(run.platform, "arrive", asked.append)
    assert refusal(Visitor(run.app).arrive("ann", run.take("ann"), "invented")) == (404, "unknown-submission")
    assert refusal(Visitor(run.app).get("/arrive", participant="ann")) == (404, "bad-link")
    assert asked == []
