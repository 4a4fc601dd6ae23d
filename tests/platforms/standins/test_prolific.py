"""Prolific's stand-in: studies, lists and what is refused, as the adapter's side of the wire sees it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.platforms.standins.running import CORPORATE, Client, prolific, study


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("prolific")
    with prolific(folder, "--token", "a-token", "--token", "another", *CORPORATE) as started:
        yield started


@pytest.mark.parametrize("header", [None, "Token wrong", "Bearer a-token", "Token ", "a-token"])
def test_who_has_no_token_stays_out(client: Client, header: str | None):
    headers = {} if header is None else {"Authorization": header}
    reply = requests.get(f"{client.url}/api/v1/users/me/", headers=headers, timeout=10)
    assert reply.status_code == 401
    assert set(reply.json()["error"]) == {"status", "error_code", "title", "detail", "additional_information"}
    assert "a-token" not in reply.text


def test_each_token_of_the_list_is_let_in(client: Client):
    for token in ("a-token", "another"):
        headers = {"Authorization": f"Token {token}"}
        assert requests.get(f"{client.url}/api/v1/users/me/", headers=headers, timeout=10).json()["id"]


def test_the_workspace_its_balance_and_its_project(client: Client):
    (workspace,) = client.get("/workspaces/")["results"]
    balance = client.get(f"/workspaces/{workspace['id']}/balance/")
    assert balance["currency_code"] == "USD" and balance["total_balance"] == 1_000_000
    project = client.get(f"/projects/{workspace['projects'][0]['id']}/")
    assert project["workspace"] == workspace["id"]
    client.refused("GET", "/workspaces/nobody/balance/", status=404)
    client.refused("GET", "/projects/nobody/", status=404)


def test_the_filters_that_studies_may_use_are_listed(client: Client):
    filters = {found["filter_id"]: found for found in client.get("/filters/")["results"]}
    assert {"previous_studies_blocklist", "participant_group_blocklist", "approval_rate", "fluent-languages"} <= set(filters)
    assert "United Kingdom" in filters["current-country-of-residence"]["choices"].values()


def test_the_life_of_a_study(client: Client):
    identity = client.study()
    made = client.get(f"/studies/{identity}/")
    assert (made["status"], made["places_taken"], made["published_at"]) == ("UNPUBLISHED", 0, None)
    assert made["internal_name"] == "crowd-imi intent-1"
    # An estimate of 10 minutes gives at least 2 + 20 + 2·√10 = 28.3 minutes.
    assert made["maximum_allowed_time"] == 29

    def move(action: str) -> str:
        return str(client.post(f"/studies/{identity}/transition/", {"action": action})["status"])

    assert move("PUBLISH") == "ACTIVE"
    client.take(identity, "life-anna")
    assert client.get(f"/studies/{identity}/")["places_taken"] == 1
    assert [move(action) for action in ("PAUSE", "START", "PAUSE")] == ["PAUSED", "ACTIVE", "PAUSED"]
    assert "PAUSED" in client.turned_away(identity, "life-ben")
    # Somebody is still at it when the study is stopped, and may finish.
    assert move("STOP") == "AWAITING REVIEW"
    assert client.complete("life-anna").status_code == 200
    submission = client.get(f"/submissions/?study={identity}")["results"][0]["id"]
    client.post(f"/submissions/{submission}/transition/", {"action": "APPROVE"})
    assert client.get(f"/studies/{identity}/")["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("steps", "impossible"),
    [
        ((), "PAUSE"),
        ((), "STOP"),
        (("PUBLISH",), "PUBLISH"),
        (("PUBLISH",), "START"),
        (("PUBLISH", "PAUSE"), "PAUSE"),
        (("PUBLISH", "STOP"), "START"),
        (("PUBLISH", "STOP"), "STOP"),
        ((), "EXPLODE"),
    ],
)
def test_a_study_goes_only_where_its_life_leads(client: Client, steps: tuple[str, ...], impossible: str):
    identity = client.study()
    for action in steps:
        client.post(f"/studies/{identity}/transition/", {"action": action})
    client.refused("POST", f"/studies/{identity}/transition/", {"action": impossible})


def test_a_full_study_waits_for_review_and_opens_again_with_more_places(client: Client):
    identity = client.published(total_available_places=1)
    submission = client.handed_in(identity, "full-anna")
    assert client.get(f"/studies/{identity}/")["status"] == "AWAITING REVIEW"
    client.post(f"/submissions/{submission}/transition/", {"action": "APPROVE"})
    assert client.get(f"/studies/{identity}/")["status"] == "COMPLETED"
    assert client.call("PATCH", f"/studies/{identity}/", {"total_available_places": 2}).json()["status"] == "ACTIVE"
    client.take(identity, "full-ben")


def test_published_places_only_increase(client: Client):
    identity = client.published(total_available_places=3)
    path = f"/studies/{identity}/"
    assert client.call("PATCH", path, {"total_available_places": 5}).json()["total_available_places"] == 5
    assert client.call("PATCH", path, {"total_available_places": 5}).status_code == 200
    assert "increased" in str(client.refused("PATCH", path, {"total_available_places": 4}))
    assert client.get(path)["total_available_places"] == 5
    client.post(f"{path}transition/", {"action": "STOP"})
    client.refused("PATCH", path, {"total_available_places": 6})


def test_a_draft_changes_freely_and_a_published_study_in_four_things(client: Client):
    draft = client.study()
    assert client.call("PATCH", f"/studies/{draft}/", {"reward": 200, "total_available_places": 1}).json()["reward"] == 200
    published = client.published()
    path = f"/studies/{published}/"
    assert client.call("PATCH", path, {"internal_name": "another"}).json()["internal_name"] == "another"
    limited = {"submissions_config": {"max_concurrent_submissions": 2}}
    assert client.call("PATCH", path, limited).json()["submissions_config"]["max_concurrent_submissions"] == 2
    assert client.call("PATCH", path, {"reward": 150, "internal_name": "same reward"}).status_code == 200
    for field, value in (("reward", 200), ("name", "x"), ("description", "x"), ("filters", [])):
        changed = client.call("PATCH", path, {field: value})
        assert changed.status_code == (200 if field == "filters" else 400), changed.text
    assert client.call("DELETE", f"/studies/{draft}/").status_code == 204
    client.refused("GET", f"/studies/{draft}/", status=404)
    client.refused("DELETE", path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"internal_name": "x" * 121}, "internal_name"),
        ({"description": None}, "description"),
        ({"reward": 1.5}, "reward"),
        ({"reward": "150"}, "reward"),
        ({"reward": 2}, "reward"),
        ({"total_available_places": 0}, "total_available_places"),
        ({"estimated_completion_time": 0}, "estimated_completion_time"),
        ({"external_study_url": "http://pages.example.org/arrive"}, "external_study_url"),
        ({"external_study_url": "ftp://127.0.0.1/"}, "external_study_url"),
        ({"external_study_url": None}, "non_field_errors"),
        ({"maximum_allowed_time": 28}, "non_field_errors"),
        ({"completion_codes": []}, "completion_codes"),
        ({"completion_codes": [{"code": "A", "code_type": "HAPPY", "actions": [{"action": "MANUALLY_REVIEW"}]}]}, "code_type"),
        ({"completion_codes": [{"code": "A", "code_type": "OTHER", "actions": [{"action": "DANCE"}]}]}, "action"),
        ({"filters": [{"filter_id": "shoe-size", "selected_values": ["1"]}]}, "filters"),
        ({"filters": [{"filter_id": "approval_rate", "selected_values": ["1"]}]}, "filters"),
        ({"filters": [{"filter_id": "approval_rate", "selected_range": {"lower": 101}}]}, "filters"),
        ({"filters": [{"filter_id": "fluent-languages", "selected_values": ["Klingon"]}]}, "filters"),
        ({"filters": [{"filter_id": "previous_studies_blocklist", "selected_values": ["0" * 24]}]}, "filters"),
        ({"filters": [{"filter_id": "participant_group_blocklist", "selected_values": ["0" * 24]}]}, "filters"),
        ({"device_compatibility": ["fridge"]}, "device_compatibility"),
        ({"project": "0" * 24}, "project"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_study_that_does_not_fit_is_refused_with_its_field(client: Client, change: dict[str, object], field: str):
    before = client.get("/studies/")["meta"]["count"]
    detail = client.refused("POST", "/studies/", study(**change))
    assert any(field in name for name in detail), detail
    assert client.get("/studies/")["meta"]["count"] == before


def test_a_study_may_lead_to_this_machine_without_encryption(client: Client):
    for url in ("http://127.0.0.1:8000/arrive", "http://localhost/arrive", "http://[::1]:8000/arrive"):
        client.study(external_study_url=url)


def test_a_body_that_is_no_object_is_refused(client: Client):
    headers = {"Authorization": "Token a-token"}
    for body in (b"{", b"[]", b"\xff", b'{"name": "\\ud83d"}'):
        reply = requests.post(f"{client.url}/api/v1/studies/", data=body, headers=headers, timeout=10)
        assert reply.status_code == 400 and "JSON" in reply.json()["error"]["detail"]


def test_studies_come_in_pages_the_newest_first(client: Client):
    made = [client.study(internal_name=f"page {number}") for number in range(25)]
    first = client.get("/studies/")
    assert [found["id"] for found in first["results"]] == made[:4:-1]
    assert {"internal_name", "status", "total_available_places", "places_taken"} <= set(first["results"][0])
    second = requests.get(first["_links"]["next"]["href"], headers={"Authorization": "Token a-token"}, timeout=10).json()
    assert [found["id"] for found in second["results"]][:5] == made[4::-1]
    project = first["results"] and client.get(f"/studies/{made[0]}/")["project"]
    assert client.get(f"/projects/{project}/studies/?page_size=1")["results"][0]["id"] == made[-1]


def test_submissions_come_twenty_a_page_and_a_page_past_the_end_is_404(client: Client):
    identity = client.published(total_available_places=45)
    taken = [client.take(identity, f"pages-{number}") for number in range(45)]
    seen, page = [], client.get(f"/submissions/?study={identity}")
    assert len(page["results"]) == 20 and page["meta"]["count"] == 45
    while True:
        seen += [found["id"] for found in page["results"]]
        href = page["_links"]["next"]["href"]
        if href is None:
            break
        page = requests.get(href, headers={"Authorization": "Token a-token"}, timeout=10).json()
    assert seen == taken
    assert len(client.get(f"/submissions/?study={identity}&page=3")["results"]) == 5
    client.refused("GET", f"/submissions/?study={identity}&page=4", status=404)
    assert len(client.get(f"/submissions/?study={identity}&page_size=100")["results"]) == 45
    for wrong in ("page=0", "page=x", "page_size=0", "page_size=1001"):
        client.refused("GET", f"/submissions/?study={identity}&{wrong}")
    client.refused("GET", "/submissions/")


def test_an_empty_list_has_one_page(client: Client):
    identity = client.published()
    assert client.get(f"/submissions/?study={identity}&page=1")["results"] == []
    client.refused("GET", f"/submissions/?study={identity}&page=2", status=404)


def test_what_nobody_knows_is_404_in_prolifics_form(client: Client):
    for path in ("/studies/0/", "/submissions/0/", "/studies/0/cost/", "/submissions/?study=0", "/nothing/"):
        client.refused("GET", path, status=404)
    client.refused("POST", "/submissions/0/transition/", {"action": "APPROVE"}, status=404)
    client.refused("PUT", "/studies/", status=405)


def test_the_cost_has_the_fee_and_its_vat(client: Client):
    # 150 + 42.8 % = 64.2 → 64, and 20 % of that = 12.8 → 13: 227 a place.
    quoted = client.post("/study-cost-calculator/", {"reward": 150, "total_available_places": 3})
    assert quoted == {"rewards": 450, "fees": 192, "vat": 39, "total_cost": 681}
    identity = client.study()
    assert client.get(f"/studies/{identity}/cost/")["total_cost"] == client.get(f"/studies/{identity}/")["total_cost"] == 681
    client.refused("POST", "/study-cost-calculator/", {"reward": 1.5, "total_available_places": 3})


def test_only_this_machine_comes_in(client: Client):
    headers = {"Host": "evil.example.org", "Authorization": "Token a-token"}
    assert requests.get(f"{client.url}/api/v1/users/me/", headers=headers, timeout=10).status_code == 400
    headers = {"Origin": "https://evil.example.org"}
    assert requests.post(f"{client.url}/standin/take", json={}, headers=headers, timeout=10).status_code == 403
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert requests.put(f"{client.url}/standin/faults", json={}, headers=headers, timeout=10).status_code == 403
