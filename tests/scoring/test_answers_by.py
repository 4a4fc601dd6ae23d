import pandas as pd
import pytest

from crowd_imi.scoring.answers_by import by_confidence, by_time
from crowd_imi.scoring.mis import Scores


def scores() -> Scores:
    rows = [
        ("a", "m/l/0", True, 3, 1000.0),
        ("a", "m/l/0", True, 3, 3000.0),
        ("a", "m/l/0", False, 3, 8000.0),
        ("a", "m/l/0", True, 1, 2000.0),
        ("a", "m/l/1~null", False, 1, 4000.0),
    ]
    counted = pd.DataFrame(rows, columns=["arm", "unit", "correct", "confidence", "rt_ms"])
    common = {"arm": "a", "model": "m", "condition": "natural", "difficulty": "easy"}
    units = pd.DataFrame([{**common, "unit": "m/l/0", "null": False}, {**common, "unit": "m/l/1~null", "null": True}])
    return Scores(units, (), (), (), counted)


def test_accuracy_by_confidence_keeps_null_units_apart():
    table = by_confidence(scores()).set_index(["model", "confidence"])
    # Surest: 2 of 3; least sure: 1 of 1, whose Wilson interval begins at 1/(1 + 3.8415) = .2065.
    assert table.loc[("m", 3), ["answers", "correct", "proportion_correct"]].tolist() == pytest.approx([3, 2, 2 / 3])
    assert table.loc[("m", 1), "low"] == pytest.approx(0.2065, abs=1e-4)
    assert table.loc[("null", 1), ["answers", "correct"]].tolist() == [1, 0]


def test_times_of_right_and_wrong_answers_in_seconds():
    # Right: 1, 2 and 3 s, median 2; wrong: 4 and 8 s, median 6.
    table = by_time(scores()).set_index("correct")
    assert table.loc[True, ["answers", "p50", "p25"]].tolist() == [3, 2.0, 1.5]
    assert table.loc[False, ["answers", "p50"]].tolist() == [2, 6.0]
