"""How often a visit may ask: a burst, then a steady trickle, each visit by itself."""

import pytest

from crowd_imi.errors import Refused
from crowd_imi.pages.pace import Pace


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


def test_the_api_says_when_to_ask_again(run):
    visitor = run.visitor("ann")
    replies = [visitor.post("/api/events", {"kind": "blur"}) for _ in range(150)]
    refused = [reply for reply in replies if reply.status_code != 204]
    assert 20 <= len(refused) <= 30  # a burst of 120, and what trickles in meanwhile
    assert {(reply.status_code, reply.json["code"], reply.headers["Retry-After"]) for reply in refused} == {
        (429, "too-fast", "1")
    }
    with pytest.raises(AssertionError):
        visitor.view()
    assert run.visitor("ben").view()["step"] == "consent"
