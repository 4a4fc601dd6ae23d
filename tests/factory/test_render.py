import shutil
import tarfile
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from crowd_imi.errors import FactoryError, PackError
from crowd_imi.factory import render as render_module
from crowd_imi.factory.groups import Group
from crowd_imi.factory.looker import activations
from crowd_imi.factory.render import render
from crowd_imi.pack import Pack
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
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
    assert manifest.image_count == COUNT + 1  # a copy of an image counts as an image of its own
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

    monkeypatch.setattr(Group, "made", fail)
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
    manifest = render(study)
    units = [entry.unit for entry in manifest.arm("net-natural-easy").units if not entry.unit.null]
    assert manifest.replacements
    for replaced in manifest.replacements:
        assert replaced.unit.startswith("net/layer2.0.bn2/") and replaced.reason == "its activation never varies"
        assert replaced.replaced_by in {unit.key for unit in units}
    assert len(units) == 6 and not any(unit.layer == "layer2.0.bn2" for unit in units)


def test_layers_without_a_usable_unit_are_an_error_with_the_reason(tmp_path):
    toml = STUDY_TOML.replace('["layer1.0.conv*", "layer2.0.conv1", "layer3.0.conv1"]', '["layer2.0.bn2"]')
    study = write_study(tmp_path, toml)
    write_pictures(study.images)
    with pytest.raises(FactoryError, match=r"6 units are needed and only 0 .* its activation never varies"):
        render(study)


def test_too_few_readable_images_say_how_many_are_needed(tmp_path):
    study = write_study(tmp_path, STUDY_TOML)
    write_pictures(study.images, 120)
    (study.images / "000.png").write_bytes(b"broken")
    with pytest.raises(FactoryError, match=r"119 usable images \(1 more can't be used\), and this study's panels need 120"):
        render(study)


def test_the_more_units_are_of_no_use_the_more_a_pass_records(rendered, tmp_path, monkeypatch):
    shutil.copytree(rendered.folder, tmp_path / "study")
    recorded = []
    record = render_module.Recorder.record

    def counting(self, *given):
        recorded.append(len(given[1]))
        return record(self, *given)

    monkeypatch.setattr(render_module.Recorder, "record", counting)
    monkeypatch.setattr(render_module.Judge, "__call__", lambda *_: "of no use")
    with pytest.raises(FactoryError, match=r"only 0 can be asked about \(e\.g\. net/.*: of no use\)"):
        render(load_study(tmp_path / "study"))
    assert all(later == 2 * earlier for earlier, later in pairwise(recorded[:-1])) and len(recorded) > 2


def test_listed_units_are_asked_about_in_their_order_and_excluded_ones_never(tmp_path):
    listed = [f"layer2.0.conv1/{channel}" for channel in (7, 3, 5, 1, 0, 2, 4)]
    toml = STUDY_TOML.replace(
        'layers = ["layer1.0.conv*", "layer2.0.conv1", "layer3.0.conv1"]', f'units = {listed}\nexclude = ["layer2.0.conv1/5"]'
    )
    study = write_study(tmp_path, toml)
    write_pictures(study.images)
    units = [entry.unit.channel for entry in render(study).arm("net-natural-easy").units if not entry.unit.null]
    assert units == [7, 3, 1, 0, 2, 4]


def test_latents_are_asked_about_as_channels_are(tmp_path):
    (tmp_path / "study").mkdir()
    encoder = torch.randn(12, 48, generator=torch.Generator().manual_seed(0))
    save_file({"encoder.weight": encoder}, tmp_path / "study" / "sae.safetensors")
    toml = STUDY_TOML.replace(
        'layers = ["layer1.0.conv*", "layer2.0.conv1", "layer3.0.conv1"]',
        'layers = ["*@sae"]\n[models.net.readouts.sae]\nlayer = "layer2.0.conv1"\nkind = "sae"\n'
        'weights = "sae.safetensors"\nactivation = "topk"\nk = 3\n',
    )
    toml = toml.replace("classes = 5\ninput_size = 32\n", "").replace(
        'source = "timm:test_resnet"\n', 'source = "timm:test_resnet"\nclasses = 5\ninput_size = 32\n'
    )
    study = write_study(tmp_path / "study", toml)
    write_pictures(study.images)
    manifest = render(study)
    for arm in manifest.arms:
        for entry in arm.units:
            assert entry.unit.layer == "layer2.0.conv1@sae"
            for panel in entry.panels:
                assert panel.queries.min.activation < panel.queries.max.activation
    assert list(manifest.models["net"].readouts) == ["layer2.0.conv1@sae"]


def test_images_that_come_and_go_meanwhile_are_said_and_recorded_by_the_next_run(rendered, tmp_path, caplog):
    shutil.copytree(rendered.folder, tmp_path / "study")
    study = load_study(tmp_path / "study")

    def changing(things, what, total=None):
        if what.startswith("recording"):
            shutil.copy(study.images / "001.png", study.images / "new.png")
            (study.images / "broken.png").unlink(missing_ok=True)
        return iter(things)

    for path in study.images.iterdir():
        path.touch()  # so that the earlier recording isn't theirs
    assert render(study, changing).image_count == COUNT + 1
    said = (
        f"{study.images}: images changed while they were recorded (1 more, 1 fewer, or others written anew), and the pack shows"
    )
    assert [record.message for record in caplog.records if record.message.startswith(said)]
    caplog.clear()
    assert render(study).image_count == COUNT + 2 and not caplog.records


def test_images_come_from_tar_shards_as_from_a_folder(rendered, pack, tmp_path):
    study = write_study(tmp_path, STUDY_TOML.replace('folder = "images"', 'shards = "train/*.tar"'))
    (tmp_path / "train").mkdir()
    for number in range(2):
        with tarfile.open(tmp_path / "train" / f"{number}.tar", "w") as tar:
            for path in sorted(rendered.images.iterdir())[number::2]:
                tar.add(path, path.name)
    manifest = render(study)
    assert manifest.image_count == pack.manifest.image_count
    assert set(manifest.unreadable) == {"0.tar/broken.png"} or set(manifest.unreadable) == {"1.tar/broken.png"}
    shown = {name.partition("/")[2] for name in manifest.natural().values()}
    assert shown <= {path.name for path in rendered.images.iterdir()} and len(shown) > 50


def test_a_copy_of_an_image_is_passed_over_and_that_is_said(pack):
    """007.png and copy.png are the same picture, so they are neighbours in every ranking and never both taken."""
    pairs = [{skip.image, skip.resembles} for skip in pack.manifest.models["net"].skips if skip.reason == "near-duplicate"]
    assert {"007.png", "copy.png"} in pairs
    for arm in pack.manifest.arms:
        for entry in arm.units:
            panels_of = [(*panel.references.min, *panel.references.max) for panel in entry.panels]
            shown = {pack.manifest.sources[exemplar.image] for panel in panels_of for exemplar in panel}
            assert not {"007.png", "copy.png"} <= shown


def test_the_pack_of_a_study_that_has_begun_stays_as_it_is(rendered, tmp_path):
    shutil.copytree(rendered.folder, tmp_path / "study")
    toml = tmp_path / "study" / "study.toml"
    study = load_study(toml.parent)
    before = Pack(study.pack).digest
    about = {"study": study.file.study.name, "plan_sha256": "0" * 64, "pack_sha256": before}
    Store.create(*database_urls(study.folder), StoreKind.STUDY, about).close()
    images = sorted(study.pack.rglob("*.png"))
    render(study)
    toml.write_text(toml.read_text().replace("seed = 3", "seed = 4"))
    with pytest.raises(FactoryError, match="this study has begun"):
        render(load_study(toml.parent))
    assert Pack(study.pack).digest == before and list(Pack(study.pack).damage()) == []
    assert sorted(study.pack.rglob("*.png")) == images  # not one of the other seed's


def test_a_begun_studys_pack_that_was_lost_is_made_again_as_it_was(rendered, tmp_path):
    shutil.copytree(rendered.folder, tmp_path / "study")
    study = load_study(tmp_path / "study")
    before = Pack(study.pack).digest
    about = {"study": study.file.study.name, "plan_sha256": "0" * 64, "pack_sha256": before}
    Store.create(*database_urls(study.folder), StoreKind.STUDY, about).close()
    (study.pack / "manifest.json").write_text("{}")
    render(study)
    assert Pack(study.pack).digest == before
