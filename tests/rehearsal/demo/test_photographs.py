from collections import Counter

import numpy as np
import pytest
from PIL import Image

from crowd_imi.errors import RehearsalError
from crowd_imi.rehearsal.demo import photographs as module
from crowd_imi.rehearsal.demo.photographs import Region, contrast, credit_lines, photographs, write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("demo") / "images", 1)


def test_there_are_enough_exemplars_of_enough_photographs(images):
    per_photograph = Counter(exemplar.region.photograph for exemplar in images.exemplars)
    assert len(images.exemplars) >= 1200
    assert len(per_photograph) >= 12
    assert min(per_photograph.values()) >= 40


def test_no_pixel_of_a_photograph_is_used_twice(images):
    covered = {photograph.name: np.zeros(photograph.size[::-1], dtype=int) for photograph in photographs().photographs}
    regions = [exemplar.region for exemplar in images.exemplars]
    for region in (*regions, *images.training.regions, *images.held_out.regions):
        assert region.left >= 0 and region.top >= 0
        patch = covered[region.photograph][region.top : region.top + region.side, region.left : region.left + region.side]
        assert patch.shape == (region.side, region.side)
        patch += 1
    assert max(count.max() for count in covered.values()) == 1


def test_a_file_holds_its_region_and_nothing_around_it(images):
    exemplar = images.exemplars[500]
    photograph = next(p for p in photographs().photographs if p.name == exemplar.region.photograph)
    blanked = Image.new("RGB", photograph.size)
    r = exemplar.region
    box = (r.left, r.top, r.left + r.side, r.top + r.side)
    blanked.paste(photograph.open().crop(box), box)
    with Image.open(exemplar.path) as stored:
        assert stored.size == (64, 64)
        assert np.array_equal(np.asarray(stored), np.asarray(r.cut(blanked, 64)))


def test_the_folder_holds_the_exemplars_and_nothing_else(images):
    assert {path.name for path in images.folder.iterdir()} == {exemplar.path.name for exemplar in images.exemplars}


def test_no_two_exemplars_look_the_same_and_none_is_plain(images):
    pixels = []
    for exemplar in images.exemplars:
        with Image.open(exemplar.path) as image:
            pixels.append(image.tobytes())
            assert contrast(image) >= module.MIN_CONTRAST
    assert len(set(pixels)) == len(pixels)


def test_every_photograph_trains_and_is_held_out(images):
    everyone = set(range(len(images.classes)))
    assert set(images.training.labels.tolist()) == everyone == set(images.held_out.labels.tolist())
    assert images.training.pixels.shape[1:] == (128, 128, 3)
    assert images.held_out.pixels.shape[1:] == (64, 64, 3)


def test_the_same_seed_gives_the_same_crops_and_another_seed_others(images, tmp_path):
    blocks = [list(module.assign_blocks(photograph, 1)) for photograph in photographs().photographs]
    assert blocks == [list(module.assign_blocks(photograph, 1)) for photograph in photographs().photographs]
    assert blocks != [list(module.assign_blocks(photograph, 2)) for photograph in photographs().photographs]


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"")
    with pytest.raises(RehearsalError, match=r"holiday\.png"):
        write_images(tmp_path, 1)


def test_a_missing_photograph_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_skimage_data", lambda: tmp_path)
    with pytest.raises(RehearsalError, match=r"astronaut\.png: the demo's photograph can't be read"):
        write_images(tmp_path / "images", 1)


def test_another_picture_under_the_same_name_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (100, 50)).save(tmp_path / "astronaut.png")
    monkeypatch.setattr(module, "_skimage_data", lambda: tmp_path)
    with pytest.raises(RehearsalError, match="this is 100×50 px where 512×512 are expected"):
        write_images(tmp_path / "images", 1)


def test_regions_that_only_touch_do_not_overlap():
    first = Region("a", 0, 0, 10)
    assert not first.overlaps(Region("a", 10, 0, 10)) and not first.overlaps(Region("b", 0, 0, 10))
    assert first.overlaps(Region("a", 9, 9, 10))


def test_every_photograph_has_its_credit():
    lines = credit_lines()
    assert len(lines) == len(photographs().photographs) and all("http" in line for line in lines)
