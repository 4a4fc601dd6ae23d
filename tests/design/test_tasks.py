from math import gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowd_imi.design.tasks import draw_tasks, take_turns
from crowd_imi.errors import DesignError
from crowd_imi.seeds import generator


@st.composite
def balanced(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Units, responses and trials that come out even, and a seed."""
    units = draw(st.integers(1, 40))
    trials = draw(st.integers(1, units))
    responses = trials // gcd(units, trials) * draw(st.integers(1, 4))
    return units, responses, trials, draw(st.integers(0, 2**32))


@given(balanced())
@settings(max_examples=150, deadline=None)
def test_every_unit_is_shown_exactly_as_often_as_asked_and_never_twice_in_a_task(numbers):
    units, responses, trials, seed = numbers
    tasks = draw_tasks(units, responses, trials, generator(seed, "tasks"))
    assert tasks.shape == (units * responses // trials, trials)
    assert (np.bincount(tasks.ravel(), minlength=units) == responses).all()
    assert all(len(set(task)) == trials for task in tasks.tolist())


@given(balanced(), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_a_units_panels_come_in_turn(numbers, panels):
    units, responses, trials, seed = numbers
    tasks = draw_tasks(units, responses, trials, generator(seed, "tasks"))
    turns = take_turns(tasks, [panels] * units, generator(seed, "turns"))
    for unit in range(units):
        used = turns[tasks == unit]
        assert ((used - used[0]) % panels == np.arange(len(used)) % panels).all()
        counts = np.bincount(used, minlength=panels)
        assert counts.max() - counts.min() <= 1


def test_units_may_have_different_numbers_of_panels():
    tasks = draw_tasks(4, 6, 4, generator(1, "tasks"))
    turns = take_turns(tasks, [1, 2, 3, 6], generator(1, "turns"))
    # Six appearances: 6 × one panel, 3 × each of two, 2 × each of three, 1 × each of six.
    assert [np.bincount(turns[tasks == unit]).tolist() for unit in range(4)] == [[6], [3, 3], [2, 2, 2], [1] * 6]


def test_the_same_seed_draws_the_same_tasks_and_another_seed_others():
    first, again, other = (draw_tasks(20, 6, 10, generator(seed, "tasks")) for seed in (1, 1, 2))
    assert (first == again).all() and not (first == other).all()


def test_every_pair_of_units_meets_about_equally_often():
    # Two of 10 units share one of 400 tasks of 5 with probability 5/10 × 4/9: 88.9 times; the spread of 45 such counts
    # is near sqrt(400 × 0.222 × 0.778) = 8.3, so 5 spreads are 42.
    tasks = draw_tasks(10, 200, 5, generator(1, "tasks"))
    shown = np.zeros((len(tasks), 10), dtype=int)
    np.put_along_axis(shown, tasks, 1, axis=1)
    together = (shown.T @ shown)[np.triu_indices(10, 1)]
    assert abs(together.mean() - 88.9) < 0.1
    assert np.abs(together - 88.9).max() < 42


@pytest.mark.parametrize(("units", "responses", "trials", "says"), [(5, 6, 6, "6 different units"), (5, 3, 4, "can't be cut")])
def test_what_cannot_come_out_even_is_refused(units, responses, trials, says):
    with pytest.raises(DesignError, match=says):
        draw_tasks(units, responses, trials, generator(1, "tasks"))


@given(seed=st.integers(0, 10_000))
def test_every_task_has_its_share_of_null_units(seed):
    # 24 of 48 units are null units, so a task of 16 has 8 of them, give or take one.
    tasks = draw_tasks(48, 10, 16, generator(seed, "tasks"), [False] * 24 + [True] * 24)
    assert set((tasks >= 24).sum(1)) <= {7, 8, 9}
    assert set(np.bincount(tasks.ravel())) == {10}
