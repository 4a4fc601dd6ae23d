"""Machine against people: α, unit scores and their correlation, by hand and against scipy."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.errors import ScoringError
from crowd_imi.pack import Pack
from crowd_imi.scoring import score
from crowd_imi.scoring.agreement import PANELS, UNITS, machine_against_people, read_predictions
from crowd_imi.scoring.machine import predict, write
from crowd_imi.scoring.panels import disagreement
from crowd_imi.scoring.reliability import reliabilities
from crowd_imi.scoring.report import write_report
from crowd_imi.scoring.wording import interval, share
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.study import load_study
from tests.axe import violations
from tests.scoring.test_compare import A, B, C, scores_of
from tests.scoring.test_machine import MeanColour
from tests.scoring.test_report import Page


class Rough(MeanColour):
    """The mean colour, and so much else of an image that it errs."""

    name = "rough colour"
    digest = hashlib.sha256(b"rough colour").hexdigest()

    def embed(self, pixels):
        rough = super().embed(pixels) + np.stack([np.random.default_rng(int(each.sum())).normal(0, 0.8, 3) for each in pixels])
        return (rough / np.linalg.norm(rough, axis=1, keepdims=True)).astype(np.float32)


def deltas(scores, of_share) -> pd.DataFrame:
    """One panel a unit, whose Δ follows from its proportion correct."""
    units = scores.units[~scores.units["null"]]
    return pd.DataFrame(
        {"arm": units["arm"], "unit": units["unit"], "batch": 0, "delta": [of_share(x) for x in units["proportion_correct"]]}
    )


def log_odds(share: float) -> float:
    return float(np.log(min(share, 0.975) / (1 - min(share, 0.975))))


@pytest.fixture(scope="module")
def predicted(finished, tmp_path_factory):
    """The finished study, with what a similarity by mean colour makes of its pack."""
    folder = tmp_path_factory.mktemp("predicted") / "study"
    shutil.copytree(finished[0].folder, folder)
    study = load_study(folder)
    write(predict(study, Pack(study.pack), Rough()), study.folder / "report")
    return study, Store.open(*database_urls(study.rehearsal("first")))


def with_intervals(scores):
    scores.units[["low", "high", "layer"]] = [0.1, 0.9, "l"]
    return scores


def test_a_machine_whose_delta_is_peoples_log_odds_has_an_alpha_of_one_and_agrees():
    # p = σ(α · ln(p / (1 − p))) for α = 1; machine MIS is then p itself, in the same order as people's.
    scores = with_intervals(scores_of({("a", "natural"): A, ("b", "natural"): B}))
    machine = machine_against_people(scores, "s", deltas(scores, log_odds), (), 1)
    assert machine is not None and machine.fitted and machine.alpha is not None
    assert machine.alpha.value == pytest.approx(1, abs=1e-6)
    assert machine.units["machine_mis"].to_numpy() == pytest.approx(machine.units["proportion_correct"].to_numpy())
    assert [one.rho for one in machine.agreements] == [pytest.approx(1), pytest.approx(1), None]
    assert "α = 1.00" in machine.sentence


def test_rho_is_scipys_and_stands_beside_the_noise_ceiling():
    scores = with_intervals(scores_of({("a", "natural"): [10, 13, 12, 17, 16, 19]}))
    rng = np.random.default_rng(2)
    panels = deltas(scores, lambda share: share - 0.4 + rng.normal(0, 0.1))
    reliable = reliabilities(scores, 1)
    machine = machine_against_people(scores, "s", panels, reliable, 1)
    assert machine is not None and machine.alpha is not None
    expected = expit(machine.alpha.value * panels["delta"].to_numpy())
    (one,) = machine.agreements
    assert one.rho == pytest.approx(stats.spearmanr(expected, [10, 13, 12, 17, 16, 19]).statistic)
    assert one.ceiling == reliable[0].ceiling
    assert one.low is not None and one.high is not None and one.low <= one.rho <= one.high


def test_three_models_are_correlated_by_their_means():
    scores = with_intervals(scores_of({("a", "natural"): A, ("b", "natural"): B, ("c", "natural"): C}))
    machine = machine_against_people(scores, "s", deltas(scores, log_odds), (), 1)
    assert machine is not None
    models = machine.agreements[-1]
    # Means .575, .775 and .9625 ascend on both sides.
    assert (models.of, models.count, models.rho, models.low) == ("models", 3, pytest.approx(1), None)
    assert "a .57 and" in models.sentence or "a .58 and" in models.sentence


def test_null_units_and_units_that_nobody_answered_do_not_take_part():
    plain, mixed = (with_intervals(scores_of({("a", "natural"): A}, null=null)) for null in (None, 3))
    panels = deltas(plain, log_odds)
    more = pd.concat(
        [panels, pd.DataFrame({"arm": "a-natural-easy", "unit": ["a/l0/99~null", "a/l9/7"], "batch": 0, "delta": [5.0, 5.0]})]
    )
    one, other = (machine_against_people(*given, (), 1) for given in ((plain, "s", panels), (mixed, "s", more)))
    assert one is not None and other is not None and one.agreements == other.agreements and one.alpha == other.alpha
    assert machine_against_people(plain, "s", panels.iloc[:0], (), 1) is None


def test_without_an_alpha_a_unit_has_its_share_above_zero_and_the_reason_is_said():
    scores = with_intervals(scores_of({("a", "natural"): A}))
    machine = machine_against_people(scores, "s", deltas(scores, lambda share: share - 0.57), (), 1)
    # Four units are too few for five folds. Shares .5, .55, .6, .65: the last two are above .57.
    assert machine is not None and not machine.fitted
    assert machine.units["machine_mis"].tolist() == [0, 0, 1, 1]
    assert "responses to 4 units; it takes 5 at least" in machine.sentence


def test_predictions_of_another_pack_are_not_used_and_damaged_ones_named(predicted, tmp_path):
    study, store = predicted
    folder = study.folder / "report"
    found = read_predictions(folder, store.about("pack_sha256"))
    assert found is not None and found[0] == "rough colour" and len(found[1])
    assert read_predictions(folder, "0" * 64) is None and read_predictions(tmp_path, "0" * 64) is None
    shutil.copy(folder / UNITS, tmp_path)
    (tmp_path / PANELS).write_text("arm,unit\n")
    with pytest.raises(ScoringError, match=r"predictions_panels\.csv: batch.*run `crowd-imi predict` again"):
        read_predictions(tmp_path, "0" * 64)
    (tmp_path / UNITS).write_text("")
    with pytest.raises(ScoringError, match="run `crowd-imi predict` again"):
        read_predictions(tmp_path, "0" * 64)


def test_the_report_shows_machine_against_people_and_passes_axe(predicted, tmp_path, browser):
    study, store = predicted
    path = write_report(study, store, score(study, store), tmp_path)
    page = Page(path.read_text())
    assert "Spearman's rho of machine and people" in page.text and "rough colour" in page.text
    # The machine alone, as predict printed it: every group with its interval, null units too.
    groups = predict(study, Pack(study.pack), Rough()).groups
    assert {group.model for group in groups} == {"toy", "null"} and "The machine alone" in page.text
    for group in groups:
        assert f"{share(group.share)} {interval(group.share_low, group.share_high)}" in page.text
    assert (tmp_path / "figures" / "machine.svg").exists()
    assert set(pd.read_csv(tmp_path / "figures" / "machine.csv")["unit"]) == {
        unit for unit in score(study, store).units["unit"] if not unit.endswith("~null")
    }
    assert path.stat().st_size <= 5_000_000
    told: list[str] = []
    tab = browser.new_page()
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.goto(path.as_uri())
    drawn = tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    found = violations(tab)
    tab.close()
    assert drawn and found == [] and told == []


def test_predict_says_alpha_once_there_are_answers(predicted, monkeypatch):
    study, _store = predicted
    monkeypatch.setattr("crowd_imi.vision.embeddings.timm_extractor", lambda *_given: Rough())
    before = json.loads(CliRunner().invoke(app, ["predict", str(study.folder), "--json"]).stdout)
    assert before["alpha"] is None and before["agreement"] == []
    done = CliRunner().invoke(app, ["predict", str(study.folder), "--rehearsal", "first", "--json"])
    after = json.loads(done.stdout)
    assert after["agreement"][0]["count"] == 6 and "Spearman's rho of machine and people" in after["agreement"][0]["sentence"]
    assert after["alpha"]["units"] >= 5 and len(after["alpha"]["folds"]) == 5


def test_disagreement_counts_pairs_who_saw_the_same_panel():
    # Unit 1: panel 0 answered right, right, wrong: 2 of 3 pairs apart; panel 1 by one person: no pair. Unit 2: 0 of 1.
    rows = [("x", "1", 0, True), ("x", "1", 0, True), ("x", "1", 0, False), ("x", "1", 1, False)]
    rows += [("x", "2", 3, True), ("x", "2", 3, True), ("x", "3", 0, True)]
    answers = pd.DataFrame(rows, columns=["arm", "unit", "batch", "correct"])
    found = disagreement(answers, answers[["arm", "unit"]].drop_duplicates())
    assert found[["unit", "pairs", "apart", "batch"]].to_numpy().tolist() == [["1", 3, 2, 0], ["2", 1, 0, 3]]
    # The mean is 2 of 4, and units have 2 pairs on average: (2 + 2·½)/(3 + 2) = .6 and (0 + 1)/(1 + 2) = .333.
    assert found["drawn"].tolist() == [pytest.approx(0.6), pytest.approx(1 / 3)]
