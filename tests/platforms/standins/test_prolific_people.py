"""Prolific's stand-in: taking places, handing in, running out of time, who isn't let in."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from tests.platforms.standins.running import Client, prolific

MINUTE = 60_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with prolific(tmp_path_factory.mktemp("prolific")) as started:
        yield started


def code(code_type: str, action: str, code: str = "DONE", **more: object) -> dict[str, object]:
    return {"code": code, "code_type": code_type, "actions": [{"action": action, **more}]}


def test_the_arrival_link_carries_the_three_ids(client: Client):
    identity = client.published()
    reply = client.standin("POST", "/take", {"posting": identity, "participant": "link-anna"}).json()
    query = parse_qs(urlsplit(reply["arrival_url"]).query)
    assert query == {"PROLIFIC_PID": ["link-anna"], "STUDY_ID": [identity], "SESSION_ID": [reply["submission"]]}
    shown = client.get(f"/submissions/{reply['submission']}/")
    assert (shown["status"], shown["participant"], shown["study_id"]) == ("ACTIVE", "link-anna", identity)
    listed = client.get(f"/submissions/?study={identity}")["results"][0]
    assert (listed["id"], listed["participant_id"]) == (reply["submission"], "link-anna")


def test_who_closed_the_window_goes_on_and_who_took_part_does_not_come_again(client: Client):
    identity = client.published()
    submission = client.take(identity, "again-anna")
    assert client.take(identity, "again-anna") == submission
    client.complete("again-anna")
    assert "took part" in client.turned_away(identity, "again-anna")
    assert "took part" in client.turned_away(identity, "again-anna")


def test_of_many_who_come_at_once_as_many_get_in_as_there_are_places(client: Client):
    identity = client.published(total_available_places=3)

    def arrive(number: int) -> int:
        content = {"posting": identity, "participant": f"crowd-{number}"}
        return requests.post(f"{client.url}/standin/take", json=content, timeout=30).status_code

    with ThreadPoolExecutor(16) as pool:
        came = sorted(pool.map(arrive, range(16)))
    assert came == [200] * 3 + [409] * 13
    assert client.get(f"/studies/{identity}/")["places_taken"] == 3


def test_a_person_who_comes_twice_at_once_has_one_place(client: Client):
    identity = client.published()

    def arrive(_: int) -> str:
        content = {"posting": identity, "participant": "hasty-anna"}
        return str(requests.post(f"{client.url}/standin/take", json=content, timeout=30).json()["submission"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(arrive, range(8)))) == 1


def test_a_draft_takes_nobody(client: Client):
    assert "UNPUBLISHED" in client.turned_away(client.study(), "draft-anna")


@pytest.mark.parametrize(
    ("status", "free"),
    [
        ("RESERVED", 0),
        ("ACTIVE", 0),
        ("AWAITING REVIEW", 0),
        ("APPROVED", 0),
        ("REJECTED", 0),
        ("PROCESSING", 0),
        ("RETURNED", 1),
        ("TIMED-OUT", 1),
        ("SCREENED OUT", 1),
        ("NEVER HEARD OF", 1),
    ],
)
def test_which_statuses_take_up_a_place(client: Client, status: str, free: int):
    identity = client.published(total_available_places=1)
    submission = client.take(identity, "occupies-anna")
    client.standin("POST", "/set-status", {"submission": submission, "status": status})
    assert client.status(submission) == status
    assert client.get(f"/studies/{identity}/")["places_taken"] == 1 - free
    if free:
        client.take(identity, "occupies-ben")
    else:
        assert "every place is taken" in client.turned_away(identity, "occupies-ben")


def test_giving_back_frees_the_place_and_cannot_be_approved(client: Client):
    identity = client.published(total_available_places=1)
    submission = client.take(identity, "back-anna")
    assert client.standin("POST", "/give-back", {"submission": submission}).json()["status"] == "RETURNED"
    assert "RETURNED" in client.refused("POST", f"/submissions/{submission}/transition/", {"action": "APPROVE"})
    other = client.handed_in(identity, "back-ben")
    client.post(f"/submissions/{other}/transition/", {"action": "APPROVE"})
    assert client.standin("POST", "/give-back", {"submission": other}).status_code == 409


def test_the_allowed_time_runs_out_by_the_requests_clock(client: Client):
    identity = client.published(total_available_places=1)  # 29 minutes, see test_prolific.py
    start = 1_900_000_000_000
    submission = client.take(identity, "late-anna", **{"X-Rehearsal-Clock": str(start)})

    def after(minutes: int) -> dict[str, str]:
        return {"X-Rehearsal-Clock": str(start + minutes * MINUTE)}

    assert client.status(submission, **after(28)) == "ACTIVE"
    assert client.status(submission, **after(29)) == "TIMED-OUT"
    # Once it is out it stays out, whatever the next request's clock says.
    assert client.status(submission) == "TIMED-OUT"
    assert client.get(f"/studies/{identity}/")["places_taken"] == 0


def test_a_clock_that_is_set_stands_until_it_is_let_go(client: Client):
    identity = client.published()
    client.standin("PUT", "/clock", {"now": 1_900_000_000_000})
    submission = client.take(identity, "clock-anna")
    assert client.get(f"/submissions/{submission}/")["started_at"] == "2030-03-17T17:46:40.000Z"
    client.standin("PUT", "/clock", {"now": 1_900_000_000_000 + 30 * MINUTE})
    assert client.status(submission) == "TIMED-OUT"
    client.standin("PUT", "/clock", {"now": None})
    assert abs(client.standin("GET", "/clock").json()["now"] - time.time() * 1000) < 60_000
    for wrong in ("noon", "-1", "9" * 20):
        assert client.call("GET", "/users/me/", **{"X-Rehearsal-Clock": wrong}).status_code == 400
    assert client.standin("PUT", "/clock", {"now": -1}).status_code == 400


def test_who_ran_out_of_time_stays_so_and_can_still_be_paid(client: Client):
    submission = client.take(client.published(), "over-anna")
    client.standin("POST", "/time-out", {"submission": submission})
    assert client.complete("over-anna").status_code == 200
    assert client.get(f"/submissions/{submission}/")["entered_code"] == "DONE"
    assert client.status(submission) == "TIMED-OUT"
    client.post(f"/submissions/{submission}/transition/", {"action": "APPROVE"})
    assert client.status(submission) == "APPROVED"


def test_handing_in_with_a_code_and_doing_it_again(client: Client):
    submission = client.take(client.published(), "code-anna")
    for _ in range(2):
        assert client.complete("code-anna").status_code == 200
    shown = client.get(f"/submissions/{submission}/")
    assert (shown["status"], shown["entered_code"]) == ("AWAITING REVIEW", "DONE")


@pytest.mark.parametrize(
    ("codes", "status", "paid"),
    [
        (code("COMPLETED", "MANUALLY_REVIEW"), "AWAITING REVIEW", None),
        (code("COMPLETED", "AUTOMATICALLY_APPROVE"), "APPROVED", 150),
        (code("NO_CONSENT", "REQUEST_RETURN", return_reason="You didn't agree."), "AWAITING REVIEW", None),
        (code("FIXED_SCREENOUT", "FIXED_SCREENOUT", fixed_screenout_reward=20, slots=5), "SCREENED OUT", 20),
        (code("OTHER", "MANUALLY_REVIEW", code="ANOTHER"), "AWAITING REVIEW", None),
    ],
)
def test_a_codes_actions_decide(client: Client, codes: dict[str, object], status: str, paid: int | None):
    identity = client.published(completion_codes=[codes])
    participant = f"acts-{codes['code_type']}-{status.replace(' ', '-')}"
    submission = client.take(identity, participant)
    client.complete(participant)
    shown = client.get(f"/submissions/{submission}/")
    assert (shown["status"], shown["entered_code"]) == (status, "DONE")
    assert (shown["return_requested"] is not None) == (codes["code_type"] == "NO_CONSENT")
    paid_for = {entry["submission"]: entry["amount"] for entry in client.books()["rewards"]}
    assert paid_for.get(submission) == paid


def test_a_code_can_put_somebody_into_a_group(client: Client):
    group = client.post("/participant-groups/", {"name": "took part"})["id"]
    codes = [code("COMPLETED", "ADD_TO_PARTICIPANT_GROUP", participant_group=group)]
    client.handed_in(client.published(completion_codes=codes), "joins-anna")
    assert [found["participant_id"] for found in client.get(f"/participant-groups/{group}/participants/")["results"]] == [
        "joins-anna"
    ]


def test_nobody_and_somebody_without_a_place_cannot_hand_in(client: Client):
    assert requests.get(f"{client.url}/submissions/complete?cc=DONE", timeout=10).status_code == 403
    assert client.complete("nobody-at-all").status_code == 409


def test_a_return_that_was_asked_for_is_shown_and_can_be_followed(client: Client):
    submission = client.handed_in(client.published(), "asked-anna")
    path = f"/submissions/{submission}/request-return/"
    client.refused("POST", path, {})
    asked = client.post(path, {"request_return_reasons": ["Withdrew."]})["return_requested"]
    assert client.post(path, {"request_return_reasons": ["Withdrew."]})["return_requested"] == asked is not None
    assert client.status(submission) == "AWAITING REVIEW"
    client.standin("POST", "/give-back", {"submission": submission})
    assert client.status(submission) == "RETURNED"


def test_blocklists_keep_people_out_and_allowlists_all_others(client: Client):
    earlier = client.published()
    client.handed_in(earlier, "list-anna")
    group = client.post("/participant-groups/", {"name": "blocked"})["id"]
    client.post(f"/participant-groups/{group}/participants/", {"participant_ids": ["list-ben", "list-cleo"]})
    client.call("DELETE", f"/participant-groups/{group}/participants/", {"participant_ids": ["list-cleo"]})
    identity = client.published(
        filters=[
            {"filter_id": "previous_studies_blocklist", "selected_values": [earlier]},
            {"filter_id": "participant_group_blocklist", "selected_values": [group]},
            {"filter_id": "custom_blocklist", "selected_values": ["list-dora"]},
        ]
    )
    for participant, why in (("list-anna", "previous"), ("list-ben", "group"), ("list-dora", "custom")):
        assert why in client.turned_away(identity, participant)
    client.take(identity, "list-cleo")
    only = client.published(filters=[{"filter_id": "previous_studies_allowlist", "selected_values": [earlier]}])
    client.take(only, "list-anna")
    client.turned_away(only, "list-ben")


def test_so_many_at_a_time_and_so_often(client: Client):
    identity = client.published(submissions_config={"max_concurrent_submissions": 1, "max_submissions_per_participant": 2})
    client.take(identity, "once-anna")
    assert "at a time" in client.turned_away(identity, "once-ben")
    client.complete("once-anna")
    client.handed_in(identity, "once-anna")
    assert "took part" in client.turned_away(identity, "once-anna")


def test_places_of_access_details_are_handed_out_in_turn(client: Client):
    details = [{"external_url": f"https://pages.example.org/{name}", "total_allocation": 1} for name in "ab"]
    identity = client.published(external_study_url=None, access_details=details, total_available_places=2)
    taken = [client.standin("POST", "/take", {"posting": identity, "participant": name}).json() for name in ("t-1", "t-2")]
    assert [found["arrival_url"][-1] for found in taken] == ["a", "b"]


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_signed_arrival_is_proved_by_the_public_key_for_two_minutes(client: Client):
    identity = client.published(is_external_study_url_secure=True)
    now = {"X-Rehearsal-Clock": "1900000000000"}
    reply = client.standin("POST", "/take", {"posting": identity, "participant": "signed-anna"}, **now).json()
    token = parse_qs(urlsplit(reply["arrival_url"]).query)["prolific_token"][0]
    head, claims, signature = token.split(".")
    (key,) = requests.get(f"{client.url}/.well-known/study/jwks.json", timeout=60).json()["keys"]
    assert json.loads(decoded(head)) == {"alg": "RS256", "kid": key["kid"], "typ": "JWT"}
    modulus, exponent = (int.from_bytes(decoded(key[name]), "big") for name in ("n", "e"))
    proved = pow(int.from_bytes(decoded(signature), "big"), exponent, modulus).to_bytes(256, "big")
    assert modulus.bit_length() == 2048 and proved.startswith(b"\x00\x01\xff") and b"\xff\x00" in proved
    assert proved.endswith(hashlib.sha256(f"{head}.{claims}".encode()).digest())
    said = json.loads(decoded(claims))
    assert (said["iat"], said["exp"]) == (1_900_000_000, 1_900_000_120)
    assert said["aud"] == "https://pages.example.org"
    ids = {name: said["prolific"][name] for name in ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID")}
    assert ids == {"PROLIFIC_PID": "signed-anna", "STUDY_ID": identity, "SESSION_ID": reply["submission"]}


def test_the_signature_is_one_that_openssl_accepts(client: Client):
    identity = client.published(is_external_study_url_secure=True)
    url = client.standin("POST", "/take", {"posting": identity, "participant": "openssl-anna"}).json()["arrival_url"]
    signed, _, signature = parse_qs(urlsplit(url).query)["prolific_token"][0].rpartition(".")
    (key,) = requests.get(f"{client.url}/.well-known/study/jwks.json", timeout=60).json()["keys"]
    modulus, exponent = (int.from_bytes(decoded(key[name]), "big") for name in ("n", "e"))
    public = RSAPublicNumbers(exponent, modulus).public_key()
    public.verify(decoded(signature), signed.encode(), PKCS1v15(), SHA256())


def test_a_person_takes_part_through_the_list_in_a_browser(client: Client):
    identity = client.published(name="Listed <b>study</b>")
    with requests.Session() as browser:
        page = browser.get(f"{client.url}/", timeout=10).text
        assert "Listed &lt;b&gt;study&lt;/b&gt;" in page and "1.50 USD" in page
        form = {"posting": identity, "participant": "browser-anna"}
        headers = {"Origin": client.url, "Sec-Fetch-Site": "same-origin"}
        taken = browser.post(f"{client.url}/take", data=form, headers=headers, allow_redirects=False, timeout=10)
        assert taken.status_code == 303 and "PROLIFIC_PID=browser-anna" in taken.headers["Location"]
        done = browser.get(f"{client.url}/submissions/complete?cc=DONE", timeout=10)
        assert "Thank you" in done.text
        refused = browser.post(f"{client.url}/take", data=form, timeout=10)
        assert refused.status_code == 409 and "took part" in refused.text
        assert browser.post(f"{client.url}/take", data={"posting": identity}, timeout=10).status_code == 400
        assert browser.get(f"{client.url}/style.css", timeout=10).headers["Content-Type"].startswith("text/css")
    assert [found["status"] for found in client.get(f"/submissions/?study={identity}")["results"]] == ["AWAITING REVIEW"]


def test_who_began_goes_on_while_the_study_is_paused(client: Client):
    identity = client.published(name="Paused later")
    submission = client.take(identity, "paused-anna")
    client.post(f"/studies/{identity}/transition/", {"action": "PAUSE"})
    page = requests.get(f"{client.url}/", timeout=10).text
    assert "Go on</button>" in page[page.index("Paused later") :]
    form = {"posting": identity, "participant": "paused-anna"}
    reply = requests.post(f"{client.url}/take", data=form, allow_redirects=False, timeout=10)
    assert reply.status_code == 303 and submission in reply.headers["Location"]


@pytest.mark.parametrize("participant", ["", "a b", "x" * 101, "a&b"])
def test_a_name_that_is_no_name_is_refused(client: Client, participant: str):
    reply = client.standin("POST", "/take", {"posting": client.published(), "participant": participant})
    assert reply.status_code == 400 and "participant" in reply.json()["error"]["detail"]
