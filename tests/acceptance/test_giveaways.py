"""The page can't be cheated: all that the browser receives, of 2,025 trials in 45 visits, says nothing; planted leaks do."""

import json
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from crowd_imi.keys import study_key
from crowd_imi.pages import places
from crowd_imi.pages.app import create_app
from crowd_imi.pages.layout import main_upper
from crowd_imi.pages.tokens import Tokens
from crowd_imi.plan import load_plan
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import launch
from crowd_imi.rehearsal.browser import Browser
from crowd_imi.rehearsal.doors import LocalDoor
from crowd_imi.rehearsal.giveaways import Found, How, Received, clues_of, search
from crowd_imi.rehearsal.leaks import Leaking
from crowd_imi.rehearsal.records import LeakName, Secret
from crowd_imi.rehearsal.run import open_stage
from crowd_imi.rehearsal.wire import DirectWire
from crowd_imi.store import Store
from crowd_imi.store.tables import Trial, Visit
from crowd_imi.study import Study
from tests.acceptance.rehearsals import PAGES, PLACES, planned_study
from tests.tiny import STUDY_TOML

VISITS, TRIALS, CATCH = 45, 45, 5
SOME_VISITS = 8
"""Of which a planted leak is found; each late reply of the leak in timing takes 30 ms."""

# 40 units × 45 responses / 40 trials = 45 tasks of 40 main and 5 catch trials.
TOML = (
    STUDY_TOML.replace('[[arms]]\nmodel = "toy"\ncondition = "synthetic"\nunits = 6\nresponses = 2\n', "")
    .replace("units = 6\nnull = 2\nresponses = 3", "units = 40\nresponses = 45")
    .replace("trials = 6\ncatch = 2", "trials = 40\ncatch = 5")
    .replace("cap = 5000", "cap = 20000")
    .replace("batches = 4", "batches = 2")
)

Labels = dict[str, NDArray[np.bool_]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return planned_study(tmp_path_factory.mktemp("giveaways"), TOML)


@pytest.fixture(scope="module")
def clean(study: Study) -> tuple[list[Received], Labels]:
    return receive(study, "clean", VISITS)


def receive(
    study: Study, name: str, visits: int, leak: LeakName | None = None, secret: Secret = Secret.ANSWER
) -> tuple[list[Received], Labels]:
    """Whole visits' documents and sprites as the real pages send them, and what a cheater would like to know."""
    plan = load_plan(study.plan)
    with open_stage(study, plan, name, 1) as stage:
        pages = create_app(study, stage.store, stage.platform, run_folder=stage.folder)
        app = pages if leak is None else Leaking(pages, stage.store, leak, plan.grid, secret)
        stage.platform.set_base_url(PLACES)
        posting = launch(study, stage.store, stage.platform, Choice(pages_url=PAGES)).platform_id
        wire = DirectWire(stage.clock, {PAGES: app, PLACES: places.create_app(stage.platform)})
        received, labels = [], []
        for number in range(visits):
            browser = Browser(wire, LocalDoor(wire, PLACES, stage.platform), f"cheater-{number}")
            assert browser.take(str(posting)) is not None and browser.arrive()
            view = browser.look_closely()
            addresses = [trial["sprite"] for trial in json.loads(view.content)["main"]]
            received.append(Received(view, {address: browser.sprite(address) for address in addresses}))
            labels += _labels(stage.store, Tokens(study_key(study.key)).read(browser.token)[0])
        catch, upper = np.array(labels).T
        return received, {"catch": catch, "upper": upper}


def _labels(store: Store, visit_id: str) -> list[tuple[bool, bool]]:
    """Of each trial: whether it is a catch trial, and whether the right query stands above."""
    with store.read() as session:
        visit = session.get_one(Visit, visit_id)
        trials = session.scalars(select(Trial).where(Trial.task_id == visit.task_id).order_by(Trial.position)).all()
        return [(trial.kind == "catch", main_upper(visit.layout_seed, trial.position) == "max") for trial in trials]


def look_for(sample: tuple[list[Received], Labels], what: str) -> dict[How, Found]:
    received, labels = sample
    clues, visit_of = clues_of(received)
    rng = np.random.default_rng(1)
    return {how: search(clues, visit_of, labels[what], how, rng) for how in get_args(How)}


@pytest.mark.parametrize("what", ["catch", "upper"])
def test_nothing_that_the_browser_receives_tells_catch_trials_or_the_right_query(study, clean, what):
    found = look_for(clean, what)
    if min(each.p_value for each in found.values()) < 0.001:
        # Waiting times are real ones, so that one run in 500 looks telling by chance. A leak does so every time.
        found = look_for(receive(study, f"again-{what}", VISITS), what)
    assert min(each.p_value for each in found.values()) >= 0.001, found


@pytest.mark.parametrize("leak", list(LeakName))
@pytest.mark.parametrize(("secret", "what"), [(Secret.ANSWER, "upper"), (Secret.KIND, "catch")])
def test_the_same_classifier_finds_a_planted_leak(study, leak, secret, what):
    found = look_for(receive(study, f"leak-{leak}-{secret}", SOME_VISITS, leak, secret), what)
    for how in get_args(How):
        assert found[how].p_value < 0.001, (how, found)
        assert found[how].auc > 0.6


def test_the_sample_is_as_large_as_it_says(clean):
    received, labels = clean
    clues, visit_of = clues_of(received)
    assert len(clues) == len(visit_of) == VISITS * TRIALS >= 2000
    assert labels["catch"].sum() == VISITS * CATCH
