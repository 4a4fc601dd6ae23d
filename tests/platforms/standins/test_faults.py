import socket
import threading

import pytest
import requests
from flask import Flask, Response
from pydantic import ValidationError
from werkzeug.serving import make_server

from crowd_imi.platforms.standins.faults import Fault, FaultPlan, Faults, FaultyRequests, cut, routes


def drawn(faults: Faults, count: int, name: str = "POST /studies/") -> list[Fault | None]:
    return [faults.for_request(name) for _ in range(count)]


def test_the_next_requests_fail_one_fault_each_and_then_none():
    faults = Faults()
    faults.set(FaultPlan(next=("throttle", "cut-after")))
    assert drawn(faults, 4) == [Fault.THROTTLE, Fault.CUT_AFTER, None, None]


def test_requests_that_do_not_match_use_up_no_fault():
    faults = Faults()
    faults.set(FaultPlan(next=("error",), path="^POST .*/pay/$"))
    assert drawn(faults, 2) == [None, None]
    assert drawn(faults, 2, "POST /bulk-bonus-payments/1/pay/") == [Fault.ERROR, None]


def test_a_share_is_the_same_for_the_same_seed_and_near_what_was_asked_for():
    faults, plan = Faults(), FaultPlan(share={"throttle": 0.3, "error": 0.1}, seed=7)
    faults.set(plan)
    first = drawn(faults, 2000)
    faults.set(plan)
    assert drawn(faults, 2000) == first
    # 2000 draws: 600 and 200 expected, with standard deviations of √(2000·.3·.7) = 20 and √(2000·.1·.9) = 13; five of each.
    assert abs(first.count(Fault.THROTTLE) - 600) <= 100
    assert abs(first.count(Fault.ERROR) - 200) <= 65
    faults.set(FaultPlan(share={"throttle": 0.3, "error": 0.1}, seed=8))
    assert drawn(faults, 2000) != first


def test_duplicates_are_for_events_and_leave_requests_alone():
    faults = Faults()
    faults.set(FaultPlan(next=("duplicate", "error"), share={"duplicate": 0.0}))
    assert [faults.duplicates_event() for _ in range(2)] == [True, False]
    assert drawn(faults, 2) == [Fault.ERROR, None]
    assert faults.state().hit == {Fault.DUPLICATE: 1, Fault.ERROR: 1}


@pytest.mark.parametrize("plan", [{"share": {"error": 0.6, "slow": 0.5}}, {"path": "("}, {"next": ["flood"]}, {"sometimes": 1}])
def test_a_plan_that_cannot_be_carried_out_is_refused(plan: dict[str, object]):
    with pytest.raises(ValidationError):
        FaultPlan.model_validate(plan)


class Counting:
    """A tiny server with faults, under werkzeug; gunicorn's turn is in test_prolific_outages.py."""

    def __init__(self) -> None:
        self.done = 0
        self.faults = Faults()
        app = Flask(__name__)
        app.add_url_rule("/do", "do", self._do, methods=["POST"])
        app.register_blueprint(routes(self.faults))
        faulty = FaultyRequests(
            app,
            self.faults,
            lambda environ: "do" if environ["PATH_INFO"] == "/do" else None,
            lambda fault, plan: Response(fault.value, 429 if fault is Fault.THROTTLE else 500),
        )
        self._server = make_server("127.0.0.1", 0, faulty, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _do(self) -> str:
        self.done += 1
        return "done"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def counting():
    server = Counting()
    yield server
    server.stop()


def test_refusals_and_cuts_before_do_nothing_and_cuts_after_do_it(counting: Counting):
    plan = {"next": ["throttle", "error", "cut-before", "cut-after", "slow"], "slow_seconds": 0}
    assert requests.put(f"{counting.url}/standin/faults", json=plan, timeout=10).json()["left"] == plan["next"]
    assert [requests.post(f"{counting.url}/do", timeout=10).status_code for _ in range(2)] == [429, 500]
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{counting.url}/do", data=b"x" * 300_000, timeout=10)
    assert counting.done == 0
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{counting.url}/do", timeout=10)
    assert counting.done == 1
    assert [requests.post(f"{counting.url}/do", timeout=10).text for _ in range(2)] == ["done", "done"]
    assert requests.get(f"{counting.url}/standin/faults", timeout=10).json()["hit"] == {
        "throttle": 1,
        "error": 1,
        "cut-before": 1,
        "cut-after": 1,
        "slow": 1,
    }


def test_deleting_the_plan_ends_all_faults(counting: Counting):
    requests.put(f"{counting.url}/standin/faults", json={"share": {"error": 1}}, timeout=10)
    assert requests.post(f"{counting.url}/do", timeout=10).status_code == 500
    requests.delete(f"{counting.url}/standin/faults", timeout=10)
    assert requests.post(f"{counting.url}/do", timeout=10).status_code == 200


def test_a_wrong_plan_over_http_says_what_is_wrong(counting: Counting):
    reply = requests.put(f"{counting.url}/standin/faults", json={"next": ["flood"]}, timeout=10)
    assert reply.status_code == 400 and reply.json()[0]["loc"] == ["next", 0]


def test_a_server_that_hides_its_socket_cannot_cut():
    with pytest.raises(RuntimeError, match="gunicorn or werkzeug"):
        cut({}, lambda *_: None)


def test_cutting_ends_the_connection_both_ways():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert list(cut({"gunicorn.socket": ours}, lambda *_: None)) == []
        assert theirs.recv(1) == b""
