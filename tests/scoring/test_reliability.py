import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom, pearsonr

from crowd_imi.scoring import score, tables
from crowd_imi.scoring.reliability import noise_ceiling, reliabilities, shrunk, spearman_brown, split_half, with_shrunk
from crowd_imi.scoring.resampling import Crossing


def rng() -> np.random.Generator:
    return np.random.default_rng(6)


def test_spearman_and_browns_step_and_the_ceiling():
    # 2·.6/1.6 = .75; √.75 = .866.
    assert spearman_brown(0.6) == pytest.approx(0.75)
    assert noise_ceiling(0.75) == pytest.approx(0.8660254)
    assert noise_ceiling(0.0) is noise_ceiling(-0.2) is noise_ceiling(None) is None


def test_two_participants_have_one_split():
    # Unit scores of one participant 1 0 1 1, of the other 1 0 0 1: means .75 and .5; products about them
    # .25·.5 + .75·.5 + (−.25·.5 = .25·−.5) + .25·.5 = .125 + .375 − .125 + .125 = .5; spreads √(.75·1) = .866; r = .57735.
    right = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    halves, interval = split_half(Crossing(right, np.ones((4, 2))), rng(), 20)
    assert halves == pytest.approx(0.5 / np.sqrt(0.75)) == pytest.approx(pearsonr(*right.T).statistic)
    assert (interval.low, interval.high) == pytest.approx((spearman_brown(halves),) * 2)


def test_split_half_finds_the_reliability_of_known_scores():
    # True scores spread by .15 about .75, 200 units, each answered by 40 people: noise .75·.25 − .0225 = .165 per answer, so
    # reliability .0225 / (.0225 + .165/40) = .845.
    generator = rng()
    truth = np.clip(generator.normal(0.75, 0.15, 200), 0.3, 1)
    right = (generator.random((200, 40)) < truth[:, None]).astype(float)
    halves, _ = split_half(Crossing(right, np.ones((200, 40))), generator)
    expected = truth.var() / (truth.var() + (truth * (1 - truth)).mean() / 40)
    assert spearman_brown(halves) == pytest.approx(expected, abs=0.03)
    # A perfect predictor reaches the ceiling, and no more.
    assert np.corrcoef(truth, right.mean(axis=1))[0, 1] == pytest.approx(np.sqrt(expected), abs=0.03)


@pytest.mark.parametrize(
    ("right", "why"),
    [
        (np.ones((5, 4)), "all right"),
        (np.ones((2, 4)), "two units"),
        (np.array([[1.0], [0.0], [1.0]]), "one participant"),
    ],
)
def test_what_has_no_reliability_has_none(right, why):
    assert split_half(Crossing(right, np.ones(right.shape)), rng(), 50) is None, why


def test_units_that_a_half_did_not_answer_are_left_out_of_the_split():
    # The fourth unit was answered by one participant alone, so it can't be in both halves.
    right = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    asked = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    halves, _ = split_half(Crossing(right, asked), rng(), 20)
    assert halves == pytest.approx(pearsonr([1, 0, 1], [1, 0, 0]).statistic)


def test_shrinkage_is_the_mean_of_the_posterior_beta():
    found = shrunk([9, 5, 7, 10, 2], [10] * 5)
    assert found.value == pytest.approx((found.a + np.array([9, 5, 7, 10, 2])) / (found.a + found.b + 10))
    assert (found.low < found.value).all() and (found.value < found.high).all()
    # Drawn inwards, in the same order.
    assert found.value[3] < 1 and found.value[4] > 0.2
    # 33 of 50 right: (33 + ½) / 51 = .65686; no other a + b about it is likelier, by scipy's own beta-binomial.
    assert found.a / (found.a + found.b) == pytest.approx(33.5 / 51)
    counts = np.array([9, 5, 7, 10, 2])
    best = betabinom.logpmf(counts, 10, found.a, found.b).sum()
    assert all(betabinom.logpmf(counts, 10, found.a * by, found.b * by).sum() < best for by in (0.8, 0.95, 1.05, 1.25))


def test_units_that_differ_by_chance_alone_get_nearly_the_same_score():
    found = shrunk([7, 8, 7, 8], [10, 10, 10, 10])
    assert np.ptp(found.value) < 0.002
    # (30 + ½) / (40 + 1) = .7439.
    assert found.value.mean() == pytest.approx(30.5 / 41, abs=0.005)


def test_a_perfect_unit_with_two_answers_stands_behind_one_with_thirty():
    found = shrunk([2, 30, 24, 18, 25, 27], [2, 30, 30, 30, 30, 30])
    assert found.value[0] < found.value[1] < 1


def test_all_right_is_below_one_and_two_units_are_too_few():
    # (90.5)/(91) = .99451: b is at least ½, so a + b is at least 91 and a unit at (90.5 + 30)/(91 + 30) = .9959 or below.
    found = shrunk([30, 30, 30], [30, 30, 30])
    assert found.value == pytest.approx(0.9959, abs=1e-3)
    assert ((found.value > 0.95) & (found.value < 1) & (found.low < 1)).all()
    assert shrunk([3, 4], [5, 5]) is None


def test_every_real_group_has_its_reliability_and_sentence(finished, tmp_path):
    study, store, _run = finished
    scores = score(study, store)
    found = reliabilities(scores, 1)
    assert [one.model for one in found] == ["toy", "toy"]
    assert found == reliabilities(scores, 1)
    assert all(one.sentence.startswith("toy, ") for one in found)
    table = pd.read_csv(tables.write_reliability(found, tmp_path))
    assert list(table.columns) == list(tables.RELIABILITY_COLUMNS) and len(table) == 2


def test_null_units_are_not_shrunk(finished):
    study, store, _run = finished
    units = with_shrunk(score(study, store))
    assert units.loc[units["null"], "shrunk"].isna().all()
    real = units[~units["null"] & (units["responses"] > 0)]
    assert real["shrunk"].between(real["shrunk_low"], real["shrunk_high"]).all()
