"""Files are whole or absent."""

import os
import stat

import pytest

from crowd_imi import files
from crowd_imi.files import write_atomically, write_once


def test_folders_on_the_way_are_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "c.txt", b"content")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"content"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_permissions_are_those_asked_for_whatever_the_umask(tmp_path, mode):
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", b"content", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_atomically(tmp_path / "file", b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as failure:
        write_atomically(tmp_path / "file", b"new")
    assert failure.value.filename == str(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_is_written_once_stays_as_it_was_written_first(tmp_path):
    assert write_once(tmp_path / "file", b"first") == b"first"
    assert write_once(tmp_path / "file", b"second") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
