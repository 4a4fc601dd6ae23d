"""The gallery: a page to look through, to veto from and to sign off."""

import html
import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.factory.gallery import gallery_page, write_gallery
from crowd_imi.files import write_atomically
from crowd_imi.pack import ModelProvenance, Pack, Skip, manifest_bytes
from crowd_imi.study import load_study
from crowd_imi.vetoes import load_vetoes
from tests.tiny import write_pack, write_study


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    study = write_study(tmp_path_factory.mktemp("gallery") / "study")
    write_pack(study)
    return study.folder


@pytest.fixture
def study(rendered, tmp_path):
    """A copy to do with as one likes."""
    shutil.copytree(rendered, tmp_path / "my study")
    return load_study(tmp_path / "my study")


def gallery(study, *arguments):
    return CliRunner().invoke(app, ["gallery", str(study.folder), *arguments])


def first_image(study):
    return min(Pack(study.pack).manifest.natural())


def test_the_page_shows_every_unit_and_only_images_of_the_pack(study):
    page, manifest = write_gallery(study).read_text(), Pack(study.pack).manifest
    for arm in manifest.arms:
        assert f'id="{arm.arm}"' in page
    shown = {part.split('"')[0] for part in page.split('<img src="')[1:]}
    assert shown and all((study.pack / path).exists() for path in shown)
    # 8 + 6 units of 4 panels of 20 images, and 2 × 8 photographs of each of the 6 synthetic ones, from which catch trials are
    # made. All but the first panel of each unit waits in a template until it is asked for.
    assert page.count("<img ") == 14 * 4 * 20 + 6 * 2 * 8
    assert page.count("<template>") == 14 + 6


def test_real_units_and_natural_images_can_be_marked_and_null_units_cannot(study):
    page = write_gallery(study).read_text()
    units = [entry.unit for arm in Pack(study.pack).manifest.arms for entry in arm.units]
    assert page.count('class="plain mark-unit"') == sum(not unit.null for unit in units) == 12
    assert len(set(re.findall(r'data-image="([0-9a-f]{12})"', page))) == 14 * 4 * 20 + 6 * 2 * 8


def test_nothing_that_a_file_is_called_becomes_markup(study):
    pack = Pack(study.pack)
    digest, name = first_image(study), '"><script>alert(1)</script>.png'
    manifest = pack.manifest.model_copy(update={"sources": {**pack.manifest.sources, digest: name}})
    write_atomically(study.pack / "manifest.json", manifest_bytes(manifest))
    page = gallery_page(study, Pack(study.pack))
    assert "<script>alert" not in page and html.escape(name, quote=True).replace("&quot;", "&#34;") in page


def test_the_page_says_what_was_passed_over(study):
    pack = Pack(study.pack)
    unit = pack.manifest.arms[0].units[0].unit.key
    alike = (Skip(unit=unit, side="min", rank=rank, image="a", reason="near-duplicate", resembles="b") for rank in (0, 1))
    skips = (*alike, Skip(unit=unit, side="max", rank=9, image="c", reason="veto"))
    toy = ModelProvenance(source="timm:x", weights_sha256="0" * 64, input_size=32, skips=skips)
    write_atomically(study.pack / "manifest.json", manifest_bytes(pack.manifest.model_copy(update={"models": {"toy": toy}})))
    assert gallery_page(study, Pack(study.pack)).count("passed over: 2 near-duplicates, 1 vetoed image") == 2


def test_a_veto_is_written_and_says_what_comes_next(study):
    digest = first_image(study)
    done = gallery(study, "--veto", digest[:12], "--veto-unit", "toy/layer0/0", "--reason", "a face")
    assert done.exit_code == 0, done.output
    name = Pack(study.pack).manifest.sources[digest]
    assert f"vetoed: {name}, toy/layer0/0" in done.output and f"crowd-imi render '{study.folder}'" in done.output
    vetoes = load_vetoes(study)
    assert vetoes.images[name].reason == vetoes.units["toy/layer0/0"].reason == "a face"
    assert 'class="image vetoed"' in (study.pack / "gallery.html").read_text()
    assert gallery(study, "--unveto", name, "--unveto", "toy/layer0/0").exit_code == 0
    assert not load_vetoes(study).images


def test_what_is_vetoed_cannot_be_signed_off_before_it_is_gone(study):
    gallery(study, "--veto", first_image(study))
    done = gallery(study, "--approve")
    assert done.exit_code == 1 and "it still shows what was vetoed" in done.output and "crowd-imi render" in done.output


def test_only_a_page_that_is_there_can_be_signed_off(study):
    done = gallery(study, "--approve")
    assert done.exit_code == 1 and "there is no page of this pack yet" in done.output
    assert "nobody has signed the images off yet" in gallery(study).output
    done = gallery(study, "--approve", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["signed_off"] is True
    signed = json.loads((study.folder / "signoff.json").read_text())
    assert signed["pack_sha256"] == Pack(study.pack).digest
    assert "signed" not in gallery(study).output


def test_a_damaged_pack_is_not_signed_off(study):
    gallery(study)
    Pack(study.pack).image(first_image(study)).unlink()
    done = gallery(study, "--approve")
    assert done.exit_code == 1 and "missing" in done.output and not (study.folder / "signoff.json").exists()


def test_options_that_do_not_go_together_are_a_mistake_of_the_caller(study):
    assert gallery(study, "--approve", "--veto", first_image(study)).exit_code == 2
    assert gallery(study, "--reason", "why").exit_code == 2
    image = first_image(study)
    for vetoed, lifted in (
        (("--veto", image), image[:12]),
        (("--veto", image[:12]), image),
        (("--veto-unit", "toy/l/1"), "toy/l/1"),
    ):
        done = gallery(study, *vetoed, "--unveto", lifted)
        assert done.exit_code == 2 and f"{lifted} is vetoed in the same call" in done.output
    assert not load_vetoes(study).images
    assert gallery(study, "--veto-unit", "toy/layer0/1", "--unveto", "toy/layer0/10").exit_code == 1  # another unit, not vetoed


def test_pack_verify_names_what_is_left_over_and_fails_on_damage(study):
    (study.pack / "stray.txt").touch()
    done = CliRunner().invoke(app, ["pack", "verify", str(study.folder), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["left_over"] == [str(study.pack / "stray.txt")]
    (study.pack / "activations.parquet").unlink()
    done = CliRunner().invoke(app, ["pack", "verify", str(study.folder)])
    assert done.exit_code == 1 and "activations.parquet: missing" in done.stderr and "error: 1 of" in done.stderr
