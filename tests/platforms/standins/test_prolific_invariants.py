"""Prolific's stand-in under any order of requests: places, payments and the balance always add up."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from werkzeug.test import Client

from crowd_imi.platforms.standins.prolific.app import create_app
from crowd_imi.platforms.standins.prolific.desk import Account
from crowd_imi.platforms.standins.prolific.money import cost_of, fee_of
from crowd_imi.platforms.standins.prolific.studies import OCCUPYING
from tests.platforms.standins.running import study

HEADERS = {"Authorization": "Token any", "Host": "127.0.0.1"}
DEPOSIT = 5_000
"""Enough for 22 places at 227, so that it runs out now and then."""
PEOPLE = st.sampled_from(["anna", "ben", "cleo", "dora", "emil"])


class Prolific(RuleBasedStateMachine):
    """Requests that may be refused, never fail, and leave books that add up."""

    @initialize()
    def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._app = create_app(Path(self._folder.name), Account(opening_balance=DEPOSIT, settle_seconds=0))
        self._client = Client(self._app)
        self._refused_or_done("POST", "/api/v1/studies/", study(total_available_places=2))
        self._most_places = 2

    def teardown(self) -> None:
        self._app.close()
        self._folder.cleanup()

    @rule(action=st.sampled_from(["PUBLISH", "PAUSE", "START", "STOP", "PUBLISH", "START"]))
    def move(self, action: str) -> None:
        self._refused_or_done("POST", f"/api/v1/studies/{self._study}/transition/", {"action": action})

    @rule(places=st.integers(1, 40))
    def set_places(self, places: int) -> None:
        self._refused_or_done("PATCH", f"/api/v1/studies/{self._study}/", {"total_available_places": places})

    @rule(participant=PEOPLE)
    def take(self, participant: str) -> None:
        self._refused_or_done("POST", "/standin/take", {"posting": self._study, "participant": participant})

    @rule(participant=PEOPLE, code=st.sampled_from(["DONE", "DONE", "ELSE"]))
    def hand_in(self, participant: str, code: str) -> None:
        headers = {**HEADERS, "X-Standin-Participant": participant}
        assert self._client.get(f"/submissions/complete?cc={code}", headers=headers).status_code in (200, 409)

    @rule(which=st.integers(0, 4), way=st.sampled_from(["give-back", "time-out"]))
    def leave(self, which: int, way: str) -> None:
        self._refused_or_done("POST", f"/standin/{way}", {"submission": self._submission(which)})

    @rule(which=st.integers(0, 4), action=st.sampled_from(["APPROVE", "APPROVE", "REJECT"]))
    def decide(self, which: int, action: str) -> None:
        content = {"action": action, "message": "x" * 100, "rejection_category": "OTHER"}
        self._refused_or_done("POST", f"/api/v1/submissions/{self._submission(which)}/transition/", content)

    @rule(participant=PEOPLE, cents=st.integers(1, 500), times=st.integers(1, 2))
    def bonus(self, participant: str, cents: int, times: int) -> None:
        content = {"study_id": self._study, "csv_bonuses": f"{participant},{cents // 100}.{cents % 100:02d}"}
        made = self._refused_or_done("POST", "/api/v1/submissions/bonus-payments/", content)
        for _ in range(times if made else 0):
            self._refused_or_done("POST", f"/api/v1/bulk-bonus-payments/{made['id']}/pay/", None)

    @invariant()
    def the_books_add_up(self) -> None:
        books = self._books()
        paid = [*books["rewards"], *books["bonuses"]]
        assert books["balance"] == DEPOSIT - sum(entry["amount"] + entry["fee"] for entry in paid)
        rewarded = [entry["submission"] for entry in books["rewards"]]
        approved = [found["id"] for found in books["submissions"] if found["status"] == "APPROVED"]
        assert sorted(rewarded) == sorted(approved)

    @invariant()
    def a_person_takes_part_once_and_places_never_shrink(self) -> None:
        books = self._books()
        (shown,) = books["studies"]
        people = [found["participant"] for found in books["submissions"]]
        assert len(set(people)) == len(people)
        occupying = [found for found in books["submissions"] if found["status"] in OCCUPYING]
        assert shown["places_taken"] == len(occupying)
        if shown["published_at"] is not None:
            assert shown["total_available_places"] >= self._most_places
        self._most_places = shown["total_available_places"]

    @property
    def _study(self) -> str:
        return str(self._books()["studies"][0]["id"])

    def _submission(self, which: int) -> str:
        found = self._books()["submissions"]
        return str(found[which]["id"]) if which < len(found) else "nobody"

    def _books(self) -> Any:
        return self._client.get("/standin/books", headers=HEADERS).get_json()

    def _refused_or_done(self, method: str, path: str, content: object) -> Any:
        reply = self._client.open(path, method=method, json=content, headers=HEADERS)
        assert reply.status_code < 500, reply.text
        return reply.get_json() if reply.status_code < 300 else None


Prolific.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestProlific = Prolific.TestCase


@given(reward=st.integers(1, 100_000), places=st.integers(1, 10_000), fee=st.sampled_from([0.333, 0.428]))
@settings(derandomize=True)
def test_places_cost_so_many_times_one(reward: int, places: int, fee: float):
    account = Account(fee=fee, vat=0.2)
    one, vat = fee_of(account, reward)
    assert cost_of(account, reward, places)["total_cost"] == places * (reward + one + vat)
    # Half a minor unit is the most that rounding moves each of the two.
    assert abs(one - reward * fee) <= 0.5 + 1e-6 and abs(vat - one * 0.2) <= 0.5
