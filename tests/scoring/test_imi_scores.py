import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.errors import ScoringError
from crowd_imi.scoring.imi_scores import NEEDED, score_file


def row(participant: int, channel: int, correct: bool, /, **changes: object) -> dict[str, object]:
    """One answer to a main trial of resnet50's layer4 under natural references."""
    return {
        "rt": 1000.0 + 100 * participant,
        "confidence": 2,
        "correct": correct,
        "catch_trial": False,
        "is_demo": False,
        "response_index": 0,
        "participant_id": f"P{participant}",
        "corrected_trial_index": channel,
        "task_id": f"resnet50_natural-{participant}",
        "batch": participant % 3,
        "channel": channel,
        "layer": "layer4",
        "mode": "natural",
        "model": "resnet50",
        "passed_checks": True,
    } | changes


@pytest.fixture
def table() -> pd.DataFrame:
    """Unit 0: 3 of 4 right; unit 1: 1 of 2; unit 2: 1 of 1; and a catch trial."""
    rows = [row(number, 0, number != 1) for number in (1, 2, 3, 4)]
    rows += [row(1, 1, True), row(2, 1, False), row(3, 2, True)]
    rows += [row(1, 5, True, catch_trial=True, mode="catch_trial", model="catch/manual", batch=-1, channel="", layer="dogs")]
    return pd.DataFrame(rows).astype(object)


@pytest.fixture
def scored(tmp_path):
    """Writes a table and scores it."""

    def write(rows: pd.DataFrame, **options):
        rows.to_csv(tmp_path / "responses_main.csv", index=False, **options)
        return score_file(tmp_path / "responses_main.csv")

    return write


def test_units_with_unequal_counts_are_scored_each_by_itself(table, scored):
    found = scored(table)
    assert [(unit.channel, unit.responses, unit.proportion_correct) for unit in found.units] == [
        (0, 4, 0.75),
        (1, 2, 0.5),
        (2, 1, 1),
    ]
    (group,) = found.groups
    # Mean of unit means: (.75 + .5 + 1) / 3 = .75, not 5/7 of the answers.
    assert (group.units, group.responses, group.participants, group.mean) == (3, 7, 4, pytest.approx(0.75))
    assert group.low < 0.75 < group.high
    assert (group.fewest, group.most) == (1, 4)


def test_wilson_of_three_in_four(table, scored):
    unit = scored(table).units[0]
    # z² = 3.841459: centre (3 + 1.920729) / 7.841459 = .627527, half width 1.959964 / 7.841459 × sqrt(.75 + .960365) = .326884.
    assert (unit.low, unit.high) == (pytest.approx(0.30064, abs=1e-4), pytest.approx(0.95441, abs=1e-4))


def test_what_a_reader_must_know_is_remarked(table, scored):
    assert scored(table).remarks == (
        "set aside: 1 row of catch trials, 0 of practice",
        "1 unit with a single response, hence very wide intervals: resnet50/layer4/2",
        "resnet50 natural easy: 1 to 4 responses per unit; each unit weighs alike in the mean",
    )


def test_a_unit_without_a_response_is_named_and_is_neither_at_zero_nor_nan(table, scored):
    table.loc[table["channel"] == 2, "correct"] = ""
    found = scored(table)
    silent = found.units[2]
    assert (silent.responses, silent.proportion_correct, silent.low, silent.high, silent.panel_low) == (0, None, None, None, None)
    assert found.groups[0].unanswered == 1 and found.groups[0].mean == pytest.approx(0.625)
    # Line 1 is the header, so the seventh row is line 8.
    assert "correct is empty in 1 row (line 8) of main trials: isn't counted" in found.remarks
    assert "1 unit without a response, left out of every mean: resnet50/layer4/2" in found.remarks
    assert "NaN" not in found.model_dump_json()


def test_one_response_in_all_is_a_mean_without_an_interval(table, scored):
    found = scored(table[table["channel"] == 2])
    (group,) = found.groups
    assert (group.mean, group.low, group.high) == (1.0, None, None)
    # Wilson of 1 in 1: low = 1 / (1 + 3.841459).
    assert found.units[0].low == pytest.approx(0.20655, abs=1e-5)
    assert any("a single unit" in remark for remark in found.remarks)


def test_all_correct_is_said_not_to_be_certainty(table, scored):
    found = scored(table.assign(correct=True))
    assert (found.groups[0].mean, found.groups[0].low, found.groups[0].high) == (1, 1, 1)
    assert any(remark.startswith("resnet50 natural easy: 7 answers, all right, so that the boots") for remark in found.remarks)


def test_rows_of_submissions_that_failed_are_counted_and_remarked(table, scored):
    table.loc[table["participant_id"] == "P1", "passed_checks"] = False
    found = scored(table)
    assert found.groups[0].responses == 7
    assert any(remark.startswith("2 of 7 main trials are of submissions that failed a check") for remark in found.remarks)


def test_models_modes_and_difficulties_are_groups_of_their_own(table, scored):
    again = table.assign(mode="optimized", task_id="resnet50_optimized-1")[:7]
    hard = table.assign(task_id="resnet50_natural_very_hard-1", response_index=1)[:7]
    elsewhere = table.assign(model="vit", task_id="something else", response_index=2)[:7]
    found = scored(pd.concat([table, again, hard, elsewhere]))
    assert [(group.model, group.mode, group.difficulty) for group in found.groups] == [
        ("resnet50", "natural", "easy"),
        ("resnet50", "optimized", "easy"),
        ("resnet50", "natural", "very_hard"),
        ("vit", "natural", None),
    ]


def test_other_columns_and_practice_rows_do_no_harm(table, scored):
    practice = [row(1, 9, True, is_demo=True, mode="", model="", layer="", channel="", batch="")]
    found = scored(pd.concat([table, pd.DataFrame(practice)]).assign(trial_type="x", rt_z=1))
    assert len(found.units) == 3 and found.remarks[0] == "set aside: 1 row of catch trials, 1 of practice"


def test_pandas_floats_are_read_as_the_whole_numbers_that_they_are(table, scored):
    table["channel"] = table["channel"].replace("", None).astype(float)
    assert [unit.channel for unit in scored(table).units] == [0, 1, 2]


@pytest.mark.parametrize("column", NEEDED)
def test_a_missing_column_is_named(table, scored, column):
    with pytest.raises(ScoringError, match=rf"1 column missing: {column} \(there: "):
        scored(table.drop(columns=column))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("correct", "yes", r"correct must be True or False, and isn't in 1 row \(line 3\) \(there: 'yes'\)"),
        ("catch_trial", "", r"catch_trial must be True or False"),
        ("confidence", 4, r"confidence must be 1, 2 or 3"),
        ("confidence", "high", r"confidence must be 1, 2 or 3"),
        ("rt", "1,2", r"rt must be milliseconds, at least 0"),
        ("rt", -1, r"rt must be milliseconds, at least 0"),
        ("rt", "inf", r"rt must be milliseconds, at least 0"),
        ("channel", 1.5, r"channel must be a whole number, at least 0"),
        ("channel", "", r"channel must be a whole number, at least 0"),
        ("batch", -1, r"batch must be a whole number, at least 0"),
        ("layer", " ", r"layer must be not empty"),
        ("model", "", r"model must be not empty"),
        ("participant_id", "", r"participant_id must be not empty"),
        ("response_index", "first", r"response_index must be a whole number"),
    ],
)
def test_a_value_of_a_wrong_type_is_named_with_its_line(table, scored, column, value, said):
    table.loc[1, column] = value
    with pytest.raises(ScoringError, match=said):
        scored(table)


def test_every_wrong_column_is_named_at_once(table, scored):
    table.loc[1, ["correct", "rt"]] = "?"
    with pytest.raises(ScoringError) as caught:
        scored(table)
    assert [line.split(": ")[1].split()[0] for line in str(caught.value).splitlines()] == ["correct", "rt"]


def test_an_unknown_mode_is_named_and_counted(table, scored):
    table.loc[[0, 2], "mode"] = "synthetic"
    said = r"mode must be one of natural, optimized, catch_trial, and isn't in 2 rows \(lines 2, 4\) \(there: 'synthetic'\)"
    with pytest.raises(ScoringError, match=said):
        scored(table)


def test_a_catch_trial_under_another_mode_is_refused(table, scored):
    table.loc[0, "catch_trial"] = True
    with pytest.raises(ScoringError, match=r"catch_trial and mode say different things in 1 row \(line 2\)"):
        scored(table)


def test_duplicate_rows_are_counted_and_refused(table, scored):
    with pytest.raises(ScoringError, match=r"2 rows \(lines 10, 11\) come again"):
        scored(pd.concat([table, table[:2]]))


@pytest.mark.parametrize("change", [lambda line: line.rpartition(",")[0], lambda line: line + ",x"], ids=["cut off", "too long"])
def test_a_line_of_another_length_is_refused(table, tmp_path, change):
    lines = table.to_csv(index=False).splitlines()
    path = tmp_path / "ragged.csv"
    path.write_text("\n".join([*lines[:-1], change(lines[-1])]))
    # The header and eight rows.
    with pytest.raises(ScoringError, match=r"1 row \(line 9\) of another length than the header's 15 cells"):
        score_file(path)


def test_a_file_with_nothing_to_score_says_so(table, scored, tmp_path):
    with pytest.raises(ScoringError, match="the table has no rows"):
        scored(table[:0])
    with pytest.raises(ScoringError, match="none of its 1 rows is an answer to a main trial"):
        scored(table[7:])
    with pytest.raises(ScoringError, match=r"can't be read \(No such file"):
        score_file(tmp_path / "missing.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(ScoringError, match=r"15 columns missing.*\(there: none\)"):
        score_file(tmp_path / "empty.csv")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\x00")
    with pytest.raises(ScoringError, match="this is no CSV file in UTF-8"):
        score_file(tmp_path / "picture.png")


def test_the_command_scores_a_file_and_takes_no_study_beside_it(table, scored, tmp_path):
    scored(table)
    path = str(tmp_path / "responses_main.csv")
    done = CliRunner().invoke(app, ["score", "--from", path, "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["groups"][0]["mean"] == pytest.approx(0.75)
    assert ".75 [" in CliRunner().invoke(app, ["score", "--from", path]).stdout.replace("\N{NO-BREAK SPACE}", " ")
    assert CliRunner().invoke(app, ["score", str(tmp_path), "--from", path]).exit_code == 2
    assert CliRunner().invoke(app, ["score"]).exit_code == 2
