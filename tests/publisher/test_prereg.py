"""What a preregistration says, before and after publishing."""

from crowd_imi.publisher.prereg import preregistration
from crowd_imi.study import load_study
from tests.harvester.crowd import Crowd
from tests.tiny import fake_plan, write_study

NOW = 1_800_000_000_000


def test_before_publishing_it_says_what_is_planned(tmp_path):
    study = write_study(tmp_path)
    plan = fake_plan(study)
    text = preregistration(study, plan, NOW)
    assert "isn't published yet" in text
    assert f"{len(plan.tasks)} tasks of 6 main and 2 catch trials" in text
    assert plan.sha256 in text and plan.pack_sha256 in text
    assert "share of right catch trials of at least" in text
    assert "chosen at least 1 times in the main trials on real units" in text
    assert text.count("\n| toy-") == len(study.file.arms)
    assert preregistration(study, plan, NOW) == text


def test_every_criterion_and_every_limit_is_named(tmp_path):
    study = write_study(tmp_path)
    text = preregistration(study, fake_plan(study), NOW)
    for limit in study.file.exclusion.model_dump(exclude_none=True).values():
        assert f" {limit:g}" in text or f" {limit}" in text


def test_a_published_study_says_what_its_lock_says_whatever_is_edited_since(tmp_path):
    from crowd_imi.platforms.local import LocalPlatform
    from crowd_imi.platforms.opening import Choice
    from crowd_imi.publisher.launch import create_store, launch
    from crowd_imi.store import StoreKind

    study = write_study(tmp_path)
    plan = fake_plan(study)
    store = create_store(study, plan, study.folder, StoreKind.STUDY)
    launch(study, store, LocalPlatform(study.folder / "local.db"), Choice())
    study.toml.write_text(study.toml.read_text().replace("[exclusion]\n", "[exclusion]\nmin_catch_ratio = 0.1\n"))
    text = preregistration(load_study(study.folder), plan, NOW)
    assert "The study was published on" in text
    assert "at least 0.1" not in text
    store.close()


def test_a_rehearsal_is_not_a_publication(tmp_path):
    crowd = Crowd.posted(tmp_path)
    assert "isn't published yet" in preregistration(crowd.study, fake_plan(crowd.study), NOW)
