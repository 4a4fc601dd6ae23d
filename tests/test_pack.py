"""A pack is read whole, and damage is named."""

import shutil

import pytest

from crowd_imi.errors import PackError
from crowd_imi.pack import Pack
from tests.tiny import write_pack, write_study


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    return write_pack(write_study(tmp_path_factory.mktemp("study"))).folder


@pytest.fixture
def pack(rendered, tmp_path):
    """A pack of the test's own, to damage."""
    shutil.copytree(rendered, tmp_path / "pack")
    return Pack(tmp_path / "pack")


def test_an_undamaged_pack_has_nothing_to_report(pack):
    assert list(pack.damage()) == []


def test_a_changed_and_a_missing_image_are_named_with_what_they_were_made_from(pack):
    changed, missing = sorted(pack.manifest.sources)[:2]
    pack.image(changed).write_bytes(b"something else")
    pack.image(missing).unlink()
    assert list(pack.damage()) == [
        f"{pack.image(changed)}: changed since it was written (made from {pack.manifest.sources[changed]})",
        f"{pack.image(missing)}: missing (made from {pack.manifest.sources[missing]})",
    ]


def test_the_digest_follows_the_manifest(pack):
    manifest = pack.folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert Pack(pack.folder).digest != pack.digest


def test_an_unknown_arm_is_refused_with_those_there_are(pack):
    with pytest.raises(PackError, match=r"no arm toy-natural-hard \(it has toy-natural-easy, toy-synthetic-easy\)"):
        pack.manifest.arm("toy-natural-hard")


def test_a_missing_pack_says_how_to_make_one(tmp_path):
    with pytest.raises(PackError, match="there is no pack here; make one with `crowd-imi render"):
        Pack(tmp_path / "pack")


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 2}', "[]"])
def test_a_manifest_of_another_shape_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(PackError) as failure:
        Pack(tmp_path)
    assert str(failure.value).endswith("render the pack again")
    assert "\n" not in str(failure.value)
