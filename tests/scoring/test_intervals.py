import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, norm

from crowd_imi.scoring.intervals import bootstrap_mean, clustered, jeffreys, wilson

SHARES = st.lists(st.integers(0, 30), min_size=2, max_size=40).map(lambda counts: np.array(counts) / 30)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_wilson_of_fifteen_in_twenty():
    # p = .75, n = 20, z = 1.959964, z² = 3.841459:
    # centre (p + z²/2n) / (1 + z²/n) = (.75 + .096036) / 1.192073 = .709719
    # half   z·√(p(1−p)/n + z²/4n²) / (1 + z²/n) = 1.959964·√(.009375 + .002401) / 1.192073 = .178420
    low, high = wilson(np.array([15]), np.array([20]))
    assert low[0] == pytest.approx(0.531299, abs=2e-6)
    assert high[0] == pytest.approx(0.888138, abs=2e-6)


def test_wilson_of_all_right_ends_at_one_and_begins_below():
    # p = 1: low = 1 / (1 + z²/n) = 30 / (30 + 3.841459).
    low, high = wilson(np.array([30]), np.array([30]))
    assert high[0] == pytest.approx(1)
    assert low[0] == pytest.approx(30 / 33.841459, abs=1e-6)


def test_wilson_of_one_response_is_wide_and_there():
    # p = 0, n = 1: high = z² / (1 + z²) = 3.841459 / 4.841459.
    low, high = wilson(np.array([0]), np.array([1]))
    assert low[0] == 0
    assert high[0] == pytest.approx(3.841459 / 4.841459, abs=1e-6)


def test_wilson_of_no_response_is_missing_and_leaves_the_others_alone():
    low, high = wilson(np.array([0, 15]), np.array([0, 20]))
    assert np.isnan(low[0]) and np.isnan(high[0])
    assert low[1] == pytest.approx(0.531299, abs=2e-6)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_proportion_and_mirrors(pair):
    correct, responses = pair
    low, high = wilson(np.array([correct, responses - correct]), np.array([responses, responses]))
    assert 0 <= low[0] <= correct / responses + 1e-12
    assert correct / responses - 1e-12 <= high[0] <= 1
    assert low[1] == pytest.approx(1 - high[0])


def test_bootstrap_of_two_opposite_units_reaches_from_end_to_end():
    # A resample of {0, 1} has mean 0, ½ or 1 with probability ¼, ½, ¼: both ends have more than 2.5 %.
    estimate = bootstrap_mean(np.array([0.0, 1.0]), rng())
    assert (estimate.mean, estimate.low, estimate.high) == (0.5, 0, 1)


def test_bootstrap_of_many_units_agrees_with_the_standard_error():
    # 400 units, half at .4 and half at .8: standard deviation .2, standard error .2/√400 = .01, so .6 ± 1.96·.01.
    estimate = bootstrap_mean(np.array([0.4, 0.8] * 200), rng())
    assert estimate.mean == pytest.approx(0.6)
    assert estimate.low == pytest.approx(0.5804, abs=0.0015)
    assert estimate.high == pytest.approx(0.6196, abs=0.0015)


def test_bootstrap_of_one_unit_has_no_interval():
    estimate = bootstrap_mean(np.array([0.9]), rng())
    assert (estimate.mean, estimate.low, estimate.high) == (0.9, None, None)


def test_bootstrap_of_equal_units_has_an_interval_without_width():
    estimate = bootstrap_mean(np.array([0.9] * 7), rng())
    assert estimate.low == estimate.high == pytest.approx(0.9)


@given(SHARES)
def test_bootstrap_stays_within_the_units_and_holds_their_mean(values):
    estimate = bootstrap_mean(values, rng())
    assert estimate.low is not None and estimate.high is not None
    assert values.min() - 1e-9 <= estimate.low <= estimate.mean + 1e-9
    assert estimate.mean - 1e-9 <= estimate.high <= values.max() + 1e-9


def test_the_same_generator_gives_the_same_interval():
    values = np.linspace(0.3, 0.9, 24)
    assert bootstrap_mean(values, rng()) == bootstrap_mean(values, rng())


def test_jeffreys_of_one_in_two_is_the_middle_of_an_arcsine_like_beta():
    # Beta(1.5, 1.5) is symmetric about ½; with x = sin²(t) its distribution function is (2/π)·(t − sin(4t)/4). It is .025 at
    # t = .249209: (2/π)·(.249209 − .209940) = .025, so x = sin²(t) = .06083.
    low, high = jeffreys(np.array([1]), np.array([2]))
    assert low[0] == pytest.approx(0.060830, abs=2e-6)
    assert high[0] == pytest.approx(1 - low[0])
    assert (low[0], high[0]) == pytest.approx(beta.ppf([0.025, 0.975], 1.5, 1.5))


def test_jeffreys_of_all_right_ends_at_one_and_of_none_is_missing():
    low, high = jeffreys(np.array([30, 0, 0]), np.array([30, 30, 0]))
    assert high[0] == 1 and low[0] == pytest.approx(beta.ppf(0.025, 30.5, 0.5))
    assert low[1] == 0 and high[1] == pytest.approx(1 - low[0])
    assert np.isnan(low[2]) and np.isnan(high[2])


def test_answers_to_panels_that_are_all_right_or_all_wrong_count_as_many_as_there_are_panels():
    # Four panels of 5 with 5, 5, 5, 0 right: p = .75. Residuals (5 − 3.75)²·3 + 3.75² = 18.75; times 4/3: 25; binomial
    # 20·.75·.25 = 3.75; design effect 25/3.75 = 6.667, so that 20 answers count as 3: Wilson of 2.25 in 3.
    low, high = clustered(np.array([5, 5, 5, 0]), np.array([5, 5, 5, 5]), np.zeros(4, dtype=int), 1)
    # z² = 3.841459: centre (.75 + .640243) / 2.280486 = .609626; half 1.959964·√(.0625 + .106707) / 2.280486 = .353532.
    assert low[0] == pytest.approx(0.609626 - 0.353532, abs=2e-6)
    assert high[0] == pytest.approx(0.609626 + 0.353532, abs=2e-6)


def test_panels_that_agree_leave_wilsons_interval():
    # 15 of 20 in four panels that are all at 3 … 4 of 5: between-panel variance below the binomial one counts as equal.
    ends = clustered(np.array([4, 4, 4, 3]), np.array([5, 5, 5, 5]), np.zeros(4, dtype=int), 1)
    assert np.concatenate(ends) == pytest.approx(np.concatenate(wilson(np.array([15]), np.array([20]))))


def test_all_right_in_all_panels_is_wilsons_and_one_panel_has_no_interval():
    unit = np.array([0, 0, 1])
    low, high = clustered(np.array([5, 5, 3]), np.array([5, 5, 4]), unit, 3)
    assert low[0] == pytest.approx(10 / 13.841459, abs=1e-6) and high[0] == pytest.approx(1)
    # Unit 1 has one panel, unit 2 none.
    assert np.isnan([low[1], high[1], low[2], high[2]]).all()


def test_the_interval_that_knows_panels_covers_where_wilsons_does_not():
    # 4,000 units, 30 answers in 11 panels with a spread of 2.5 logits and a guess rate of ½: simulation error of a coverage
    # of 95 % is √(.95·.05/4000) = .0034.
    generator = np.random.default_rng(8)
    units, sizes = 4000, np.bincount(np.arange(30) % 11)
    ability = generator.normal(1.8, 1, (units, 1))
    logistic = lambda x: 0.5 + 0.5 / (1 + np.exp(-x))  # noqa: E731
    truth = logistic(ability + 2.5 * norm.ppf((np.arange(2001) + 0.5) / 2001)).mean(axis=1)
    right = generator.binomial(sizes, logistic(ability + 2.5 * generator.normal(size=(units, 11))))
    unit = np.repeat(np.arange(units), 11)
    knows = clustered(right.ravel(), np.tile(sizes, units), unit, units)
    plain = wilson(right.sum(axis=1), np.full(units, 30))
    knowing, plainly = (((low <= truth) & (truth <= high)).mean() for low, high in (knows, plain))
    assert 0.935 <= knowing <= 0.965
    assert plainly < 0.935
