"""The whole chain in small, and what people would see of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crowd_imi.design.fidelity import decode, min_psnr, tile_psnr
from crowd_imi.factory.looker import activations
from crowd_imi.pack import Pack
from crowd_imi.plan import load_plan
from crowd_imi.records import Unit
from crowd_imi.rehearsal.demo.run import Demo, run_demo
from crowd_imi.study import load_study
from crowd_imi.vision.layers import describe_layers
from crowd_imi.vision.models import load_model
from tests.acceptance import demos
from tests.acceptance.demos import small_scale
from tests.packaging.conftest import Installed

pytestmark = pytest.mark.timeout(600)

WITHIN = 0.02
"""Of the unit's range: how far its activation on a decoded tile may be from that on the source image."""


@pytest.fixture(scope="module")
def demo(installed: Installed) -> Demo:
    """Run from a wheel, installed where the checkout can't be seen; its pages are served from there as well."""
    done = installed.run("python", str(Path(demos.__file__)), str(installed.folder / "demo"))
    assert done.returncode == 0, done.stderr
    return Demo.model_validate_json(done.stdout)


def test_every_troublemaker_ends_as_it_should(demo):
    assert demo.mismatches == ()


def test_there_is_a_group_for_every_kind_of_unit_and_condition(demo):
    found = {(group.model, group.condition): group.units for group in demo.groups}
    assert found == {
        ("trained", "natural"): 8,
        ("random", "natural"): 8,
        ("null", "natural"): 8,
        ("trained", "synthetic"): 4,
        ("random", "synthetic"): 4,
        ("null", "synthetic"): 8,  # four of each network
    }
    assert all(0 <= group.low <= group.mean <= group.high <= 1 for group in demo.groups)


def test_the_machine_answers_the_same_panels_with_null_units_at_chance(demo):
    found = {(group.model, group.condition): group for group in demo.predicted}
    assert found.keys() == {(group.model, group.condition) for group in demo.groups}
    assert all(0 <= group.share_low <= group.share <= group.share_high <= 1 for group in demo.predicted)
    # 8 null units × 5 panels: three standard deviations are 3 × √(.25 / 40) = .24.
    assert abs(found["null", "natural"].share - 0.5) <= 0.24
    assert found["trained", "natural"].share > 0.8
    assert "No machine has looked" not in demo.report.read_text(encoding="utf-8")


def test_report_tables_and_gallery_are_where_it_says(demo):
    assert demo.report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert demo.units_csv.read_text().count("\n") == 1 + 16 + 8 + 8 + 8
    assert demo.models_csv.exists()
    assert demo.gallery.exists()


def test_running_it_again_keeps_what_is_done(demo):
    study = load_study(demo.study)
    made = [*study.sprites.iterdir(), *study.images.iterdir(), study.rehearsal("demo") / "study.db"]
    before = {path: path.stat().st_mtime_ns for path in made}
    again = run_demo(demo.study, 1, lambda _: None, scale=small_scale())
    assert again.groups == demo.groups
    assert {path: path.stat().st_mtime_ns for path in made} == before


def test_on_decoded_tiles_units_answer_as_on_the_source_images(demo):
    study = load_study(demo.study)
    plan, pack = load_plan(study.plan), Pack(study.pack)
    model = load_model(study.file.models["trained"], study.folder, study.file.study.seed)
    panels = {unit.unit.key: unit for unit in pack.manifest.arm("trained-natural-easy").units}
    tasks = [task for task in plan.tasks if task.arm == "trained-natural-easy"]
    apart: list[float] = []
    for trial in (trial for task in tasks[:3] for trial in task.trials if trial.kind == "main"):
        unit = Unit.from_key(trial.unit)
        shown = panels[trial.unit].panels[trial.batch]
        places = [*trial.tiles.references.min, *trial.tiles.references.max, trial.tiles.queries.min, trial.tiles.queries.max]
        exemplars = [*shown.references.min, *shown.references.max, shown.queries.min, shown.queries.max]
        sources = np.stack([np.asarray(Image.open(pack.image(exemplar.image)).convert("RGB")) for exemplar in exemplars])
        decoded = decode(study.sprites / trial.sprite, plan.grid)[places]
        assert min(tile_psnr(decoded, sources)) >= min_psnr(plan.grid.tile)
        (layer,) = describe_layers(model.module, (unit.layer,), model.input_size)
        on_tiles = activations(model, layer, unit.channel, decoded)
        on_sources = activations(model, layer, unit.channel, sources)
        extent = panels[trial.unit].activation_range
        apart += list(np.abs(on_tiles - on_sources) / (extent.max - extent.min))
        if not unit.null:
            assert on_tiles[-1] > on_tiles[-2], f"{trial.unit}: the max query doesn't drive the unit more on decoded tiles"
    assert max(apart) <= WITHIN
