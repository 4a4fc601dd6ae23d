"""What ``demo`` prints, from a result that is given; ``tests/acceptance/test_demo.py`` runs the chain."""

import json
from pathlib import Path

import pytest

from crowd_imi.cli.demo import tell
from crowd_imi.cli.output import Output
from crowd_imi.errors import RehearsalError
from crowd_imi.rehearsal.demo.records import NOTE, Demo
from crowd_imi.scoring import Group
from crowd_imi.scoring.machine import PredictedGroup


def group(model: str, mean: float | None, low: float | None, high: float | None) -> Group:
    return Group(
        model=model,
        condition="natural",
        difficulty="easy",
        arm="trained-natural-easy",
        units=24,
        unanswered=0,
        responses=240,
        valid=30,
        excluded=7,
        mean=mean,
        low=low,
        high=high,
        mean_all=mean,
        low_all=low,
        high_all=high,
    )


def predicted(model: str, share: float, low: float, high: float) -> PredictedGroup:
    return PredictedGroup(
        model=model,
        condition="natural",
        difficulty="easy",
        arm="trained-natural-easy",
        units=24,
        panels=240,
        share=share,
        share_low=low,
        share_high=high,
        delta=0.004,
        delta_low=-0.01,
        delta_high=0.02,
    )


def demo(**changes: object) -> Demo:
    figures = {
        "study": Path("demo"),
        "report": Path("demo/report.html"),
        "units_csv": Path("demo/units.csv"),
        "models_csv": Path("demo/models.csv"),
        "gallery": Path("demo/gallery.html"),
        "seed": 1,
        "seconds": 299.6,
        "steps": {"train": 60.0},
        "training_accuracy": 0.99,
        "held_out_accuracy": 0.9,
        "participants": 92,
        "mismatches": (),
        "groups": (group("trained", 0.9875, 0.975, 0.9969), group("null", 0.5167, 0.4625, 0.5708)),
        "predicted": (predicted("trained", 0.9958, 0.9875, 1.0), predicted("null", 0.5375, 0.4917, 0.5833)),
    }
    return Demo(**{**figures, **changes})


def test_a_person_reads_a_row_per_group_and_where_everything_lies(capsys):
    tell(Output(as_json=False), demo())
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines]
    assert ["trained", "natural", "easy", "24", "30", "7", ".99", "[.97,", "1.00]", ".99"] in rows
    assert ["null", "units", "natural", "easy", "24", "30", "7", ".52", "[.46,", ".57]", ".52"] in rows
    # The machine's answers to the same panels, under the people's.
    assert ["trained", "natural", "easy", "24", "1.00", "[.99,", "1.00]", ".00", "[\N{MINUS SIGN}.01,", "+.02]"] in rows
    assert ["null", "units", "natural", "easy", "24", ".54", "[.49,", ".58]", ".00", "[\N{MINUS SIGN}.01,", "+.02]"] in rows
    assert lines[-5:] == [
        NOTE,
        "report:  demo/report.html",
        "gallery: demo/gallery.html",
        "tables:  demo/units.csv, demo/models.csv",
        "92 simulated participants, 300 s in all",
    ]


def test_a_group_without_a_response_has_dashes(capsys):
    tell(Output(as_json=False), demo(groups=(group("trained", None, None, None),)))
    assert "–" in capsys.readouterr().out


def test_a_script_reads_one_document(capsys):
    tell(Output(as_json=True), demo())
    document = json.loads(capsys.readouterr().out)
    assert {"report", "units_csv", "seconds", "groups"} <= set(document)
    wanted = {"model", "condition", "units", "valid", "excluded", "mean", "low", "high"}
    assert all(wanted <= set(row) for row in document["groups"])


def test_a_troublemaker_who_ended_otherwise_is_a_failure_after_all_is_told(capsys):
    with pytest.raises(RehearsalError, match="rehearsal-1-0007"):
        tell(Output(as_json=True), demo(mismatches=("rehearsal-1-0007 (leaves): valid; expected timed_out",)))
    assert json.loads(capsys.readouterr().out)["mismatches"]
