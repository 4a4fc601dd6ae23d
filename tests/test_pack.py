"""A pack is read whole, and damage is named."""

import hashlib
import shutil

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crowd_imi.errors import PackError
from crowd_imi.factory import pack as writing
from crowd_imi.factory.pack import PackWriter, activations, sealed
from crowd_imi.files import write_atomically
from crowd_imi.pack import Pack, manifest_bytes
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


def test_a_folder_in_an_images_place_and_an_image_that_does_not_open_are_damage(pack):
    folder, broken = sorted(pack.manifest.sources)[:2]
    pack.image(folder).unlink()
    pack.image(folder).mkdir()
    content = pack.image(broken).read_bytes()[:100]
    digest = hashlib.sha256(content).hexdigest()
    write_atomically(pack.image(digest), content)
    manifest = pack.manifest.model_copy(update={"sources": {**pack.manifest.sources, digest: "cut.png"}})
    write_atomically(pack.folder / "manifest.json", manifest_bytes(manifest))
    assert set(Pack(pack.folder).damage()) == {
        f"{pack.image(folder)}: a folder is in its place (made from {pack.manifest.sources[folder]})",
        f"{pack.image(digest)}: doesn't open as an image (OSError) (made from cut.png)",
    }


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "changed since it was written"),
        (lambda path: (path.unlink(), path.mkdir()), "a folder is in its place"),
    ],
)
def test_the_table_of_activations_is_looked_at_too(pack, harm, said):
    table = pack.folder / "activations.parquet"
    harm(table)
    assert list(pack.damage()) == [f"{table}: {said}"]


@given(st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_manifest_is_refused_whatever_changed(rendered, tmp_path_factory, data):
    content = (rendered / "manifest.json").read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != content[at]))
    harmed = data.draw(
        st.sampled_from([content[:at] + bytes([byte]) + content[at + 1 :], content[:at], content[:at] + b" " + content[at:]])
    )
    folder = tmp_path_factory.mktemp("harmed")
    (folder / "manifest.json").write_bytes(harmed)
    with pytest.raises(PackError, match="crowd-imi render"):
        Pack(folder)


def test_a_manifest_that_is_a_folder_is_named(tmp_path):
    (tmp_path / "pack" / "manifest.json").mkdir(parents=True)
    with pytest.raises(PackError, match="this is a folder"):
        Pack(tmp_path / "pack")


def test_a_pack_of_an_earlier_version_says_render_again(tmp_path):
    (tmp_path / "manifest.json").write_text('{"schema_version": 1, "study": "old"}')
    with pytest.raises(PackError, match=r"made by an older version of crowd-imi \(schema 1, this one reads 2\); run `crowd-imi"):
        Pack(tmp_path)


def test_unknown_files_are_left_over_and_no_damage(pack):
    (pack.folder / "kept" / "visualisations").mkdir(parents=True)
    (pack.folder / "kept" / "visualisations" / "a.json").touch()
    (pack.folder / "gallery.html").touch()
    strangers = [pack.folder / "images" / "notes.txt", pack.folder / "old.json"]
    for stranger in strangers:
        stranger.touch()
    assert list(pack.left_over()) == strangers
    assert list(pack.damage()) == []


def test_the_table_says_what_the_manifest_says(pack):
    table = pq.read_table(pack.folder / "activations.parquet")
    assert table.column_names == [
        "model", "layer", "channel", "null", "arm", "side", "role", "batch", "rank", "activation", "image",
    ]  # fmt: skip
    # Two arms of 6 + 2 and 6 units, each with 4 panels of 20 images and 8 extremes a side.
    assert table.num_rows == 14 * (4 * 20 + 16)
    entry = pack.manifest.arm("toy-natural-easy").units[0]
    first = table.slice(0, 1).to_pylist()[0]
    exemplar = entry.panels[0].references.min[0]
    assert first == {
        "model": "toy", "layer": "layer0", "channel": 0, "null": False, "arm": "toy-natural-easy", "side": "min",
        "role": "reference", "batch": 0, "rank": exemplar.rank, "activation": exemplar.activation, "image": exemplar.image,
    }  # fmt: skip


def test_the_same_manifest_gives_the_same_bytes(pack):
    assert manifest_bytes(pack.manifest) == (pack.folder / "manifest.json").read_bytes()
    assert activations(pack.manifest.arms) == (pack.folder / "activations.parquet").read_bytes()


def test_a_writer_that_is_killed_leaves_no_manifest_beside_another_table(pack, monkeypatch):
    other = sealed(pack.manifest.model_copy(update={"arms": pack.manifest.arms[:1]}))
    monkeypatch.setattr(writing, "write_atomically", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        PackWriter(pack.folder).finish(other)
    with pytest.raises(PackError, match="there is no pack here"):
        Pack(pack.folder)


def test_an_unknown_arm_is_refused_with_those_there_are(pack):
    with pytest.raises(PackError, match=r"no arm toy-natural-hard \(it has toy-natural-easy, toy-synthetic-easy\)"):
        pack.manifest.arm("toy-natural-hard")


def test_a_missing_pack_says_how_to_make_one(tmp_path):
    with pytest.raises(PackError, match="there is no pack here; make one with `crowd-imi render"):
        Pack(tmp_path / "pack")


@pytest.mark.parametrize(
    "content", ["", "{}", '{"schema_version": 2}', '{"schema_version": 99}', "[]", '{"schema_version": 2', "[" * 100_000]
)
def test_a_manifest_of_another_shape_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(PackError) as failure:
        Pack(tmp_path)
    assert str(failure.value).endswith("to render it again")
    assert "\n" not in str(failure.value)
