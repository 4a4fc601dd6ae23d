import numpy as np
import pytest
from scipy.stats import kruskal, rankdata, spearmanr, wilcoxon

from crowd_imi.scoring import effects


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_epsilon_squared_of_two_groups_apart():
    # Ranks 1 2 3 | 4 5 6, mean 3.5: between 3·1.5² + 3·1.5² = 13.5; total 2·(2.5² + 1.5² + .5²) = 17.5; 13.5/17.5 = .7714.
    groups = [np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5, 0.6])]
    assert effects.epsilon_squared(groups) == pytest.approx(13.5 / 17.5)


def test_epsilon_squared_is_h_over_n_minus_one_with_ties_too():
    generator = rng()
    groups = [generator.integers(0, 6, size) / 6 for size in (9, 7, 12)]
    assert effects.epsilon_squared(groups) == pytest.approx(kruskal(*groups).statistic / 27)


def test_rank_biserial_of_four_differences():
    # |d| .1 .2 .3, zero left out; ranks 1 2 3; W⁺ = 1 + 3, W⁻ = 2: (4 − 2) / 6 = 1/3.
    assert effects.rank_biserial(np.array([0.1, -0.2, 0.3, 0.0])) == pytest.approx(1 / 3)


def test_rank_biserial_agrees_with_wilcoxons_sum_of_ranks():
    differences = rng().normal(0.3, 1, 20)
    # W⁺ of n(n+1)/2 = 210: r = (2·W⁺ − 210) / 210.
    positive = wilcoxon(differences, alternative="greater").statistic
    assert effects.rank_biserial(differences) == pytest.approx((2 * positive - 210) / 210)


def test_effects_of_nothing_are_missing():
    same = np.full(5, 0.5)
    assert effects.epsilon_squared([same, same]) is None
    assert effects.rank_biserial(np.zeros(5)) is None
    assert effects.epsilon_squared_interval([same, same], rng()) is None
    assert effects.rank_biserial_interval(np.zeros(5), rng()) is None
    assert effects.spearman_interval(same, np.arange(5.0), rng()) is None


def test_intervals_hold_the_effect_and_keep_to_its_range():
    generator = rng()
    groups = [generator.normal(mean, 1, 40) for mean in (0, 1)]
    interval = effects.epsilon_squared_interval(groups, rng())
    assert 0 <= interval.low < effects.epsilon_squared(groups) < interval.high <= 1
    differences = groups[1] - groups[0]
    interval = effects.rank_biserial_interval(differences, rng())
    assert -1 <= interval.low < effects.rank_biserial(differences) < interval.high <= 1


def test_spearmans_interval_holds_rho_and_has_fishers_width():
    # n = 200, rho about .5: Fisher's z has a standard error of √(1.06/197) = .0734; ends at tanh(atanh(rho) ± .1438).
    generator = rng()
    first = generator.normal(size=200)
    second = first + np.sqrt(3) * generator.normal(size=200)
    rho = spearmanr(first, second).statistic
    interval = effects.spearman_interval(first, second, rng())
    assert interval.low == pytest.approx(np.tanh(np.arctanh(rho) - 0.1438), abs=0.03)
    assert interval.high == pytest.approx(np.tanh(np.arctanh(rho) + 0.1438), abs=0.03)


def test_a_draws_ranks_are_those_of_the_values_drawn():
    # Of .2, .5 and .9 a draw has .2 twice and .9 once: ranks 1.5, 1.5 and 3, less their mean 2.
    drawn = np.array([[2.0, 0.0, 1.0]])
    assert effects._ranked(np.array([0.2, 0.5, 0.9]), drawn)[0][[0, 2]] == pytest.approx([-0.5, 1])
    generator = rng()
    values, times = generator.integers(0, 5, 30) / 5, generator.multinomial(30, np.full(30, 1 / 30)).astype(float)
    places = np.repeat(np.arange(30), times.astype(int))
    assert effects._ranked(values, times[None, :])[0][places] == pytest.approx(rankdata(values[places]) - 15.5)


def test_effects_of_a_draw_are_those_of_the_things_drawn():
    generator = rng()
    groups = [generator.integers(0, 9, size) / 9 for size in (12, 8)]
    times = [generator.multinomial(len(group), np.full(len(group), 1 / len(group))).astype(float) for group in groups]
    again = [np.repeat(group, many.astype(int)) for group, many in zip(groups, times, strict=True)]
    assert effects._epsilon_squared(groups, [many[None, :] for many in times])[0] == pytest.approx(effects.epsilon_squared(again))
    differences = generator.integers(-3, 6, 12) / 9
    drawn = np.repeat(differences, times[0].astype(int))
    assert effects._rank_biserial(differences, times[0][None, :])[0] == pytest.approx(effects.rank_biserial(drawn))
    both = np.repeat(groups[0], times[0].astype(int))
    expected = spearmanr(both, drawn).statistic
    assert effects._spearman(groups[0], differences, times[0][None, :])[0] == pytest.approx(expected)
