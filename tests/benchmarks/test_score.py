"""The comparison of scoring chains in small: both sides run on the same kind of study, and every goal has its figure."""

import numpy as np
import pytest

from benchmarks import pairwise, published_scoring, score
from benchmarks.responses import fill
from crowd_imi.scoring import score as scored


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("filled"), 3)


def test_the_store_holds_what_it_says(filled):
    # 23 arms × 3 tasks × 40 main trials; of 69 tasks every eighth (8, 16, … 64) had somebody excluded before.
    scores = scored(filled.study, filled.store)
    assert filled.responses == len(scores.counted) == 2760
    assert len(scores.groups) == 23
    assert sum(group.excluded for group in scores.groups) == 8


def test_the_published_chain_gives_the_unit_means_of_its_answers():
    responses, structure, checks = published_scoring.simulate(3, 1)
    means = published_scoring.published(responses, structure, checks)
    main = responses[~responses["catch_trial"]]
    trials = [structure[task][place] for task, place in zip(main["task_number"], main["position"], strict=True)]
    for (layer, channel), mean in list(means.items())[:20]:
        its = [trial["layer"] == layer and trial["channel"] == channel for trial in trials]
        assert mean == pytest.approx(main.loc[its, "correct"].mean())


def test_pair_by_pair_agrees_and_counts_calls(tmp_path, monkeypatch):
    monkeypatch.setattr(pairwise, "BATCHES", 2)
    monkeypatch.setattr(pairwise, "TIMED", 1)
    found = pairwise.machine(tmp_path, 2, 64, 1)
    # Two arms of two panels, 36 pairs each; images: 2·18 natural and 18 synthetic references, 4 queries, crops may coincide.
    assert found.pairs == 144 and found.images <= 58
    assert found.ratio > 0


def test_every_figure_that_a_goal_names_is_there(tmp_path, monkeypatch):
    small = pairwise.Embedding(12.0, 10, 20)
    monkeypatch.setattr("benchmarks.pairwise.machine", lambda *_given: small)
    monkeypatch.setattr(score, "_command", lambda _study: {"seconds": 4.0, "peak_mb": 300.0})
    told = score.comparison(tmp_path, tasks=2, rounds=1)
    assert set(score.GOALS) <= set(told["figures"])
    assert told["figures"]["responses"] == 23 * 2 * 40
    assert told["figures"]["ratio"] == pytest.approx(23 * told["published_arm_s"][0] / told["ours_s"][0])
    assert all(np.isfinite(value) for value in told["figures"].values())
    assert "machine_ratio" in score.table(told)
