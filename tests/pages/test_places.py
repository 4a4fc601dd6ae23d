"""The local platform's list of places: take one, hand in, give it back."""

import pytest

from crowd_imi.keys import completion_code
from crowd_imi.pages.places import create_app
from crowd_imi.store.tables import Posting


@pytest.fixture
def client(run):
    return create_app(run.platform).test_client()


JSON = {"Accept": "application/json"}


def code_of(run):
    from sqlalchemy import select

    with run.store.read() as session:
        return completion_code(run.study.key.read_bytes(), session.scalars(select(Posting.id)).one())


def test_the_list_shows_what_people_need_to_choose(run, client):
    page = client.get("/").text
    for words in ("A tiny study", "1.50 USD", "about 6 minutes", "<dd>6</dd>", f'value="{run.posting}"'):
        assert words in page
    assert client.get("/", headers=JSON).json["places"][0]["free"] == 6


def test_taking_a_place_leads_to_the_task(run, client):
    reply = client.post("/take", data={"posting": run.posting, "participant": "ann"})
    assert reply.status_code == 303
    submission = next(iter(run.platform.submissions(run.posting)))
    assert reply.headers["Location"] == run.platform.arrival_url_for(submission.id)
    assert submission.participant == "ann"


def test_scripts_get_json(run, client):
    body = {"posting": run.posting, "participant": "ann"}
    reply = client.post("/take", json=body, headers=JSON)
    assert reply.json["arrival_url"] == run.platform.arrival_url_for(reply.json["submission"])
    assert client.post("/take", json=body, headers=JSON).json == reply.json


def test_handing_in_with_the_right_code_is_thanked(run, client):
    submission = run.take("ann")
    wrong = client.get("/complete", query_string={"submission": submission, "code": "guess"})
    assert wrong.status_code == 409
    assert run.platform.submission(submission).status == "active"
    right = client.get("/complete", query_string={"submission": submission, "code": code_of(run)})
    assert (right.status_code, run.platform.submission(submission).status) == (200, "awaiting_review")
    assert "Thank you" in right.text


def test_a_place_can_be_given_back(run, client):
    submission = run.take("ann")
    assert client.post("/give-back", data={"submission": submission}).status_code == 200
    assert run.platform.submission(submission).status == "returned"


def test_what_isnt_possible_is_said_in_words(run, client):
    assert client.post("/give-back", json={"submission": "nobody's"}, headers=JSON).status_code == 409
    assert "Please look at these again: participant" in client.post("/take", data={"posting": run.posting}).text
    assert client.post("/take", data="{", headers={"Content-Type": "application/json"}).status_code == 400
    assert client.get("/nothing").status_code == 404


def test_no_free_place_is_said_and_nobody_new_can_take_part(run, client):
    for n in range(6):
        run.take(f"person-{n}")
    assert "every place is taken" in client.post("/take", data={"posting": run.posting, "participant": "late"}).text
    assert client.get("/", headers=JSON).json["places"] == []
    page = client.get("/").text
    assert "Every place is taken at the moment" in page
    assert "Take part</button>" not in page


def test_who_closed_the_window_finds_the_way_back_though_every_place_is_taken(run, client):
    taken = [run.take(f"person-{n}") for n in range(6)]
    assert 'action="/continue"' in client.get("/").text
    reply = client.post("/continue", data={"posting": run.posting, "participant": "person-3"})
    assert (reply.status_code, reply.headers["Location"]) == (303, run.platform.arrival_url_for(taken[3]))


def test_going_on_takes_no_new_place(run, client):
    reply = client.post("/continue", data={"posting": run.posting, "participant": "nobody"})
    assert reply.status_code == 409
    assert "no place under this name" in reply.text
    run.take("ann")
    run.platform.give_back(run.submissions["ann"])
    assert client.post("/continue", data={"posting": run.posting, "participant": "ann"}).status_code == 409
    assert [place.free for place in run.platform.open_places()] == [6]


def test_names_come_back_escaped(run, client):
    reply = client.get("/complete", query_string={"submission": "<script>alert(1)</script>", "code": "x"})
    assert "<script>" not in reply.text


def test_the_pages_carry_the_guarding_headers(client):
    headers = client.get("/").headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert (headers["Referrer-Policy"], headers["X-Content-Type-Options"]) == ("same-origin", "nosniff")
    assert client.get("/style.css").mimetype == "text/css"
    assert client.get("/health").status_code == 200


def places_taken(run):
    return len(list(run.platform.submissions(run.posting)))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", "localhost.evil.example", "", "a b"]
)
def test_a_foreign_name_that_points_here_reads_nothing(run, client, host):
    for reply in (
        client.get("/", headers={**JSON, "Host": host}),
        client.post("/take", data={"posting": run.posting, "participant": "ann"}, headers={"Host": host}),
    ):
        assert reply.status_code == 400
        assert run.posting not in reply.text
        assert "http://127.0.0.1" in reply.text
    assert places_taken(run) == 0


@pytest.mark.parametrize("path", ["/take", "/continue", "/give-back"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},  # another server on this machine
        {"Origin": "null"},  # a frame without an origin
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8001"},
    ],
)
def test_a_foreign_page_can_do_nothing_here(run, client, path, headers):
    body = {"posting": run.posting, "participant": "ann"} if path != "/give-back" else {"submission": run.take("ben")}
    before = places_taken(run)
    reply = client.post(path, data=body, headers=headers, base_url="http://127.0.0.1:8001")
    assert (reply.status_code, reply.mimetype) == (403, "text/html")
    assert "Another site sent this, and nothing was done" in reply.text
    assert places_taken(run) == before
    assert all(submission.status == "active" for submission in run.platform.submissions(run.posting))


@pytest.mark.parametrize("base", ["http://127.0.0.1:8001", "http://localhost:8001", "http://localhost"])
@pytest.mark.parametrize("fetched", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}])
def test_our_own_forms_are_taken(run, client, base, fetched):
    body = {"posting": run.posting, "participant": "ann"}
    assert client.post("/take", data=body, headers={"Origin": base, **fetched}, base_url=base).status_code == 303


def test_the_way_back_from_the_task_pages_comes_from_another_site(run, client):
    query = {"submission": run.take("ann"), "code": code_of(run)}
    assert client.get("/complete", query_string=query, headers={"Sec-Fetch-Site": "same-site"}).status_code == 200
