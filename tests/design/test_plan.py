import shutil

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from crowd_imi.design.fidelity import decode, min_psnr, tile_psnr
from crowd_imi.design.layout import arrange, lay_out
from crowd_imi.design.pictures import Picture, pixels
from crowd_imi.design.plan import make_plan, sprite_names
from crowd_imi.errors import DesignError, PackError
from crowd_imi.pack import Pack
from crowd_imi.plan import load_plan
from crowd_imi.records import SidePair, Tiles
from crowd_imi.seeds import generator
from tests.design.conftest import SMALL_TOML
from tests.tiny import STUDY_TOML, write_study

RESEEDED = SMALL_TOML.replace("seed = 7", "seed = 8")


def laid_out(study):
    pack = Pack(study.pack)
    return [trial for arm in study.file.arms for task in lay_out(study.file, arm, pack) for trial in task.trials]


def without_tokens(plan):
    tasks = [[(t.kind, t.unit, t.batch, t.tiles) for t in task.trials] for task in plan.tasks]
    return tasks, [(t.tiles, t.obvious) for t in plan.practice], plan.pack_sha256


def files(study):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in study.sprites.iterdir()}


def contents(study):
    return {path.name: path.read_bytes() for path in study.sprites.iterdir()}


def test_every_decoded_tile_keeps_its_decibels(photo_study, photo_plan):
    trials = [trial for task in photo_plan.tasks for trial in task.trials]
    for laid, planned in zip(laid_out(photo_study), trials, strict=True):
        original = np.stack([pixels(picture, 64) for picture in laid.pictures])
        assert min(tile_psnr(decode(photo_study.sprites / planned.sprite, photo_plan.grid), original)) >= min_psnr(
            photo_plan.grid.tile
        )


def test_no_two_decoded_tiles_of_a_sprite_are_equal(photo_study, photo_plan):
    for name in sprite_names(photo_plan):
        tiles = decode(photo_study.sprites / name, photo_plan.grid)
        assert len({tile.tobytes() for tile in tiles}) == 20


def test_a_tasks_sprites_have_one_size_and_practices_too(photo_study, photo_plan):
    groups = [[t.sprite for t in task.trials] for task in photo_plan.tasks] + [[t.sprite for t in photo_plan.practice]]
    for names in groups:
        assert len({(photo_study.sprites / name).stat().st_size for name in names}) == 1


def test_sprite_names_are_tokens_and_nothing_else_lies_beside_them(photo_study, photo_plan):
    names = sprite_names(photo_plan)
    # 2 × 8 natural, 8 synthetic, 5 practice.
    assert len(names) == 29
    assert all(len(name) == 37 and name.endswith(".avif") and set(name[:32]) <= set("0123456789abcdef") for name in names)
    assert {path.name for path in photo_study.sprites.iterdir()} == names


def test_tiles_lie_where_the_plan_says(photo_study, photo_plan):
    arm = Pack(photo_study.pack).manifest.arm("toy-natural-easy")
    units = {unit.unit.key: unit for unit in arm.units}
    for trial in photo_plan.tasks[0].trials:
        if trial.kind == "main":
            panel = units[trial.unit].panels[trial.batch]
            decoded = decode(photo_study.sprites / trial.sprite, photo_plan.grid)
            for side in ("min", "max"):
                stored = [*panel.references.side(side), panel.queries.side(side)]
                original = np.stack([pixels(Picture(Pack(photo_study.pack).image(e.image), e.image), 64) for e in stored])
                places = [*trial.tiles.references.side(side), trial.tiles.queries.side(side)]
                assert min(tile_psnr(decoded[places], original)) >= min_psnr(photo_plan.grid.tile)


def test_tasks_are_balanced_and_hold_the_right_kinds(photo_study, photo_plan):
    for arm in photo_study.file.arms:
        tasks = [task for task in photo_plan.tasks if task.arm == arm.id]
        assert [task.number for task in tasks] == list(range(1, photo_study.file.task_count(arm) + 1))
        main = [trial for task in tasks for trial in task.trials if trial.kind == "main"]
        seen = {unit: [t.batch for t in main if t.unit == unit] for unit in {t.unit for t in main}}
        assert len(seen) == arm.units + arm.null
        assert all(len(batches) == arm.responses == len(set(batches)) for batches in seen.values())
        for task in tasks:
            assert [trial.kind for trial in task.trials].count("catch") == photo_study.file.tasks.catch
            assert len({trial.unit for trial in task.trials if trial.kind == "main"}) == photo_study.file.tasks.trials


def test_planning_again_changes_no_byte(study):
    before, written = files(study), study.plan.read_bytes()
    assert make_plan(study, practice=study.folder / "practice") == load_plan(study.plan)
    assert files(study) == before and study.plan.read_bytes() == written


def test_a_lost_sprite_comes_back_with_the_same_bytes_and_a_stale_one_goes(study):
    before = contents(study)
    (study.sprites / load_plan(study.plan).tasks[1].trials[3].sprite).unlink()
    (study.sprites / f"{'0' * 32}.avif").write_bytes(b"stale")
    (study.sprites / f".{'1' * 32}.avif.abcd").write_bytes(b"half written")
    make_plan(study, practice=study.folder / "practice")
    assert contents(study) == before


def test_the_same_key_leads_to_the_same_bytes(study, planned):
    shutil.rmtree(study.sprites)
    study.plan.unlink()
    assert make_plan(study, practice=study.folder / "practice") == load_plan(planned.plan)
    assert contents(study) == contents(planned)


def test_another_key_changes_the_tokens_alone(study, planned):
    study.key.unlink()
    plan, before = make_plan(study, practice=study.folder / "practice"), load_plan(planned.plan)
    assert without_tokens(plan) == without_tokens(before)
    assert not sprite_names(plan) & sprite_names(before)
    assert sorted(contents(study).values()) == sorted(contents(planned).values())


def test_another_seed_changes_the_tasks_and_removes_the_old_sprites(study, planned):
    plan = make_plan(write_study(study.folder, RESEEDED), practice=study.folder / "practice")
    assert without_tokens(plan) != without_tokens(load_plan(planned.plan))
    assert set(files(study)) == sprite_names(plan)


def test_two_equal_tiles_are_refused_with_both_files(study, practice):
    (practice / "2" / "query_max.png").write_bytes((practice / "2" / "max" / "5.png").read_bytes())
    written = study.plan.read_bytes()
    with pytest.raises(DesignError, match=r"practice: .*png and .*png look the same at 32 px"):
        make_plan(study, practice=practice)
    assert study.plan.read_bytes() == written


def test_a_panel_that_shows_an_image_twice_is_passed_over(tiny_study, caplog):
    pack = Pack(tiny_study.pack)
    arm = pack.manifest.arms[0]
    panel = arm.units[0].panels[2]
    double = panel.model_copy(update={"queries": SidePair(min=panel.references.min[4], max=panel.queries.max)})
    unit = arm.units[0].model_copy(update={"panels": (*arm.units[0].panels[:2], double, arm.units[0].panels[3])})
    pack.manifest = pack.manifest.model_copy(update={"arms": (arm.model_copy(update={"units": (unit, *arm.units[1:])}),)})
    tasks = lay_out(tiny_study.file, tiny_study.file.arms[0], pack)
    used = [trial.batch for task in tasks for trial in task.trials if trial.unit == unit.unit.key and trial.kind == "main"]
    assert sorted(used) == [0, 1, 3]
    assert "left out 1 panels" in caplog.text


def test_a_pack_for_another_study_file_is_refused(study):
    for old, new, error, says in (
        ("image_size = 32", "image_size = 48", DesignError, "panels.image_size = 48, but the pack's images have 32 px"),
        ("null = 1", "null = 3", DesignError, "asks for 3 units and 3 null ones, but the pack holds 3 and 1"),
        ('"natural"\n', '"natural"\ndifficulty = "hard"\n', PackError, "no arm toy-natural-hard"),
    ):
        with pytest.raises(error, match=says):
            make_plan(write_study(study.folder, SMALL_TOML.replace(old, new)), practice=study.folder / "practice")


def test_a_missing_image_is_named(study):
    shutil.rmtree(study.pack / "images")
    shutil.rmtree(study.sprites)
    with pytest.raises(DesignError, match=r"images/.*png: can't be read .* run `crowd-imi render` again"):
        make_plan(study, practice=study.folder / "practice")


def test_every_role_is_on_every_tile_equally_often():
    rng = generator(1, "places")
    picture = [Picture(None, str(i)) for i in range(20)]  # type: ignore[arg-type]
    counts = np.zeros((20, 20))
    references, queries = SidePair(min=tuple(picture[:9]), max=tuple(picture[9:18])), SidePair(min=picture[18], max=picture[19])
    for _ in range(4000):
        shown, tiles = arrange(references, queries, rng)
        roles = (*tiles.references.min, *tiles.references.max, tiles.queries.min, tiles.queries.max)
        assert [shown[place].digest for place in roles] == [str(i) for i in range(20)]
        counts[np.arange(20), roles] += 1
    # 400 cells of 200 expected; rows and columns sum to 4000, so 19 × 19 degrees of freedom.
    assert chisquare(counts.ravel(), ddof=399 - 361).pvalue > 0.01


@pytest.fixture(scope="module")
def many(tiny_study):
    """Enough trials to see a tell: 80 natural and 20 synthetic tasks of 6 main and 2 catch trials."""
    toml = STUDY_TOML.replace("responses = 3", "responses = 60").replace("responses = 2\n", "responses = 20\n")
    study = write_study(tiny_study.folder / "many", toml)
    return [task for arm in study.file.arms for task in lay_out(study.file, arm, Pack(tiny_study.pack))]


def test_neither_the_right_query_nor_the_kind_can_be_told_from_tiles_or_order(many):
    trials = [(place, trial) for task in many for place, trial in enumerate(task.trials)]
    assert len(trials) == 800
    by_query, by_kind, by_order = np.zeros((2, 20)), np.zeros((2, 20)), np.zeros((2, 8))
    first_right = 0
    for place, trial in trials:
        tiles: Tiles = trial.tiles
        kind = int(trial.kind == "catch")
        by_query[0, tiles.queries.min] += 1
        by_query[1, tiles.queries.max] += 1
        by_kind[kind, tiles.queries.max] += 1
        by_order[kind, place] += 1
        first_right += tiles.queries.max < tiles.queries.min
    for table in (by_query, by_kind, by_order):
        assert chi2_contingency(table).pvalue > 0.01
    # 800 tosses of a coin: 400 ± 3 × 14.1.
    assert abs(first_right - 400) < 43
