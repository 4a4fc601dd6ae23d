import json
import sys
from pathlib import Path

import pytest

from crowd_imi import harvester
from crowd_imi.cli import main
from crowd_imi.harvester import Harvest
from crowd_imi.pack import Pack
from crowd_imi.plan import load_plan
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.publisher.launch import create_store
from crowd_imi.store import StoreKind
from crowd_imi.study import Study
from crowd_imi.vetoes import change_vetoes
from tests.tiny import STUDY_TOML, approve, fake_plan, write_pack, write_study


@pytest.fixture
def unsigned(tmp_path: Path) -> Study:
    """A study that is planned, and whose images nobody has looked through."""
    study = write_study(tmp_path)
    pack = write_pack(study)
    fake_plan(study).model_copy(update={"pack_sha256": pack.digest}).save(study.plan)
    return study


@pytest.fixture
def study(unsigned: Study) -> Study:
    approve(unsigned)
    return unsigned


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


def test_nobody_is_invited_to_sprites_that_are_not_there(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    gone = study.sprites / load_plan(study.plan).tasks[0].trials[0].sprite
    gone.unlink()
    assert run(monkeypatch, "publish", str(study.folder), "--yes") == 1
    said = capsys.readouterr().err
    assert f"1 of 53 sprites are missing, {gone.name} for one; run `crowd-imi plan" in said
    assert not study.database.exists() and not (study.folder / "study.lock").exists()


def test_where_the_pages_are_for_one_platform_is_not_taken_for_another(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("crowd_imi.publisher.reach.reach_problems", lambda *_: ["nobody is there"])
    assert run(monkeypatch, "publish", str(study.folder), "--on", "link", "--pages-url", "http://127.0.0.1:9", "--yes") == 1
    assert "nothing is posted yet" in capsys.readouterr().err
    assert run(monkeypatch, "publish", str(study.folder), "--on", "local", "--yes") == 0
    assert "pages at http://127.0.0.1:8000" in capsys.readouterr().out


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


def test_nobody_is_invited_to_images_that_nobody_looked_at(
    unsigned: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, "publish", str(unsigned.folder), "--yes") == 1
    said = capsys.readouterr().err
    assert "nobody has signed the images off yet" in said and f"crowd-imi gallery {unsigned.folder} --approve" in said
    assert not unsigned.database.exists() and not (unsigned.folder / "study.lock").exists()


def test_a_content_warning_does_instead_and_stands_in_the_posting(unsigned: Study, monkeypatch: pytest.MonkeyPatch):
    write_study(unsigned.folder, STUDY_TOML.replace("[pages]", '[pages]\ncontent_warning = "Some images show {wounds}."'))
    assert run(monkeypatch, "publish", str(unsigned.folder), "--yes") == 0
    (place,) = LocalPlatform(unsigned.folder / "local.db").open_places()
    assert place.description.endswith("You need normal colour vision. Please know beforehand: Some images show {wounds}.")


@pytest.mark.parametrize("warning", ["", 'content_warning = "Some images show wounds."'])
def test_what_was_vetoed_after_the_sign_off_is_never_published(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], warning: str
):
    write_study(study.folder, STUDY_TOML.replace("[pages]", f"[pages]\n{warning}"))
    digest, name = next(iter(Pack(study.pack).manifest.natural().items()))
    change_vetoes(study, images=[digest])
    assert run(monkeypatch, "publish", str(study.folder), "--yes") == 1
    said = capsys.readouterr().err
    assert f"it still shows what was vetoed ({name}); run `crowd-imi render {study.folder}` again" in said
    assert not study.database.exists() and not (study.folder / "study.lock").exists()
    change_vetoes(study, lift=[digest])
    assert run(monkeypatch, "publish", str(study.folder), "--yes") == 0


def test_images_that_may_not_be_shown_are_minded(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_study(study.folder, STUDY_TOML.replace('licence = "CC0"', 'licence = "for research"\nrestricted = true'))
    assert run(monkeypatch, "publish", str(study.folder), "--yes") == 0
    assert "mind: images.restricted = true: by their licence (for research)" in capsys.readouterr().out


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


@pytest.mark.parametrize("command", ["publish", "serve", "preview", "rehearse", "check"])
def test_a_lost_plan_is_named_with_the_command_that_brings_it_back(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
):
    folder = str(study.folder)
    run(monkeypatch, "publish", folder, "--yes")
    study.plan.unlink()
    capsys.readouterr()
    assert run(monkeypatch, command, folder) == 1
    said = capsys.readouterr().err
    assert f"{study.plan}: it is missing, but this study has begun; run `crowd-imi plan {folder}`" in said


@pytest.mark.parametrize("command", ["harvest", "status"])
def test_what_doesnt_need_the_plan_goes_on_without_it(study: Study, monkeypatch: pytest.MonkeyPatch, command: str):
    run(monkeypatch, "publish", str(study.folder), "--yes")
    study.plan.unlink()
    assert run(monkeypatch, command, str(study.folder)) == 0


def test_a_rehearsal_of_another_plan_is_served_after_it_is_rehearsed_again(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    plan = load_plan(study.plan)
    create_store(study, plan, study.rehearsal("first"), StoreKind.REHEARSAL).close()
    plan.model_copy(update={"seed": plan.seed + 1}).save(study.plan)
    assert run(monkeypatch, "serve", str(study.folder), "--rehearsal", "first") == 1
    assert f"run `crowd-imi rehearse {study.folder} --name first`" in capsys.readouterr().err


def test_what_comes_next_can_be_pasted_though_the_folder_has_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    study = write_study(tmp_path / "my study")
    pack = write_pack(study)
    fake_plan(study).model_copy(update={"pack_sha256": pack.digest}).save(study.plan)
    approve(study)
    run(monkeypatch, "publish", str(study.folder), "--yes")
    said = capsys.readouterr().out
    assert f"crowd-imi serve '{study.folder}', and beside it: crowd-imi harvest '{study.folder}' --watch" in said


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
    assert run(monkeypatch, "harvest", folder, "--watch", "--every", "1") == 0
    assert len(rounds) == 2
    assert "refused: approve v: try again later" in capsys.readouterr().out
