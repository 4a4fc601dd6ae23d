import json
from pathlib import Path

import pytest

from crowd_imi.cli import main
from crowd_imi.study import Study
from tests.tiny import fake_plan, write_pack, write_study


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
