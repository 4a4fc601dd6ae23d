import json
from pathlib import Path

import pytest

from crowd_imi.errors import PlatformError, PublishError, StoreError
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.publisher import launch as module
from crowd_imi.publisher.launch import create_store, launch, offer_of
from crowd_imi.publisher.lock import load_lock
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.study import Study, load_study
from tests.tiny import STUDY_TOML, fake_plan, write_study

URL = "http://127.0.0.1:8000/arrive"
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
    posting = launch(study, store, platform, URL)
    (offer,) = platform.open_places()
    assert (offer.posting, offer.free, offer.reward.amount, offer.minutes) == (posting.platform_id, TASKS, 150, 6.0)
    assert offer.title == "A tiny study"
    assert posting.state == "open" and posting.platform == "local"


def test_publishing_again_posts_nothing_twice(study: Study, platform: LocalPlatform):
    store = new_store(study)
    first = launch(study, store, platform, URL)
    store.close()
    again = Store.open(*database_urls(study.folder))
    assert launch(study, again, platform, URL).platform_id == first.platform_id
    assert len(platform.open_places()) == 1


def test_more_than_the_cap_is_refused_before_anything_is_written(tmp_path: Path, platform: LocalPlatform):
    study = write_study(tmp_path, STUDY_TOML.replace("cap = 5000", "cap = 899"))
    store = new_store(study)
    with pytest.raises(PublishError, match=r"6 tasks × 1\.50 USD = 9\.00 USD, but pay\.cap allows 8\.99 USD.*at least 900"):
        launch(study, store, platform, URL)
    assert platform.open_places() == () and load_lock(study) is None
    assert offer_of(write_study(tmp_path, STUDY_TOML.replace("cap = 5000", "cap = 900")), TASKS).total.amount == 900


def test_the_lock_says_what_was_published(study: Study, platform: LocalPlatform):
    launch(study, new_store(study), platform, URL)
    lock = load_lock(study)
    assert lock is not None
    assert lock.plan_sha256 == fake_plan(study).sha256
    assert lock.exclusion == study.file.exclusion
    assert lock.versions["crowd-imi"] and lock.versions["python"]
    assert lock.frozen["pay"] == {"reward": 150, "currency": "USD", "estimated_minutes": 6.0}
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
    first = launch(study, store, platform, URL)
    changed = write_study(study.folder, STUDY_TOML.replace(old, new))
    assert launch(changed, store, platform, URL).platform_id == first.platform_id


def test_anything_else_is_frozen_and_the_difference_is_named(study: Study, platform: LocalPlatform):
    store = new_store(study)
    launch(study, store, platform, URL)
    changed = write_study(study.folder, STUDY_TOML.replace("reward = 150", "reward = 100").replace("steps = 2", "steps = 3"))
    with pytest.raises(PublishError) as caught:
        launch(changed, store, platform, URL)
    assert "pay.reward was 150 and is 100" in str(caught.value)
    assert "visualisation.steps was 2 and is 3" in str(caught.value)


def test_a_new_plan_is_refused(study: Study, platform: LocalPlatform):
    store = new_store(study)
    launch(study, store, platform, URL)
    document = json.loads(study.plan.read_text())
    document["seed"] += 1
    study.plan.write_text(json.dumps(document))
    with pytest.raises(PublishError, match="planned anew"):
        launch(study, store, platform, URL)


def test_a_deleted_database_does_not_thaw_the_study(study: Study, platform: LocalPlatform):
    store = new_store(study)
    launch(study, store, platform, URL)
    store.close()
    study.database.unlink()
    changed = write_study(study.folder, STUDY_TOML.replace("reward = 150", "reward = 100"))
    with pytest.raises(PublishError, match=r"pay\.reward was 150"):
        launch(changed, new_store(changed), platform, URL)


def test_what_the_platform_refused_was_never_published(study: Study, platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch):
    def refuse(request: object) -> str:
        raise PlatformError("the title is too short")

    store = new_store(study)
    with monkeypatch.context() as patch:
        patch.setattr(platform, "post", refuse)
        with pytest.raises(PlatformError, match="too short"):
            launch(study, store, platform, URL)
    changed = write_study(study.folder, STUDY_TOML.replace("reward = 150", "reward = 160"))
    launch(changed, store, platform, URL)
    assert platform.open_places()[0].reward.amount == 160


def test_a_rehearsal_leaves_the_study_alone(study: Study, platform: LocalPlatform):
    folder = study.rehearsal("first")
    store = create_store(study, fake_plan(study), folder, StoreKind.REHEARSAL)
    launch(study, store, platform, URL)
    assert load_lock(study) is None and not study.database.exists()
    assert {path.name for path in folder.iterdir()} >= {"study.db", "people.db"}


def test_a_study_is_on_one_platform(study: Study, platform: LocalPlatform):
    class Other(LocalPlatform):
        name = "other"

    store = new_store(study)
    launch(study, store, platform, URL)
    with pytest.raises(PublishError, match="on local already"):
        launch(study, store, Other(study.folder / "other.db"), URL)


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
