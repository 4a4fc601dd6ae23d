import io
import os
import re
import sys
import tarfile

import pytest

from crowd_imi import image_sets
from crowd_imi.errors import FactoryError
from crowd_imi.image_sets import image_set
from tests.tiny import STUDY_TOML, write_study

FOLDER = 'folder = "images"'


def study_of(folder, images: str = FOLDER):
    return write_study(folder, STUDY_TOML.replace(FOLDER, images))


def write(folder, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def write_shard(path, *names: str, mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))


def test_a_folder_is_searched_with_all_below_it_in_the_order_of_names(tmp_path):
    study = study_of(tmp_path)
    write(study.images, "b/2.JPEG", "a.png", "b/1.webp", "notes.txt")
    images = image_set(study)
    assert images.names == ("a.png", "b/1.webp", "b/2.JPEG")
    assert images.read(1) == b"b/1.webp"


def test_folders_and_links_with_the_name_of_an_image_are_no_images(tmp_path):
    study = study_of(tmp_path)
    write(study.images, "a.png")
    (study.images / "folder.png").mkdir()
    (study.images / "gone.png").symlink_to(tmp_path / "nowhere")
    assert image_set(study).names == ("a.png",)


def test_linked_folders_are_searched_once_and_never_in_circles(tmp_path):
    study = study_of(tmp_path)
    write(tmp_path / "elsewhere", "class/a.png")
    study.images.mkdir()
    (study.images / "class").symlink_to(tmp_path / "elsewhere" / "class")
    (tmp_path / "elsewhere" / "class" / "round").symlink_to(study.images)
    assert image_set(study).names == ("class/a.png",)


def test_a_list_takes_some_files_of_a_folder(tmp_path):
    study = study_of(tmp_path, f'{FOLDER}\nfiles = "subset.txt"')
    write(study.images, "a.png", "b.png", "c/d.png")
    (tmp_path / "subset.txt").write_text("c/d.png\n\n./a.png \n")
    assert image_set(study).names == ("a.png", "c/d.png")


def test_a_list_that_names_what_is_not_there_is_an_error(tmp_path):
    study = study_of(tmp_path, f'{FOLDER}\nfiles = "subset.txt"')
    write(study.images, "a.png")
    with pytest.raises(FactoryError, match=r"images\.files: .*subset\.txt can't be read"):
        image_set(study)
    (tmp_path / "subset.txt").write_text("".join(f"{name}.png\n" for name in "abcde"))
    with pytest.raises(FactoryError, match=r"b\.png, c\.png, d\.png and 1 more of .*subset\.txt aren't in"):
        image_set(study)


@pytest.mark.parametrize("name", ["../x.png", "c/../a.png", "/a.png"])
def test_a_list_that_leads_out_of_the_folder_or_names_a_file_in_two_ways_is_an_error(tmp_path, name):
    study = study_of(tmp_path, f'{FOLDER}\nfiles = "subset.txt"')
    write(study.images, "a.png", "c/d.png")
    write(tmp_path, "x.png")
    (tmp_path / "subset.txt").write_text(f"a.png\n{name}\n")
    with pytest.raises(FactoryError, match=rf"images\.files: {name} of .*: names must lead down from images\.folder, without"):
        image_set(study)


def test_a_file_larger_than_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(image_sets, "LARGEST", 2**20)
    study = study_of(tmp_path)
    for name, size in (("a.png", 2**20), ("b.png", 2**20 + 1)):
        write(study.images, name)
        os.truncate(study.images / name, size)
    images = image_set(study)
    assert len(images.read(0)) == 2**20
    with pytest.raises(FactoryError, match=r"b\.png: this image can't be read \(its 1048577 bytes are more than the 1 MiB"):
        images.read(1)


def test_a_member_of_a_shard_larger_than_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(image_sets, "LARGEST", 4)
    study = study_of(tmp_path, 'shards = "*.tar"')
    write_shard(tmp_path / "s.tar", "aa.jpg", "b.jpg")
    with pytest.raises(FactoryError, match=r"s\.tar/aa\.jpg: this image can't be read \(its 6 bytes"):
        image_set(study).read(0)


def test_a_name_that_stands_for_two_images_of_a_shard_is_an_error(tmp_path):
    study = study_of(tmp_path, 'shards = "*.tar"')
    write_shard(tmp_path / "s.tar", "a.jpg", "b.jpg", "./a.jpg", "a.jpg")
    with pytest.raises(FactoryError, match=r"images\.shards = '\*\.tar': each of s\.tar/a\.jpg names several images, .* anew"):
        image_set(study)


def test_shards_are_read_in_place(tmp_path):
    study = study_of(tmp_path, 'shards = "train/shard-*.tar"')
    write_shard(tmp_path / "train" / "shard-1.tar", "b.jpg", "b.cls", "a.jpg")
    write_shard(tmp_path / "train" / "shard-0.tar", "z.png")
    images = image_set(study)
    assert images.names == ("shard-0.tar/z.png", "shard-1.tar/a.jpg", "shard-1.tar/b.jpg")
    assert [images.read(index) for index in range(3)] == [b"z.png", b"a.jpg", b"b.jpg"]


def test_shards_in_folders_that_a_pattern_stands_for_are_named_with_them(tmp_path):
    study = study_of(tmp_path, 'shards = "data/*/shard-{00..01}.tar"')
    for folder in ("train", "val"):
        write_shard(tmp_path / "data" / folder / "shard-00.tar", f"{folder}.jpg")
        write_shard(tmp_path / "data" / folder / "shard-01.tar", "a.jpg")
        write_shard(tmp_path / "data" / folder / "shard-02.tar", "outside.jpg")
    images = image_set(study)
    assert study.images == tmp_path / "data"
    assert images.names == (
        "train/shard-00.tar/train.jpg",
        "train/shard-01.tar/a.jpg",
        "val/shard-00.tar/val.jpg",
        "val/shard-01.tar/a.jpg",
    )
    assert [images.read(index) for index in (0, 2)] == [b"train.jpg", b"val.jpg"]
    before = images.digest()
    os.utime(tmp_path / "data" / "val" / "shard-01.tar", ns=(1, 1))
    assert image_set(study).digest() != before


@pytest.mark.parametrize(
    ("written", "there"),
    [("{000..002}", ("000", "001", "002")), ("{9..11}", ("9", "10", "11")), ("{8..010}", ("008", "009", "010"))],
)
def test_a_range_of_shards_is_as_wide_as_it_is_written(tmp_path, written, there):
    study = study_of(tmp_path, f'shards = "s-{written}.tar"')
    for number in there:
        write_shard(tmp_path / f"s-{number}.tar", "a.jpg")
    assert image_set(study).names == tuple(sorted(f"s-{number}.tar/a.jpg" for number in there))


def test_a_range_of_which_a_shard_is_missing_is_an_error(tmp_path):
    study = study_of(tmp_path, 'shards = "train/s-{000..002}.tar"')
    write_shard(tmp_path / "train" / "s-000.tar", "a.jpg")
    with pytest.raises(FactoryError, match=r"images\.shards = 'train/s-\{000\.\.002\}\.tar': no file matches .*s-001\.tar"):
        image_set(study)


def test_what_is_no_pattern_of_shards_is_an_error(tmp_path):
    for pattern in (".", "/"):
        with pytest.raises(
            FactoryError, match=rf"images\.shards = '{re.escape(pattern)}': this is no pattern of tar files; write"
        ):
            image_set(study_of(tmp_path, f'shards = "{pattern}"'))
    (tmp_path / "a.tar").touch()
    with pytest.raises(FactoryError, match=r"images\.shards = '\*\*a': this is no pattern \("):
        image_set(study_of(tmp_path, 'shards = "**a"'))


def test_shards_that_are_missing_or_no_tar_files_are_an_error(tmp_path):
    study = study_of(tmp_path, 'shards = "*.tar"')
    with pytest.raises(FactoryError, match=r"images\.shards = '\*\.tar': no file matches"):
        image_set(study)
    write_shard(tmp_path / "zipped.tar", "a.png", mode="w:gz")
    with pytest.raises(FactoryError, match=r"zipped\.tar: this can't be read as an uncompressed tar file"):
        image_set(study)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FactoryError, match=r"images\.folder = 'images': there is no folder"):
        image_set(study_of(tmp_path))


@pytest.mark.parametrize("images", [FOLDER, 'shards = "images/*.tar"'])
def test_the_digest_tells_that_an_image_was_written_anew(tmp_path, images):
    study = study_of(tmp_path, images)
    write(study.images, "a.png", "b.png")
    write_shard(study.images / "s.tar", "a.png")
    before = image_set(study).digest()
    assert image_set(study).digest() == before
    changed = study.images / ("b.png" if images == FOLDER else "s.tar")
    os.utime(changed, ns=(1, 1))
    assert image_set(study).digest() != before


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_a_name_that_is_no_text_has_a_digest_too(tmp_path):
    study = study_of(tmp_path)
    write(study.images, os.fsdecode(b"b\xffd.png"))
    assert len(image_set(study).digest()) == 64
