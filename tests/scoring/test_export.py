import json
import re
from dataclasses import replace

import pandas as pd
import pytest
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.errors import ScoringError
from crowd_imi.lifecycle import VisitState
from crowd_imi.scoring import score
from crowd_imi.scoring.export import write_export
from crowd_imi.scoring.imi_scores import score_file
from crowd_imi.scoring.imi_table import CHECKS, COLUMNS
from crowd_imi.store.tables import Task, Visit
from tests.scoring import fake

# The published columns in their order. Results of checks stand before their details, as the released loader writes them.
PUBLISHED = """
rt button_pressed switched_queries confidence choice correct catch_trial is_demo trial_type trial_index
time_elapsed response_index participant_id corrected_trial_index task_id task_number batch channel layer mode model
min_query max_query min_references max_references passed_checks
""".split()  # noqa: SIM905 - a list of them would take a screen


@pytest.fixture(scope="module")
def imi(finished, tmp_path_factory):
    """The finished rehearsal in the published format."""
    study, store, _run = finished
    folder = tmp_path_factory.mktemp("exports") / "imi"
    write_export(study, store, folder, "imi")
    return folder


def one_task(store, *failed, number=1, visit=1, surplus=False, row="upper", arm="toy-natural-easy", right=(0, 1, 2)):
    """One judged submission of 6 main and 2 catch trials; these positions are answered right."""
    with store.write() as session:
        task = session.query(Task).filter_by(arm=arm, number=number).one()
        state = VisitState.EXCLUDED if failed or surplus else VisitState.VALID
        made = fake.add_visit(session, task, visit, state)
        fake.add_answers(session, made, {position: position in right for position in range(8)}, confidence=3)
        for answer in session.new:
            if hasattr(answer, "row"):
                answer.row = row
        fake.judge(session, made, *failed, surplus=surplus)


def main_table(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "responses_main.csv")


def test_the_imi_format_has_exactly_the_published_columns(imi):
    checks = [f"{check}_{part}" for part in ("result", "details") for check in CHECKS.values()]
    for name in ("main", "lower_quality", "all"):
        table = pd.read_csv(imi / f"responses_{name}.csv")
        assert list(table.columns) == [*PUBLISHED, *checks, "multi_participation"]


def test_main_and_lower_quality_make_up_all(imi):
    main, lower, everything = (pd.read_csv(imi / f"responses_{name}.csv") for name in ("main", "lower_quality", "all"))
    key = ["participant_id", "task_id", "corrected_trial_index"]
    both = pd.concat([main, lower])[key].sort_values(key).to_numpy().tolist()
    assert both == everything[key].sort_values(key).to_numpy().tolist()
    assert main["passed_checks"].all()
    assert not set(main["participant_id"]) & set(lower["participant_id"])


def test_one_answer_as_a_published_row(study, store, tmp_path):
    one_task(store)
    write_export(study, store, tmp_path / "out", "imi")
    first = main_table(tmp_path / "out").iloc[0].to_dict()
    # Upper, confidence 3: the third button. Chosen is max (b), so b stands above: switched.
    # Stored 4 s after the arrival; the plan's first task shows batch 1 mod 4.
    expected = {
        "rt": 900.0,
        "button_pressed": 2,
        "switched_queries": True,
        "confidence": 3,
        "choice": "b",
        "correct": True,
        "catch_trial": False,
        "is_demo": False,
        "time_elapsed": 4000,
        "response_index": 0,
        "corrected_trial_index": 0,
        "task_id": "toy_natural-1",
        "task_number": 1,
        "batch": 1,
        "channel": 0,
        "layer": "layer0",
        "mode": "natural",
        "model": "toy",
        "passed_checks": True,
        "catch_trials_result": True,
        "catch_trials_details": "1; asked: at least 80% of the catch trials right",
        "multi_participation": False,
    }
    assert {name: first[name] for name in expected} == expected
    # This store was made with another pack's digest: which images were shown isn't known, and neither is jsPsych's index.
    unknown = ("min_query", "max_query", "min_references", "max_references", "trial_index")
    assert all(pd.isna(first[name]) for name in unknown)


@pytest.mark.parametrize(
    ("row", "right", "button", "switched", "choice"),
    [
        ("upper", True, 2, True, "b"),
        ("upper", False, 2, False, "a"),
        ("lower", True, 5, False, "b"),
        ("lower", False, 5, True, "a"),
    ],
)
def test_button_and_switch_follow_from_row_and_choice(study, store, tmp_path, row, right, button, switched, choice):
    one_task(store, row=row, right=(0,) if right else ())
    write_export(study, store, tmp_path / "out", "imi")
    first = main_table(tmp_path / "out").iloc[0]
    assert (first["button_pressed"], first["switched_queries"], first["choice"]) == (button, switched, choice)


def test_synthetic_is_called_optimized_and_catch_rows_are_marked_as_published(imi):
    table = main_table(imi)
    assert set(table["mode"]) == {"natural", "optimized", "catch_trial"}
    assert set(table.loc[table["mode"] == "optimized", "task_id"].str.rpartition("-")[0]) == {"toy_optimized"}
    catch = table[table["catch_trial"]]
    assert set(catch["model"]) == {"catch/manual"} and set(catch["batch"]) == {-1}
    assert catch["min_query"].isna().all()


def test_images_are_named_by_the_packs_files(finished, imi):
    study, _store, _run = finished
    table = main_table(imi)
    main = table[~table["catch_trial"]]
    assert all((study.pack / name).is_file() for name in (*main["min_query"], *main["max_query"]))
    assert all(len(json.loads(names)) == 9 for names in main["max_references"])


def test_a_check_without_a_measurement_is_empty_and_counts_neither_way(study, store, tmp_path):
    one_task(store)
    with store.write() as session:
        visit = session.get(Visit, "v1")
        verdict = session.query(fake.Verdict).filter_by(visit_id=visit.id).one()
        nothing = {**verdict.checks["total_time"], "passed": None, "measured": None}
        verdict.checks = {**verdict.checks, "total_time": nothing}
    write_export(study, store, tmp_path / "out", "imi")
    first = main_table(tmp_path / "out").iloc[0]
    assert pd.isna(first["total_response_time_result"]) and first["passed_checks"]
    assert first["total_response_time_details"].startswith("not measured; ")


def test_excluded_and_surplus_go_to_lower_quality_and_responses_are_counted_per_task(study, store, tmp_path):
    one_task(store, "catch_trials", visit=1)
    one_task(store, visit=2)
    one_task(store, visit=3, surplus=True)
    write_export(study, store, tmp_path / "out", "imi")
    assert set(main_table(tmp_path / "out")["response_index"]) == {1}
    lower = pd.read_csv(tmp_path / "out" / "responses_lower_quality.csv")
    assert lower.groupby("response_index")["passed_checks"].first().to_dict() == {0: False, 2: True}


def test_null_units_are_left_out_of_the_imi_format_unless_asked_for(finished, imi, tmp_path):
    study, store, _run = finished
    assert not main_table(imi)["model"].str.startswith("null").any()
    write_export(study, store, tmp_path / "out", "imi", with_null=True)
    table = main_table(tmp_path / "out")
    # 2 null units with 3 responses each.
    assert (table["model"] == "null/toy").sum() == 6
    assert "null/MODEL" in (tmp_path / "out" / "README.md").read_text()


def test_a_file_gives_the_same_unit_scores_as_the_study(finished, tmp_path):
    study, store, _run = finished
    write_export(study, store, tmp_path / "out", "imi", with_null=True)
    read = score_file(tmp_path / "out" / "responses_main.csv")
    modes = {"natural": "natural", "synthetic": "optimized"}
    figures = ["correct", "low", "high", "jeffreys_low", "panel_low", "panel_high", "panels", "proportion_correct"]
    figures += ["confidence_mean", "rt_median_ms", "responses"]
    expected = {
        (("null/" if row.null else "") + row.model, modes[row.condition], row.difficulty, row.layer, row.channel): [
            getattr(row, name) for name in figures
        ]
        for row in score(study, store).units.itertuples()
    }
    found = {(u.model, u.mode, u.difficulty, u.layer, u.channel): [getattr(u, name) for name in figures] for u in read.units}
    assert found.keys() == expected.keys() and len(found) == 14
    for key, values in found.items():
        assert values == pytest.approx(expected[key], abs=1e-9)


def test_a_file_gives_the_same_means_as_the_study(finished, imi):
    study, store, _run = finished
    scores = score(study, store)
    for group in score_file(imi / "responses_main.csv").groups:
        same = scores.group(group.model, "natural" if group.mode == "natural" else "synthetic")
        assert (group.units, group.responses) == (same.units, same.responses)
        assert group.mean == pytest.approx(same.mean)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_our_own_tables_join_up_and_mark_null_units(finished, tmp_path, form):
    study, store, _run = finished
    write_export(study, store, tmp_path / "out", form)
    read = pd.read_csv if form == "csv" else pd.read_parquet
    units, responses, visits, verdicts = (
        read(tmp_path / "out" / f"{name}.{form}") for name in ("units", "responses", "visits", "verdicts")
    )
    assert set(responses["participant"]) <= set(verdicts["participant"]) <= set(visits["participant"])
    main = responses[(responses["kind"] == "main") & responses["valid"]]
    assert main.groupby(["arm", "unit"])["correct"].sum().to_dict() == units.set_index(["arm", "unit"])["correct"].to_dict()
    assert units["null"].sum() == 2 and responses.loc[responses["null"], "unit"].str.endswith("~null").all()
    assert responses.loc[responses["kind"] == "catch", "batch"].isna().all()


@pytest.mark.parametrize("form", ["imi", "csv"])
def test_no_id_of_the_records_and_no_moment_leaves(finished, tmp_path, form):
    study, store, _run = finished
    write_export(study, store, tmp_path / "out", form)
    with store.read() as session:
        visits = session.query(Visit).all()
    words = set()
    for path in (tmp_path / "out").iterdir():
        words |= set(re.split(r"[^\w]+", path.read_text()))
    assert not words & {each.participant for each in visits} and not words & {each.id for each in visits}
    # Every moment in the records is a number of thirteen digits that begins like this.
    assert not [word for word in words if re.fullmatch(r"17[45]\d{10}", word)]
    ids = set(pd.read_csv(next((tmp_path / "out").glob("responses*.csv"))).filter(like="participant").iloc[:, 0])
    assert all(re.fullmatch(r"P[0-9a-f]{16}", each) for each in ids)


def test_who_did_not_consent_is_not_in_it(study, store, tmp_path):
    one_task(store)
    with store.write() as session:
        task = session.query(Task).filter_by(arm="toy-natural-easy", number=2).one()
        fake.add_visit(session, task, 2, VisitState.DECLINED, consented_at=None, submitted_at=None)
    write_export(study, store, tmp_path / "out", "csv")
    assert len(pd.read_csv(tmp_path / "out" / "visits.csv")) == 1


def test_ids_are_the_same_in_every_export_of_a_study_and_differ_with_its_key(finished, imi, tmp_path):
    study, store, _run = finished
    write_export(study, store, tmp_path / "again", "imi")
    assert (tmp_path / "again" / "responses_all.csv").read_bytes() == (imi / "responses_all.csv").read_bytes()
    other = replace(study, folder=tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "study.toml").write_bytes(study.toml.read_bytes())
    write_export(other, store, tmp_path / "elsewhere", "imi")
    assert not set(main_table(tmp_path / "elsewhere")["participant_id"]) & set(main_table(imi)["participant_id"])


@pytest.mark.parametrize("form", ["imi", "csv"])
def test_the_data_sheet_explains_every_column_of_every_file(finished, tmp_path, form):
    study, store, _run = finished
    write_export(study, store, tmp_path / "out", form)
    sheet = (tmp_path / "out" / "README.md").read_text()
    for path in (tmp_path / "out").glob("*.csv"):
        assert f"| {path.name} | {len(pd.read_csv(path))} | " in sheet
        assert all(f"| {column} | " in sheet for column in path.read_text().splitlines()[0].split(","))
    assert all(f"| {column} | " in sheet for column in COLUMNS) is (form == "imi")


def test_an_export_replaces_an_earlier_one_and_nothing_else(finished, tmp_path):
    study, store, _run = finished
    folder = tmp_path / "out"
    write_export(study, store, folder, "csv")
    write_export(study, store, folder, "imi")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "export.json",
        "responses_all.csv",
        "responses_lower_quality.csv",
        "responses_main.csv",
    ]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ScoringError, match=r"there is notes\.txt, which would be lost"):
        write_export(study, store, folder, "imi")
    assert (folder / "notes.txt").read_text() == "mine"
    # Nothing half-written lies beside it.
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_no_export_is_left_alone(finished, tmp_path):
    study, store, _run = finished
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(ScoringError, match="isn't an export"):
        write_export(study, store, tmp_path, "imi")
    with pytest.raises(ScoringError, match="this is no folder"):
        write_export(study, store, tmp_path / "thesis.tex", "imi")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_failed_export_leaves_the_earlier_one(finished, imi, store, tmp_path, monkeypatch):
    study, full, _run = finished
    folder = tmp_path / "out"
    write_export(study, full, folder, "imi")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crowd_imi.scoring.export.write_atomically", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_export(study, full, folder, "csv")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_without_a_judged_submission_there_is_nothing_to_export(study, store, tmp_path):
    with pytest.raises(ScoringError, match="nothing to export: no submission has been judged yet"):
        write_export(study, store, tmp_path / "out", "imi")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_wrote_and_ends_with_1_where_it_may_not_write(finished, tmp_path):
    study, _store, _run = finished
    words = ["export", str(study.folder), "--rehearsal", "first", "--format", "imi", "--to", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    printed = json.loads(done.stdout)
    rows = {path.name: len(pd.read_csv(path)) for path in (tmp_path / "out").glob("*.csv")}
    assert printed["rows"] == rows and printed["rehearsal"] is True
    (tmp_path / "out" / "mine.txt").touch()
    assert CliRunner().invoke(app, words).exit_code == 1
