import json
import sys
from pathlib import Path

import pytest

from crowd_imi import harvester
from crowd_imi.cli import main
from crowd_imi.harvester import Harvest
from crowd_imi.study import Study
from tests.tiny import STUDY_TOML, fake_plan, write_pack, write_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = write_study(tmp_path)
    pack = write_pack(study)
    fake_plan(study).model_copy(update={"pack_sha256": pack.digest}).save(study.plan)
    return study


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["crowd-imi", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_publish_says_what_it_costs_and_asks(study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("typer.confirm", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(monkeypatch, "publish", str(study.folder)) == 1
    assert "6 places × 1.50 USD = 9.00 USD" in capsys.readouterr().out
    assert not study.database.exists() and not (study.folder / "study.lock").exists()


def test_a_script_says_yes_in_words(study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert run(monkeypatch, "publish", str(study.folder), "--json") == 1
    assert "--yes" in capsys.readouterr().err
    assert run(monkeypatch, "publish", str(study.folder), "--json", "--yes") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["places"] == 6 and document["total"] == {"amount": 900, "currency": "USD"}


def test_harvest_and_status_answer_scripts_and_people(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = str(study.folder)
    run(monkeypatch, "publish", folder, "--yes")
    capsys.readouterr()
    assert run(monkeypatch, "harvest", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["complete"] is False
    assert run(monkeypatch, "status", folder, "--json") == 0
    assert [arm["open"] for arm in json.loads(capsys.readouterr().out)["arms"]] == [4, 2]
    assert run(monkeypatch, "status", folder) == 0
    screen = capsys.readouterr().out
    assert "toy-natural-easy" in screen and "6 offered, 6 free" in screen and len(screen.splitlines()) < 25


def test_a_stale_plan_is_refused(study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    fake_plan(study)
    assert run(monkeypatch, "publish", str(study.folder), "--yes") == 1
    assert "rendered anew" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["harvest", "serve"])
def test_a_published_study_isnt_paid_or_served_by_another_study_file(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
):
    folder = str(study.folder)
    run(monkeypatch, "publish", folder, "--yes")
    # The cap may be raised; a lower reward would make room below it for more than the platform's posting allows.
    write_study(study.folder, STUDY_TOML.replace("cap = 5000", "cap = 6000").replace("reward = 150", "reward = 1"))
    capsys.readouterr()
    monkeypatch.setattr("crowd_imi.cli.pages._serve", lambda *_: sys.exit(0))
    assert run(monkeypatch, command, folder) == 1
    said = capsys.readouterr().err
    assert "pay.reward was 150 and is 1." in said and "pay.cap" not in said


def test_watching_goes_on_until_nothing_is_refused(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = str(study.folder)
    run(monkeypatch, "publish", folder, "--yes")
    capsys.readouterr()
    rounds = []

    def harvest(*run: object) -> Harvest:
        done = real(*run).model_copy(update={"complete": True, "refused": () if rounds else ("approve v: try again later",)})
        rounds.append(done)
        return done

    real = harvester.harvest
    monkeypatch.setattr(harvester, "harvest", harvest)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert run(monkeypatch, "harvest", folder, "--watch") == 0
    assert len(rounds) == 2
    assert "refused: approve v: try again later" in capsys.readouterr().out
