import hashlib
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from crowd_imi import image_sets
from crowd_imi.factory.crops import CropReader, Status
from crowd_imi.image_sets import Files
from crowd_imi.vision.preprocess import read_image
from tests.factory.conftest import write_pictures


@pytest.fixture
def images(tmp_path):
    write_pictures(tmp_path / "images", 6)
    (tmp_path / "images" / "002.png").write_bytes(b"no image")
    (tmp_path / "images" / "004.png").unlink()
    return Files(tmp_path / "images", tuple(f"00{index}.png" for index in range(6)))


def test_crops_come_in_order_with_what_is_known_of_their_files(images):
    crops = list(CropReader(images, 32).read(0, 6))
    assert [crop.facts["status"] for crop in crops] == [Status.USABLE if i not in (2, 4) else Status.UNREADABLE for i in range(6)]
    for index in (0, 1, 3, 5):
        path = images.folder / images.names[index]
        assert np.array_equal(crops[index].pixels, read_image(path, 32))
        assert crops[index].facts["sha256"].tobytes() == hashlib.sha256(path.read_bytes()).digest()
    assert crops[2].facts["sha256"].tobytes() == hashlib.sha256(b"no image").digest()


def test_an_image_that_is_too_large_is_unreadable_and_the_reason_is_said(images, monkeypatch, caplog):
    monkeypatch.setattr(image_sets, "LARGEST", 2000)
    (images.folder / "001.png").write_bytes(bytes(2001))
    crops = list(CropReader(images, 32).read(0, 6))
    assert [crop.pixels is None for crop in crops] == [False, True, True, False, True, False]
    assert sorted(record.message for record in caplog.records) == [
        "left out: 001.png: this image can't be read (its 2001 bytes are more than the 0 MiB that one may have); replace it or "
        "take it out",
        "left out: 002.png: this image can't be read (of no known format); replace it or take it out",
        "left out: 004.png: No such file or directory",
    ]


def test_more_pixels_than_pillow_decodes_are_an_unreadable_image_and_no_warning(tmp_path):
    # Pillow warns of more than 89 million and refuses twice as many; 15,000² are 225 million. Files that only say so will do,
    # read by another process, as in this one warnings are errors anyway.
    sides = (10_000, 15_000)
    for side in sides:
        chunks = (b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), b"IDAT" + zlib.compress(bytes(100)), b"IEND")
        parts = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
        (tmp_path / f"bomb{side}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    code = (
        "import sys; from pathlib import Path; from crowd_imi.factory.crops import CropReader, Status; "
        "from crowd_imi.image_sets import Files; "
        "crops = CropReader(Files(Path(sys.argv[1]), tuple(sys.argv[2:])), 32).read(0, 2); "
        "assert [crop.facts['status'] for crop in crops] == 2 * [Status.UNREADABLE]"
    )
    names = [f"bomb{side}.png" for side in sides]
    done = subprocess.run([sys.executable, "-c", code, tmp_path, *names], check=True, capture_output=True, text=True)
    for side, line in zip(sides, sorted(done.stderr.splitlines()), strict=True):
        expected = f"left out: bomb{side}.png: this image can't be read (Image size ({side**2} pixels) exceeds limit of "
        assert line.startswith(expected)


def test_a_part_is_read_alone(images):
    whole = list(CropReader(images, 32).read(0, 6))
    (crop,) = CropReader(images, 32, workers=1).read(3, 4)
    assert np.array_equal(crop.pixels, whole[3].pixels)


def test_kept_crops_are_read_without_their_files(images, tmp_path):
    first = list(CropReader(images, 32, tmp_path / "cache").read(0, 6))
    again = CropReader(images, 32, tmp_path / "cache")
    for name in (images.names[index] for index in (0, 1, 3, 5)):
        (images.folder / name).chmod(0)  # its time of change stays, so the cache is still of this set
    decoded = []
    again._decoded = decoded.append  # nothing may be decoded
    second = list(again.read(0, 6))
    assert not decoded
    for one, other in zip(first, second, strict=True):
        assert one.facts == other.facts
        assert (one.pixels is None and other.pixels is None) or np.array_equal(one.pixels, other.pixels)


def test_a_cache_that_was_left_in_the_middle_is_filled(images, tmp_path):
    list(CropReader(images, 32, tmp_path / "cache").read(0, 3))
    crops = list(CropReader(images, 32, tmp_path / "cache").read(0, 6))
    assert np.array_equal(crops[5].pixels, read_image(images.folder / "005.png", 32))
    assert np.array_equal(crops[0].pixels, read_image(images.folder / "000.png", 32))


def test_a_file_that_changed_is_not_taken_from_the_cache(images, tmp_path):
    list(CropReader(images, 32, tmp_path / "cache").read(0, 6))
    Image.new("RGB", (32, 32), "red").save(images.folder / "000.png")
    (crop,) = CropReader(images, 32, tmp_path / "cache").read(0, 1)
    assert (crop.pixels == (255, 0, 0)).all()
