"""Prolific's stand-in: faults, SIGKILL, and events that are sent until somebody takes them."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from tests.platforms.standins.running import Client, prolific, study

SOON = 20
"""Seconds that an event may take on a busy machine."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with prolific(tmp_path_factory.mktemp("prolific"), "--settle-seconds", "0", "--retry-seconds", "0.05") as started:
        yield started


@pytest.fixture(autouse=True)
def no_faults_afterwards(client: Client) -> Iterator[None]:
    yield
    client.standin("DELETE", "/faults")


def count(client: Client) -> int:
    return int(client.get("/studies/?page_size=1")["meta"]["count"])


@pytest.mark.parametrize(("fault", "status"), [("throttle", 429), ("error", 500)])
def test_a_refused_request_does_nothing(client: Client, fault: str, status: int):
    before = count(client)
    client.standin("PUT", "/faults", {"next": [fault], "retry_after": 3})
    reply = client.call("POST", "/studies/", study())
    assert reply.status_code == status and reply.json()["error"]["status"] == status
    assert reply.headers.get("Retry-After") == ("3" if fault == "throttle" else None)
    assert count(client) == before


def test_a_cut_before_does_nothing_and_a_cut_after_has_done_it(client: Client):
    before = count(client)
    for fault, made in (("cut-before", 0), ("cut-after", 1)):
        client.standin("PUT", "/faults", {"next": [fault]})
        with pytest.raises(requests.ConnectionError):
            client.call("POST", "/studies/", study())
        assert count(client) == before + made


def test_a_cut_after_paying_has_paid(client: Client):
    identity = client.published()
    submission = client.handed_in(identity, "cut-anna")
    content = {"study_id": identity, "csv_bonuses": f"{submission},0.75"}
    batch = client.post("/submissions/bonus-payments/", content)["id"]
    client.standin("PUT", "/faults", {"next": ["cut-before", "cut-after"], "path": "/pay/$"})
    for paid in ([], [75]):
        with pytest.raises(requests.ConnectionError):
            client.call("POST", f"/bulk-bonus-payments/{batch}/pay/")
        assert client.get(f"/submissions/{submission}/")["bonus_payments"] == paid


def test_faults_never_hit_participants(client: Client):
    client.standin("PUT", "/faults", {"share": {"cut-before": 1}})
    with pytest.raises(requests.ConnectionError):
        client.call("GET", "/users/me/")
    assert client.standin("GET", "/books").status_code == 200
    assert requests.get(f"{client.url}/", timeout=10).status_code == 200
    assert requests.get(f"{client.url}/submissions/complete?cc=X", timeout=10).status_code == 403


def test_a_server_that_is_killed_keeps_everything_that_it_acknowledged(client: Client):
    identity = client.published(is_external_study_url_secure=True)
    submission = client.handed_in(identity, "kill-anna")
    client.post(f"/submissions/{submission}/transition/", {"action": "APPROVE"})
    content = {"study_id": identity, "csv_bonuses": f"{submission},0.75"}
    batch = client.post("/submissions/bonus-payments/", content)["id"]
    client.post(f"/bulk-bonus-payments/{batch}/pay/")
    keys = requests.get(f"{client.url}/.well-known/study/jwks.json", timeout=60).json()
    me, before = client.get("/users/me/"), client.books()
    client.server.kill()
    client.server.restart()
    assert client.books() == before
    assert client.get("/users/me/") == me
    assert requests.get(f"{client.url}/.well-known/study/jwks.json", timeout=60).json() == keys
    client.take(identity, "kill-ben")


def test_what_was_acknowledged_while_it_is_killed_is_there(client: Client):
    acknowledged: list[str] = []

    def make() -> None:
        while True:
            try:
                reply = requests.post(
                    f"{client.url}/api/v1/studies/", json=study(), headers={"Authorization": "Token a-token"}, timeout=10
                )
            except requests.RequestException:  # also in the middle of a reply
                return
            acknowledged.append(reply.json()["id"])

    makers = [threading.Thread(target=make) for _ in range(4)]
    for maker in makers:
        maker.start()
    wait_for(lambda: len(acknowledged) >= 20)
    client.server.kill()
    for maker in makers:
        maker.join()
    client.server.restart()
    kept = {found["id"] for found in client.books()["studies"]}
    assert set(acknowledged) <= kept


class Receiver:
    """Somebody's webhook: keeps what came, and answers with the statuses that it was told to."""

    def __init__(self) -> None:
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.came.append((dict(self.headers), body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def statuses(self, event_type: str, resource: str) -> list[str]:
        events = [json.loads(body) for _, body in list(self.came)]
        return [event["status"] for event in events if (event["event_type"], event["resource_id"]) == (event_type, resource)]


@pytest.fixture
def receiver():
    started = Receiver()
    yield started
    started.stop()


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not reached():
        assert time.monotonic() < deadline, "it didn't come about"
        time.sleep(0.02)


@pytest.fixture
def secret(client: Client, receiver: Receiver) -> Iterator[str]:
    """Both events subscribed and confirmed; the workspace's secret."""
    workspace = client.get("/workspaces/")["results"][0]["id"]
    made = client.post("/hooks/secrets/", {"workspace_id": workspace})["value"]
    for event_type in ("submission.status.change", "study.status.change"):
        content = {"workspace_id": workspace, "event_type": event_type, "target_url": receiver.url}
        reply = client.call("POST", "/hooks/subscriptions/", content)
        assert reply.status_code == 201
        path = f"/hooks/subscriptions/{reply.json()['id']}/"
        assert client.call("POST", path, {"secret": "wrong"}).status_code == 400
        assert client.post(path, {"secret": reply.headers["X-Hook-Secret"]})["is_enabled"] is True
    yield made
    for subscription in client.get("/hooks/subscriptions/")["results"]:
        client.call("DELETE", f"/hooks/subscriptions/{subscription['id']}/")


def test_events_are_signed_and_come_in_order(client: Client, receiver: Receiver, secret: str):
    identity = client.published()
    submission = client.handed_in(identity, "event-anna")
    client.post(f"/studies/{identity}/transition/", {"action": "PAUSE"})
    wait_for(lambda: receiver.statuses("study.status.change", identity) == ["ACTIVE", "PAUSED"])
    wait_for(lambda: receiver.statuses("submission.status.change", submission) == ["ACTIVE", "AWAITING REVIEW"])
    for headers, body in receiver.came:
        signed = headers["X-Prolific-Request-Timestamp"].encode() + body
        expected = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
        assert headers["X-Prolific-Request-Signature"] == expected
    assert len({headers["X-Event-ID"] for headers, _ in receiver.came}) == len(receiver.came)
    assert {json.loads(body).get("participant_id") for _, body in receiver.came} == {None, "event-anna"}


def test_an_event_that_nobody_took_comes_again_with_the_same_id(client: Client, receiver: Receiver, secret: str):
    receiver.answers = [500, 503]
    identity = client.published()
    wait_for(lambda: len(receiver.came) == 3)
    assert receiver.statuses("study.status.change", identity) == ["ACTIVE"] * 3
    assert len({headers["X-Event-ID"] for headers, _ in receiver.came}) == 1
    wait_for(lambda: client.books()["events"][-1]["delivered"])
    assert client.books()["events"][-1]["tries"] == 3


def test_a_duplicate_is_the_same_event_twice(client: Client, receiver: Receiver, secret: str):
    client.standin("PUT", "/faults", {"next": ["duplicate"]})
    client.published()
    wait_for(lambda: len(receiver.came) == 2)
    assert len({headers["X-Event-ID"] for headers, _ in receiver.came}) == 1


def test_running_out_of_time_is_an_event(client: Client, receiver: Receiver, secret: str):
    submission = client.take(client.published(), "event-late")
    later = {"X-Rehearsal-Clock": str(int(time.time() * 1000) + 3_600_000)}
    assert client.status(submission, **later) == "TIMED-OUT"
    wait_for(lambda: receiver.statuses("submission.status.change", submission) == ["ACTIVE", "TIMED-OUT"])


def test_an_event_waits_for_a_server_that_was_killed(client: Client, receiver: Receiver, secret: str):
    receiver.answers = [500] * 3
    identity = client.published()
    wait_for(lambda: len(receiver.came) >= 1)
    client.server.kill()
    client.server.restart()
    wait_for(lambda: client.books()["events"][-1]["delivered"])
    assert set(receiver.statuses("study.status.change", identity)) == {"ACTIVE"}


def test_a_subscription_that_does_not_fit_is_refused(client: Client, secret: str):
    workspace = client.get("/workspaces/")["results"][0]["id"]
    right = {"workspace_id": workspace, "event_type": "study.status.change", "target_url": "https://lab.example.org/hook"}
    assert client.call("POST", "/hooks/subscriptions/", right).status_code == 201
    for change, status in (
        ({"workspace_id": "0"}, 404),
        ({"event_type": "study.weather.change"}, 400),
        ({"target_url": "http://lab.example.org/hook"}, 400),
    ):
        reply = client.call("POST", "/hooks/subscriptions/", {**right, **change})
        assert reply.status_code == status and set(reply.json()) == {"message", "detail"}
    assert {found["event_type"] for found in client.get("/hooks/event-types/")["results"]} >= {"study.status.change"}
    assert client.get("/hooks/secrets/")["results"][0]["value"] == secret


def test_an_unconfirmed_subscription_gets_nothing(client: Client, receiver: Receiver):
    workspace = client.get("/workspaces/")["results"][0]["id"]
    client.post("/hooks/secrets/", {"workspace_id": workspace})
    content = {"workspace_id": workspace, "event_type": "study.status.change", "target_url": receiver.url}
    client.post("/hooks/subscriptions/", content)
    before = len(client.books()["events"])
    client.published()
    assert len(client.books()["events"]) == before
