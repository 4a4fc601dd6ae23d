"""A study's own copy of the pages: copied on demand, laid over what ships, frozen at publishing but for its texts."""

from pathlib import Path

import pytest

from crowd_imi.errors import PublishError, StudyError
from crowd_imi.hit_templates import copy_template, edited_files, frozen_files, own_folder, template_file
from crowd_imi.publisher.lock import hold_to_lock
from crowd_imi.resources import resource
from crowd_imi.study import Study
from tests.tiny import STUDY_TOML, write_study

SHIPPED = resource("hit_templates", "two_alternative")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "study")


def test_without_a_copy_the_shipped_files_are_used(study):
    assert template_file(study, "visit.html") == SHIPPED / "visit.html"
    assert template_file(study, "no-such-file.html") is None
    assert frozen_files(study) == {}


def test_a_copy_is_whole_and_overwrites_nothing(study):
    style = own_folder(study) / "style.css"
    style.parent.mkdir(parents=True)
    style.write_text("body { background: white }")
    written = copy_template(study)
    assert style.read_text() == "body { background: white }" and style not in written
    shipped = {path.relative_to(SHIPPED) for path in SHIPPED.rglob("*") if path.is_file()}
    assert {path.relative_to(own_folder(study)) for path in own_folder(study).rglob("*") if path.is_file()} == shipped
    assert copy_template(study) == ()


def test_a_copy_may_hold_a_single_file(study):
    page = own_folder(study) / "refusal.html"
    page.parent.mkdir(parents=True)
    page.write_text("no")
    assert template_file(study, "refusal.html") == page
    assert template_file(study, "visit.html") == SHIPPED / "visit.html"


def test_an_unknown_template_says_which_there_are(tmp_path):
    study = write_study(tmp_path, STUDY_TOML.replace("[pages]", '[pages]\ntemplate = "three_alternative"'))
    with pytest.raises(StudyError, match="right would be one of: two_alternative"):
        template_file(study, "visit.html")


def test_what_publishing_freezes_is_everything_but_texts(study):
    copy_template(study)
    published = frozen_files(study)
    assert "visit.html" in published and not [name for name in published if name.startswith("texts/")]
    own = own_folder(study)
    (own / "texts" / "en.toml").write_text("edited")
    (own / "texts" / "de.toml").write_text("new")
    assert list(edited_files(study, published)) == []
    (own / "style.css").write_text("edited")
    (own / "logo.svg").write_text("<svg/>")
    (own / "visit.js").unlink()  # the shipped one, which is the same, takes its place
    assert list(edited_files(study, published)) == [f"{own / 'logo.svg'} was added", f"{own / 'style.css'} was edited"]


def test_a_copy_that_was_made_after_publishing_changes_nothing_until_it_is_edited(study):
    copy_template(study)
    assert list(edited_files(study, {})) == []
    (own_folder(study) / "visit.js").write_text("edited")
    assert list(edited_files(study, {})) == [f"{own_folder(study) / 'visit.js'} was edited"]


def test_a_file_that_was_edited_before_publishing_must_not_get_lost(study):
    copy_template(study)
    (own_folder(study) / "style.css").write_text("mine")
    published = frozen_files(study)
    (own_folder(study) / "style.css").unlink()
    assert list(edited_files(study, published)) == [f"{own_folder(study) / 'style.css'} is missing"]


def test_a_published_study_with_edited_pages_isnt_served(tmp_path):
    from crowd_imi.platforms.local import LocalPlatform
    from crowd_imi.platforms.opening import Choice
    from crowd_imi.publisher.launch import create_store, launch
    from crowd_imi.store import StoreKind
    from tests.tiny import fake_plan

    study = write_study(tmp_path / "posted")
    store = create_store(study, fake_plan(study), study.folder, StoreKind.STUDY)
    platform = LocalPlatform(study.folder / "local.db")
    platform.set_base_url("http://127.0.0.1:1")
    launch(study, store, platform, Choice(pages_url="http://127.0.0.1"))
    copy_template(study)
    hold_to_lock(study)
    (own_folder(study) / "visit.js").write_text("edited")
    with pytest.raises(PublishError, match=r"visit\.js was edited"):
        hold_to_lock(study)
    store.close()
    platform.close()
