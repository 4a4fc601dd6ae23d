"""A small planned study with real sprites, and a rehearsal of it without a server process."""

from pathlib import Path

from sqlalchemy import select

from crowd_imi.design.plan import make_plan
from crowd_imi.files import write_atomically
from crowd_imi.pages import places
from crowd_imi.pages.app import create_app
from crowd_imi.plan import load_plan
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import launch
from crowd_imi.rehearsal.doors import LocalDoor
from crowd_imi.rehearsal.leaks import Leaking
from crowd_imi.rehearsal.records import Cast, LeakName, Rehearsal
from crowd_imi.rehearsal.run import conclude, make_crowd, open_stage, play
from crowd_imi.rehearsal.wire import DirectWire
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.store.tables import Answer, Visit
from crowd_imi.study import Study
from tests.tiny import STUDY_TOML, write_pack, write_study

PAGES, PLACES = "http://pages.test:8000", "http://127.0.0.1:8001"

# 8 units × 6 responses / 6 trials = 8 tasks, and 6 × 4 / 6 = 4: 12 tasks of 6 main and 2 catch trials.
TOML = (
    STUDY_TOML.replace("responses = 3", "responses = 6")
    .replace("responses = 2", "responses = 4")
    .replace("cap = 5000", "cap = 20000")
)


def planned_study(folder: Path, toml: str = TOML, key: str = "a") -> Study:
    """A study whose pictures a perceptual observer can tell apart: max images reddish, min images bluish.

    Its secret key is set, as sprite names hang on it and cheaters bet on them.
    """
    study = write_study(folder, toml)
    write_atomically(study.key, 64 * key.encode())
    write_pack(study)
    make_plan(study)
    return study


def rehearse_here(study: Study, name: str, cast: Cast, *, seed: int = 1, leak: LeakName | None = None) -> Rehearsal:
    """``rehearse``, with the real apps called in this process: quicker, and without a port."""
    plan = load_plan(study.plan)
    with open_stage(study, plan, name, seed) as stage:
        pages = create_app(study, stage.store, stage.platform, run_folder=stage.folder)
        app = pages if leak is None else Leaking(pages, stage.store, leak, plan.grid)
        stage.platform.set_base_url(PLACES)
        launch(study, stage.store, stage.platform, Choice(pages_url=PAGES))
        wire = DirectWire(stage.clock, {PAGES: app, PLACES: places.create_app(stage.platform)})
        crowd = make_crowd(stage, LocalDoor(wire, PLACES, stage.platform), wire, cast, seed)
        play(crowd)
        return conclude(stage, crowd, name=name, leak=leak, seconds=0.0)


def answers_table(study: Study, name: str) -> list[tuple[object, ...]]:
    """Every answer of a rehearsal, whoever's and whenever."""
    store = Store.open(*database_urls(study.rehearsal(name)))
    with store.read() as session:
        rows = session.execute(
            select(
                Visit.participant,
                Visit.task_id,
                Visit.state,
                Answer.position,
                Answer.row,
                Answer.choice,
                Answer.confidence,
                Answer.rt_ms,
                Answer.at,
            )
            .join(Answer, Answer.visit_id == Visit.id)
            .order_by(Visit.participant, Answer.position)
        ).all()
    store.close()
    return [tuple(row) for row in rows]
