"""A whole study on every platform, with the real commands' code, adapters, servers and stand-ins: the same table comes out."""

from pathlib import Path

import pytest
from sqlalchemy import func, select

from crowd_imi.platforms.opening import PlatformName
from crowd_imi.rehearsal.demo.run import run_demo
from crowd_imi.rehearsal.records import Cast
from crowd_imi.rehearsal.run import rehearse
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.store.money import all_intents
from crowd_imi.store.tables import Answer, Trial, Visit
from crowd_imi.study import Study, load_study
from tests.acceptance.rehearsals import planned_study
from tests.tiny import STUDY_TOML

# 6 units × 6 responses / 6 trials = 6 tasks of 6 main and 2 catch trials; half of them by people who are replaced.
TOML = (
    STUDY_TOML.replace('[[arms]]\nmodel = "toy"\ncondition = "synthetic"\nunits = 6\nresponses = 2\n', "")
    .replace("units = 6\nnull = 2\nresponses = 3", "units = 6\nresponses = 6")
    .replace("cap = 5000", "cap = 20000")
)
CAST = Cast(troublemakers=("random", "same_row", "declines", "leaves"), cheaters=0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return planned_study(tmp_path_factory.mktemp("platforms"), TOML)


def table(study: Study, name: str) -> list[tuple[object, ...]]:
    """Right answers and answers per unit, of valid responses."""
    store = Store.open(*database_urls(study.rehearsal(name)))
    with store.read() as session:
        rows = session.execute(
            select(Trial.unit, func.sum(Answer.correct), func.count())
            .select_from(Answer)
            .join(Visit, Visit.id == Answer.visit_id)
            .join(Trial, (Trial.task_id == Visit.task_id) & (Trial.position == Answer.position))
            .where(Visit.state == "valid", Trial.kind == "main")
            .group_by(Trial.unit)
            .order_by(Trial.unit)
        ).all()
    store.close()
    return [tuple(row) for row in rows]


def payments(folder: Path) -> tuple[int, int]:
    """How many were paid, and intents that aren't done."""
    store = Store.open(*database_urls(folder))
    with store.read() as session:
        intents = all_intents(session)
    store.close()
    return sum(i.operation == "approve" for i in intents), sum(i.state != "done" for i in intents)


@pytest.fixture(scope="module")
def local(study: Study) -> list[tuple[object, ...]]:
    done = rehearse(study, "on-local", participants=CAST)
    assert done.mismatches == () and done.ended == "complete"
    return table(study, "on-local")


@pytest.mark.parametrize("platform", ["link", "prolific", "mturk"])
def test_every_platform_gives_the_same_table(study: Study, local: list[tuple[object, ...]], platform: PlatformName):
    done = rehearse(study, f"on-{platform}", on=platform, participants=CAST)
    assert done.mismatches == () and done.ended == "complete" and done.lost == 0
    assert table(study, f"on-{platform}") == local
    assert {counted for _, _, counted in local} == {6}
    paid, not_done = payments(study.rehearsal(f"on-{platform}"))
    assert paid == payments(study.rehearsal("on-local"))[0] and not_done == 0


@pytest.mark.soak
def test_the_demo_study_gives_the_same_table_on_every_platform(tmp_path: Path):
    """The whole demo, 70 tasks of 80 units: random units are so hard in its synthetic arm that a task may run out of people."""
    study = load_study(run_demo(tmp_path, 1, lambda _: None).study)
    platforms: tuple[PlatformName, ...] = ("local", "link", "prolific", "mturk")
    done = {platform: rehearse(study, f"on-{platform}", on=platform, participants=CAST) for platform in platforms}
    assert {(one.mismatches, one.lost, one.ended, one.short) for one in done.values()} == {
        ((), 0, done["local"].ended, done["local"].short)
    }
    tables = [table(study, f"on-{platform}") for platform in platforms]
    assert len(tables[0]) == 80 and all(one == tables[0] for one in tables)
    assert len({payments(study.rehearsal(f"on-{platform}")) for platform in platforms}) == 1
