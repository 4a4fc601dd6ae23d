import numpy as np
import pandas as pd
import pytest

from crowd_imi.scoring.resampling import Crossing, crossed, over_units, percentiles, weights

ANSWERS = pd.DataFrame(
    [("a", "v1", True), ("a", "v2", False), ("b", "v1", True), ("b", "v2", True), ("c", "v1", True)],
    columns=["unit", "visit", "correct"],
)


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_a_crossing_holds_only_the_units_asked_for():
    crossing = Crossing.of(ANSWERS, pd.Index(["b", "a"]))
    assert crossing.asked.tolist() == [[1, 1], [1, 1]]
    assert crossing.right.tolist() == [[1, 1], [1, 0]]
    # b: 2 of 2; a: 1 of 2.
    assert crossing.means.tolist() == [1, 0.5]


def test_every_draw_has_as_many_things_as_there_are():
    assert set(weights(7, rng()).sum(axis=1)) == {7}


def test_how_often_things_are_drawn_counts_places():
    # Places 2, 0, 2 of three things: the first once, the second never, the third twice.
    assert weights(3, Drawn([1, 0, 2]), 1).tolist() == [[1, 0, 2]]


def test_draws_spread_as_multinomial_ones():
    # Of 5 things each is drawn 5·1/5 = 1 time on average, with a variance of 5·.2·.8 = .8 and a covariance of −5·.04 = −.2.
    drawn = weights(5, rng(), 20_000)
    expected = np.full((5, 5), -0.2) + np.eye(5)
    assert np.cov(drawn.T) == pytest.approx(expected, abs=0.03)


def test_the_mean_over_drawn_units_counts_a_unit_as_often_as_it_was_drawn():
    # (2·.6 + 0·.9 + 1·.3) / 3 = .5
    assert over_units(np.array([0.6, 0.9, 0.3]), np.array([[2.0, 0.0, 1.0]])) == pytest.approx(0.5)


class Drawn:
    """A generator whose one draw is known: how often each thing is drawn."""

    def __init__(self, draw: list[int]) -> None:
        self.draw = draw

    def integers(self, *_given, **_named):
        return np.repeat(np.arange(len(self.draw)), self.draw)[None, :]


def test_a_crossed_draw_weighs_units_and_participants():
    # v1 twice, v2 not: a is 2/2, b is 2/2. With v2 twice a is 0/2, b is 2/2: with a drawn twice, (2·0 + 1) / 3.
    crossing = Crossing.of(ANSWERS, pd.Index(["a", "b"]))
    units = np.array([[2.0, 1.0]])
    assert crossed(crossing, units, Drawn([2, 0])) == pytest.approx(1)
    assert crossed(crossing, units, Drawn([0, 2])) == pytest.approx(1 / 3)


def test_a_unit_whose_participants_were_not_drawn_is_left_out_of_the_draw():
    # c was answered by v1 alone; with v2 twice only a (0) is left of a and c.
    crossing = Crossing.of(ANSWERS, pd.Index(["a", "c"]))
    assert crossed(crossing, np.array([[1.0, 1.0]]), Drawn([0, 2])) == pytest.approx(0)
    assert np.isnan(crossed(crossing, np.array([[0.0, 2.0]]), Drawn([0, 2]))).all()


def test_crossed_draws_spread_as_units_and_participants_do():
    # 40 participants of whom half are always right and half always wrong, 40 equal units: units alone don't spread, and the
    # mean is a mean of 40 coins: standard deviation .5/√40 = .0791.
    right = np.tile(np.repeat([0.0, 1.0], 20), (40, 1))
    crossing = Crossing(right, np.ones((40, 40)))
    generator = rng()
    units = weights(40, generator)
    assert np.ptp(over_units(crossing.means, units)) == pytest.approx(0)
    assert crossed(crossing, units, generator).std() == pytest.approx(0.0791, rel=0.05)


def test_percentiles_leave_out_draws_without_a_value():
    # 0 … 100 in steps of 1: the 2.5 and 97.5 percentiles are 2.5 and 97.5.
    draws = np.append(np.arange(101.0), [np.nan] * 20)
    interval = percentiles(draws)
    assert (interval.low, interval.high) == pytest.approx((2.5, 97.5))
    assert percentiles(np.append([1.0], [np.nan] * 3)) is None
