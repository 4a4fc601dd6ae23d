"""How often a visit may ask: a burst, then a steady trickle, each visit by itself."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from crowd_imi.errors import Refused
from crowd_imi.pages import arrival
from crowd_imi.pages.pace import ARRIVALS_AT_ONCE, Pace
from crowd_imi.pages.server import THREADS


def takes(pace, visit, seconds, times):
    """How many of so many requests at one moment got through."""
    done = 0
    for _ in range(times):
        try:
            pace.take(visit, seconds)
        except Refused as refused:
            assert (refused.status, refused.code) == (429, "too-fast")
        else:
            done += 1
    return done


def test_a_burst_then_a_trickle():
    pace = Pace(burst=10, per_second=2)
    assert takes(pace, "a", 0, 15) == 10
    assert takes(pace, "a", 3, 15) == 6
    assert takes(pace, "a", 1000, 15) == 10  # never more than a burst


def test_visits_dont_slow_each_other_down():
    pace = Pace(burst=3, per_second=1)
    assert (takes(pace, "a", 0, 9), takes(pace, "b", 0, 9)) == (3, 3)


def test_a_clock_that_is_set_back_locks_nobody_out_and_fills_nothing():
    pace = Pace(burst=3, per_second=1)
    assert takes(pace, "a", 100, 3) == 3
    assert takes(pace, "a", 50, 1) == 0
    assert takes(pace, "a", 52, 5) == 2


def test_memory_is_bounded():
    pace = Pace(burst=1, per_second=0, most=2)
    for visit in "abc":
        pace.take(visit, 0)
    assert takes(pace, "b", 0, 1) == 0
    assert takes(pace, "a", 0, 1) == 1  # forgotten


def test_the_api_says_when_to_ask_again(run, monkeypatch):
    monkeypatch.setattr("crowd_imi.pages.context.time", SimpleNamespace(monotonic=lambda: 100.0))
    visitor = run.visitor("ann")
    replies = [visitor.post("/api/events", {"kind": "blur"}) for _ in range(150)]
    refused = [reply for reply in replies if reply.status_code != 204]
    assert len(refused) == 30  # a burst is 120, and nothing trickles in while the clock stands
    assert {(reply.status_code, reply.json["code"], reply.headers["Retry-After"]) for reply in refused} == {
        (429, "too-fast", "1")
    }
    with pytest.raises(AssertionError):
        visitor.view()
    assert run.visitor("ben").view()["step"] == "consent"


def test_arrivals_leave_room_for_who_is_at_the_trials(run, monkeypatch):
    ann = run.visitor("ann")
    ask, at_the_platform, go_on = arrival._ask_platform, threading.Semaphore(0), threading.Event()

    def slow(platform, query):
        at_the_platform.release()
        assert go_on.wait(60)
        return ask(platform, query)

    monkeypatch.setattr(arrival, "_ask_platform", slow)
    links = [{"participant": f"p{number}", "submission": run.take(f"p{number}"), "posting": run.posting} for number in range(4)]
    clients = [run.app.test_client(use_cookies=False) for _ in range(ARRIVALS_AT_ONCE)]
    with ThreadPoolExecutor(ARRIVALS_AT_ONCE) as pool:
        # Some reload their page meanwhile, so that all six are at the platform.
        waiting = [
            pool.submit(client.get, "/arrive", query_string=links[number % 4], buffered=True)
            for number, client in enumerate(clients)
        ]
        for _ in waiting:
            assert at_the_platform.acquire(timeout=60)
        refused = run.app.test_client(use_cookies=False).get("/arrive", query_string=links[0])
        assert (refused.status_code, refused.headers["Refresh"]) == (503, "10")
        assert ann.view()["step"] == "consent"
        go_on.set()
        assert {reply.result().status_code for reply in waiting} == {303}
    assert run.app.test_client(use_cookies=False).get("/arrive", query_string=links[0]).status_code == 303
    assert ARRIVALS_AT_ONCE < THREADS
