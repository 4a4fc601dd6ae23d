"""The panels of an arm, from a recording that stands in for a real one: no network looks at anything."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest

from crowd_imi.factory.exemplars import Looks
from crowd_imi.factory.likeness import near, perceptual_hash
from crowd_imi.factory.pack import PackWriter
from crowd_imi.factory.panels import PanelMaker
from crowd_imi.factory.units import null_of, permuted
from crowd_imi.records import Unit
from crowd_imi.vision.preprocess import read_image
from tests.factory.conftest import COUNT, STUDY_TOML, write_pictures
from tests.tiny import write_study

UNITS = tuple(Unit(model="net", layer="layer1.0.conv1", channel=channel) for channel in range(6))


class _Images:
    def __init__(self, folder):
        self.folder = folder
        self.names = tuple(sorted(path.name for path in folder.iterdir()))

    def read(self, index):
        return (self.folder / self.names[index]).read_bytes()


@dataclass
class _Recording:
    """What ``PanelMaker`` asks of a recording."""

    images: _Images
    hashes: np.ndarray = field(init=False)

    def __post_init__(self):
        folder = self.images.folder
        self.usable = np.arange(len(self.images.names))
        digests = [hashlib.sha256(self.images.read(index)).digest() for index in self.usable]
        self.facts = np.array([(digest,) for digest in digests], dtype=[("sha256", "V32")])
        self.hashes = np.array([perceptual_hash(read_image(folder / n, 32)) for n in self.images.names], dtype=np.uint64)

    def name(self, index):
        return self.images.names[index]

    def order(self, unit, column):
        return np.argsort(column)


class _Sample:
    """What it asks of a sample; every unit has activations of its own."""

    units = UNITS
    network = None

    def __init__(self, images):
        self.recording = _Recording(_Images(images))

    def column(self, unit):
        return np.random.default_rng(unit.channel).normal(size=len(self.recording.usable)).astype(np.float32)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """130 pictures, and 20 recompressed copies of some of them."""
    study = write_study(tmp_path_factory.mktemp("panels"), STUDY_TOML)
    write_pictures(study.images, COUNT)
    for number in range(20):
        pixels = read_image(study.images / f"{number:03d}.png", 32)
        from PIL import Image

        Image.fromarray(pixels).save(study.images / f"copy-{number:03d}.jpg", quality=85)
    return study


@pytest.fixture(scope="module")
def sample(study):
    return _Sample(study.images)


def rendered(study, sample, folder, vetoed=()):
    blocked = np.isin(sample.recording.images.names, list(vetoed))
    looks = Looks(sample.recording.hashes, blocked, study.file.panels.near_duplicate_bits)
    maker = PanelMaker(study, sample, PackWriter(folder), looks)
    arms = [maker.arm_pack(arm) for arm in study.file.arms if arm.condition == "natural"]
    return maker, arms


def shown(arm):
    """Per unit every image in its panels."""
    for entry in arm.units:
        yield (
            entry.unit,
            [
                exemplar
                for panel in entry.panels
                for exemplar in (*panel.references.min, *panel.references.max, panel.queries.min, panel.queries.max)
            ],
        )


def test_no_unit_shows_two_images_that_look_alike(study, sample, tmp_path):
    maker, arms = rendered(study, sample, tmp_path)
    hashes = dict(zip(sample.recording.images.names, sample.recording.hashes, strict=True))
    sources = maker._writer.sources
    for arm in arms:
        for _unit, exemplars in shown(arm):
            each = np.array([hashes[sources[exemplar.image]] for exemplar in exemplars], dtype=np.uint64)
            assert all(near(one, each, study.file.panels.near_duplicate_bits).sum() == 1 for one in each)
    assert any(skip.reason == "near-duplicate" for skip in maker.skips)


def test_every_skip_is_named_once_with_what_it_resembles(study, sample, tmp_path):
    maker, _arms = rendered(study, sample, tmp_path, vetoed=["005.png"])
    assert len(set(maker.skips)) == len(maker.skips)
    for skip in maker.skips:
        unit = Unit.from_key(skip.unit)
        column = sample.column(unit.model_copy(update={"null": False}))
        column = permuted(column, unit, study.file.study.seed) if unit.null else column
        order = sample.recording.order(unit, column)
        assert sample.recording.name(order[skip.rank]) == skip.image
        assert (skip.reason == "veto") == (skip.image == "005.png") == (skip.resembles is None)


def test_a_vetoed_image_is_shown_nowhere_and_the_next_rank_takes_its_place(study, sample, tmp_path):
    before, _ = rendered(study, sample, tmp_path / "before")
    column = sample.column(UNITS[0])
    lowest = sample.recording.name(sample.recording.order(UNITS[0], column)[0])
    after, arms = rendered(study, sample, tmp_path / "after", vetoed=[lowest])
    assert lowest in before._writer.sources.values() and lowest not in after._writer.sources.values()
    entry = arms[0].units[0]
    assert entry.extremes.min[0].rank == 1
    assert {exemplar.rank for panel in entry.panels for exemplar in panel.references.min} >= {1, 2}


def test_null_units_skip_by_their_own_ranking(study, sample, tmp_path):
    maker, arms = rendered(study, sample, tmp_path)
    null = null_of(UNITS[0])
    assert null in [entry.unit for entry in arms[0].units]
    assert any(Unit.from_key(skip.unit).null for skip in maker.skips)


def test_the_same_recording_gives_the_same_panels(study, sample, tmp_path):
    one, other = rendered(study, sample, tmp_path / "1"), rendered(study, sample, tmp_path / "2")
    assert one[1] == other[1] and one[0].skips == other[0].skips
