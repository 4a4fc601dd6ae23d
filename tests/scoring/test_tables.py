import csv
import io

from crowd_imi.lifecycle import VisitState
from crowd_imi.scoring import score, tables
from crowd_imi.store.tables import Task
from tests.scoring import fake


def rows(path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def one_visit(store) -> None:
    """Units 0 to 5 of the natural arm once each: 0 to 2 right."""
    with store.write() as session:
        task = session.query(Task).filter_by(arm="toy-natural-easy", number=1).one()
        visit = fake.add_visit(session, task, 1, VisitState.VALID)
        fake.add_answers(session, visit, {position: position < 3 for position in range(6)})
        fake.judge(session, visit)


def test_units_csv_has_a_rounded_row_per_unit_and_empty_cells_where_nothing_was_measured(study, store, tmp_path):
    one_visit(store)
    units, _models = tables.write(score(study, store), tmp_path / "report")
    by_unit = {(row["arm"], row["unit"]): row for row in rows(units)}
    assert len(by_unit) == 14
    answered = by_unit["toy-natural-easy", "toy/layer0/0"]
    # Wilson of 1 in 1: low = 1 / (1 + 3.841459) = .20655. Jeffreys: the 2.5 % point of Beta(1.5, .5), .1467.
    assert answered == {
        "arm": "toy-natural-easy",
        "model": "toy",
        "layer": "layer0",
        "depth": "1",
        "channel": "0",
        "null": "false",
        "condition": "natural",
        "difficulty": "easy",
        "unit": "toy/layer0/0",
        "responses": "1",
        "correct": "1",
        "proportion_correct": "1.0",
        "low": "0.2065",
        "high": "1.0",
        "jeffreys_low": "0.1467",
        "jeffreys_high": "1.0",
        "panels": "1",
        "panel_low": "",
        "panel_high": "",
        "shrunk": "",
        "shrunk_low": "",
        "shrunk_high": "",
        "crossed": "",
        "crossed_low": "",
        "crossed_high": "",
        "confidence_weighted": "1.0",
        "confidence_mean": "2.0",
        "rt_median_ms": "900",
        "responses_all": "1",
        "correct_all": "1",
        "proportion_correct_all": "1.0",
    }
    silent = by_unit["toy-natural-easy", "toy/layer0/100~null"]
    assert silent["null"] == "true" and silent["responses"] == "0"
    assert silent["proportion_correct"] == silent["low"] == silent["rt_median_ms"] == ""


def test_models_csv_has_a_row_per_group(study, store, tmp_path):
    one_visit(store)
    _units, models = tables.write(score(study, store), tmp_path / "report")
    natural, null, synthetic = rows(models)
    # Three of six units at 1, the others at 0.
    assert (natural["model"], natural["units"], natural["mean"], natural["valid"]) == ("toy", "6", "0.5", "1")
    assert (null["model"], null["units"], null["unanswered"], null["mean"]) == ("null", "0", "2", "")
    assert (synthetic["condition"], synthetic["unanswered"], synthetic["low"]) == ("synthetic", "6", "")


def test_every_column_is_explained_in_the_data_sheet(study, store, tmp_path):
    one_visit(store)
    for path in tables.write(score(study, store), tmp_path):
        header = path.read_text().splitlines()[0].split(",")
        sheet = (tmp_path / "columns.md").read_text()
        assert all(f"| {column} | " in sheet for column in header)
