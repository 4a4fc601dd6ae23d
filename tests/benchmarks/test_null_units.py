"""The negative control over seeds: what it runs, and how a row is judged."""

import tomllib

import pytest

from benchmarks.null_units import Row, first_arm, table
from crowd_imi.study import StudyFile
from crowd_imi.study_templates import TemplateName, template


def row(low: float, high: float, trained_low: float = 0.9) -> Row:
    return Row(
        seed=1,
        null_mean=(low + high) / 2,
        null_low=low,
        null_high=high,
        trained_mean=0.95,
        trained_low=trained_low,
        trained_high=1.0,
        valid=30,
        excluded=7,
    )


def test_the_study_is_the_demos_with_its_first_arm_alone():
    whole = template(TemplateName.DEMO)
    demo, alone = (StudyFile.model_validate(tomllib.loads(toml)) for toml in (whole, first_arm(whole)))
    assert alone == demo.model_copy(update={"arms": demo.arms[:1]})
    assert (alone.arms[0].condition, alone.arms[0].units, alone.arms[0].null) == ("natural", 24, 24)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.45, 0.55, True), (0.5, 0.6, True), (0.51, 0.6, False), (0.4, 0.49, False)]
)
def test_an_interval_holds_chance_when_it_lies_within_it(low, high, expected):
    assert row(low, high).holds_chance is expected


def test_trained_units_are_apart_when_the_intervals_do_not_meet():
    assert row(0.45, 0.55, trained_low=0.56).apart
    assert not row(0.45, 0.55, trained_low=0.55).apart


def test_the_table_has_a_line_per_seed():
    assert table([row(0.45, 0.55)]).splitlines()[2:] == [
        "| 1 | 0.500 [0.450, 0.550] | yes | 0.100 | 0.950 [0.900, 1.000] | yes | 30 | 7 |"
    ]
