"""Vetoes and sign-off: what a person says of a pack, and when it no longer counts."""

import re
import tomllib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowd_imi.errors import FactoryError, PublishError
from crowd_imi.factory.gallery import gallery_page, require_looked_at
from crowd_imi.files import write_atomically
from crowd_imi.pack import Pack, manifest_bytes
from crowd_imi.signoff import missing_sign_off, require_sign_off, sign_off, signoff_path
from crowd_imi.vetoes import ImageVeto, UnitVeto, Vetoes, _toml, change_vetoes, load_vetoes, vetoes_path
from tests.tiny import STUDY_TOML, write_pack, write_study

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def study(tmp_path):
    study = write_study(tmp_path / "study")
    write_pack(study)
    return study


@pytest.fixture
def pack(study):
    return Pack(study.pack)


def natural(pack):
    return sorted(pack.manifest.natural())


def test_without_a_file_nothing_is_vetoed(study):
    assert load_vetoes(study) == Vetoes()


def test_images_are_vetoed_by_their_digest_and_kept_by_their_name(study, pack):
    one, other = natural(pack)[:2]
    change_vetoes(study, images=[one[:8], other], reason="a face")
    vetoes = load_vetoes(study)
    assert vetoes.images == {pack.manifest.sources[each]: ImageVeto(sha256=each, reason="a face") for each in (one, other)}
    assert set(vetoes.still_shown(pack.manifest)) == set(vetoes.images)


def test_a_copy_of_a_vetoed_image_under_another_name_is_still_shown(study, pack):
    one = natural(pack)[0]
    change_vetoes(study, images=[one])
    manifest = pack.manifest.model_copy(update={"sources": {**pack.manifest.sources, one: "copy.png"}})
    vetoes = load_vetoes(study)
    assert vetoes.still_shown(manifest) == ("copy.png",) and vetoes.images_shown(manifest) == {one}
    write_atomically(study.pack / "manifest.json", manifest_bytes(manifest))
    assert 'class="image vetoed"' in gallery_page(study, Pack(study.pack))
    with pytest.raises(FactoryError, match=r"it still shows what was vetoed \(copy\.png\); run `crowd-imi render"):
        require_looked_at(study, Pack(study.pack))


def test_units_are_vetoed_by_their_key_and_both_vetoes_add_up(study, pack):
    change_vetoes(study, images=[natural(pack)[0]])
    change_vetoes(study, units=["toy/layer0/0"], reason="all of one kind")
    vetoes = load_vetoes(study)
    assert vetoes.units == {"toy/layer0/0": UnitVeto(reason="all of one kind")} and len(vetoes.images) == 1


def test_vetoes_can_be_lifted_by_digest_name_or_unit(study, pack):
    one, other = natural(pack)[:2]
    change_vetoes(study, images=[one, other], units=["toy/layer0/0"])
    change_vetoes(study, lift=[one[:10], pack.manifest.sources[other], "toy/layer0/0"])
    assert load_vetoes(study) == Vetoes()
    with pytest.raises(FactoryError, match="nothing of this name is vetoed"):
        change_vetoes(study, lift=[one])


def test_what_cannot_be_vetoed_is_refused_with_a_line_each_and_nothing_is_written(study, pack):
    good = natural(pack)[0]
    with pytest.raises(FactoryError) as refused:
        change_vetoes(study, images=[good, "0123456", "f" * 12], units=["toy/layer0/100~null", "toy/layer9/0"])
    lines = str(refused.value).splitlines()
    assert lines[0].startswith("--veto 0123456: at least 8 characters")
    assert lines[1] == "--veto ffffffffffff: the pack has no image whose SHA-256 begins so; copy it from the gallery"
    assert lines[2].startswith(
        "--veto-unit toy/layer0/100~null: a null unit goes with the unit that it is made of; veto toy/layer0/100"
    )
    assert lines[3].startswith("--veto-unit toy/layer9/0: the pack has no such unit")
    assert len(lines) == 4 and not vetoes_path(study).exists()


def test_an_ambiguous_beginning_is_refused(study, pack):
    first = natural(pack)[0]
    sources = {**pack.manifest.sources, first[:20] + "0" * 44: "twin.png"}
    manifest = pack.manifest.model_copy(update={"sources": sources})
    write_atomically(study.pack / "manifest.json", manifest_bytes(manifest))
    with pytest.raises(FactoryError, match="2 images of the pack begin so; give more characters"):
        change_vetoes(study, images=[first[:12]])


def test_a_visualisation_is_vetoed_by_its_unit(study, pack):
    digest = "ab" * 32
    sources = {**pack.manifest.sources, digest: "visualisation of toy/layer0/0, max"}
    manifest = pack.manifest.model_copy(update={"sources": sources})
    write_atomically(study.pack / "manifest.json", manifest_bytes(manifest))
    with pytest.raises(FactoryError, match=r"a visualisation of toy/layer0/0, max, and .* veto its unit with --veto-unit"):
        change_vetoes(study, images=[digest])


def test_a_study_that_has_begun_takes_no_vetoes(study, pack):
    study.database.touch()
    with pytest.raises(FactoryError, match="this study has begun, and answers are about the pack as it is"):
        change_vetoes(study, images=[natural(pack)[0]])


@pytest.mark.parametrize("content", ["[images", "[images.a]\nnmae = 1", '[units."no unit"]', "schema = 2", "\udc00"])
def test_a_damaged_file_is_named(study, content):
    vetoes_path(study).write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(FactoryError, match=re.escape(f"{vetoes_path(study)}: ")):
        load_vetoes(study)


def test_a_file_nested_too_deep_and_a_folder_are_named(study):
    path = vetoes_path(study)
    path.write_text("x = " + "[" * 100_000)
    with pytest.raises(FactoryError, match=re.escape(f"{path}: this is no TOML (")):
        load_vetoes(study)
    path.unlink()
    path.mkdir()
    with pytest.raises(FactoryError, match=re.escape(f"{path}: this is a folder; take it away")):
        load_vetoes(study)


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@given(names=st.dictionaries(words, words, max_size=3), units=st.dictionaries(st.just("m/l/3"), words))
def test_every_name_and_reason_survives_the_file(names, units):
    vetoes = Vetoes(
        images={name: ImageVeto(reason=reason) for name, reason in names.items()},
        units={unit: UnitVeto(reason=reason) for unit, reason in units.items()},
    )
    assert Vetoes.model_validate(tomllib.loads(_toml(vetoes))) == vetoes


def test_a_sign_off_holds_for_one_pack_alone(study, pack):
    assert "nobody has signed the images off yet" in missing_sign_off(study, pack)
    page = study.pack / "gallery.html"
    page.write_text("the page")
    sign_off(study, pack, page, NOW)
    assert missing_sign_off(study, pack) is None
    manifest = pack.manifest.model_copy(update={"seed": 8})
    write_atomically(study.pack / "manifest.json", manifest_bytes(manifest))
    said = missing_sign_off(study, Pack(study.pack))
    assert "signed off on 2026-03-01, but the pack was rendered anew since" in said and "--approve" in said
    for damaged in ("{}", "[" * 100_000):
        signoff_path(study).write_text(damaged)
        assert missing_sign_off(study, pack).startswith(f"{signoff_path(study)}: ")
    signoff_path(study).unlink()
    signoff_path(study).mkdir()
    assert missing_sign_off(study, pack).startswith(f"{signoff_path(study)}: this is a folder; take it away, look through")


def test_a_sign_off_doesnt_hold_for_what_is_vetoed_after_it(study, pack):
    page = study.pack / "gallery.html"
    page.write_text("the page")
    sign_off(study, pack, page, NOW)
    one = natural(pack)[0]
    change_vetoes(study, images=[one])
    said = missing_sign_off(study, pack)
    assert f"it still shows what was vetoed ({pack.manifest.sources[one]}); run `crowd-imi render" in said
    change_vetoes(study, lift=[one])
    assert missing_sign_off(study, pack) is None


def test_a_content_warning_does_instead_of_a_sign_off(study, pack):
    with pytest.raises(PublishError, match=r"nobody has signed .* Or warn participants: pages\.content_warning"):
        require_sign_off(study, pack)
    warned = write_study(study.folder, STUDY_TOML.replace("[pages]", '[pages]\ncontent_warning = "Some show wounds."'))
    require_sign_off(warned, pack)
