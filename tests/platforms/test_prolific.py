"""What is Prolific's alone: its token, its addresses, its signed links, its fee; the rest is ``tests/contract``."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from crowd_imi.errors import BadLink, PlatformError, UnknownSubmission, Unreachable
from crowd_imi.platforms.base import Ending, PostingState
from crowd_imi.platforms.prolific import ProlificPlatform, allowed_minutes, fee_of
from crowd_imi.platforms.prolific_api import LONGEST_WAIT, TRIES, ProlificApi
from crowd_imi.platforms.standins.prolific.desk import Account
from crowd_imi.records import Money
from crowd_imi.study import ProlificSection
from tests.contract.prolific import TOKEN, ProlificRig, served
from tests.contract.rigs import CODE, CURRENCY, OTHER_CODES, request

LONG = "You chose the upper picture in every one of the 45 questions, in less than a second each: nobody can look so fast."


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ProlificRig]:
    with served(tmp_path / "standin", Account(tokens=(TOKEN,), settle_seconds=0)) as url:
        rig = ProlificRig(url)
        yield rig
        rig.close()


@pytest.mark.parametrize("status", ["AWAITING REVIEW", "COMPLETED"])
@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"places_taken": 4, "total_available_places": 4}, PostingState.OPEN),
        ({"places_taken": 3, "total_available_places": 4}, PostingState.STOPPED),
        ({"total_available_places": 4}, PostingState.OPEN),
        ({"places_taken": None, "total_available_places": 4}, PostingState.OPEN),
        ({}, PostingState.OPEN),
    ],
)
def test_a_study_is_called_stopped_only_where_places_are_known_to_be_left(rig, monkeypatch, status, said, state):
    monkeypatch.setattr(rig.platform, "_study", lambda posting: {"status": status, **said})
    assert rig.platform.state("5f0000000000000000000001") is state


# Signed links.


def test_a_signed_link_is_let_in_and_one_without_a_good_signature_is_not(rig: ProlificRig):
    platform = rig.again(signed_arrivals=True)
    posting = platform.post(request())
    anna, ben = rig.take(posting, "anna"), rig.take(posting, "ben")
    assert platform.arrive(anna).participant == "anna"
    head, claims, signature = anna["prolific_token"].split(".")
    for token in ("", "no.token", f"{head}.{claims}.{signature[::-1]}", f"{head}.{claims}.", ben["prolific_token"]):
        with pytest.raises(BadLink):
            platform.arrive({**anna, "prolific_token": token})
    del anna["prolific_token"]
    with pytest.raises(BadLink):
        platform.arrive(anna)


def test_an_old_signature_is_worth_nothing(rig: ProlificRig):
    platform = rig.again(signed_arrivals=True)
    posting = platform.post(request())
    rig.standin("PUT", "clock", {"now": 1_750_000_000_000})  # in June 2025
    with pytest.raises(BadLink, match="ExpiredSignature"):
        platform.arrive(rig.take(posting, "anna"))


def test_a_signature_for_another_site_is_worth_nothing(rig: ProlificRig):
    section = ProlificSection(signed_arrivals=True)
    elsewhere = ProlificPlatform(TOKEN, section, endpoint=rig.url, pages="https://elsewhere.example.org")
    posting = elsewhere.post(request())
    with pytest.raises(BadLink, match="InvalidAudience"):
        elsewhere.arrive(rig.take(posting, "anna"))


def test_keys_that_cant_be_read_are_no_bad_link(rig: ProlificRig):
    posting = rig.again(signed_arrivals=True).post(request())
    query = rig.take(posting, "anna")
    nowhere = ProlificPlatform(TOKEN, ProlificSection(signed_arrivals=True), endpoint="http://127.0.0.1:9")
    with pytest.raises(Unreachable):
        nowhere.arrive(query)


# Who arrives, and for how long.


def test_only_what_prolific_does_not_know_is_unknown(rig: ProlificRig):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    with pytest.raises(UnknownSubmission):
        rig.platform.arrive({**query, "SESSION_ID": "0" * 24})
    with pytest.raises(UnknownSubmission):
        rig.platform.arrive({**query, "PROLIFIC_PID": "ben"})
    revoked = ProlificPlatform("revoked", ProlificSection(), endpoint=rig.url)
    with pytest.raises(PlatformError, match="doesn't know the token") as refusal:
        revoked.arrive(query)
    assert not isinstance(refusal.value, (UnknownSubmission, BadLink))


def test_somebody_may_take_as_long_on_prolific_as_on_our_pages(rig: ProlificRig):
    assert allowed_minutes(10) == 29  # 2 + 2 × 10 + 2 × √10, rounded up
    for number, (visit_minutes, allowed) in enumerate([(20.0, 29), (90.5, 91)]):
        platform = ProlificPlatform(TOKEN, ProlificSection(), endpoint=rig.url, visit_minutes=visit_minutes)
        platform.post(request(f"intent-{number}"))
        assert rig.books()["studies"][-1]["maximum_allowed_time"] == allowed


# Money and words.


@pytest.mark.parametrize(
    ("reward", "percent", "vat", "fee"),
    [
        (150, 33.3, 0.0, 50),  # 49.95
        (150, 33.3, 20.0, 60),  # 50 + 10
        (10, 25.0, 0.0, 3),  # 2.5: halves go up
        (101, 42.8, 20.0, 52),  # 43.228 → 43, and 8.6 → 9
        (0, 33.3, 20.0, 0),
    ],
)
def test_the_fee_is_rounded_as_each_place_is_billed(reward: int, percent: float, vat: float, fee: int):
    section = ProlificSection(fee_percent=percent, vat_percent=vat)
    assert fee_of(section, Money(amount=reward, currency=CURRENCY)) == Money(amount=fee, currency=CURRENCY)


@pytest.mark.parametrize(("reason", "category"), [(f"TOO_QUICKLY: {LONG}", "TOO_QUICKLY"), (LONG, "LOW_EFFORT")])
def test_a_rejection_has_a_category(rig: ProlificRig, monkeypatch: pytest.MonkeyPatch, reason: str, category: str):
    sent: list[Any] = []
    put = ProlificApi.put

    def noting(api: ProlificApi, path: str, content: object, *, method: str = "PATCH") -> dict[str, Any]:
        sent.append(content)
        return put(api, path, content, method=method)

    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    rig.hand_in(query)
    monkeypatch.setattr(ProlificApi, "put", noting)
    rig.platform.reject(query["SESSION_ID"], reason)
    assert sent == [{"action": "REJECT", "message": LONG, "rejection_category": category}]
    assert rig.platform.submission(query["SESSION_ID"]).status == "rejected"


def test_a_rejection_without_a_proper_reason_is_not_sent(rig: ProlificRig):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    rig.hand_in(query)
    with pytest.raises(PlatformError, match="at least 100 characters; this one has 5"):
        rig.platform.reject(query["SESSION_ID"], "LOW_EFFORT: short")
    assert rig.platform.submission(query["SESSION_ID"]).status == "awaiting_review"


# What a study is made with.


def test_each_ending_has_its_code_and_nothing_is_approved_before_it_went_through_the_ledger(rig: ProlificRig):
    rig.platform.post(request())
    codes = rig.books()["studies"][0]["completion_codes"]
    there = {code["code"]: (code["code_type"], [action["action"] for action in code["actions"]]) for code in codes}
    assert there == {
        CODE: ("COMPLETED", ["MANUALLY_REVIEW"]),
        OTHER_CODES[Ending.FAILED_PRACTICE]: ("OTHER", ["MANUALLY_REVIEW"]),
        OTHER_CODES[Ending.NO_CONSENT]: ("NO_CONSENT", ["REQUEST_RETURN"]),
        OTHER_CODES[Ending.INCOMPATIBLE_DEVICE]: ("INCOMPATIBLE_DEVICE", ["REQUEST_RETURN"]),
    }


def test_groups_let_in_keep_out_and_are_filled_for_later_studies(rig: ProlificRig):
    headers = {"Authorization": f"Token {TOKEN}"}

    def group(name: str, *members: str) -> str:
        content = {"name": name, "participant_ids": members}
        url = f"{rig.url}/api/v1/participant-groups/"
        return str(requests.post(url, json=content, headers=headers, timeout=30).json()["id"])

    old, lab, done = group("old", "anna", "ben"), group("lab", "ben", "cem", "dora"), group("done")
    platform = rig.again(not_in_groups=[old], in_groups=[lab], add_to_group=done)
    posting = platform.post(request())
    for turned_away in ("anna", "ben", "emil"):  # in the blocklist, in both, in none
        with pytest.raises(AssertionError, match="isn't eligible"):
            rig.take(posting, turned_away)
    for number, name in enumerate(("cem", "dora")):
        code = CODE if number == 0 else OTHER_CODES[Ending.NO_CONSENT]
        rig.complete(rig.take(posting, name), code)
    later = rig.again(not_in_groups=[done]).post(request("intent-2"))
    with pytest.raises(AssertionError, match="isn't eligible"):
        rig.take(later, "cem")
    rig.take(later, "dora")  # never began


# What a submission stands at.


@pytest.mark.parametrize(
    ("word", "status"), [("ON HOLD", "ON HOLD"), ("SCREENED OUT", "screened_out"), ("PROCESSING", "wrong_code")]
)
def test_a_status_that_is_new_to_us_is_carried_as_it_is(rig: ProlificRig, word: str, status: str):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    rig.declare(query["SESSION_ID"], word)
    assert rig.platform.submission(query["SESSION_ID"]).status == status
    assert [found.status for found in rig.platform.submissions(posting)] == [status]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (CODE, "awaiting_review"),
        (OTHER_CODES[Ending.FAILED_PRACTICE], "awaiting_review"),
        (OTHER_CODES[Ending.NO_CONSENT], "return_asked"),
        (OTHER_CODES[Ending.INCOMPATIBLE_DEVICE], "return_asked"),
        ("MADE-UP", "wrong_code"),
    ],
)
def test_the_code_tells_how_it_ended(rig: ProlificRig, code: str, status: str):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    rig.complete(query, code)
    assert rig.platform.submission(query["SESSION_ID"]).status == status
    assert [found.status for found in rig.platform.submissions(posting)] == [status]
    rig.platform.approve(query["SESSION_ID"])
    assert rig.platform.submission(query["SESSION_ID"]).status == "approved"


# The API by itself, against a server that says what a test wants.


class Server:
    """Answers each request with the next reply, and the last one for ever; notes what it was sent."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, dict[str, str], bytes]] = [(200, {}, b"{}")]
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers["Authorization"]))
                status, headers, body = outer.replies.pop(0) if len(outer.replies) > 1 else outer.replies[0]
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Not on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the API would have waited, each time."""
    waits: list[float] = []
    monkeypatch.setattr("crowd_imi.platforms.prolific_api.time.sleep", waits.append)
    return waits


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_the_token_is_in_no_error_even_when_it_is_echoed(server: Server, slept: list[float], status: int):
    body = json.dumps({"error": {"title": f"no: {TOKEN}", "detail": {"headers": [f"Token {TOKEN}"]}}}).encode()
    server.replies = [(status, {}, body)]
    with pytest.raises(PlatformError) as failure:
        ProlificApi(TOKEN, server.url).get("users/me/")
    assert server.asked[0] == ("/api/v1/users/me/", f"Token {TOKEN}")
    assert TOKEN not in str(failure.value) and len(str(failure.value).splitlines()) == 1


@pytest.mark.parametrize("endpoint", ["http://prolific.example.org", "http://192.0.2.1", "ftp://127.0.0.1", "127.0.0.1", ""])
def test_the_token_goes_to_nobody_in_the_clear(endpoint: str):
    with pytest.raises(PlatformError, match="only sent to an https:// address"):
        ProlificApi(TOKEN, endpoint)


def test_a_redirect_is_not_followed(server: Server):
    server.replies = [(302, {"Location": f"{server.url}/elsewhere"}, b"")]
    with pytest.raises(PlatformError, match="isn't Prolific's API"):
        ProlificApi(TOKEN, server.url).get("users/me/")
    assert len(server.asked) == 1


def test_a_list_that_goes_on_at_another_host_is_not_followed(server: Server):
    following = {"results": [{"id": "1"}], "_links": {"next": {"href": "https://elsewhere.example.org/api/v1/studies/?page=2"}}}
    server.replies = [(200, {}, json.dumps(following).encode())]
    with pytest.raises(PlatformError, match="another address"):
        list(ProlificApi(TOKEN, server.url).pages("studies/"))
    assert len(server.asked) == 1


def test_it_waits_as_long_as_it_is_asked_to_but_not_for_ever(server: Server, slept: list[float]):
    server.replies = [(429, {"Retry-After": "2"}, b""), (429, {"Retry-After": "86400"}, b""), (200, {}, b'{"id": "me"}')]
    assert ProlificApi(TOKEN, server.url).get("users/me/") == {"id": "me"}
    assert slept == [2.0, LONGEST_WAIT]


def test_a_server_that_stays_down_is_asked_a_bounded_number_of_times(server: Server, slept: list[float]):
    server.replies = [(503, {}, b"")]
    with pytest.raises(Unreachable, match="in 10 tries"):
        ProlificApi(TOKEN, server.url).get("users/me/")
    assert len(server.asked) == TRIES == 10


def test_who_waits_for_a_page_is_not_kept_waiting(server: Server, slept: list[float]):
    server.replies = [(429, {"Retry-After": "30"}, b"")]
    with pytest.raises(Unreachable, match="in 1 tries"):
        ProlificApi(TOKEN, server.url, patience=8.0).get("users/me/")
    assert slept == []
