"""Goals of a benchmark are judged as they are written down."""

import pytest

from benchmarks.document import document, met


@pytest.mark.parametrize(("figure", "expected"), [(17, False), (18, True), (19, True)])
def test_at_least_is_inclusive(figure, expected):
    assert met({"held": figure}, {"held": {"at_least": 18}}) is expected


@pytest.mark.parametrize(("figure", "expected"), [(0.19, True), (0.2, True), (0.21, False)])
def test_at_most_is_inclusive(figure, expected):
    assert met({"widest": figure}, {"widest": {"at_most": 0.2}}) is expected


def test_one_goal_missed_is_enough():
    figures = {"held": 18, "widest": 0.3, "seconds": 9.0}
    told = document(figures, {"held": {"at_least": 18}, "widest": {"at_most": 0.2}}, ["numpy"], rows=[])
    assert told["met"] is False
    assert set(told) == {"figures", "goals", "met", "machine", "versions", "rows"}
    assert set(told["versions"]) == {"python", "numpy"}
