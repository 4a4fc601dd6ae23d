import numpy as np
import pandas as pd
import pytest

from crowd_imi.scoring.thresholds import what_ifs
from crowd_imi.study import ExclusionSection

LIMITS = ExclusionSection()


def visit(name: str, *, surplus: bool = False, **measured: tuple[float | None, bool | None]) -> dict:
    """(measured, passed) by criterion; what isn't named is well within its limit."""
    fine = {
        "catch_trials": (1.0, True),
        "total_time": (600.0, True),
        "instruction_time": (70.0, True),
        "row_choices": (18.0, True),
        "practice_blocks": (1.0, True),
    }
    checks = {key: {"criterion": key, "measured": value, "passed": ok} for key, (value, ok) in (fine | measured).items()}
    return {"visit": name, "checks": checks, "surplus": surplus}


def answers(*rows: tuple[str, str, str, bool]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["arm", "unit", "visit", "correct"])


VISITS = pd.DataFrame(
    [
        visit("good"),
        visit("careless", catch_trials=(0.6, False)),
        visit("nearly", catch_trials=(0.8, True)),
        visit("fast", total_time=(100.0, False)),
        visit("practice", practice_blocks=(3.0, False), catch_trials=(None, None), total_time=(None, None)),
        visit("late", surplus=True),
    ]
).astype({"surplus": "boolean"})
ANSWERS = answers(
    ("a", "net/l/0", "good", True),
    ("a", "net/l/0", "nearly", False),
    ("a", "net/l/0", "careless", False),
    ("a", "net/l/1", "good", True),
    ("a", "net/l/1~null", "good", False),
    ("b", "net/l/0", "fast", False),
    ("a", "net/l/0", "late", False),
)


def found(criterion: str, limit: str):
    (one,) = [one for one in what_ifs(VISITS, ANSWERS, LIMITS) if (one.criterion, one.limit) == (criterion, limit)]
    return one


def test_the_limit_in_force_counts_as_it_was_judged():
    # good and nearly; units 1 of 2 and 1 of 1: (.5 + 1)/2.
    one = found("catch_trials", "at least 80%")
    assert (one.in_force, one.counted, one.change, one.mean) == (True, 2, 0, 0.75)


def test_a_looser_limit_brings_in_who_failed_nothing_else():
    # careless joins: units 1 of 3 and 1 of 1: (1/3 + 1)/2 = 2/3. Who was fast stays out.
    one = found("catch_trials", "at least 60%")
    assert (one.counted, one.change) == (3, 1) and one.mean == pytest.approx(2 / 3)


def test_a_stricter_limit_leaves_out_more():
    # nearly goes: both units at 1.
    one = found("catch_trials", "at least 100%")
    assert (one.counted, one.change, one.mean) == (1, -1, 1.0)


def test_the_mean_is_over_arms():
    # 135/2 rounds to 68 s: fast joins with arm b at 0; arm a stays at .75: .375.
    one = found("total_time", "68 to 2500 s")
    assert (one.counted, one.change, one.mean) == (3, 1, 0.375)


def test_who_failed_practice_is_brought_in_by_no_limit():
    counted = [one.counted for one in what_ifs(VISITS, ANSWERS, LIMITS) if one.criterion == "practice_blocks"]
    assert counted == [2, 2, 2]


def test_null_units_and_surplus_submissions_stay_out_and_nothing_judged_gives_nothing():
    assert found("row_choices", "each row at least 0 times").mean == 0.75
    assert what_ifs(VISITS.assign(checks=None), ANSWERS, LIMITS) == ()


def test_limits_that_leave_nobody_have_no_mean():
    strict = VISITS[VISITS["visit"] == "nearly"]
    last = [one for one in what_ifs(strict, ANSWERS, LIMITS) if one.limit == "at least 100%"]
    assert [(one.counted, one.mean) for one in last] == [(0, None)]
    assert not any(isinstance(one.mean, float) and np.isnan(one.mean) for one in what_ifs(VISITS, ANSWERS, LIMITS))
