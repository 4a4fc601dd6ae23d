"""A copy of a running study, put back, and kept from spending before it takes over."""

import stat
import tarfile
import threading

import pytest
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.errors import StoreError
from crowd_imi.harvester import harvest
from crowd_imi.plan import load_plan
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice, open_platform
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.backups import back_up, restore, take_over
from crowd_imi.store.engine import database_urls
from crowd_imi.store.lab import ROW, require_lab_key
from crowd_imi.store.tables import About, Visit
from crowd_imi.study import load_study
from tests.acceptance.rehearsals import planned_study
from tests.harvester.crowd import Crowd
from tests.tiny import STUDY_TOML


@pytest.fixture
def crowd(tmp_path) -> Crowd:
    return Crowd.posted(tmp_path / "study")


def test_a_backup_holds_everybody_and_nobody_else_may_read_it(crowd: Crowd, tmp_path):
    crowd.take_part("anna")
    done = back_up(crowd.folder, tmp_path / "copy.tar")
    assert stat.S_IMODE((tmp_path / "copy.tar").stat().st_mode) == 0o600
    with tarfile.open(tmp_path / "copy.tar") as tar:
        names = set(tar.getnames())
    assert names >= {"study.toml", "study.db", "people.db", "local.db", "study.key"} and len(names) == done.files
    assert not any(name.endswith(("-wal", "-shm")) for name in names)


def test_a_restored_study_is_as_it_was_and_spends_only_after_it_took_over(crowd: Crowd, tmp_path):
    visit = crowd.take_part("anna")
    back_up(crowd.folder, tmp_path / "copy.tar")
    harvest(crowd.study, crowd.store, crowd.platform)  # the original goes on and pays
    restore(tmp_path / "copy.tar", tmp_path / "again")

    study = load_study(tmp_path / "again")
    store = Store.open(*database_urls(study.folder), crowd.clock)
    with store.read() as session:
        assert session.get_one(Visit, visit.id).state == "submitted"
    there = crowd.platform  # the platform is the same for both copies
    with pytest.raises(StoreError, match=r"restored from copy.tar.*take-over"):
        harvest(study, store, there)
    assert take_over(store) and not take_over(store)
    done = harvest(study, store, there)
    assert (done.valid, done.paid, crowd.paid()) == (1, 0, 150)  # the platform says that it is paid: noted, not paid again
    store.close()


def test_answers_that_come_in_meanwhile_never_tear_a_copy(crowd: Crowd, tmp_path):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    answering = threading.Thread(target=crowd.answer_all, args=(visit,))
    answering.start()
    for number in range(5):
        back_up(crowd.folder, tmp_path / f"{number}.tar")
        restore(tmp_path / f"{number}.tar", tmp_path / f"again{number}")
        store = Store.open(*database_urls(tmp_path / f"again{number}"), crowd.clock)
        with store.read() as session:
            assert session.get_one(Visit, visit.id).state == "answering"
        store.close()
    answering.join()


def test_nothing_is_overwritten(crowd: Crowd, tmp_path):
    back_up(crowd.folder, tmp_path / "copy.tar")
    before = (tmp_path / "copy.tar").read_bytes()
    with pytest.raises(StoreError, match="never overwritten"):
        back_up(crowd.folder, tmp_path / "copy.tar")
    assert (tmp_path / "copy.tar").read_bytes() == before
    with pytest.raises(StoreError, match="to a new folder"):
        restore(tmp_path / "copy.tar", crowd.folder)


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\0" * 10240])
def test_what_is_no_backup_is_one_clear_line_and_leaves_nothing(tmp_path, content: bytes):
    (tmp_path / "odd.tar").write_bytes(content)
    with pytest.raises(StoreError, match=r"odd\.tar"):
        restore(tmp_path / "odd.tar", tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.tar"]


def test_a_tar_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        tar.add(tmp_path / "evil", "study.toml")
        tar.add(tmp_path / "evil", "../evil-too")
    with pytest.raises(StoreError, match="can't be read"):
        restore(tmp_path / "odd.tar", tmp_path / "again")
    assert not (tmp_path.parent / "evil-too").exists() and not (tmp_path / "again").exists()


def test_a_backup_in_the_studys_own_folder_does_not_hold_itself(crowd: Crowd):
    back_up(crowd.folder, crowd.folder / "copy.tar")
    with tarfile.open(crowd.folder / "copy.tar") as tar:
        assert "copy.tar" not in tar.getnames()
    LocalPlatform(crowd.folder / "local.db").close()


def test_what_links_lead_to_is_in_the_copy(crowd: Crowd, tmp_path):
    (tmp_path / "elsewhere" / "images").mkdir(parents=True)
    (tmp_path / "elsewhere" / "images" / "0.png").write_bytes(b"an image")
    (tmp_path / "elsewhere" / "notes.txt").write_text("kept elsewhere")
    (crowd.folder / "linked").symlink_to(tmp_path / "elsewhere" / "images")
    (crowd.folder / "again").symlink_to(tmp_path / "elsewhere" / "images")
    (crowd.folder / "notes.txt").symlink_to(tmp_path / "elsewhere" / "notes.txt")
    (crowd.folder / "round").symlink_to(crowd.folder)
    (crowd.folder / "nowhere").symlink_to(tmp_path / "gone")
    back_up(crowd.folder, tmp_path / "copy.tar")
    restore(tmp_path / "copy.tar", tmp_path / "there")
    for name in ("linked/0.png", "again/0.png"):
        assert (tmp_path / "there" / name).read_bytes() == b"an image"
    assert (tmp_path / "there" / "notes.txt").read_text() == "kept elsewhere"
    assert not any(path.is_symlink() for path in (tmp_path / "there").rglob("*"))
    assert not (tmp_path / "there" / "round").exists()


def test_a_damaged_database_is_one_clear_line(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text("")
    (tmp_path / "study" / "study.db").write_bytes(b"no database" * 1000)
    done = CliRunner().invoke(app, ["backup", str(tmp_path / "study"), str(tmp_path / "copy.tar")])
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "the database can't be used: file is not a database" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


@pytest.mark.parametrize("command", ["harvest", "serve"])
def test_another_lab_key_is_refused_by_whoever_lets_people_in(tmp_path, monkeypatch, command: str):
    study = planned_study(tmp_path / "study", STUDY_TOML)
    store, choice = create_store(study, load_plan(study.plan), study.folder, StoreKind.STUDY), Choice()
    launch(study, store, open_platform(study, study.folder, choice), choice)
    require_lab_key(store)
    monkeypatch.setenv("CROWD_IMI_LAB_KEY", "another lab's")
    done = CliRunner().invoke(app, [command, str(study.folder)])
    assert done.exit_code == 1 and "another lab key" in done.output and "copy lab.key" in done.output
    with store.write() as session:  # as an earlier version made it
        session.delete(session.get_one(About, ROW))
    require_lab_key(store)
    store.close()
