import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from crowd_imi.errors import FactoryError, PackError
from crowd_imi.factory import panels, sample
from crowd_imi.factory.gallery import write_gallery
from crowd_imi.factory.images import find_images
from crowd_imi.factory.record import activations
from crowd_imi.factory.render import render
from crowd_imi.factory.sample import draw_sample
from crowd_imi.pack import Pack
from crowd_imi.study import load_study
from crowd_imi.vision.layers import describe_layers
from crowd_imi.vision.models import load_model
from tests.factory.conftest import COUNT, STUDY_TOML, write_pictures
from tests.tiny import write_study


@pytest.fixture(scope="module")
def pack(rendered):
    return Pack(rendered.pack)


def natural(pack):
    return pack.manifest.arm("net-natural-easy")


def test_the_pack_is_whole_and_names_what_it_was_made_from(pack):
    manifest = pack.manifest
    assert list(pack.damage()) == []
    assert manifest.image_count == COUNT
    assert manifest.unreadable == ("broken.png",)
    assert len(manifest.models["net"].weights_sha256) == 64
    assert manifest.versions["torch"] == torch.__version__.split("+")[0]


def test_arms_have_the_asked_units_null_units_last_from_at_least_three_layers(pack):
    units = [entry.unit for entry in natural(pack).units]
    assert [unit.null for unit in units] == [False] * 6 + [True] * 3
    assert len({unit.layer for unit in units}) >= 3
    assert len({unit.key for unit in units}) == 9


def test_arms_of_a_model_share_units_and_references(pack):
    easy, hard = natural(pack), pack.manifest.arm("net-natural-very_hard")
    synthetic = pack.manifest.arm("net-synthetic-easy")
    assert [entry.unit for entry in hard.units] == [entry.unit for entry in easy.units[:6]]
    assert [entry.unit for entry in synthetic.units[:2]] == [entry.unit for entry in easy.units[:2]]
    assert synthetic.units[2].unit == easy.units[6].unit
    assert [panel.references for panel in hard.units[0].panels] == [panel.references for panel in easy.units[0].panels]


def test_no_panel_shows_an_image_twice(pack):
    for arm in pack.manifest.arms:
        for entry in arm.units:
            for panel in entry.panels:
                shown = [
                    exemplar.image
                    for side in ("min", "max")
                    for exemplar in (*panel.references.side(side), panel.queries.side(side))
                ]
                assert len(set(shown)) == 20


def test_the_networks_activation_on_a_stored_image_is_the_recorded_one(rendered, pack):
    entry = natural(pack).units[0]
    model = load_model(rendered.file.models["net"], rendered.folder, rendered.file.study.seed)
    (layer,) = describe_layers(model.module, [entry.unit.layer], 32)
    query = entry.panels[0].queries.max
    with Image.open(pack.image(query.image)) as image:
        measured = activations(model, layer, entry.unit.channel, np.asarray(image)[None])[0]
    assert measured == pytest.approx(query.activation, rel=1e-4, abs=1e-6)


def test_max_queries_drive_a_unit_more_than_min_queries_and_less_than_references(pack):
    for entry in natural(pack).units:
        for panel in entry.panels:
            assert panel.queries.min.activation < panel.queries.max.activation
            assert panel.queries.max.activation <= min(exemplar.activation for exemplar in panel.references.max)
            assert panel.queries.min.activation >= max(exemplar.activation for exemplar in panel.references.min)


def test_a_null_units_images_are_chosen_by_other_activations_than_its_units(pack):
    real, null = natural(pack).units[0], natural(pack).units[6]
    assert null.unit == real.unit.model_copy(update={"null": True})
    assert null.activation_range == real.activation_range
    assert {e.image for e in null.extremes.max} != {e.image for e in real.extremes.max}


def test_synthetic_references_are_visualisations_that_all_batches_share(pack):
    real, _, null = pack.manifest.arm("net-synthetic-easy").units
    assert len({panel.references for panel in real.panels}) == 1
    sources = {pack.manifest.sources[exemplar.image] for exemplar in real.panels[0].references.max}
    assert sources == {f"visualisation of {real.unit.key}, max"}
    assert all(exemplar.rank is None for exemplar in real.panels[0].references.max)
    # A synthetic null unit shows its real unit's visualisations and takes queries from the permuted column.
    assert null.panels[0].references == real.panels[0].references
    assert null.panels[0].queries != real.panels[0].queries


def test_rendering_again_gives_the_same_pack_without_visualising_anew(rendered, pack, monkeypatch):
    def fail(*_):
        raise AssertionError("visualised anew")

    monkeypatch.setattr(panels.PanelMaker, "_visualise", fail)
    render(rendered)
    assert Pack(rendered.pack).digest == pack.digest


def test_what_a_killed_run_left_is_made_whole(rendered, pack, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(rendered.folder, folder)
    (folder / "pack" / "manifest.json").unlink()
    for path in sorted((folder / "pack" / "images").glob("*/*.png"))[::5]:
        path.write_bytes(b"damaged")
    study = load_study(folder)
    with pytest.raises(PackError, match="there is no pack here"):
        Pack(study.pack)
    render(study)
    again = Pack(study.pack)
    assert list(again.damage()) == [] and again.digest == pack.digest


def test_images_of_an_earlier_render_are_taken_out(rendered, tmp_path):
    study = write_study(tmp_path, STUDY_TOML[: STUDY_TOML.index('[[arms]]\nmodel = "net"\ncondition = "synthetic"')] + _rest())
    write_pictures(study.images)
    stray = study.pack / "images" / "ab" / ("ab" * 32 + ".png")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"from before")
    render(study)
    assert not stray.exists()


def _rest() -> str:
    return STUDY_TOML[STUDY_TOML.index("[panels]") :]


def test_a_unit_that_never_varies_is_reported_and_replaced(tmp_path):
    # timm begins with the last BatchNorm of a block at zero, so that all of its channels are always zero.
    toml = STUDY_TOML.replace('"layer3.0.conv1"', '"layer2.0.bn2"')
    study = write_study(tmp_path, toml)
    write_pictures(study.images)
    sample = draw_sample(study, "net", find_images(study.images, 32, 1))
    assert sample.replacements
    for replaced in sample.replacements:
        assert replaced.unit.startswith("net/layer2.0.bn2/") and replaced.reason == "its activation never varies"
        assert replaced.replaced_by in sample.columns
    assert len(sample.units) == 6 and not any(unit.layer == "layer2.0.bn2" for unit in sample.units)


def test_layers_without_a_usable_unit_are_an_error_with_the_reason(tmp_path):
    toml = STUDY_TOML.replace('["layer1.0.conv*", "layer2.0.conv1", "layer3.0.conv1"]', '["layer2.0.bn2"]')
    study = write_study(tmp_path, toml)
    write_pictures(study.images)
    with pytest.raises(FactoryError, match=r"6 units are needed and only 0 .* its activation never varies"):
        draw_sample(study, "net", find_images(study.images, 32, 1))


def test_too_few_readable_images_say_how_many_are_needed(tmp_path):
    study = write_study(tmp_path, STUDY_TOML)
    write_pictures(study.images, 120)
    (study.images / "000.png").write_bytes(b"broken")
    with pytest.raises(FactoryError, match=r"119 usable images \(1 more can't be used\), and this study's panels need 120"):
        render(study)


def test_the_gallery_shows_every_unit_and_only_images_of_the_pack(rendered, pack):
    page = write_gallery(rendered).read_text()
    for arm in pack.manifest.arms:
        assert f'id="{arm.arm}"' in page
    shown = {part.split('"')[0] for part in page.split('<img src="')[1:]}
    assert shown and all((rendered.pack / path).exists() for path in shown)
    # 9 + 6 + 3 units of 2 panels of 20 images.
    assert page.count("<img ") == 18 * 2 * 20


def test_the_more_units_are_of_no_use_the_more_a_pass_records(rendered, monkeypatch):
    recorded = []

    def counting(model, layers, units, images, track):
        recorded.append(len(units))
        return sample.Recording(images.names, images.names, (), (), "", np.zeros((len(images.names), len(units)), np.float32))

    monkeypatch.setattr(sample, "record", counting)
    images = find_images(rendered.images, 32, 120)
    with pytest.raises(FactoryError, match="only 0 of all channels can be asked about"):
        draw_sample(rendered, "net", images)
    assert all(later == 2 * earlier for earlier, later in pairwise(recorded[:-1])) and len(recorded) > 2


def test_the_pack_of_a_study_that_has_begun_stays_as_it_is(rendered, tmp_path):
    shutil.copytree(rendered.folder, tmp_path / "study")
    toml = tmp_path / "study" / "study.toml"
    study = load_study(toml.parent)
    study.database.touch()
    before = Pack(study.pack).digest
    render(study)
    toml.write_text(toml.read_text().replace("seed = 3", "seed = 4"))
    with pytest.raises(FactoryError, match="this study has begun"):
        render(load_study(toml.parent))
    assert Pack(study.pack).digest == before and list(Pack(study.pack).damage()) == []
