"""Δ by hand, images embedded once and kept, and tables of units and arms."""

import hashlib
import logging
import shutil

import numpy as np
import pandas as pd
import pytest

from crowd_imi.errors import PackError, ScoringError
from crowd_imi.pack import Pack
from crowd_imi.records import Exemplar, Panel, SidePair
from crowd_imi.scoring import embeddings
from crowd_imi.scoring.embeddings import embed
from crowd_imi.scoring.machine import PANEL_COLUMNS, UNIT_COLUMNS, panel_delta, predict, write
from crowd_imi.study import load_study


class MeanColour:
    """An image is its mean colour, of length 1; counts what it is shown."""

    name = "mean colour"
    digest = hashlib.sha256(b"mean colour").hexdigest()

    def __init__(self):
        self.batches = []

    def embed(self, pixels):
        self.batches.append(len(pixels))
        colours = pixels.mean(axis=(1, 2))
        return (colours / np.linalg.norm(colours, axis=1, keepdims=True)).astype(np.float32)


def copied(study, folder):
    shutil.copytree(study.folder, folder)
    return load_study(folder)


@pytest.fixture
def own(study, tmp_path):
    """A copy of the tiny study."""
    return copied(study, tmp_path / "study")


@pytest.fixture(scope="module")
def predictions(study, tmp_path_factory):
    own = copied(study, tmp_path_factory.mktemp("predicted") / "study")
    return predict(own, Pack(own.pack), MeanColour())


def panel(maximum, minimum, references_max, references_min):
    def exemplars(names):
        return tuple(Exemplar(image=name) for name in names)

    return Panel(
        batch=0,
        references=SidePair(min=exemplars(references_min), max=exemplars(references_max)),
        queries=SidePair(min=Exemplar(image=minimum), max=Exemplar(image=maximum)),
    )


def test_delta_of_a_panel_by_hand():
    vectors = {
        name: np.array(vector, dtype=np.float32)
        for name, vector in {"q+": (0.6, 0.8), "q-": (0, 1), "a": (1, 0), "b": (0.8, 0.6), "c": (0, -1)}.items()
    }
    # s(q⁺, E⁺) = (q⁺·a + q⁺·b) / 2 = (.6 + .96) / 2 = .78    s(q⁺, E⁻) = q⁺·c = −.8
    # s(q⁻, E⁺) = (0 + .6) / 2 = .3                            s(q⁻, E⁻) = q⁻·c = −1
    # Δ = (.78 + .8) − (.3 + 1) = .28
    assert panel_delta(panel("q+", "q-", ["a", "b"], ["c", "c"]), vectors) == pytest.approx(0.28, abs=1e-6)


def test_swapped_queries_swap_the_sign():
    rng = np.random.default_rng(0)
    names = ["q+", "q-", *map(str, range(18))]
    raw = rng.normal(size=(20, 5))
    vectors = dict(zip(names, (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32), strict=True))
    delta = panel_delta(panel("q+", "q-", names[2:11], names[11:]), vectors)
    assert panel_delta(panel("q-", "q+", names[2:11], names[11:]), vectors) == pytest.approx(-delta)
    assert panel_delta(panel("q+", "q-", names[11:], names[2:11]), vectors) == pytest.approx(-delta)


def test_red_against_blue_is_told_by_colour(predictions):
    # The tiny pack's max images are reddish and its min images bluish, null units' too: Δ > 0 on every panel.
    assert (predictions.units["share"] == 1).all()
    assert (predictions.panels["delta"] > 0).all()


def test_every_panel_of_the_pack_has_a_row(study, predictions):
    manifest = Pack(study.pack).manifest
    expected = [(arm.arm, unit.unit.key, each.batch) for arm in manifest.arms for unit in arm.units for each in unit.panels]
    assert list(predictions.panels[["arm", "unit", "batch"]].itertuples(index=False, name=None)) == expected
    assert list(predictions.panels) == list(PANEL_COLUMNS) and list(predictions.units) == list(UNIT_COLUMNS)


def test_null_units_are_a_group_of_their_own(study, predictions):
    manifest = Pack(study.pack).manifest
    for group in predictions.groups:
        arms = [arm for arm in manifest.arms if arm.arm in group.arm.split(" + ")]
        members = [entry for arm in arms for entry in arm.units if entry.unit.null == (group.model == "null")]
        assert group.units == len(members)
        assert group.panels == sum(len(entry.panels) for entry in members)
    assert [group.model for group in predictions.groups].count("null") >= 1


def test_an_image_is_embedded_once_and_kept(own):
    pack, first, second = Pack(own.pack), MeanColour(), MeanColour()
    one = predict(own, pack, first)
    shown = {e.image for arm in pack.manifest.arms for u in arm.units for p in u.panels for e in p.references.max}
    assert sum(first.batches) == one.images > len(shown)
    two = predict(own, pack, second)
    assert second.batches == []
    pd.testing.assert_frame_equal(one.panels, two.panels)


def test_another_similarity_has_vectors_of_its_own(own):
    other = MeanColour()
    other.digest = "f" * 64
    images = list(Pack(own.pack).manifest.sources)[:3]
    embed(Pack(own.pack), images, MeanColour(), own.embeddings)
    embed(Pack(own.pack), images, other, own.embeddings)
    assert other.batches == [3]


def test_a_killed_run_goes_on_behind_the_last_file(own, monkeypatch):
    monkeypatch.setattr(embeddings, "BATCH", 4)
    monkeypatch.setattr(embeddings, "CHUNK", 2)
    images = list(Pack(own.pack).manifest.sources)[:20]

    class Killed(MeanColour):
        def embed(self, pixels):
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().embed(pixels)

    with pytest.raises(KeyboardInterrupt):
        embed(Pack(own.pack), images, Killed(), own.embeddings)
    again = MeanColour()
    # A file is written after 2 batches of 4: 8 of 20 are there, the third batch is lost, 12 are left.
    vectors = embed(Pack(own.pack), images, again, own.embeddings)
    assert again.batches == [4, 4, 4]
    assert set(vectors) == set(images)


def test_a_damaged_file_of_vectors_is_made_again(own, caplog):
    images = list(Pack(own.pack).manifest.sources)[:3]
    embed(Pack(own.pack), images, MeanColour(), own.embeddings)
    (kept,) = own.embeddings.rglob("*.npz")
    kept.write_bytes(kept.read_bytes()[:-30])
    again = MeanColour()
    with caplog.at_level(logging.WARNING):
        embed(Pack(own.pack), images, again, own.embeddings)
    assert again.batches == [3] and f"{kept}: damaged" in caplog.text


@pytest.mark.parametrize(("content", "said"), [(None, "can't be read"), (b"other", "changed since it was written")])
def test_a_damaged_image_is_named(own, content, said):
    pack = Pack(own.pack)
    image = next(iter(pack.manifest.sources))
    pack.image(image).unlink()
    if content is not None:
        pack.image(image).write_bytes(content)
    with pytest.raises(PackError, match=f"{image}.png: .*{said}.*pack verify"):
        embed(pack, [image], MeanColour(), own.embeddings)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.zeros((1, 3), np.float32), "1 of 1 vectors can't be brought to length 1"),
        (np.full((1, 3), np.nan, np.float32), "1 of 1 vectors can't be brought to length 1"),
        (np.ones((2, 3), np.float32), r"shape \(2, 3\) for 1 images"),
    ],
)
def test_a_similarity_without_unit_vectors_is_refused_and_nothing_kept(own, vectors, said):
    similarity = MeanColour()
    similarity.embed = lambda pixels: vectors
    with pytest.raises(ScoringError, match=said):
        embed(Pack(own.pack), [next(iter(Pack(own.pack).manifest.sources))], similarity, own.embeddings)
    assert not own.embeddings.exists()


def test_tables_are_written_with_a_sheet_that_names_their_columns(predictions, tmp_path):
    units, panels = write(predictions, tmp_path)
    assert list(pd.read_csv(units)) == list(UNIT_COLUMNS)
    assert list(pd.read_csv(panels)) == list(PANEL_COLUMNS)
    assert len(pd.read_csv(panels)) == len(predictions.panels)
    sheet = (tmp_path / "predictions.md").read_text()
    assert all(f"| {column} |" in sheet for column in (*UNIT_COLUMNS, *PANEL_COLUMNS))
    assert "selected units" in sheet


def test_wilson_and_means_of_a_unit_follow_its_panels(predictions):
    panels = predictions.panels.copy()
    unit = predictions.units.iloc[0]
    deltas = panels.loc[(panels["arm"] == unit["arm"]) & (panels["unit"] == unit["unit"]), "delta"]
    assert unit["panels"] == len(deltas) == 4 and unit["above"] == 4
    assert unit["delta"] == pytest.approx(deltas.mean())
    # Wilson for 4 of 4: the lower end is n / (n + z²) = 4 / (4 + 3.8415) = .5101.
    assert (unit["low"], unit["high"]) == pytest.approx((0.5101, 1.0), abs=1e-4)
