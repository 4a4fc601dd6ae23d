"""How long a slow connection makes a participant wait, in small: that a real visit gives every figure. Times aren't judged."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from benchmarks import loading

FEW = loading.Amount(trials=2, catch=1, practice=1, pictures=6)
FAST = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
"""Nothing is throttled."""
HURRY = 10
"""The page's delays are ten times shorter."""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    with ThreadPoolExecutor(1) as elsewhere:  # a browser that an earlier test opened has the loop of this thread
        return elsewhere.submit(loading.measure, FEW, FAST, HURRY).result()


def test_every_goal_has_its_figure(told):
    figures = told["figures"]
    assert set(loading.GOALS) <= set(figures)
    assert told["network"] == FAST
    assert all(f"{name} " in loading.table(told) for name in figures)


def test_nobody_waits_where_nothing_is_throttled(told):
    figures = told["figures"]
    assert figures["trials_waited_for"] == 0
    assert 0 < figures["later_trial_s"] <= figures["latest_trial_s"]
    assert figures["before_practice_s"] > 0 and figures["first_trial_s"] > 0


def test_bytes_are_those_of_the_pages_and_of_the_same_pictures_as_published(told):
    figures = told["figures"]
    # A picture of 224 px takes between 10 kB and its 224 x 224 x 3 raw bytes; a trial has 20, and practice isn't counted.
    assert 3 * 20 * 10_000 < figures["published_bytes"] < 3 * 20 * 150_528
    assert figures["bytes"] > 0
    assert figures["bytes_ratio"] == figures["published_bytes"] / figures["bytes"]
    # Pages, scripts and practice included, photographs take far less than as PNGs.
    assert figures["bytes_ratio"] > 1
