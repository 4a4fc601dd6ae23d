from typing import Any

import pandas as pd
import pytest

from crowd_imi.errors import ScoringError
from crowd_imi.records import Unit
from crowd_imi.scoring.mis import LayerOrder, Scores, score_tables
from crowd_imi.study import Study

NATURAL, SYNTHETIC = "toy-natural-easy", "toy-synthetic-easy"


def unit(number: int, *, null: bool = False, layer: str = "layer1") -> str:
    return Unit(model="toy", layer=layer, channel=number, null=null).key


def answers(*rows: tuple[str, str, str, bool], **changes: Any) -> pd.DataFrame:
    """(arm, unit, visit, correct); the rest is the same for all unless changed."""
    table = pd.DataFrame(rows, columns=["arm", "unit", "visit", "correct"])
    defaults = {"batch": 0, "confidence": 2, "rt_ms": 1000.0, "valid": True, "surplus": False}
    return table.assign(**{**defaults, **changes})


def planned(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["arm", "unit"]).assign(responses=3)


def visited(table: pd.DataFrame) -> pd.DataFrame:
    return table[["arm", "visit", "valid", "surplus"]].drop_duplicates()


def scored(study: Study, table: pd.DataFrame, *more: tuple[str, str], layers: LayerOrder | None = None) -> Scores:
    pairs = list(dict.fromkeys([*zip(table["arm"], table["unit"], strict=True), *more]))
    return score_tables(study.file, table, planned(*pairs), visited(table), layers)


def test_a_unit_is_the_share_of_its_right_answers_and_a_group_the_mean_of_its_units(study):
    # Unit 1: 2 of 2 right; unit 2: 1 of 4. Mean of unit means (1 + .25)/2 = .625, not the pooled 3/6 = .5.
    table = answers(
        (NATURAL, unit(1), "a", True),
        (NATURAL, unit(1), "b", True),
        (NATURAL, unit(2), "a", True),
        (NATURAL, unit(2), "b", False),
        (NATURAL, unit(2), "c", False),
        (NATURAL, unit(2), "d", False),
    )
    scores = scored(study, table)
    assert scores.units["proportion_correct"].tolist() == [1.0, 0.25]
    assert scores.units[["responses", "correct"]].to_numpy().tolist() == [[2, 2], [4, 1]]
    group = scores.group("toy", "natural")
    assert (group.mean, group.units, group.responses, group.valid, group.excluded) == (0.625, 2, 6, 4, 0)


def test_confidence_is_averaged_and_reaction_time_is_the_median(study):
    rows = [(NATURAL, unit(1), visit, True) for visit in "abc"]
    # Confidence (1 + 1 + 3)/3 = 5/3; the median of 500, 900 and 60,000 ms isn't moved by who had a coffee.
    table = answers(*rows, confidence=[1, 1, 3], rt_ms=[500.0, 60_000.0, 900.0])
    row = scored(study, table.assign(correct=[True, True, False])).units.iloc[0]
    # (1 + 1) of 1 + 1 + 3: who is surest was wrong, so .4 where the proportion is .67.
    assert row["confidence_weighted"] == pytest.approx(0.4)
    assert row["confidence_mean"] == pytest.approx(5 / 3)
    assert row["rt_median_ms"] == 900


def test_excluded_and_surplus_submissions_stand_beside_but_do_not_count(study):
    table = answers(
        (NATURAL, unit(1), "good", True),
        (NATURAL, unit(1), "excluded", False),
        (NATURAL, unit(1), "surplus", False),
        (NATURAL, unit(2), "good", False),
        (NATURAL, unit(2), "excluded", False),
        (NATURAL, unit(2), "surplus", True),
    )
    table["valid"] = table["visit"] == "good"
    table["surplus"] = table["visit"] == "surplus"
    group = scored(study, table).group("toy", "natural")
    # Counted: 1/1 and 0/1, mean .5. Nobody excluded: 1/3 and 1/3.
    assert group.mean == 0.5
    assert group.mean_all == pytest.approx(1 / 3)
    assert (group.valid, group.excluded) == (1, 1)


def test_null_units_are_a_group_of_their_own_and_not_in_the_models_mean(study):
    table = answers(
        (NATURAL, unit(1), "a", True),
        (NATURAL, unit(100, null=True), "a", False),
        (SYNTHETIC, unit(100, null=True), "b", True),
    )
    scores = scored(study, table)
    assert [(group.model, group.condition) for group in scores.groups] == [
        ("toy", "natural"),
        ("null", "natural"),
        ("null", "synthetic"),
    ]
    assert scores.group("toy", "natural").mean == 1
    assert scores.group("null", "natural").mean == 0
    assert scores.group("null", "natural").arm == NATURAL


def test_a_unit_without_responses_is_named_and_counted_and_left_out_of_the_mean(study):
    table = answers((NATURAL, unit(1), "a", True), (NATURAL, unit(2), "a", True))
    scores = scored(study, table, (NATURAL, unit(3)), (SYNTHETIC, unit(1)))
    assert scores.unanswered == (f"{NATURAL} {unit(3)}", f"{SYNTHETIC} {unit(1)}")
    natural, synthetic = scores.groups
    assert (natural.units, natural.unanswered, natural.mean) == (2, 1, 1.0)
    assert (synthetic.units, synthetic.unanswered, synthetic.mean, synthetic.low) == (0, 1, None, None)
    row = scores.units[scores.units["unit"] == unit(3)].iloc[0]
    assert row["responses"] == 0 and row["proportion_correct"] != 0


def test_a_unit_answered_only_in_excluded_submissions_is_unanswered(study):
    table = answers((NATURAL, unit(1), "a", True), (NATURAL, unit(2), "b", True))
    table["valid"] = table["visit"] == "a"
    scores = scored(study, table)
    assert scores.unanswered == (f"{NATURAL} {unit(2)}",)
    assert scores.group("toy", "natural").mean_all == 1


def test_a_single_unit_has_a_mean_and_no_interval(study):
    group = scored(study, answers((NATURAL, unit(1), "a", True))).group("toy", "natural")
    assert (group.mean, group.low, group.high) == (1, None, None)


def test_all_right_gives_an_interval_without_width_and_wilson_ends_below_one(study):
    table = answers(*((NATURAL, unit(number), visit, True) for number in (1, 2, 3) for visit in "abc"))
    scores = scored(study, table)
    group = scores.group("toy", "natural")
    assert (group.mean, group.low, group.high) == (1, 1, 1)
    assert (scores.units["low"] < 0.5).all()


def test_the_order_of_answers_changes_nothing(study):
    rows = [(NATURAL, unit(number), f"v{number % 4}", number % 3 > 0) for number in range(12)]
    one = scored(study, answers(*rows))
    other = scored(study, answers(*reversed(rows)))
    assert one.groups == other.groups
    pd.testing.assert_frame_equal(one.units, other.units)


def test_layers_stand_by_number_and_a_block_behind_its_layers(study):
    layers = ["layer10.0", "layer2.0", "layer2.0.conv1", "conv1"]
    scores = scored(study, answers(*((NATURAL, unit(1, layer=layer), "a", True) for layer in layers)))
    assert scores.units["layer"].tolist() == ["conv1", "layer2.0.conv1", "layer2.0", "layer10.0"]
    assert scores.units["depth"].tolist() == [1, 2, 3, 4]
    assert scores.by_name == ("toy",)


def test_layers_stand_in_the_order_of_the_networks_modules_where_that_is_known(study):
    # By name: blocks.2 < blocks.10 < head < stem. A readout stands where its module does; nobody was asked about norm.
    layers = ["blocks.10", "head", "blocks.2@sae", "stem"]
    table = answers(*((NATURAL, unit(1, layer=layer), "a", True) for layer in layers))
    modules = ("stem", "norm", "blocks.2", "blocks.10", "head")
    scores = scored(study, table, layers={"toy": modules, "other": ("head", "stem")})
    assert scores.units["layer"].tolist() == ["stem", "blocks.2@sae", "blocks.10", "head"]
    assert scores.units["depth"].tolist() == [1, 2, 3, 4]
    assert scores.by_name == ()


def test_a_model_with_a_layer_that_isnt_listed_stands_by_name_altogether(study):
    table = answers(*((NATURAL, unit(1, layer=layer), "a", True) for layer in ["stem", "head"]))
    scores = scored(study, table, layers={"toy": ("stem",)})
    assert scores.units["layer"].tolist() == ["head", "stem"]
    assert scores.by_name == ("toy",)


def test_nothing_judged_says_what_to_run(study):
    with pytest.raises(ScoringError, match="no submission has been judged yet, the pilot's aside; run `crowd-imi harvest`"):
        scored(study, answers())


def test_everybody_excluded_says_how_many(study):
    table = answers((NATURAL, unit(1), "a", True), (NATURAL, unit(1), "b", True), valid=False)
    with pytest.raises(ScoringError, match="all 2 judged submissions with answers are excluded"):
        scored(study, table)


def test_an_arm_that_study_toml_does_not_have_is_named(study):
    table = answers(("toy-natural-hard", unit(1), "a", True))
    with pytest.raises(ScoringError, match=r"tasks of toy-natural-hard, which study\.toml doesn't have"):
        scored(study, table)


def test_a_group_that_was_not_shown_is_an_error(study):
    scores = scored(study, answers((NATURAL, unit(1), "a", True)))
    with pytest.raises(ScoringError, match="no units of toy were shown with synthetic references"):
        scores.group("toy", "synthetic")
