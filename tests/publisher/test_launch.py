import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from crowd_imi.allocation import Arrival, arrive
from crowd_imi.errors import PlatformError, PublishError, StoreError
from crowd_imi.plan import load_plan
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher import launch as module
from crowd_imi.publisher.checks import concerns, posting_problems
from crowd_imi.publisher.launch import create_store, launch, offer_of
from crowd_imi.publisher.lock import hold_to_lock, load_lock, lock_path
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.store.tables import Person
from crowd_imi.study import Study, load_study
from crowd_imi.study_templates import TemplateName, template
from tests.tiny import STUDY_TOML, fake_plan, write_study

CHOICE = Choice()
TASKS = 6
"""(6 + 2) units × 3 responses / 6 trials = 4, and 6 × 2 / 6 = 2."""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = write_study(tmp_path)
    fake_plan(study)
    return study


@pytest.fixture
def platform(tmp_path: Path) -> LocalPlatform:
    return LocalPlatform(tmp_path / "local.db")


def new_store(study: Study, kind: StoreKind = StoreKind.STUDY) -> Store:
    return create_store(study, fake_plan(study), study.folder, kind)


def test_every_task_gets_a_place(study: Study, platform: LocalPlatform):
    store = new_store(study)
    posting = launch(study, store, platform, CHOICE)
    (offer,) = platform.open_places()
    assert (offer.posting, offer.free, offer.reward.amount, offer.minutes) == (posting.platform_id, TASKS, 150, 6.0)
    assert offer.title == "A tiny study"
    assert posting.state == "open" and posting.platform == "local"


def test_publishing_again_posts_nothing_twice(study: Study, platform: LocalPlatform):
    store = new_store(study)
    first = launch(study, store, platform, CHOICE)
    store.close()
    again = Store.open(*database_urls(study.folder))
    assert launch(study, again, platform, CHOICE).platform_id == first.platform_id
    assert len(platform.open_places()) == 1


def test_more_than_the_cap_is_refused_before_anything_is_written(tmp_path: Path, platform: LocalPlatform):
    study = write_study(tmp_path, STUDY_TOML.replace("cap = 5000", "cap = 899"))
    store = new_store(study)
    with pytest.raises(PublishError, match=r"6 tasks × 1\.50 USD = 9\.00 USD, but pay\.cap allows 8\.99 USD.*at least 900"):
        launch(study, store, platform, CHOICE)
    assert platform.open_places() == () and load_lock(study) is None
    assert (
        offer_of(
            write_study(tmp_path, STUDY_TOML.replace("cap = 5000", "cap = 900")), TASKS, LocalPlatform(tmp_path / "local.db")
        ).total.amount
        == 900
    )


def test_the_lock_says_what_was_published(study: Study, platform: LocalPlatform):
    launch(study, new_store(study), platform, CHOICE)
    lock = load_lock(study)
    assert lock is not None
    assert lock.plan_sha256 == fake_plan(study).sha256
    assert lock.exclusion == study.file.exclusion
    assert lock.versions["crowd-imi"] and lock.versions["python"]
    assert lock.frozen["pay"] == {
        "reward": 150,
        "currency": "USD",
        "estimated_minutes": 6.0,
        "bonus": 0,
        "bonus_for": "catch_trials",
        "floor_per_hour": None,
    }
    assert "pages" not in lock.frozen and lock.frozen["schema"] == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cap = 5000", "cap = 9000"),
        ("min_total_seconds = 60", "min_total_seconds = 90"),
        ('investigator = "The lab"', 'investigator = "Another name"'),
        ('title = "A tiny study"', 'title = "A small study"'),
        ("[pay]", "# a remark\n[pay]"),
    ],
)
def test_cap_thresholds_and_texts_may_change_after_publishing(study: Study, platform: LocalPlatform, old: str, new: str):
    store = new_store(study)
    first = launch(study, store, platform, CHOICE)
    changed = write_study(study.folder, STUDY_TOML.replace(old, new))
    assert launch(changed, store, platform, CHOICE).platform_id == first.platform_id


def test_anything_else_is_frozen_and_the_difference_is_named(study: Study, platform: LocalPlatform):
    store = new_store(study)
    launch(study, store, platform, CHOICE)
    changed = write_study(study.folder, STUDY_TOML.replace("reward = 150", "reward = 100").replace("steps = 2", "steps = 3"))
    with pytest.raises(PublishError) as caught:
        launch(changed, store, platform, CHOICE)
    assert "pay.reward was 150 and is 100" in str(caught.value)
    assert "visualisation.steps was 2 and is 3" in str(caught.value)


def test_a_key_that_a_later_version_brings_is_no_edit(study: Study, platform: LocalPlatform):
    store = new_store(study)
    first = launch(study, store, platform, CHOICE)
    lock = json.loads(lock_path(study).read_text())
    assert lock["frozen"]["panels"].pop("near_duplicate_bits") == 8 and lock["frozen"].pop("recording")
    lock_path(study).write_text(json.dumps(lock))
    hold_to_lock(study)
    assert launch(study, store, platform, CHOICE).platform_id == first.platform_id
    changed = write_study(study.folder, STUDY_TOML.replace("[tasks]", "[recording]\nbatch = 32\n\n[tasks]"))
    with pytest.raises(PublishError, match=r"recording\.batch was 64 and is 32"):
        hold_to_lock(changed)


def test_a_new_plan_is_refused(study: Study, platform: LocalPlatform):
    store = new_store(study)
    launch(study, store, platform, CHOICE)
    document = json.loads(study.plan.read_text())
    document["seed"] += 1
    study.plan.write_text(json.dumps(document))
    with pytest.raises(PublishError, match="planned anew"):
        launch(study, store, platform, CHOICE)


def test_a_deleted_database_does_not_thaw_the_study(study: Study, platform: LocalPlatform):
    store = new_store(study)
    launch(study, store, platform, CHOICE)
    store.close()
    study.database.unlink()
    (study.folder / "people.db").unlink()
    for toml in (STUDY_TOML, STUDY_TOML.replace("reward = 150", "reward = 100")):
        changed = write_study(study.folder, toml)
        with pytest.raises(StoreError, match=r"was published, as study\.lock says, and its database is missing; put it back"):
            new_store(changed)
        with pytest.raises(StoreError, match="its database is missing"):
            Store.open(*database_urls(study.folder))
    assert len(platform.open_places()) == 1


def test_what_the_platform_refused_was_never_published(study: Study, platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch):
    def refuse(request: object) -> str:
        raise PlatformError("the title is too short")

    store = new_store(study)
    with monkeypatch.context() as patch:
        patch.setattr(platform, "post", refuse)
        with pytest.raises(PlatformError, match="too short"):
            launch(study, store, platform, CHOICE)
    changed = write_study(study.folder, STUDY_TOML.replace("reward = 150", "reward = 160"))
    launch(changed, store, platform, CHOICE)
    assert platform.open_places()[0].reward.amount == 160


def test_a_rehearsal_leaves_the_study_alone(study: Study, platform: LocalPlatform):
    folder = study.rehearsal("first")
    store = create_store(study, fake_plan(study), folder, StoreKind.REHEARSAL)
    launch(study, store, platform, CHOICE)
    assert load_lock(study) is None and not study.database.exists()
    assert {path.name for path in folder.iterdir()} >= {"study.db", "people.db"}


def test_a_study_is_on_one_platform(study: Study, platform: LocalPlatform):
    class Other(LocalPlatform):
        name = "link"

    store = new_store(study)
    launch(study, store, platform, CHOICE)
    with pytest.raises(PublishError, match="on local already"):
        launch(study, store, Other(study.folder / "other.db"), Choice(name="link"))


def test_a_store_says_what_it_is_and_is_made_once(study: Study):
    store = new_store(study)
    plan = fake_plan(study)
    assert (store.about("study"), store.about("kind")) == ("tiny", "study")
    assert (store.about("plan_sha256"), store.about("pack_sha256")) == (plan.sha256, plan.pack_sha256)
    with pytest.raises(StoreError, match="already"):
        new_store(study)


def test_a_store_that_was_cut_off_while_it_was_made_is_made_again(study: Study, monkeypatch: pytest.MonkeyPatch):
    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "load_tasks", crash)
        with pytest.raises(KeyboardInterrupt):
            new_store(study)
    assert not study.database.exists()
    assert new_store(study).about("study") == load_study(study.folder).file.study.name


def test_peoples_ids_without_their_study_are_never_overwritten(study: Study, platform: LocalPlatform):
    store = new_store(study)
    posting = launch(study, store, platform, CHOICE)
    submission = platform.take(posting.platform_id, "ann").id
    arrive(store, study, Arrival("local", "ann", submission, posting.id, store.now()))
    store.close()
    people = study.folder / "people.db"
    before = people.read_bytes()
    saved = study.database.rename(study.folder / "away.db")
    with pytest.raises(
        StoreError, match=r"people\.db: holds the ids of people .* study\.db beside it is missing; put study\.db back"
    ):
        new_store(study)
    assert people.read_bytes() == before
    saved.rename(study.database)
    with Store.open(*database_urls(study.folder)).people() as session:
        assert session.scalars(select(Person.platform_participant)).all() == ["ann"]


@pytest.mark.parametrize("content", [b"", b"notes about people", b"x" * 5000])
def test_a_file_that_isnt_ours_is_not_overwritten_as_peoples_ids(study: Study, content: bytes):
    people = study.folder / "people.db"
    people.write_bytes(content)
    with pytest.raises(
        StoreError, match=r"people\.db: this can't be read as people's ids .*; restore it from a backup, or move it"
    ):
        new_store(study)
    assert not study.database.exists()
    if content:
        assert people.read_bytes() == content


def test_a_crash_between_the_two_databases_is_made_good_by_the_next_try(study: Study, monkeypatch: pytest.MonkeyPatch):
    move, moved = Path.replace, []

    def crash_at_the_second(self: Path, target: Path) -> Path:
        if moved:
            raise KeyboardInterrupt
        moved.append(target.name)
        return move(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            create_store(study, load_plan(study.plan), study.folder, StoreKind.STUDY)
    assert moved == ["people.db"] and not study.database.exists()
    new_store(study).close()


def test_what_the_template_says_of_the_researchers_is_minded_and_never_shown_to_people_elsewhere(tmp_path: Path):
    study = write_study(tmp_path, STUDY_TOML)
    said = tomllib.loads(template(TemplateName.DEFAULT))["pages"]
    names = ("contact", "investigator", "institution")
    pages_section = study.file.pages.model_copy(update={name: said[name] for name in names})
    careless = replace(study, file=study.file.model_copy(update={"pages": pages_section}))
    minded = [line for line in concerns(careless) if "the template" in line]
    assert [line.partition(" = ")[0] for line in minded] == [f"pages.{name}" for name in names]
    assert not any("the template" in line for line in concerns(study))
    free = LocalPlatform(tmp_path / "local.db")
    offer = offer_of(careless, 2, free)

    def problems(url: str) -> list[str]:
        found = posting_problems(careless, free, Choice(name="link", pages_url=url), offer)
        return [line for line in found if "the template" in line]

    assert problems("https://pages.example.org") == minded
    assert problems("http://127.0.0.1:8000") == []  # tried out on this machine
