"""A study that has begun: its plan can be laid out again when it was lost, and never as another one."""

import json

import pytest

from crowd_imi.design.begun import current_plan
from crowd_imi.design.plan import make_plan
from crowd_imi.errors import DesignError
from crowd_imi.plan import Plan, load_plan
from crowd_imi.publisher.launch import create_store
from crowd_imi.store import StoreKind
from crowd_imi.study import Study
from tests.design.conftest import SMALL_TOML
from tests.tiny import render_anew, write_study

RESEEDED = SMALL_TOML.replace("seed = 7", "seed = 8")


@pytest.fixture
def begun(study: Study) -> Study:
    """The small planned study with a store, as ``publish`` makes it."""
    create_store(study, load_plan(study.plan), study.folder, StoreKind.STUDY).close()
    return study


def plan_again(study: Study) -> Plan:
    return make_plan(study, practice=study.folder / "practice")


def everything(study: Study) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (study.plan, *study.sprites.iterdir())}


def delete(study: Study) -> None:
    study.plan.unlink()


def cut_off(study: Study) -> None:
    study.plan.write_bytes(study.plan.read_bytes()[:-100])


def empty(study: Study) -> None:
    study.plan.write_bytes(b"")


def change(study: Study) -> None:
    document = json.loads(study.plan.read_text())
    document["tasks"][0]["trials"][0]["batch"] += 1
    study.plan.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (delete, "it is missing, but this study has begun"),
        (cut_off, "it is damaged"),
        (empty, "it is damaged"),
        (change, "it has changed since this study began"),
    ],
)
def test_a_lost_plan_is_named_with_its_remedy_which_brings_it_back(begun: Study, harm, said: str):
    before = everything(begun)
    harm(begun)
    with pytest.raises(DesignError) as caught:
        current_plan(begun)
    assert str(caught.value).startswith(f"{begun.plan}: {said}")
    assert f"run `crowd-imi plan {begun.folder}`" in str(caught.value)
    plan_again(begun)
    assert everything(begun) == before
    assert current_plan(begun) == load_plan(begun.plan)


def test_before_it_begins_a_study_may_be_planned_anew(study: Study):
    study.plan.write_bytes(b"{")
    with pytest.raises(DesignError, match=r"plan\.json: it is damaged \(Invalid JSON.*to lay the tasks out again"):
        current_plan(study)
    assert plan_again(write_study(study.folder, RESEEDED)) == current_plan(study)
    study.plan.unlink()
    with pytest.raises(DesignError, match="nothing is planned yet"):
        current_plan(study)


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 7", "seed = 8", "trials or their order are others"),
        ('name = "tiny"', 'name = "small"', "the study is called small and was called tiny"),
        # 4 units × 2 responses / 4 trials = 2 tasks; 4 × 3 / 4 = 3.
        ("responses = 2", "responses = 3", "toy-natural-easy has 3 tasks and had 2"),
    ],
)
def test_another_plan_is_refused_and_the_difference_named(begun: Study, lost: bool, old: str, new: str, said: str):
    if lost:
        begun.plan.unlink()
    before = {path.name: path.read_bytes() for path in begun.sprites.iterdir()}
    with pytest.raises(DesignError) as caught:
        plan_again(write_study(begun.folder, SMALL_TOML.replace(old, new)))
    assert str(caught.value).startswith(f"{begun.plan}: this study has begun (study.db is there)")
    assert said in str(caught.value) and f"crowd-imi check {begun.folder}" in str(caught.value)
    assert begun.plan.exists() is not lost
    assert {path.name: path.read_bytes() for path in begun.sprites.iterdir()} == before


def test_another_pack_is_named(begun: Study):
    render_anew(begun)
    with pytest.raises(DesignError, match="pack was rendered anew"):
        plan_again(begun)


def test_another_practice_is_told_from_other_tasks(begun: Study):
    toml = begun.folder / "practice" / "practice.toml"
    toml.write_text(toml.read_text().replace("obvious = false", "obvious = true"))
    with pytest.raises(DesignError, match=r"the tasks are the same, but .* the practice trials are others"):
        plan_again(begun)


def test_another_key_is_named_and_a_lost_one_isnt_made_anew(begun: Study):
    begun.key.write_bytes(b"b" * 64)
    with pytest.raises(DesignError, match=r"sprites have other names \(.*study\.key"):
        plan_again(begun)
    begun.key.unlink()
    with pytest.raises(DesignError, match=r"study\.key: it is missing, but this study has begun"):
        plan_again(begun)
    assert not begun.key.exists()


def test_what_may_be_edited_after_publishing_changes_no_plan(begun: Study):
    before = everything(begun)
    plan_again(write_study(begun.folder, SMALL_TOML.replace("cap = 5000", "cap = 9000").replace("The lab", "We")))
    assert everything(begun) == before
