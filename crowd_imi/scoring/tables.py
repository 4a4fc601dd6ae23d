"""units.csv, models.csv, comparisons.csv and reliability.csv, and what their columns mean."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from crowd_imi.files import write_atomically
from crowd_imi.scoring.comparisons import Comparisons, ConditionTest, Difference, Effect, ModelTest
from crowd_imi.scoring.mis import Group, Scores
from crowd_imi.scoring.reliability import Reliability, with_shrunk

UNIT_COLUMNS: dict[str, str] = {
    "arm": "The arm: model, condition and difficulty.",
    "model": "The network.",
    "layer": "Module name of the layer.",
    "depth": "Place of the layer among the model's layers in this study, 1 is the first.",
    "channel": "Channel of the layer, from 0.",
    "null": "true for a null unit: its activations were permuted over the images, so nobody can answer it above chance.",
    "condition": "References: natural (dataset examples) or synthetic (feature visualisations).",
    "difficulty": "How extreme the query images are.",
    "unit": "Key of the unit: model/layer/channel, with ~null behind it for a null unit.",
    "responses": "Main trials answered in valid submissions.",
    "correct": "How many of them were right.",
    "proportion_correct": "correct / responses, the unit's MIS; 0.5 is chance. Empty without responses.",
    "low": "Lower end of its 95 % Wilson interval, which ignores that answers share panels.",
    "high": "Upper end of it.",
    "jeffreys_low": "Lower end of its 95 % Jeffreys interval, which ignores it too.",
    "jeffreys_high": "Upper end of it.",
    "panels": "Panels (batches of images) that these answers were given to.",
    "panel_low": "Lower end of the 95 % interval that knows about the panels. Empty for fewer than two of them.",
    "panel_high": "Upper end of it.",
    "shrunk": "proportion_correct drawn towards the model's mean, the further the fewer answers (empirical Bayes, "
    "beta-binomial): best and worst units are named by it. Empty for null units, and with fewer than three units answered twice.",
    "shrunk_low": "Lower end of its 95 % interval, which takes answers as independent.",
    "shrunk_high": "Upper end of it.",
    "crossed": "Probability of a right answer by the crossed model, averaged over participants and panels; drawn towards the "
    "model's mean. Empty for null units, and where the model wasn't fitted (`score --crossed`).",
    "crossed_low": "Lower end of its 95 % interval.",
    "crossed_high": "Upper end of it.",
    "confidence_weighted": "Confidence in right answers over confidence in all: answers count by how sure they were.",
    "confidence_mean": "Mean confidence of these answers, 1 (low) to 3 (high).",
    "rt_median_ms": "Median reaction time in milliseconds, from the painted frame to the click, by the browser.",
    "responses_all": "Main trials answered in all judged submissions, nobody excluded.",
    "correct_all": "How many of them were right.",
    "proportion_correct_all": "correct_all / responses_all.",
}

MODEL_COLUMNS: dict[str, str] = {
    "model": "The network, or null for the null units (the negative control).",
    "condition": "References: natural (dataset examples) or synthetic (feature visualisations).",
    "difficulty": "How extreme the query images are.",
    "arm": "The arm or arms that the units come from.",
    "units": "Units with at least one response, over which the mean is taken.",
    "unanswered": "Units without a response, left out of the mean.",
    "responses": "Main trials answered in valid submissions.",
    "valid": "Submissions of the arm that count.",
    "excluded": "Submissions of the arm that failed a criterion, failed practice among them.",
    "mean": "Mean of the units' proportions correct (MIS); 0.5 is chance.",
    "low": "Lower end of the 95 % bootstrap interval over units (10,000 resamples). Empty for fewer than two units.",
    "high": "Upper end of it.",
    "mean_all": "The same mean with nobody excluded.",
    "low_all": "Lower end of its interval.",
    "high_all": "Upper end of it.",
    "crossed": "Probability of a right answer by the crossed model, averaged over units, participants and panels. Empty for null "
    "units, and where the model wasn't fitted (`score --crossed`).",
    "crossed_low": "Lower end of its 95 % interval.",
    "crossed_high": "Upper end of it.",
    "unit_sd": "Spread of units by that model, in logits with the guess rate taken out.",
    "participant_sd": "Spread of participants by it.",
    "panel_sd": "Spread of panels within a unit by it.",
}

COMPARISON_COLUMNS: dict[str, str] = {
    "comparison": "models (all of a setting), pair (two of them), conditions (natural minus synthetic) or depth.",
    "condition": "References: natural or synthetic. Empty where the two are compared.",
    "difficulty": "How extreme the query images are.",
    "model": "The network; of a pair, the first. Empty where all models are compared.",
    "other": "The second network of a pair.",
    "units": "Units that took part; of a pair, those of both models. Null units never do.",
    "difference": "Difference of the means of unit means: first minus second, or natural minus synthetic.",
    "low": "Lower end of its 95 % interval, units and participants drawn anew. Empty for fewer than two of either.",
    "high": "Upper end of it.",
    "units_low": "Lower end of its 95 % interval with units alone drawn anew, as published.",
    "units_high": "Upper end of it.",
    "test": "Kruskal-Wallis, Conover, Wilcoxon or Spearman. The columns behind it are empty where it couldn't be made.",
    "statistic": "H of Kruskal-Wallis, W of Wilcoxon; empty for the others.",
    "p": "p-value, not corrected; empty for Conover.",
    "p_holm": "p-value with Holm's correction over the rows of the same test, difficulty and condition.",
    "welch": "Welch's F (models) or t (conditions), with what participants add in the standard error; empty for others. "
    "Sentences go by it, and not by the rank tests as published, which find too much where participants differ.",
    "welch_p": "Its p-value, not corrected; empty for pairs.",
    "welch_p_holm": "Its p-value with Holm's correction, as p_holm.",
    "effect": "Effect size: epsilon², rank-biserial r or rho.",
    "effect_low": "Lower end of its 95 % bootstrap interval over units.",
    "effect_high": "Upper end of it.",
}

RELIABILITY_COLUMNS: dict[str, str] = {
    "model": "The network.",
    "condition": "References: natural or synthetic.",
    "difficulty": "How extreme the query images are.",
    "units": "Units with an answer.",
    "halves": "Mean correlation of unit scores between random halves of the participants (1,000 splits). Empty where it can't "
    "be had.",
    "reliability": "The same for all participants, by Spearman and Brown.",
    "low": "Lower end of the middle 95 % of the splits: how much the split matters, not an interval over units.",
    "high": "Upper end of it.",
    "ceiling": "The noise ceiling, √reliability: what a perfect predictor of true scores would correlate with these. Empty when "
    "reliability isn't above 0.",
}

_DECIMALS = {
    **dict.fromkeys(("shrunk", "shrunk_low", "shrunk_high"), 4),
    **dict.fromkeys(("proportion_correct", "low", "high", "proportion_correct_all"), 4),
    **dict.fromkeys(("mean", "mean_all", "low_all", "high_all"), 4),
    **dict.fromkeys(("jeffreys_low", "jeffreys_high", "panel_low", "panel_high"), 4),
    **dict.fromkeys(("crossed", "crossed_low", "crossed_high"), 4),
    **dict.fromkeys(("unit_sd", "participant_sd", "panel_sd"), 3),
    "confidence_weighted": 4,
    "confidence_mean": 3,
    "rt_median_ms": 0,
}


def unit_table(scores: Scores) -> pd.DataFrame:
    """One row per unit of an arm, rounded as in units.csv."""
    table = with_shrunk(scores)[list(UNIT_COLUMNS)].round(_DECIMALS)
    table["rt_median_ms"] = table["rt_median_ms"].astype("Int64")
    return table.assign(null=table["null"].map({True: "true", False: "false"}))


def model_table(groups: tuple[Group, ...]) -> pd.DataFrame:
    """One row per group, rounded as in models.csv."""
    table = pd.DataFrame([group.model_dump() for group in groups], columns=list(MODEL_COLUMNS))
    shares = ["mean", "low", "high", "mean_all", "low_all", "high_all", "crossed", "crossed_low", "crossed_high"]
    shares += ["unit_sd", "participant_sd", "panel_sd"]
    return table.astype(dict.fromkeys(shares, float)).round(_DECIMALS)


def comparison_table(comparisons: Comparisons) -> pd.DataFrame:
    """One row per test, and one per pair of models, rounded as in comparisons.csv."""
    rows: list[dict[str, object]] = []
    for test in comparisons.models:
        where = {"condition": test.condition, "difficulty": test.difficulty}
        named = {"comparison": "models", "units": sum(test.units.values()), "test": "Kruskal-Wallis"}
        rows.append({**where, **named, "statistic": test.h, "p": test.p, **_welch(test), **_effect(test.effect)})
        for pair in test.pairs:
            models = {"model": pair.first, "other": pair.second, "units": test.units[pair.first] + test.units[pair.second]}
            found = {"comparison": "pair", "test": "Conover", "p_holm": pair.p_holm, "welch_p_holm": pair.welch_p_holm}
            rows.append({**where, **models, **found, **_difference(pair.difference)})
    for paired in comparisons.conditions:
        named = {"comparison": "conditions", "difficulty": paired.difficulty, "model": paired.model, "units": paired.units}
        found = {"test": "Wilcoxon", "statistic": paired.w, "p": paired.p, "p_holm": paired.p_holm}
        tested = {**_welch(paired), "welch_p_holm": paired.welch_p_holm}
        rows.append({**named, **found, **tested, **_difference(paired.difference), **_effect(paired.effect)})
    for trend in comparisons.depth:
        named = {"comparison": "depth", "model": trend.model, "condition": trend.condition, "difficulty": trend.difficulty}
        found = {"units": trend.units, "test": "Spearman", "p": trend.p, "p_holm": trend.p_holm}
        rows.append({**named, **found, **_effect(trend.effect)})
    table = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    ends = ["difference", "low", "high", "units_low", "units_high", "statistic", "welch", "effect", "effect_low", "effect_high"]
    p_values = ["p", "p_holm", "welch_p", "welch_p_holm"]
    table = table.astype(dict.fromkeys([*ends, *p_values], float)).round(dict.fromkeys(ends, 4))
    for column in p_values:
        table[column] = table[column].map(lambda p: float(f"{p:.4g}"))
    return table


def _welch(test: ModelTest | ConditionTest) -> dict[str, object]:
    return {"welch": test.welch, "welch_p": test.welch_p}


def _difference(found: Difference) -> dict[str, object]:
    both = {"difference": found.value, "low": found.low, "high": found.high}
    return {**both, "units_low": found.units_low, "units_high": found.units_high}


def _effect(found: Effect | None) -> dict[str, object]:
    return {"effect": found.value, "effect_low": found.low, "effect_high": found.high} if found else {}


def write_comparisons(comparisons: Comparisons, folder: Path) -> Path:
    """Write comparisons.csv; a study that has nothing to compare gets its header alone."""
    path = folder / "comparisons.csv"
    write_atomically(path, comparison_table(comparisons).to_csv(index=False, lineterminator="\n").encode())
    return path


def write_reliability(found: Sequence[Reliability], folder: Path) -> Path:
    """Write reliability.csv, a row per group."""
    rows = [one.model_dump(exclude={"sentence"}) for one in found]
    table = pd.DataFrame(rows, columns=list(RELIABILITY_COLUMNS))
    shares = ["halves", "reliability", "low", "high", "ceiling"]
    path = folder / "reliability.csv"
    rounded = table.astype(dict.fromkeys(shares, float)).round(dict.fromkeys(shares, 4))
    write_atomically(path, rounded.to_csv(index=False, lineterminator="\n").encode())
    return path


def write(scores: Scores, folder: Path) -> tuple[Path, Path]:
    """Write units.csv and models.csv, and columns.md, which says what their columns mean; each file at once or not at all.

    Returns:
        The paths of units.csv and models.csv.
    """
    units, models = folder / "units.csv", folder / "models.csv"
    write_atomically(units, unit_table(scores).to_csv(index=False, lineterminator="\n").encode())
    write_atomically(models, model_table(scores.groups).to_csv(index=False, lineterminator="\n").encode())
    write_atomically(folder / "columns.md", _data_sheet().encode())
    return units, models


def _data_sheet() -> str:
    def section(name: str, columns: dict[str, str]) -> str:
        rows = "\n".join(f"| {column} | {meaning} |" for column, meaning in columns.items())
        return f"# {name}\n\n| column | meaning |\n|---|---|\n{rows}\n"

    files = {
        "units.csv": UNIT_COLUMNS,
        "models.csv": MODEL_COLUMNS,
        "comparisons.csv": COMPARISON_COLUMNS,
        "reliability.csv": RELIABILITY_COLUMNS,
    }
    return "\n".join(section(name, columns) for name, columns in files.items())
