"""Each figure of the report as a file of its own, with the numbers that it shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from crowd_imi.files import write_atomically
from crowd_imi.scoring import answers_by, figures, tables
from crowd_imi.scoring.agreement import Machine
from crowd_imi.scoring.canvas import Picture
from crowd_imi.scoring.mis import Scores
from crowd_imi.scoring.participants import Spending

FOLDER = "figures"


def data(scores: Scores, people: Mapping[str, Any], spent: Spending, machine: Machine | None = None) -> dict[str, pd.DataFrame]:
    """What each figure shows, by its name.

    Args:
        scores: from ``score``.
        people: what the report says of participants.
        spent: from ``participants.spending``.
        machine: from ``agreement.machine_against_people``.
    """
    units = tables.unit_table(scores)
    shown = ["arm", "model", "null", "condition", "difficulty", "layer", "depth", "unit", "responses", "proportion_correct"]
    sums = {name: getattr(spent, name).amount for name in ("spent", "rewards", "bonuses", "cap")}
    money = {**sums, "currency": spent.cap.currency, "submissions": spent.paid, "bonuses_paid": spent.bonuses_paid}
    return {
        "groups": tables.model_table(scores.groups)[["model", "condition", "difficulty", "units", "mean", "low", "high"]],
        "units": units[[*shown, "low", "high"]],
        "conditions": figures.in_both_conditions(scores),
        "machine": machine.units if machine else pd.DataFrame(),
        "depth": units.loc[units["null"] == "false", shown],
        "calibration": answers_by.by_confidence(scores),
        "reaction_times": answers_by.by_time(scores),
        "flow": pd.DataFrame([people["flow_totals"]]),
        "attrition": pd.DataFrame.from_dict(people["flow"], orient="index").rename_axis("arm").reset_index(),
        "exclusion": pd.DataFrame(
            [(one.criterion, one.limit, one.failed, one.alone) for one in people["exclusions"]],
            columns=["criterion", "limit", "failed", "failed_only_this"],
        ),
        "minutes": people["taken"],
        "money": pd.DataFrame([money]),
    }


def write(pictures: Mapping[str, Picture | None], numbers: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write ``figures/NAME.svg`` and ``figures/NAME.csv`` for every figure that was drawn, and take away those that weren't."""
    for name, picture in pictures.items():
        svg, csv = (folder / FOLDER / f"{name}.{suffix}" for suffix in ("svg", "csv"))
        if picture is None:
            svg.unlink(missing_ok=True)
            csv.unlink(missing_ok=True)
            continue
        write_atomically(svg, picture.content)
        write_atomically(csv, numbers[name].to_csv(index=False, lineterminator="\n", float_format="%.6g").encode())
