"""units.csv and models.csv, and what their columns mean."""

from pathlib import Path

import pandas as pd

from crowd_imi.files import write_atomically
from crowd_imi.scoring.mis import Group, Scores

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
}

_DECIMALS = {
    **dict.fromkeys(("proportion_correct", "low", "high", "proportion_correct_all"), 4),
    **dict.fromkeys(("mean", "mean_all", "low_all", "high_all"), 4),
    "confidence_mean": 3,
    "rt_median_ms": 0,
}


def unit_table(scores: Scores) -> pd.DataFrame:
    """One row per unit of an arm, rounded as in units.csv."""
    table = scores.units[list(UNIT_COLUMNS)].round(_DECIMALS)
    table["rt_median_ms"] = table["rt_median_ms"].astype("Int64")
    return table.assign(null=table["null"].map({True: "true", False: "false"}))


def model_table(groups: tuple[Group, ...]) -> pd.DataFrame:
    """One row per group, rounded as in models.csv."""
    table = pd.DataFrame([group.model_dump() for group in groups], columns=list(MODEL_COLUMNS))
    shares = ["mean", "low", "high", "mean_all", "low_all", "high_all"]
    return table.astype(dict.fromkeys(shares, float)).round(_DECIMALS)


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

    return section("units.csv", UNIT_COLUMNS) + "\n" + section("models.csv", MODEL_COLUMNS)
