"""The comparison of publishing in small: both sides post on the stand-ins, and every figure that a goal names is there."""

import pytest

from benchmarks import publish


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory):
    size = publish.Size(tasks=20, studies=2, people=2, sprites=4, rounds=1, line_seconds=0.0)
    return publish.comparison(tmp_path_factory.mktemp("books"), size)


def test_every_goal_has_its_figure(told):
    assert set(publish.GOALS) <= set(told["figures"])


def test_everything_is_posted_and_paid_once_through_faults(told):
    assert (told["figures"]["wrong_postings"], told["figures"]["ledger_difference"]) == (0, 0)


def test_ours_asks_less_often_than_once_per_task(told):
    # Ours: is it there, is there enough money, qualification, type, three HITs, marked as open; published: 20 HITs.
    assert told["figures"]["mturk_requests_ratio"] == pytest.approx(20 / 8)


def test_a_posting_that_is_missing_or_doubled_is_counted(monkeypatch: pytest.MonkeyPatch):
    bench = publish.Bench.__new__(publish.Bench)
    bench.name = "prolific"
    bench._wanted = publish.Counter({"kept": 3, "missing": 1, "doubled": 2})
    studies = [("kept", 3), ("doubled", 2), ("doubled", 2), ("unknown", 1)]
    shown = [{"internal_name": f"crowd-imi {intent}", "total_available_places": places} for intent, places in studies]
    monkeypatch.setattr(bench, "_ask", lambda *_: {"studies": shown})
    assert bench.wrong_postings() == 3
