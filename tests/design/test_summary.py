import json

from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.design.summary import summarise
from crowd_imi.records import Money


def test_the_summary_adds_up(photo_study, photo_plan):
    summary = summarise(photo_study, photo_plan)
    # 8 units × 3 responses / 6 trials = 4 tasks, and 6 × 2 / 6 = 2.
    assert [(arm.tasks, arm.units, arm.null_units) for arm in summary.arms] == [(4, 6, 2), (2, 6, 0)]
    assert summary.sprites == 53 == len(list(photo_study.sprites.iterdir()))
    assert summary.sprite_bytes == sum(path.stat().st_size for path in photo_study.sprites.iterdir())
    assert summary.cost == Money(amount=900, currency="USD")
    # (5000 − 900) / 150 = 27.3
    assert summary.replacements_within_cap == 27
    # 1.96 × sqrt(0.25 / 3)
    assert round(summary.arms[0].half_width, 3) == 0.566


def test_the_command_prints_one_json_document(photo_study, photo_plan, monkeypatch):
    monkeypatch.setattr("crowd_imi.design.plan.resource", lambda *_: photo_study.folder / "practice")
    result = CliRunner().invoke(app, ["plan", str(photo_study.folder), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["plan_sha256"] == photo_plan.sha256


def test_the_command_tells_a_person_what_it_costs(photo_study, monkeypatch):
    monkeypatch.setattr("crowd_imi.design.plan.resource", lambda *_: photo_study.folder / "practice")
    result = CliRunner().invoke(app, ["plan", str(photo_study.folder)])
    assert result.exit_code == 0
    assert "9.00 USD when nobody is replaced" in result.stdout and "room for 27 replacements" in result.stdout
