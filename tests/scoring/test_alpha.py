"""α: known answers by hand, recovery from simulated responses, and what can't be fitted."""

import numpy as np
import pytest
from scipy.special import expit

from crowd_imi.errors import ScoringError
from crowd_imi.scoring.alpha import fit_alpha, machine_mis


def responses(rng, alpha, units=120, panels=6, each=5):
    """Δ, answers and units of a simulated study in which σ(α · Δ) is the truth."""
    deltas = np.repeat(rng.normal(0.08, 0.12, units * panels), each)
    return deltas, rng.random(len(deltas)) < expit(alpha * deltas), np.repeat(np.arange(units).astype(str), panels * each)


def by_counts(delta, right, wrong, units=5):
    """Every unit has one panel with this Δ and so many right and wrong answers."""
    count = units * (right + wrong)
    correct = np.tile(np.arange(right + wrong) < right, units)
    return np.full(count, delta), correct, np.repeat(np.arange(units).astype(str), right + wrong)


def test_machine_mis_is_the_mean_of_the_logistic_function():
    # σ(2 · 0.5) = 1 / (1 + e⁻¹) = .731059, σ(0) = .5; their mean is .615529.
    assert machine_mis(np.array([0.5, 0.0]), 2.0) == pytest.approx(0.615529, abs=1e-6)


def test_a_large_alpha_gives_the_share_above_zero():
    assert machine_mis(np.array([0.1, 0.2, -0.1, 0.3]), 1e6) == pytest.approx(0.75)


def test_no_panel_has_no_machine_mis():
    with pytest.raises(ScoringError, match="no panel"):
        machine_mis(np.array([]), 1.0)


@pytest.mark.parametrize("delta", [0.1, -0.1])
def test_alpha_of_one_delta_is_its_log_odds(delta):
    # With one Δ the likeliest σ(α · Δ) is the share of right answers: α = ln(3 / 1) / Δ. All units are equal, so that
    # leaving some out or drawing them anew changes nothing: every fold has the same α, and the interval no width.
    fit = fit_alpha(*by_counts(delta, right=3, wrong=1), np.random.default_rng(0))
    expected = np.log(3) / delta
    assert fit.value == pytest.approx(expected)
    assert fit.folds == pytest.approx((expected,) * 5)
    assert (fit.low, fit.high) == pytest.approx((expected, expected))
    # Mean log-likelihood: .75 ln .75 + .25 ln .25 = −.562335.
    assert fit.held_out == pytest.approx(-0.562335, abs=1e-6)
    assert (fit.responses, fit.units) == (20, 5)


@pytest.mark.parametrize("alpha", [3.0, 12.0])
def test_a_known_alpha_is_recovered(alpha):
    fit = fit_alpha(*responses(np.random.default_rng(1), alpha, units=600), np.random.default_rng(2))
    assert fit.low < alpha < fit.high
    assert fit.value == pytest.approx(alpha, rel=0.1)
    assert fit.held_out > np.log(0.5)


def test_the_interval_covers_the_truth_about_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr("crowd_imi.scoring.alpha.RESAMPLES", 300)
    rng = np.random.default_rng(3)
    fits = [fit_alpha(*responses(rng, 8.0, units=40, panels=3), rng) for _ in range(60)]
    covered = sum(fit.low <= 8.0 <= fit.high for fit in fits)
    # 95 % of 60 is 57; fewer than 51 happens by chance in less than 0.5 % of cases, even if the interval covers 93 %.
    assert covered >= 51


def test_answers_that_have_nothing_to_do_with_delta_give_an_alpha_near_zero():
    fit = fit_alpha(*responses(np.random.default_rng(4), 0.0), np.random.default_rng(5))
    assert fit.low < 0 < fit.high


def test_the_same_generator_gives_the_same_figures():
    data = responses(np.random.default_rng(6), 5.0, units=20)
    assert fit_alpha(*data, np.random.default_rng(7)) == fit_alpha(*data, np.random.default_rng(7))


def test_an_end_that_is_not_finite_is_none():
    # One wrong answer in each of three units: whichever fifth is left out, here one stays. Of the draws,
    # (17/20)²⁰ = 3.9 % have no wrong answer: more than the 2.5 % above the upper end.
    deltas, correct, units = by_counts(0.1, right=5, wrong=0, units=20)
    correct[[0, 5, 10]] = False
    fit = fit_alpha(deltas, correct, units, np.random.default_rng(8))
    assert fit.high is None and fit.low is not None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (by_counts(0.1, right=3, wrong=1, units=4), "4 units; it takes 5"),
        (by_counts(0.0, right=3, wrong=1), "differ from 0"),
        (by_counts(np.nan, right=3, wrong=1), "finite"),
        (by_counts(0.1, right=3, wrong=0), "each of the responses agrees"),
        (by_counts(0.1, right=0, wrong=3), "none of the responses agrees"),
        ((np.array([0.1]), np.array([True, False]), np.array(["a"])), "1 Δ, 2 answers and 1 units"),
    ],
)
def test_what_cannot_be_fitted_is_said(data, said):
    with pytest.raises(ScoringError, match=said):
        fit_alpha(*data, np.random.default_rng(0))
