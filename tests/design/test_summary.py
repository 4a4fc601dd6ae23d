import json
from dataclasses import replace

from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.design.summary import summarise
from crowd_imi.plan import load_plan
from crowd_imi.records import Money


def test_the_summary_adds_up(planned):
    summary = summarise(planned, load_plan(planned.plan))
    # 4 units × 2 responses / 4 trials = 2 tasks, and 4 × 1 / 4 = 1.
    assert [(arm.tasks, arm.units, arm.null_units) for arm in summary.arms] == [(2, 3, 1), (1, 4, 0)]
    assert summary.sprites == 20 == len(list(planned.sprites.iterdir()))
    assert summary.sprite_bytes == sum(path.stat().st_size for path in planned.sprites.iterdir())
    assert summary.cost == Money(amount=450, currency="USD")
    # Prolific takes 50 of each: (5000 − 3 × 200) / 200
    assert (summary.dearest, summary.replacements_within_cap) == ("prolific", 22)
    # 1.96 × sqrt(0.25 / 2)
    assert round(summary.arms[0].half_width, 3) == 0.693


def test_the_command_prints_one_json_document(planned, monkeypatch):
    before = load_plan(planned.plan)
    monkeypatch.setattr("crowd_imi.design.plan.resource", lambda *_: planned.folder / "practice")
    result = CliRunner().invoke(app, ["plan", str(planned.folder), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["plan_sha256"] == before.sha256


def test_the_command_tells_a_person_what_it_costs(planned, monkeypatch):
    monkeypatch.setattr("crowd_imi.design.plan.resource", lambda *_: planned.folder / "practice")
    result = CliRunner().invoke(app, ["plan", str(planned.folder)])
    assert result.exit_code == 0
    # 3 tasks at 1.50; Prolific takes 0.50 of each, MTurk 0.30.
    costs = "4.50 USD on local and link, 6.00 USD on prolific, 5.40 USD on mturk; when nobody is replaced"
    assert costs in result.stdout and "room for 22 replacements on prolific, where people cost most" in result.stdout


def test_where_nobody_is_paid_there_is_no_room_to_speak_of(planned):
    pay = planned.file.pay.model_copy(update={"reward": 0})
    unpaid = replace(planned, file=planned.file.model_copy(update={"pay": pay}))
    assert summarise(unpaid, load_plan(planned.plan)).replacements_within_cap is None
