"""Panels made anew after publishing: from the recorded ranks, without what was vetoed, beside a manifest that stays."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crowd_imi.design.plan import make_plan
from crowd_imi.factory.anew import make_anew
from crowd_imi.pack import Pack
from crowd_imi.plan import Amendment, VoidedUnit
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import StoreKind
from crowd_imi.study import Study, load_study
from crowd_imi.vetoes import change_vetoes, vetoed_but_shown
from tests.publisher.test_amending import command
from tests.tiny import approve


@pytest.fixture
def study(rendered: Study, tmp_path: Path) -> Study:
    shutil.copytree(rendered.folder, tmp_path / "study")
    return load_study(tmp_path / "study")


def test_a_vetoed_image_gives_way_to_the_next_rank_and_the_manifest_stays(study: Study):
    pack = Pack(study.pack)
    natural = pack.manifest.arms[0]
    unit = natural.units[0]
    bad = unit.panels[0].references.max[0]
    change_vetoes(study, images=[bad.image])
    voided = tuple(VoidedUnit(arm=arm.arm, unit=unit.unit.key, revision=2) for arm in pack.manifest.arms)
    wanted = Amendment(name="void-1", kind="void", at=datetime.now(UTC), tasks={}, units=voided)
    made = make_anew(study, wanted)
    assert make_anew(study, wanted) == made and made.panels_sha256
    again = Pack(study.pack)
    assert again.digest == pack.digest and list(again.damage()) == [] and list(again.left_over()) == []
    for arm, before in zip(again.shown(["void-1"]).arms, pack.manifest.arms, strict=True):
        new = next(each for each in arm.units if each.unit == unit.unit)
        old = next(each for each in before.units if each.unit == unit.unit)
        assert bad.image not in new.images and new.panels != old.panels and len(new.panels) == len(old.panels)
        assert [each for each in arm.units if each.unit != unit.unit] == [e for e in before.units if e.unit != unit.unit]
        if arm.condition == "synthetic":
            assert new.panels[0].references == old.panels[0].references
        for panel in new.panels:
            low, high = panel.queries.min.activation, panel.queries.max.activation
            assert low is not None and high is not None and low < high


def test_void_as_a_user_types_it_makes_the_unit_anew_and_names_the_others_that_show_the_image(study: Study):
    make_plan(study)
    approve(study)
    store = create_store(study, make_plan(study), study.folder, StoreKind.STUDY)
    launch(study, store, LocalPlatform(study.folder / "local.db"), Choice())
    store.close()
    pack = Pack(study.pack)
    unit = pack.manifest.arms[0].units[0]
    bad = unit.panels[0].references.max[0].image
    shown = sorted({each.unit.key for arm in pack.manifest.arms for each in arm.units if bad in each.images})
    options = ["--veto", bad[:12], "--reason", "shows a wound", "--yes"]
    if len(shown) > 1:
        early = command("void", study.folder, "--unit", unit.unit.key, *options)
        assert early.exit_code == 1 and "is also shown for" in early.output, early.output
    done = command("void", study.folder, *(part for key in shown for part in ("--unit", key)), *options)
    assert done.exit_code == 0, done.output
    assert vetoed_but_shown(study, Pack(study.pack), ["void-1"]) is None
    assert command("plan", study.folder).exit_code == 0
    assert command("status", study.folder).exit_code == 0
    (study.pack / "manifest.json").unlink()
    lost = command("render", study.folder)
    assert lost.exit_code == 1 and "made anew meanwhile (void-1)" in lost.output and "from a backup" in lost.output
