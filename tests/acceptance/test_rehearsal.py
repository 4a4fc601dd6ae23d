"""Rehearsals through the real pages, in this process or served and killed: characters, repeatability, leaks."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import func, select

from crowd_imi.errors import RehearsalError
from crowd_imi.rehearsal.cheater import LEARNING
from crowd_imi.rehearsal.records import TROUBLEMAKERS, Cast, LeakName, Rehearsal
from crowd_imi.rehearsal.run import open_stage, rehearse
from crowd_imi.rehearsal.server import Server
from crowd_imi.rehearsal.wire import Wire
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.store.tables import Visit
from crowd_imi.study import Study
from tests.acceptance.rehearsals import answers_table, planned_study, rehearse_here

CHEATERS = Cast(troublemakers=(), cheaters=0, only_cheaters=True, at_most=12)
KILLS_AFTER = (150, 500, 900)
"""Requests."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return planned_study(tmp_path_factory.mktemp("rehearsal"))


@pytest.fixture(scope="module")
def full(study: Study) -> Rehearsal:
    return rehearse_here(study, "full", Cast())


def test_everybody_ends_in_the_state_they_should(full):
    assert full.mismatches == ()
    assert full.by_character == {**dict.fromkeys(TROUBLEMAKERS, 1), "cheater": 2, "observer": full.participants - 13}
    states = {outcome.character: outcome.state for outcome in full.outcomes if outcome.character in TROUBLEMAKERS}
    assert (states["leaves"], states["gives_back"], states["declines"]) == ("timed_out", "returned", "declined")


def test_every_task_has_its_one_valid_response(study, full):
    assert full.ended == "complete" and full.short == ()
    store = Store.open(*database_urls(study.rehearsal("full")))
    with store.read() as session:
        valid = session.execute(select(Visit.task_id, func.count()).where(Visit.state == "valid").group_by(Visit.task_id)).all()
    store.close()
    assert sorted(tuple(row) for row in valid) == [(task, 1) for task in range(1, 13)]


def test_the_repeat_visitor_is_told_so(full):
    (twice,) = (outcome for outcome in full.outcomes if outcome.character == "comes_twice")
    assert twice.refusals == ("already-took-part",)


def test_observers_who_look_are_nearly_always_right(study, full):
    observers = [outcome for outcome in full.outcomes if outcome.character == "observer" and outcome.state is not None]
    valid = [outcome for outcome in observers if outcome.state == "valid"]
    # The pictures differ in colour alone, clearly; a null unit's don't differ in these panels either.
    assert len(valid) >= 0.7 * len(observers)


def test_the_same_seed_gives_the_same_answers_whatever_the_studys_secret_key(study, full, tmp_path):
    first = answers_table(study, "full")
    again = planned_study(tmp_path, key="b")
    rehearse_here(again, "full", Cast())
    assert answers_table(again, "full") == first
    assert len(first) == full.acknowledged


def test_another_seed_gives_other_answers(study, full):
    rehearse_here(study, "other", Cast(at_most=4), seed=2)
    assert not set(answers_table(study, "other")) & set(answers_table(study, "full"))


def test_without_a_leak_cheaters_toss_coins(study):
    result = rehearse_here(study, "clean", CHEATERS).cheaters
    # Waiting times are real ones, and differ from run to run; everything else is the same each time, as the key is set.
    steady = [channel for channel in result.channels if channel.channel != "timing"]
    # 12 visits of 8 trials, each sprite met once.
    assert [channel.bets for channel in steady] == [12 * 8 - LEARNING] * 5
    assert min(channel.p_value for channel in steady) * len(steady) >= 0.001


@pytest.mark.parametrize("leak", list(LeakName))
def test_a_planted_leak_is_found_in_its_channel(study, leak):
    result = rehearse_here(study, f"leak-{leak}", CHEATERS, leak=leak).cheaters
    assert result.p_value < 0.001
    (channel,) = (channel for channel in result.channels if channel.channel == leak.value)
    assert channel.p_value < 0.0001


def test_a_folder_that_is_no_rehearsals_is_left_alone(study):
    folder = study.rehearsal("mine")
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("keep")
    with pytest.raises(RehearsalError, match="isn't a rehearsal's folder"):
        rehearse_here(study, "mine", Cast())
    assert (folder / "notes.txt").read_text() == "keep"


def test_an_unfinished_rehearsal_of_another_plan_is_left_alone(study):
    folder = study.rehearsal("unfinished")
    folder.mkdir(parents=True)
    (folder / "rehearsing.json").write_text(json.dumps({"plan_sha256": "0" * 64, "seed": 1, "finished": False}))
    with pytest.raises(RehearsalError, match="unfinished rehearsal of another plan"):
        rehearse_here(study, "unfinished", Cast())


def test_a_rehearsal_starts_anew_over_its_own_folder(study):
    from crowd_imi.plan import load_plan

    for _ in range(2):
        with open_stage(study, load_plan(study.plan), "again", 1) as stage:
            assert not (stage.folder / "left-over").exists()
            (stage.folder / "left-over").touch()


@contextmanager
def killing(server: Server, wire: Wire) -> Iterator[None]:
    """Kill the server's whole process group again and again, wherever it is in a request, and start it again."""
    over = threading.Event()
    problems: list[BaseException] = []

    def kill_and_start() -> None:
        try:
            for count in KILLS_AFTER:
                while wire.requests < count and not over.is_set():
                    time.sleep(0.001)
                server.kill()
                server.start()
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=kill_and_start)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert problems == []


@pytest.mark.timeout(400)
def test_killing_the_server_loses_no_answer_and_changes_none(study, full):
    killed = rehearse(study, "killed", participants=Cast(), beside=killing)
    assert killed.retries >= len(KILLS_AFTER)
    assert killed.acknowledged > 100
    assert (killed.lost, killed.mismatches, killed.ended) == (0, (), "complete")
    assert answers_table(study, "killed") == answers_table(study, "full")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("leak", [None, "size"])
def test_the_command_prints_one_document(study, leak):
    command = [sys.executable, "-m", "crowd_imi", "rehearse", str(study.folder), "--name", "by-command", "--json"]
    command += ["--participants", "12", "--cheaters", "0"] if leak is None else ["--participants", "12", "--leak", leak]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    document = json.loads(done.stdout)
    assert (document["participants"], document["lost"]) == (12, 0)
    # Twelve cheaters may happen to finish the last task; twelve who take part as people do are too few.
    assert document["ended"] == "participants" or (leak is not None and document["ended"] == "complete")
    if leak is None:
        # Twelve participants aren't enough for the one who comes twice to find a second place in any case.
        assert document["cheaters"] is None
    else:
        assert done.returncode == 0, done.stderr
        assert document["cheaters"]["p_value"] < 0.001
