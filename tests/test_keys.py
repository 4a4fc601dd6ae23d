"""Secrets: made once, readable by their owner alone, and hashes that can't be confused."""

import multiprocessing
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowd_imi.errors import StoreError
from crowd_imi.keys import keyed_hash, lab_key, participant_hash, study_key


def test_a_key_is_made_when_first_needed_and_stays(tmp_path):
    key = study_key(tmp_path / "study.key")
    assert len(key) == 64
    assert study_key(tmp_path / "study.key") == key
    assert stat.S_IMODE((tmp_path / "study.key").stat().st_mode) == 0o600


def _read_key(path: Path, ready, keys) -> None:
    ready.wait()
    keys.put(study_key(path))


def test_processes_that_need_a_new_key_at_the_same_moment_get_the_same_one(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    ready, keys = spawn.Barrier(3), spawn.Queue()
    processes = [spawn.Process(target=_read_key, args=(tmp_path / "study.key", ready, keys)) for _ in range(3)]
    for process in processes:
        process.start()
    read = {keys.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert read == {study_key(tmp_path / "study.key")}


def test_an_emptied_key_is_refused_rather_than_replaced(tmp_path):
    (tmp_path / "study.key").touch()
    with pytest.raises(StoreError, match="this is no key"):
        study_key(tmp_path / "study.key")


def test_the_labs_key_lies_in_the_users_configuration(tmp_path, monkeypatch):
    monkeypatch.delenv("CROWD_IMI_LAB_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert lab_key() == (tmp_path / "crowd_imi" / "lab.key").read_bytes()


def test_the_environment_goes_before_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("CROWD_IMI_LAB_KEY", "the lab's own")
    assert lab_key() == b"the lab's own"
    assert not list(tmp_path.iterdir())


texts = st.lists(st.text(), max_size=4)


@given(first=texts, second=texts)
def test_only_equal_parts_have_equal_hashes(first, second):
    assert (keyed_hash(b"key", *first) == keyed_hash(b"key", *second)) == (first == second)


def test_parts_do_not_run_into_one_another():
    assert keyed_hash(b"key", "ab", "c") != keyed_hash(b"key", "a", "bc")


def test_the_same_id_on_two_platforms_is_two_participants():
    assert participant_hash(b"key", "local", "ann") != participant_hash(b"key", "link", "ann")
