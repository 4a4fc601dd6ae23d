"""Tests of means that know participants, against scipy's and statsmodels' where participants add nothing, and by hand."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from crowd_imi.scoring.crossed_tests import Spread, against_zero, between, paired_spread, spread
from crowd_imi.scoring.resampling import Crossing


def apart(rng: np.random.Generator, units: int, each: int = 5, ease: float = 0.7) -> Crossing:
    """Every participant answers one unit alone, so that they have nothing to add."""
    asked = np.kron(np.eye(units), np.ones(each))
    return Crossing(asked * (rng.random(asked.shape) < ease), asked)


def alike(answers: Crossing) -> Spread:
    found = spread(answers)
    assert found is not None and found.of_people < 1e-15
    return found


def test_where_participants_add_nothing_two_models_are_compared_by_scipys_welch():
    rng = np.random.default_rng(3)
    arms = [apart(rng, 12), apart(rng, 20, ease=0.9)]
    found = between([alike(arm) for arm in arms])
    expected = stats.ttest_ind(arms[0].means, arms[1].means, equal_var=False)
    assert found is not None
    assert (found.statistic, found.p) == pytest.approx((expected.statistic**2, expected.pvalue))


def test_where_participants_add_nothing_three_models_are_compared_by_statsmodels_welch():
    rng = np.random.default_rng(4)
    arms = [apart(rng, 12), apart(rng, 20, ease=0.9), apart(rng, 15)]
    found = between([alike(arm) for arm in arms])
    expected = anova_oneway([arm.means for arm in arms], use_var="unequal")
    assert found is not None
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_where_participants_add_nothing_conditions_are_compared_by_scipys_paired_t():
    rng = np.random.default_rng(5)
    first, second = apart(rng, 14, ease=0.9), apart(rng, 14)
    found = against_zero(paired_spread(first, second))
    expected = stats.ttest_rel(first.means, second.means)
    assert found is not None
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_what_participants_share_by_hand():
    # Two units, three participants who saw both: (1, 1), (1, 1), (0, 0). Unit means 2/3; residuals ⅓, ⅓, −⅔, each over
    # 3 answers · 2 units and times √(3/2): r = √1.5/6·(⅓, ⅓, −⅔). A participant's two are equal, so (2r)² − 2r² = 2r² each:
    # 2 · 1.5/36 · (1/9 + 1/9 + 4/9) = .0833·⅔ = .05556.
    both = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    found = spread(Crossing(both, np.ones((2, 3))))
    assert found is not None
    assert (found.mean, found.of_units, found.of_people) == pytest.approx((2 / 3, 0, 1 / 18))
    # The mean of two units answered alike by three people is that of three answers: s² of (1, 1, 0) is ⅓, over 3 it is 1/9;
    # half of it are the residuals' own squares, which the units' part holds where units differ.


def test_participants_who_disagree_with_themselves_add_nothing():
    # Right on the one unit and wrong on the other: the covariance is below 0 and taken as 0.
    right = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    found = spread(Crossing(right, np.ones((2, 3))))
    assert found is not None and found.of_people == 0


def test_participants_who_differ_make_the_same_difference_less_sure():
    rng = np.random.default_rng(6)
    asked = np.ones((30, 20))
    careful = rng.random(20) < 0.5
    alike_ones = Crossing((rng.random(asked.shape) < 0.75).astype(float), asked)
    unlike = Crossing((rng.random(asked.shape) < np.where(careful, 0.98, 0.52)).astype(float), asked)
    first, second = spread(alike_ones), spread(unlike)
    assert first is not None and second is not None
    # Binomial over people: (.98 − .52)²/4 / 20 = .0026; the other has none but noise.
    assert second.of_people == pytest.approx(0.0026, rel=0.35)
    assert first.of_people < 0.0003


def test_without_spread_or_a_second_unit_or_participant_there_is_no_test():
    full = np.ones((3, 4))
    flat = spread(Crossing(full, full))
    rng = np.random.default_rng(7)
    other = spread(apart(rng, 5))
    assert flat is not None and between([flat, other]) is None
    assert spread(Crossing(full[:1], full[:1])) is None and spread(Crossing(full[:, :1], full[:, :1])) is None
    assert between([None, other]) is None and between([other]) is None
    assert paired_spread(Crossing(full[:1], full[:1]), Crossing(full[:1], full[:1])) is None
    assert against_zero(None) is None and against_zero(paired_spread(Crossing(full, full), Crossing(full, full))) is None


def test_alpha_holds_where_participants_and_panels_differ():
    # 300 replicates at .05: 15 ± 3.8, so 27 (.09) would be three standard errors off; Kruskal–Wallis finds .11 here.
    from benchmarks import recovery

    found = recovery.alpha(np.random.default_rng(8), 0.7, 300, "")
    assert found["alpha_welch_models"] < 0.09 and found["alpha_welch_paired"] < 0.09
