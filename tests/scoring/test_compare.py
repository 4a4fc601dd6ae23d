import json

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from scikit_posthocs import posthoc_conover
from scipy import stats
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.scoring import Group, Scores, score, tables
from crowd_imi.scoring.compare import compare, conover
from crowd_imi.scoring.report import write_report
from crowd_imi.scoring.stimuli import layer_order
from crowd_imi.study import NULL

PEOPLE = 20


def scores_of(right: dict[tuple[str, str], list[int]], null: int | None = None) -> Scores:
    """(model, condition) → how many of 20 participants are right on each unit; units stand two to a layer."""
    rows, answers, groups = [], [], []
    for (model, condition), counts in right.items():
        arm = f"{model}-{condition}-easy"
        given = [(f"{model}/l{place // 2}/{place}", place // 2 + 1, False, count) for place, count in enumerate(counts)]
        given += [(f"{model}/l0/99~null", 1, True, null)] if null is not None else []
        for unit, depth, is_null, count in given:
            rows.append(
                {"arm": arm, "model": model, "null": is_null, "condition": condition, "difficulty": "easy", "unit": unit}
                | {"depth": depth, "responses": PEOPLE, "correct": count, "proportion_correct": count / PEOPLE}
            )
            # Who is right goes round, so that participants are alike.
            answers += [(arm, unit, 0, f"{arm}{(one + depth * 3) % PEOPLE}", one < count) for one in range(PEOPLE)]
        for name, units in ((model, len(counts)), *(((NULL, 1),) if null is not None else ())):
            groups.append(group(name, condition, arm, units))
    counted = pd.DataFrame(answers, columns=["arm", "unit", "batch", "visit", "correct"])
    return Scores(pd.DataFrame(rows), tuple(groups), (), (), counted)


def group(model: str, condition: str, arm: str, units: int) -> Group:
    none = dict.fromkeys(("mean", "low", "high", "mean_all", "low_all", "high_all"))
    counts = dict.fromkeys(("unanswered", "responses", "valid", "excluded"), 0)
    return Group(model=model, condition=condition, difficulty="easy", arm=arm, units=units, **counts, **none)


A, B, C = [10, 11, 12, 13], [14, 15, 16, 17], [18, 19, 20, 20]
THREE = {("a", "natural"): A, ("b", "natural"): B, ("c", "natural"): C}


def means(*counts: list[int]) -> list[np.ndarray]:
    return [np.array(each) / PEOPLE for each in counts]


def test_kruskal_wallis_of_two_models_apart():
    # Ranks 1–4 and 5–8: H = 12/(8·9)·(10²/4 + 26²/4) − 3·9 = 32.333 − 27 = 5.3333; df 1: p = .0209. ε² = H/7 = .7619.
    (test,) = compare(scores_of({key: THREE[key] for key in list(THREE)[:2]}), 1).models
    assert test.h == pytest.approx(16 / 3)
    assert test.p == pytest.approx(0.0209, abs=1e-4)
    assert test.effect.value == pytest.approx(16 / 21)
    assert test.units == {"a": 4, "b": 4}


def test_kruskal_wallis_with_ties_agrees_with_scipy():
    (test,) = compare(scores_of(THREE), 1).models
    assert (test.h, test.p) == pytest.approx(tuple(stats.kruskal(*means(A, B, C))))


def test_conover_of_two_models_apart():
    # S² = 8·9/12 = 6; D = (7 − 16/3)/(8 − 2) = .27778; |6.5 − 2.5| = 4; 4/√(6·.27778·(¼ + ¼)) = 4.38178; t with 6 df.
    assert conover(["a", "b"], means(A, B)) == {("a", "b"): pytest.approx(2 * stats.t.sf(4.38178, 6), rel=1e-4)}


def test_conovers_p_values_are_corrected_by_holm_over_each_pair_once():
    groups = means(A, [12, 14, 15, 16], C)
    raw = posthoc_conover(groups).to_numpy()[np.triu_indices(3, 1)]
    # Holm: the smallest of three times 3, the next times 2, the largest once, none below the one before.
    first, second, third = sorted(raw)
    by_hand = sorted([min(3 * first, 1), max(3 * first, 2 * second), max(3 * first, 2 * second, third)])
    assert sorted(conover(["a", "b", "c"], groups).values()) == pytest.approx(by_hand)
    assert by_hand == pytest.approx(sorted(multipletests(raw, method="holm")[1]))


def test_conover_without_spread_within_models_has_no_p_value():
    assert conover(["a", "b"], [np.array([0.5, 0.5]), np.array([0.9, 0.9])]) == {("a", "b"): None}


def test_equal_scores_are_said_and_not_tested():
    (test,) = compare(scores_of({("a", "natural"): [15] * 4, ("b", "natural"): [15] * 4}), 1).models
    assert test.h is test.p is test.effect is None
    assert test.pairs[0].p_holm is None
    assert "all 8 units of 2 models scored the same" in test.sentence


def test_a_pair_of_models_has_the_difference_of_means_in_both_intervals():
    (test,) = compare(scores_of(THREE), 1).models
    pair = test.pairs[0]
    # (10 + 11 + 12 + 13)/80 = .575; (14 + … + 17)/80 = .775.
    assert (pair.first, pair.second) == ("a", "b")
    assert pair.difference.value == pytest.approx(-0.2)
    assert pair.difference.units_low < -0.2 < pair.difference.units_high
    assert pair.difference.low < pair.difference.units_low
    assert pair.difference.high > pair.difference.units_high


def test_the_same_seed_gives_the_same_comparisons():
    scores = scores_of(THREE)
    assert compare(scores, 1) == compare(scores, 1)
    assert compare(scores, 1) != compare(scores, 2)


def test_wilcoxon_over_units_shown_in_both_conditions():
    # Natural minus synthetic, of 20: 1, 2, 3, 4, 5, −6 and a unit that natural alone showed. Ranks 1 … 6: W⁺ = 15, W⁻ = 6;
    # r = (15 − 6)/21 = .4286; mean difference 9/6/20 = .075.
    scores = scores_of({("a", "natural"): [11, 12, 13, 14, 15, 4, 20], ("a", "synthetic"): [10, 10, 10, 10, 10, 10]})
    (test,) = compare(scores, 1).conditions
    assert test.units == 6
    assert test.w == 6
    assert test.effect.value == pytest.approx(9 / 21)
    assert test.difference.value == pytest.approx(0.075)
    assert test.p == test.p_holm == pytest.approx(stats.wilcoxon([1, 2, 3, 4, 5, -6]).pvalue)
    assert test.difference.low <= test.difference.units_low < 0.075 < test.difference.units_high <= test.difference.high
    assert "only 6 units: the p-value is rough" in test.remarks


def test_differences_that_are_equal_but_for_floating_point_tie():
    # 17/20 − 12/20 and 11/20 − 6/20 aren't the same float.
    scores = scores_of({("a", "natural"): [17, 11, 9], ("a", "synthetic"): [12, 6, 9]})
    (test,) = compare(scores, 1).conditions
    assert "some differences tie, for which the test is corrected" in test.remarks
    assert "1 difference is zero and left out of the test" in test.remarks


def test_conditions_without_any_difference_are_not_tested():
    (test,) = compare(scores_of({("a", "natural"): A, ("a", "synthetic"): A}), 1).conditions
    assert test.w is test.p is test.p_holm is test.effect is None
    assert test.difference.value == 0
    assert test.welch is test.welch_p is test.welch_p_holm is None
    assert "no test that knows participants could be made." in test.sentence


def test_spearman_with_depth_of_six_units_in_three_layers():
    # Depth ranks 1.5 1.5 3.5 3.5 5.5 5.5, score ranks 1 2 3 4 5 6; about their mean 3.5 the products are
    # 2·2.5 + 2·1.5 + 0 + 0 + 2·1.5 + 2·2.5 = 16; √(4·4 · 17.5) = √280 = 16.733; rho = .95618.
    (test,) = compare(scores_of({("a", "natural"): [10, 11, 12, 13, 14, 15]}), 1).depth
    assert test.effect.value == pytest.approx(16 / np.sqrt(280))
    assert (test.units, test.layers) == (6, 3)
    assert test.p == pytest.approx(stats.spearmanr([1, 1, 2, 2, 3, 3], range(6)).pvalue)
    assert "scores rise with depth" in test.sentence


def test_depth_is_corrected_over_the_models_of_a_setting():
    two = {("a", "natural"): [10, 11, 12, 13, 14, 15], ("b", "natural"): [9, 12, 11, 10, 14, 12]}
    first, second = compare(scores_of(two), 1).depth
    # The smaller of two p-values doubles, the larger stays.
    assert first.p_holm == pytest.approx(2 * first.p) and second.p_holm == pytest.approx(max(second.p, 2 * first.p))


def test_one_layer_has_no_trend():
    (test,) = compare(scores_of({("a", "natural"): [10, 12]}), 1).depth
    assert test.effect is test.p is None
    assert "can't be tested (2 units in 1 layer)" in test.sentence


def test_one_unit_has_a_difference_without_an_interval():
    (test,) = compare(scores_of({("a", "natural"): [10], ("b", "natural"): [15]}), 1).models
    assert test.pairs[0].difference.value == pytest.approx(-0.25)
    assert test.pairs[0].difference.low is test.pairs[0].difference.units_low is None


def test_null_units_never_take_part():
    plain, mixed = compare(scores_of(THREE), 1), compare(scores_of(THREE, null=3), 1)
    assert plain.models[0].units == mixed.models[0].units
    assert (plain.models[0].h, plain.models[0].p) == (mixed.models[0].h, mixed.models[0].p)
    assert plain == mixed


def test_unequal_numbers_and_spreads_are_said():
    (test,) = compare(scores_of({("a", "natural"): [2, 10, 18, 15], ("b", "natural"): [14, 15, 15]}), 1).models
    said = " ".join(test.remarks)
    assert "fewer than 10 units of a, b" in said
    assert "unequal numbers of units (3 to 4)" in said
    # 15 three times in 7 units: 43 %.
    assert "43\N{NO-BREAK SPACE}% of the units tie" in said
    assert "spread unequally" in said


def test_comparisons_csv_has_a_row_per_test_and_pair(tmp_path):
    comparisons = compare(scores_of({**THREE, ("a", "synthetic"): [9, 9, 9, 9]}), 1)
    table = pd.read_csv(tables.write_comparisons(comparisons, tmp_path))
    # Three models have one test and three pairs; one model has both conditions; four groups have a depth.
    assert table["comparison"].value_counts().to_dict() == {"depth": 4, "pair": 3, "models": 1, "conditions": 1}
    assert list(table.columns) == list(tables.COMPARISON_COLUMNS)
    paired = table[table["comparison"] == "conditions"].iloc[0]
    # (1 + 2 + 3 + 4)/4/20 = .125, W⁻ = 0, r = 1.
    assert (paired["difference"], paired["statistic"], paired["effect"]) == (0.125, 0, 1)


def test_a_study_with_nothing_to_compare_gets_the_header_alone(tmp_path):
    table = pd.read_csv(tables.write_comparisons(compare(Scores(pd.DataFrame(), (), ()), 1), tmp_path))
    assert len(table) == 0 and list(table.columns) == list(tables.COMPARISON_COLUMNS)


def test_score_json_and_the_report_have_the_same_sentences(finished, tmp_path):
    study, store, run = finished
    done = CliRunner().invoke(app, ["score", str(study.folder), "--rehearsal", "first", "--json"])
    document = json.loads(done.stdout)
    sentences = [test["sentence"] for kind in ("models", "conditions", "depth") for test in document["comparisons"][kind]]
    assert any("natural minus synthetic" in sentence for sentence in sentences)
    assert document["comparisons_csv"] == str(run / "report" / "comparisons.csv")
    page = write_report(study, store, score(study, store, layer_order(study, store)), tmp_path).read_text()
    assert 'id="comparisons"' in page
    assert all(escape(sentence) in page for sentence in sentences)
    assert (tmp_path / "comparisons.csv").read_text() == (run / "report" / "comparisons.csv").read_text()
