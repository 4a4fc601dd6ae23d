"""A pilot, an extension and a void as a user types them, against Prolific's stand-in."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.store.tables import Task
from crowd_imi.study import Study
from tests.cli.test_publish_prolific import impatient, pages, planned, rig, run, study
from tests.contract.prolific import ProlificRig

__all__ = ["impatient", "planned", "rig", "study"]

ARM = "toy-natural-easy"


@pytest.fixture
def posted(study: Study, rig: ProlificRig) -> Iterator[tuple[Study, ProlificRig]]:
    """A pilot of one, then the study of two."""
    where = ["--on", "prolific", "--endpoint-url", rig.url, "--no-reach", "--yes"]
    for pilot in (["--pilot", "1"], []):
        done = run("publish", study.folder, *where, *pilot)
        assert done.exit_code == 0, done.output
        assert ("posts the study itself" in done.output) == ("the pilot of 1 is posted as" in done.output) == bool(pilot)
    yield study, rig


def places(rig: ProlificRig) -> list[int]:
    return [there["total_available_places"] for there in rig.books()["studies"]]


def test_pilot_and_study_are_two_studies_and_who_was_in_one_isnt_asked_for_the_other(posted: tuple[Study, ProlificRig]):
    study, rig = posted
    assert sorted(places(rig)) == [1, 2]
    pilot = next(there for there in rig.books()["studies"] if there["total_available_places"] == 1)
    main = next(there for there in rig.books()["studies"] if there["total_available_places"] == 2)
    blocked = {filtered["filter_id"]: filtered["selected_values"] for filtered in main["filters"]}
    assert blocked == {"previous_studies_blocklist": [pilot["id"]]}
    assert run("harvest", study.folder).exit_code == 0
    said = run("status", study.folder, "--json")
    assert json.loads(said.stdout)["pilot"]["open"] == 1


def test_an_extension_raises_places_once_within_the_cap(posted: tuple[Study, ProlificRig]):
    study, rig = posted
    over = run("extend", study.folder, "--responses", "5", "--yes")
    # 3 places taken up at 2.00 and three more: 12.00, and the cap is 10.00.
    assert over.exit_code == 1 and "at least 1200" in over.output and sorted(places(rig)) == [1, 2]
    for _ in range(2):
        done = run("extend", study.folder, "--responses", "4", "--yes")
        assert done.exit_code == 0, done.output
        assert sorted(places(rig)) == [1, 4]
    assert json.loads(run("ledger", study.folder, "--json").stdout)["differences"] == 0


def test_the_answer_of_raising_places_is_lost_and_the_next_run_goes_on(posted: tuple[Study, ProlificRig]):
    study, rig = posted
    rig.standin("PUT", "faults", {"next": ["error"] * 200, "path": "studies/"})
    failed = run("extend", study.folder, "--responses", "4", "--yes")
    assert failed.exit_code == 1
    rig.standin("PUT", "faults", {})
    assert run("extend", study.folder, "--responses", "4", "--yes").exit_code == 0
    assert sorted(places(rig)) == [1, 4]
    assert run("harvest", study.folder).exit_code == 0
    assert sorted(places(rig)) == [1, 4]


def test_sprites_of_a_voided_tasks_replacement_are_served_while_the_server_runs(
    posted: tuple[Study, ProlificRig], tmp_path: Path
):
    import requests

    study, rig = posted
    with pages(study) as address:
        done = run("void", study.folder, "--task", f"{ARM}/1", "--reason", "a sprite is damaged", "--yes")
        assert done.exit_code == 0, done.output
        store = Store.open(*database_urls(study.folder))
        with store.read() as session:
            tasks = session.scalars(select(Task).where(Task.label == "main").order_by(Task.number)).all()
        store.close()
        assert [task.retired_at is None for task in tasks] == [False, True, True]
        new = {path.name for path in study.sprites.glob("*.avif")}
        assert all(requests.get(f"{address}/sprites/{name}", timeout=10).status_code == 200 for name in new)
    assert sorted(places(rig)) == [1, 2]  # nobody had it: the place is the other task's
