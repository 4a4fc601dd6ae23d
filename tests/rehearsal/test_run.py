"""When an earlier rehearsal stands for one that is asked for; ``tests/acceptance`` runs them."""

import json

import pytest
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.errors import RehearsalError
from crowd_imi.files import write_atomically
from crowd_imi.plan import Plan
from crowd_imi.rehearsal import run
from crowd_imi.rehearsal.records import Cast, LeakName, Rehearsal
from crowd_imi.rehearsal.run import Rehearsing, finished, open_stage
from crowd_imi.study import Study
from tests.tiny import fake_plan, write_study

SAID = Rehearsal(
    study="tiny",
    name="first",
    seed=1,
    leak=None,
    ended="complete",
    short=(),
    participants=0,
    visits=0,
    by_state={},
    by_character={},
    outcomes=(),
    mismatches=(),
    acknowledged=0,
    lost=0,
    cheaters=None,
    requests=0,
    retries=0,
    harvests=0,
    simulated_hours=0,
    seconds=0,
)


@pytest.fixture
def study(tmp_path) -> Study:
    return write_study(tmp_path)


@pytest.fixture
def plan(study: Study) -> Plan:
    """The study's, with a finished rehearsal of it."""
    plan = fake_plan(study)
    note(study, run._finished(plan, 1, Cast(), None))
    write_atomically(study.rehearsal("first") / "rehearsal.json", SAID.model_dump_json().encode())
    return plan


def note(study: Study, noted: Rehearsing) -> None:
    write_atomically(study.rehearsal("first") / "rehearsing.json", noted.model_dump_json().encode())


@pytest.mark.parametrize("name", ["preview", "Preview"])
def test_no_rehearsal_may_have_the_previews_folder(study, name):
    with pytest.raises(RehearsalError, match="would delete the rehearsal; choose another name"):
        run.rehearse(study, name)


def test_the_number_of_cheaters_does_not_go_with_a_leak(study):
    done = CliRunner().invoke(app, ["rehearse", str(study.folder), "--leak", "size", "--cheaters", "2"])
    assert done.exit_code == 1
    assert done.stderr == (
        "error: --cheaters 2: with --leak everybody cheats; leave it out, and give their number as --participants\n"
    )


def test_the_same_rehearsal_is_found_again(study, plan):
    assert finished(study, "first", plan, 1, Cast()) == SAID


def test_another_plan_seed_or_cast_is_another_rehearsal(study, plan):
    assert finished(study, "first", plan.model_copy(update={"seed": 8}), 1, Cast()) is None
    assert finished(study, "first", plan, 2, Cast()) is None
    assert finished(study, "first", plan, 1, Cast(cheaters=0)) is None


def test_another_version_rehearses_anew(study, plan, monkeypatch):
    monkeypatch.setattr(run, "__version__", "99")
    assert finished(study, "first", plan, 1, Cast()) is None


@pytest.mark.parametrize("change", [{"finished": False}, {"leak": LeakName.SIZE}])
def test_an_unfinished_or_leaking_rehearsal_doesnt_stand_for_one(study, plan, change):
    note(study, run._finished(plan, 1, Cast(), None).model_copy(update=change))
    assert finished(study, "first", plan, 1, Cast()) is None


def test_what_an_earlier_version_noted_is_read_and_not_taken(study, plan):
    folder = study.rehearsal("first")
    (folder / "rehearsing.json").write_text(json.dumps({"plan_sha256": plan.sha256, "seed": 1, "finished": True}))
    assert finished(study, "first", plan, 1, Cast()) is None
    with open_stage(study, plan, "first", 1) as stage:
        assert not (stage.folder / "rehearsal.json").exists()


@pytest.mark.parametrize("name", ["rehearsing.json", "rehearsal.json"])
def test_a_damaged_note_is_no_finished_rehearsal(study, plan, name):
    (study.rehearsal("first") / name).write_bytes(b"{")
    assert finished(study, "first", plan, 1, Cast()) is None


def test_a_folder_with_a_damaged_note_is_left_alone(study, plan):
    (study.rehearsal("first") / "rehearsing.json").write_bytes(b"{")
    with pytest.raises(RehearsalError, match="isn't a rehearsal's folder"), open_stage(study, plan, "first", 1):
        pass
    assert (study.rehearsal("first") / "rehearsal.json").exists()
