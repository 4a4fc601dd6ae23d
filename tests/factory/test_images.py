import os
import sys

import pytest

from crowd_imi.errors import FactoryError
from crowd_imi.factory.images import find_images, read_images
from tests.factory.conftest import write_pictures


def test_images_are_found_in_folders_below_and_other_files_are_not(tmp_path):
    write_pictures(tmp_path / "a", 2)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    assert find_images(tmp_path, 32, 2).names == ("a/000.png", "a/001.png")


def test_too_few_images_say_how_many_are_needed(tmp_path):
    write_pictures(tmp_path, 3)
    with pytest.raises(FactoryError, match="3 usable images, and this study's panels need 40"):
        find_images(tmp_path, 32, 40)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FactoryError, match="gone: there is no folder of images"):
        find_images(tmp_path / "gone", 32, 1)


def test_an_image_that_cannot_be_read_does_not_stop_the_others(tmp_path):
    write_pictures(tmp_path, 3)
    (tmp_path / "001.png").write_bytes(b"broken")
    read = list(read_images(find_images(tmp_path, 32, 3)))
    assert [image.pixels is None for image in read] == [False, True, False]


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_an_image_whose_name_is_no_text_is_named_and_does_not_stop_the_others(tmp_path):
    write_pictures(tmp_path, 2)
    (tmp_path / "001.png").rename(tmp_path / os.fsdecode(b"b\xffd.png"))
    read = list(read_images(find_images(tmp_path, 32, 2)))
    assert [(image.name, image.pixels is None) for image in read] == [("000.png", False), ("b\\xffd.png", True)]
