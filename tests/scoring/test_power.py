import numpy as np
import pytest

from crowd_imi.errors import ScoringError
from crowd_imi.scoring.power import Assumed, _centre, _shown, expected_precision

PLAN = {"units": 84, "responses": 30, "trials": 40, "panels": 11, "seed": 1}
ALIKE = Assumed(mean=0.8, unit_sd=1e-6, participant_sd=1e-6, panel_sd=1e-6)


def test_units_are_answered_equally_often_by_different_participants():
    # 84 × 30 = 2,520 answers are 63 participants of 40.
    shown = _shown(84, 63, 40, 2520)
    assert set(shown.sum(axis=1)) == {30} and set(shown.sum(axis=0)) == {40} and shown.max() == 1


def test_the_last_participant_answers_what_is_left():
    # 5 × 3 = 15 answers: four participants of 4, of whom the last has 3.
    assert _shown(5, 4, 4, 15).sum(axis=0).tolist() == [4, 4, 4, 3]
    assert set(_shown(5, 4, 4, 15).sum(axis=1)) == {3}


def test_without_spread_the_centre_is_the_assumed_mean():
    # ½ + ½·σ(x) = .8 at σ(x) = .6: x = ln 1.5 = .4055.
    assert _centre(ALIKE) == pytest.approx(np.log(1.5), abs=1e-4)


def test_units_that_are_alike_have_the_binomials_precision():
    # A difference of two means of 84 · 30 answers at .8 has a standard error of √(2 · .16/2520) = .01127. The crossed bootstrap
    # counts the noise of an answer once more for units and once for participants (about three times its variance): half a width
    # of 1.96 · √3 · .01127 = .0383, and the detectable difference is that plus .8416 · .01127 = .0477.
    found = expected_precision(**PLAN, assumed=ALIKE)
    assert found.participants == 63
    assert found.difference_width / 2 == pytest.approx(0.0383, rel=0.1)
    assert found.detectable == pytest.approx(0.0477, rel=0.1)


def test_panels_and_participants_make_intervals_wider():
    alike = expected_precision(**PLAN, assumed=Assumed(participant_sd=0.01, panel_sd=0.01), simulations=60)
    people = expected_precision(**PLAN, assumed=Assumed(participant_sd=1.5, panel_sd=0.01), simulations=60)
    panels = expected_precision(**PLAN, assumed=Assumed(participant_sd=0.01, panel_sd=3.0), simulations=60)
    assert people.detectable > 1.1 * alike.detectable
    assert panels.unit_width > 1.05 * alike.unit_width


def test_more_answers_are_more_precise_and_more_units_find_smaller_differences():
    few, many = (expected_precision(**{**PLAN, "responses": responses}, simulations=60) for responses in (10, 40))
    assert many.unit_width < 0.7 * few.unit_width
    more = expected_precision(**{**PLAN, "units": 168}, simulations=60)
    assert more.detectable < 0.85 * expected_precision(**PLAN, simulations=60).detectable


def test_the_same_seed_says_the_same():
    assert expected_precision(**PLAN, simulations=20) == expected_precision(**PLAN, simulations=20)


def test_one_panel_has_no_interval_of_a_unit_and_says_so():
    found = expected_precision(**{**PLAN, "panels": 1}, simulations=20)
    assert found.unit_width is None and "Single units have no interval" in found.sentence


def test_a_task_longer_than_the_units_shows_each_once():
    found = expected_precision(units=6, responses=3, trials=40, panels=4, seed=1, simulations=20)
    assert found.participants == 3


@pytest.mark.parametrize("wrong", [{"units": 1}, {"responses": 0}, {"trials": 0}, {"panels": 0}])
def test_what_can_not_be_compared_is_refused(wrong):
    with pytest.raises(ScoringError, match="it takes two units"):
        expected_precision(**{**PLAN, **wrong})
