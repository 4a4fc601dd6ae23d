"""The page can't be cheated: of either condition's 2,025 trials nothing that the browser receives tells; planted leaks do."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from crowd_imi.keys import study_key
from crowd_imi.pages import places
from crowd_imi.pages.app import create_app
from crowd_imi.pages.layout import main_upper, practice_upper
from crowd_imi.pages.tokens import Tokens
from crowd_imi.plan import load_plan
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import launch
from crowd_imi.records import Condition
from crowd_imi.rehearsal.browser import Browser
from crowd_imi.rehearsal.doors import LocalDoor
from crowd_imi.rehearsal.giveaways import Found, How, Overhearing, Received, clues_of, search
from crowd_imi.rehearsal.leaks import Leaking
from crowd_imi.rehearsal.observers import Choice as Click
from crowd_imi.rehearsal.participants import BROWSER
from crowd_imi.rehearsal.records import LeakName, Secret
from crowd_imi.rehearsal.run import open_stage
from crowd_imi.rehearsal.schedule import SECOND
from crowd_imi.rehearsal.wire import DirectWire, Reply
from crowd_imi.store import SimulatedClock, Store
from crowd_imi.store.tables import Trial, Visit
from crowd_imi.study import Study
from tests.acceptance.rehearsals import PAGES, PLACES, planned_study
from tests.tiny import STUDY_TOML

VISITS, TRIALS, CATCH = 45, 45, 5
SOME_VISITS = 6
"""Of which a planted leak is found; each late reply of the leak in timing takes 30 ms."""

# 40 units × 45 responses / 40 trials = 45 tasks of 40 main and 5 catch trials.
TOML = (
    STUDY_TOML.replace('[[arms]]\nmodel = "toy"\ncondition = "synthetic"\nunits = 6\nresponses = 2\n', "")
    .replace("units = 6\nnull = 2\nresponses = 3", "units = 40\nresponses = 45")
    .replace("trials = 6\ncatch = 2", "trials = 40\ncatch = 5")
    .replace("cap = 5000", "cap = 20000")
    .replace("batches = 4", "batches = 2")
)

CONDITIONS = get_args(Condition)

Labels = dict[Secret, NDArray[np.bool_]]
Sample = tuple[list[Received], Labels]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[Condition, Study]:
    """One of each condition, as catch trials are made in another way there; with the same pictures."""
    folder = tmp_path_factory.mktemp("giveaways")
    return {each: planned_study(folder / each, TOML.replace('"natural"', f'"{each}"')) for each in CONDITIONS}


@pytest.fixture(scope="module")
def study(studies: dict[Condition, Study]) -> Study:
    return studies["natural"]


@pytest.fixture(scope="module")
def samples(studies: dict[Condition, Study]) -> dict[Condition, Sample]:
    return {condition: receive(study, "clean", VISITS) for condition, study in studies.items()}


@pytest.fixture(scope="module")
def clean(samples: dict[Condition, Sample]) -> Sample:
    return samples["natural"]


def receive(study: Study, name: str, visits: int, leak: LeakName | None = None, secret: Secret = Secret.ANSWER) -> Sample:
    """All that the real pages send during whole visits, and what a cheater would like to know."""
    plan = load_plan(study.plan)
    with open_stage(study, plan, name, 1) as stage:
        pages = create_app(study, stage.store, stage.platform, run_folder=stage.folder)
        app = pages if leak is None else Leaking(pages, stage.store, leak, plan.grid, secret)
        stage.platform.set_base_url(PLACES)
        posting = launch(study, stage.store, stage.platform, Choice(pages_url=PAGES)).platform_id
        direct = DirectWire(stage.clock, {PAGES: app, PLACES: places.create_app(stage.platform)})
        received, labels = [], []
        for number in range(visits):
            wire = Overhearing(direct)
            browser = Browser(wire, LocalDoor(wire, PLACES, stage.platform), f"cheater-{number}")
            assert browser.take(str(posting)) is not None and browser.arrive()
            visit_id = Tokens(study_key(study.key)).read(browser.token)[0]
            take_part(browser, stage.clock, layout_seed(stage.store, visit_id))
            received.append(wire.received())
            labels += _labels(stage.store, visit_id)
        answer, kind = np.array(labels).T
        return received, {Secret.ANSWER: answer, Secret.KIND: kind}


def take_part(browser: Browser, clock: SimulatedClock, seed: int) -> None:
    """From consent to submission: practice right, and the upper row in every trial, whatever it shows."""
    view = browser.look()
    browser.consent(True, str(view.texts["consent"]["version"]))
    for page in view.texts["instructions"]:
        browser.page(str(page["id"]), SECOND)
    browser.instructions(BROWSER)
    for trial in view.practice.trials:
        row = "upper" if practice_upper(seed, view.practice.block, trial.position) == "max" else "lower"
        browser.sprite(trial.sprite)
        browser.practise(view.practice.block, trial.position, Click(row, 2), 2 * SECOND)
    for trial in view.main:
        browser.sprite(trial.sprite)
        clock.set(clock.now() + 4 * SECOND)
        browser.answer(trial.position, Click("upper", 2), 2 * SECOND, 50.0)
    assert browser.look().step == "feedback"  # a reload, after which the page has everything anew
    assert browser.submit("").step == "done"


def layout_seed(store: Store, visit_id: str) -> int:
    with store.read() as session:
        return session.get_one(Visit, visit_id).layout_seed


def _labels(store: Store, visit_id: str) -> list[tuple[bool, bool]]:
    """Of each trial: whether the right query stands above, and whether it is a catch trial."""
    with store.read() as session:
        visit = session.get_one(Visit, visit_id)
        trials = session.scalars(select(Trial).where(Trial.task_id == visit.task_id).order_by(Trial.position)).all()
        return [(main_upper(visit.layout_seed, trial.position) == "max", trial.kind == "catch") for trial in trials]


def look_for(sample: Sample, secret: Secret) -> dict[How, Found]:
    received, labels = sample
    clues, visit_of = clues_of(received, secret)
    rng = np.random.default_rng(1)
    return {how: search(clues, visit_of, labels[secret], how, rng) for how in get_args(How)}


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("secret", list(Secret))
def test_nothing_that_the_browser_receives_tells_catch_trials_or_the_right_query(studies, samples, secret, condition):
    found = look_for(samples[condition], secret)
    if min(each.p_value for each in found.values()) < 0.001:
        # Waiting times are real ones, so that one run in 500 looks telling by chance. A leak does so every time.
        found = look_for(receive(studies[condition], f"again-{secret}", VISITS), secret)
    assert min(each.p_value for each in found.values()) >= 0.001, found


@pytest.mark.parametrize("leak", list(LeakName))
@pytest.mark.parametrize("secret", list(Secret))
def test_the_same_classifier_finds_a_planted_leak(study, leak, secret):
    assert_found(look_for(receive(study, f"leak-{leak}-{secret}", SOME_VISITS, leak, secret), secret))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_sample_is_as_large_as_it_says(studies, samples, condition):
    assert [arm.condition for arm in studies[condition].file.arms] == [condition]
    received, labels = samples[condition]
    assert [len(visit.answers) for visit in received] == VISITS * [TRIALS]
    assert len(labels[Secret.KIND]) == VISITS * TRIALS >= 2000
    assert labels[Secret.KIND].sum() == VISITS * CATCH


Change = Callable[[Received, NDArray[np.bool_]], Received]


@pytest.fixture(scope="module")
def some(clean) -> Sample:
    received, labels = clean
    return received[:SOME_VISITS], {secret: each[: SOME_VISITS * TRIALS] for secret, each in labels.items()}


def plant(sample: Sample, secret: Secret, change: Change) -> Sample:
    """The same visits, had the pages told a secret."""
    received, labels = sample
    truths = labels[secret].reshape(len(received), -1)
    return [change(visit, truth) for visit, truth in zip(received, truths, strict=True)], labels


def documented(reply: Reply, document: object) -> Reply:
    content = json.dumps(document).encode()
    return replace(reply, content=content, headers={**reply.headers, "Content-Length": str(len(content))})


def with_sprite_headers(name: str, value: Callable[[bool, str], str]) -> Change:
    """Every sprite with one more header; the value is made of what it tells and of the sprite's address."""

    def change(visit: Received, truth: NDArray[np.bool_]) -> Received:
        sprites = dict(visit.sprites)
        for trial, tells in zip(json.loads(visit.views[0].content)["main"], truth, strict=True):
            address = trial["sprite"]
            reply = sprites[address]
            sprites[address] = replace(reply, headers={**reply.headers, name: value(bool(tells), address)})
        return replace(visit, sprites=sprites)

    return change


def with_trials(tell: Callable[[dict[str, Any], bool], None], *, at_reload_only: bool = False) -> Change:
    """Every trial's document changed."""

    def change(visit: Received, truth: NDArray[np.bool_]) -> Received:
        views = []
        for number, view in enumerate(visit.views):
            document = json.loads(view.content)
            for trial, tells in zip(document["main"], truth, strict=True):
                if number > 0 or not at_reload_only:
                    tell(trial, bool(tells))
            views.append(documented(view, document))
        return replace(visit, views=views)

    return change


def with_a_list(visit: Received, truth: NDArray[np.bool_]) -> Received:
    """The reply to consent with a list of as many numbers as there are trials."""
    first, *rest = visit.others
    return replace(visit, others=[documented(first, json.loads(first.content) | {"weights": (truth + 1).tolist()}), *rest])


def with_answers(tell: Callable[[Reply, bool], Reply]) -> Change:
    """The reply to every answer changed."""

    def change(visit: Received, truth: NDArray[np.bool_]) -> Received:
        return replace(visit, answers=[tell(reply, bool(tells)) for reply, tells in zip(visit.answers, truth, strict=True)])

    return change


def telling_tag(tells: bool, address: str) -> str:
    """Random digits, all but the fifth."""
    digits = hashlib.sha256(address.encode()).hexdigest()[:7]
    return f'"{digits[:4]}{int(tells)}{digits[4:]}"'


def telling_date(tells: bool, address: str) -> str:
    """What tells is a minute younger."""
    return formatdate(1_767_603_600 + len(address) + 60 * tells, usegmt=True)


EXTRA: dict[str, Change] = {
    "a header's letters": with_sprite_headers("ETag", telling_tag),
    "a header's time": with_sprite_headers("Last-Modified", telling_date),
    "a header's name": with_sprite_headers("X-Cache", lambda tells, _address: "hit" if tells else "not"),
    "a trial's new field": with_trials(lambda trial, tells: trial.update(weight=int(tells))),
    "a trial's new text": with_trials(lambda trial, tells: trial.update(set="ab" if tells else "ba")),
    "a field after a reload": with_trials(lambda trial, tells: trial.update(weight=int(tells)), at_reload_only=True),
    "a list of all trials": with_a_list,
}


@pytest.mark.parametrize("extra", EXTRA)
def test_whatever_else_would_tell_is_found(some, extra):
    assert_found(look_for(plant(some, Secret.KIND, EXTRA[extra]), Secret.KIND))


IN_ANSWERS: dict[str, Callable[[Reply, bool], Reply]] = {
    "size": lambda reply, tells: replace(reply, content=reply.content + b" " * tells),
    "field": lambda reply, tells: documented(reply, json.loads(reply.content) | {"counts": not tells}),
    "header": lambda reply, tells: replace(reply, headers={**reply.headers, "Server-Timing": f"db;dur={8 + tells}"}),
}


@pytest.mark.parametrize("way", IN_ANSWERS)
def test_a_reply_to_an_answer_that_tells_catch_trials_is_found(some, way):
    assert_found(look_for(plant(some, Secret.KIND, with_answers(IN_ANSWERS[way])), Secret.KIND))


def test_a_reply_that_comes_later_where_it_tells_is_found(some):
    # What a reply takes on a machine with nothing else to do; real waits differ by more when there is.
    takes = np.random.default_rng(0).lognormal(np.log(0.005), 0.8, size=SOME_VISITS * TRIALS)
    waits = iter(takes.tolist())

    def later(reply: Reply, tells: bool) -> Reply:
        return replace(reply, seconds=next(waits) + 0.03 * tells)

    assert_found(look_for(plant(some, Secret.KIND, with_answers(later)), Secret.KIND))


@pytest.mark.parametrize("secret", list(Secret))
def test_a_reply_to_an_answer_that_tells_of_the_next_trial_is_found(some, secret):
    def change(visit: Received, truth: NDArray[np.bool_]) -> Received:
        return with_answers(IN_ANSWERS["field"])(visit, np.roll(truth, -1))

    assert_found(look_for(plant(some, secret, change), secret))


@pytest.mark.parametrize("secret", list(Secret))
def test_that_an_answer_was_right_is_no_clue(some, secret):
    def tell(reply: Reply, right: bool) -> Reply:
        # One letter less for true than for false, and one more for 10 than for 9.
        return documented(reply, json.loads(reply.content) | {"correct": right, "correct_count": 9 + right})

    def wrong(reply: Reply, _right: bool) -> Reply:
        return tell(reply, False)

    told, untold = (clues_of(plant(some, secret, with_answers(each))[0], secret)[0] for each in (tell, wrong))
    np.testing.assert_array_equal(told, untold)


def assert_found(found: dict[How, Found]) -> None:
    for how in get_args(How):
        assert found[how].p_value < 0.001, (how, found)
        assert found[how].auc > 0.6
