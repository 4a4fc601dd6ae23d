import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.harvester import harvest
from crowd_imi.harvester.what_if import post_hoc, what_if
from crowd_imi.store import StoreKind
from crowd_imi.store.tables import Answer, Visit
from crowd_imi.study import ExclusionSection
from tests.harvester.crowd import SMALL, Crowd


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    return Crowd.posted(tmp_path)


def half_of_the_catch_trials(crowd: Crowd, name: str) -> Visit:
    """One of the two catch trials is right, and three of the six main trials."""
    visit = crowd.arrive(name)
    crowd.begin(visit)
    crowd.answer_all(visit)
    with crowd.store.write() as session:
        for position in (0, 1, 2, 6):
            session.get_one(Answer, (visit.id, position)).correct = False
    crowd.clock.set(crowd.clock.now() + 1)
    with crowd.store.write() as session:
        from crowd_imi.allocation import hand_in

        hand_in(session, session.get_one(Visit, visit.id), crowd.clock.now())
    crowd.hand_in(name)
    return visit


def judged(crowd: Crowd) -> None:
    crowd.take_part("anna")
    half_of_the_catch_trials(crowd, "ben")
    harvest(crowd.study, crowd.store, crowd.platform)


def test_a_looser_limit_shows_whom_it_would_have_kept(crowd: Crowd):
    judged(crowd)
    before = crowd.outline()
    limits = crowd.study.file.exclusion.model_copy(update={"min_catch_ratio": 0.5})
    found = what_if(crowd.store, limits, None)
    catch = next(one for one in found.criteria if one.criterion == "catch_trials")
    assert (catch.excluded_before, catch.excluded_after) == (1, 0)
    assert (catch.limit_before, catch.limit_after) == (
        "at least 80% of the catch trials right",
        "at least 50% of the catch trials right",
    )
    total = {name: sum(getattr(arm, name) for arm in found.arms) for name in ("judged", "excluded_before", "excluded_after")}
    assert total == {"judged": 2, "excluded_before": 1, "excluded_after": 0}
    assert crowd.outline() == before


def test_mis_stands_with_nobody_excluded_too(crowd: Crowd):
    judged(crowd)
    found = what_if(crowd.store, crowd.study.file.exclusion, None)
    with crowd.store.read() as session:
        arms = {session.get_one(Visit, visit).task_id for visit in crowd.people()}
    assert len(arms) == 2
    # Anna has every main trial right, Ben three of six; each arm has six units.
    if len(found.arms) == 1:  # both drew the same arm: every unit has two answers, three of them one wrong
        assert (found.arms[0].mis_before, found.arms[0].mis_nobody_excluded) == (1.0, 0.75)
    else:
        assert {arm.mis_before for arm in found.arms} == {1.0, None}
        assert {arm.mis_nobody_excluded for arm in found.arms} == {1.0, 0.5}


def test_a_criterion_that_is_switched_on_afterwards_is_measured_and_labelled(crowd: Crowd):
    judged(crowd)
    published = crowd.study.file.exclusion
    found = what_if(crowd.store, published.model_copy(update={"max_button_run": 1, "min_reaction_ms": 2500}), published)
    run = next(one for one in found.criteria if one.criterion == "reaction_times")
    assert (run.limit_before, run.excluded_before, run.excluded_after) == (None, 0, 2)  # all answers took 2,000 ms
    assert found.post_hoc == (
        "exclusion.min_reaction_ms was None when the study was published and is 2500 here",
        "exclusion.max_button_run was None when the study was published and is 1 here",
    )
    assert post_hoc(published, published) == []


def test_who_was_rejected_stays_out_whatever_the_limits(crowd: Crowd):
    judged(crowd)
    with crowd.store.write() as session:
        for visit in crowd.people():
            session.get_one(Visit, visit).payment = "rejected"
    found = what_if(crowd.store, ExclusionSection(min_catch_ratio=0.0), None)
    assert all(arm.excluded_after == arm.judged for arm in found.arms)


def posted_rehearsal(folder: Path) -> Crowd:
    """A rehearsal where the command line looks for it."""
    from crowd_imi.publisher.launch import create_store
    from tests.harvester.crowd import clock
    from tests.tiny import fake_plan, write_study

    study = write_study(folder, SMALL)
    run = study.rehearsal("first")
    crowd = Crowd(study, create_store(study, fake_plan(study), run, StoreKind.REHEARSAL, clock()))
    crowd.platform.close()
    (folder / "local.db").rename(run / "local.db")
    return crowd


def command(*words: object):
    return CliRunner().invoke(app, ["harvest", *map(str, words)])


def test_the_command_shows_both_and_refuses_nonsense(tmp_path: Path):
    crowd = posted_rehearsal(tmp_path)
    crowd.store.close()
    told = command(tmp_path, "--rehearsal", "first", "--dry-run", "--set", "exclusion.min_catch_ratio=0.6", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["arms"] == []
    for words, said in (
        (("--set", "exclusion.min_catch_ratio=0.6"), "--set is for --dry-run"),
        (("--dry-run", "--watch"), "--dry-run looks once"),
        (("--dry-run", "--set", "pay.cap=1"), "only limits can be tried out"),
        (("--dry-run", "--set", "exclusion.min_catch_ratio=much"), "as in study.toml"),
    ):
        refused = command(tmp_path, *words)
        assert refused.exit_code == 2 and said in " ".join(refused.output.replace("│", " ").split())
