"""The simulations of ``benchmarks.recovery`` in small: what they simulate, and that every goal has its figure."""

import numpy as np
import pytest
from scipy.special import expit

from benchmarks import recovery


def rng() -> np.random.Generator:
    return np.random.default_rng(12)


def test_an_arm_has_the_published_numbers():
    # 63 participants × 40 units = 2,520 answers = 84 units × 30, over all 11 panels.
    arm = recovery.simulate(rng(), people=0.7, panels=1.0)
    assert set(arm.asked.sum(axis=0)) == {40} and set(arm.asked.sum(axis=1)) == {30}
    assert (arm.right <= arm.asked).all()
    table = arm.table()
    assert len(table) == 2520 and set(table["batch"]) == set(range(11))
    assert table.groupby(["unit", "batch"]).size().isin([2, 3]).all()


def test_the_truth_is_what_many_answers_come_to():
    # Without spreads it is ½ + ½·σ(ease); with them, the mean of the answers of many arms of the same units.
    ease = np.linspace(-1, 3, recovery.UNITS)
    assert recovery.simulate(rng(), people=0.0, panels=0.0, ease=ease).truth == pytest.approx(0.5 + 0.5 * expit(ease))
    generator = rng()
    arms = [recovery.simulate(generator, people=1.0, panels=1.5, ease=ease) for _ in range(60)]
    seen = np.mean([arm.right.sum(axis=1) / 30 for arm in arms], axis=0)
    # 1,800 answers a unit: a standard error of up to .012, and twice that with participants and panels shared.
    assert seen == pytest.approx(arms[0].truth, abs=0.07)
    assert seen.mean() == pytest.approx(arms[0].truth.mean(), abs=0.01)


def test_small_simulations_show_what_the_large_ones_do():
    # 25 arms of 84 units are 2,100: coverage has a standard error of half a point.
    found = recovery.coverage(rng(), 2.5, 25, 1)
    assert 93 <= found["panel_aware_2.5"] <= 97
    assert found["jeffreys_2.5"] < found["wilson_2.5"] < found["panel_aware_2.5"]
    gains = recovery.adjusted(rng(), 4)
    assert gains["error_ratio"] < 1 and gains["rank_gain"] > 0


def test_tests_hold_alpha_when_participants_are_alike():
    # 150 replicates at .05: 7.5 ± 2.7, so that 16 (.107) would be three standard errors off.
    found = recovery.alpha(rng(), 0.0, 150, "")
    assert set(found) == {f"alpha_{name}" for name in recovery.TESTS}
    assert all(share <= 0.1 for share in found.values())


def test_the_limit_is_what_chance_leaves_to_tests_that_hold_alpha():
    # Fourteen figures: six tests at three spreads of participants, less two tests as published at two of them.
    assert len(recovery.JUDGED) == 6 * 3 - 2 * 2 == 14
    # Bonferroni: 2.5 % / 14 in the upper tail is 2.91 standard errors of √(.05 · .95 / n): .0022 of 10,000, .0049 of 2,000.
    assert recovery.most_found(10_000) == pytest.approx(0.05 + 2.91 * 0.00218, abs=2e-4) == pytest.approx(0.0564, abs=2e-4)
    assert recovery.most_found(2_000) == pytest.approx(0.05 + 2.91 * 0.00487, abs=1e-3)
    # Of 2,000 runs of fourteen tests that hold α, at most one in forty has a figure above it (50 ± 7; 71 are three more).
    most = np.random.default_rng(5).binomial(10_000, 0.05, (2_000, 14)).max(axis=1) / 10_000
    assert (most > recovery.most_found(10_000)).sum() <= 71


def test_every_goal_has_its_figure_and_the_table_its_rows():
    told = recovery.recovery(arms=2, fitted=2, replicates=3)
    assert set(recovery.JUDGED) < set(told["goals"]) <= set(told["figures"])
    table = recovery.table(told["figures"])
    assert "| that knows panels |" in table and all(f"| {name} |" in table for name in recovery.TESTS.values())
