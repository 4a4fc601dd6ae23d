import pytest

from crowd_imi.design.catch import CatchMaker
from crowd_imi.design.layout import lay_out
from crowd_imi.design.pictures import Picture, differs_visibly, pixels
from crowd_imi.errors import DesignError
from crowd_imi.pack import Pack
from crowd_imi.records import Unit
from crowd_imi.seeds import generator
from tests.tiny import STUDY_TOML, write_study

NATURAL, SYNTHETIC = "toy-natural-easy", "toy-synthetic-easy"


@pytest.fixture
def study(tiny_study):
    return tiny_study


def maker(study, arm, *, units=None, seed=1):
    pack = Pack(study.pack)
    packed = pack.manifest.arm(arm)
    chosen = packed.units if units is None else packed.units[:units]
    return CatchMaker(packed.condition, chosen, lambda e: Picture(pack.image(e.image), e.image), 32, generator(seed, "catch"))


def tasks_of(study, arm):
    return list(lay_out(study.file, study.file.arm(arm), Pack(study.pack)))


def test_natural_queries_are_visible_crops_of_a_reference_of_their_side(study):
    for trial in maker(study, NATURAL).take(4, {}):
        for side in ("min", "max"):
            query = trial.queries.side(side)
            shown = next(picture for picture in trial.references.side(side) if picture.digest == query.digest)
            assert query.corner is not None and shown.corner is None
            assert differs_visibly(pixels(query, 32), pixels(shown, 32))


def test_synthetic_queries_are_the_units_extreme_photographs_the_widest_margin_first(study):
    made = maker(study, SYNTHETIC)
    trials = [made.take(1, {})[0] for _ in range(12)]
    extremes = {unit.unit.key: unit.extremes for unit in Pack(study.pack).manifest.arm(SYNTHETIC).units}
    places = [[e.image for e in extremes[trial.unit].max].index(trial.queries.max.digest) for trial in trials]
    # Six units: each once with its most extreme pair, then each once with the next.
    assert places == [0] * 6 + [1] * 6
    assert [trial.queries.min.digest for trial in trials] == [
        extremes[trial.unit].min[place].image for trial, place in zip(trials, places, strict=True)
    ]
    assert len({trial.unit for trial in trials[:6]}) == 6


def test_synthetic_references_are_the_units_visualisations(study):
    panels = {unit.unit.key: unit.panels[0] for unit in Pack(study.pack).manifest.arm(SYNTHETIC).units}
    (trial,) = maker(study, SYNTHETIC).take(1, {})
    assert [p.digest for p in trial.references.max] == [e.image for e in panels[trial.unit].references.max]


@pytest.mark.parametrize("arm", [NATURAL, SYNTHETIC])
def test_no_catch_trial_is_shown_in_two_tasks(study, arm):
    catch = [trial for task in tasks_of(study, arm) for trial in task.trials if trial.kind == "catch"]
    queries = [trial.pictures[tile] for trial in catch for tile in (trial.tiles.queries.min, trial.tiles.queries.max)]
    assert len(queries) == 2 * study.file.tasks.catch * len(tasks_of(study, arm))
    assert len({query.digest for query in queries}) == len(queries)


def test_catch_trials_come_from_real_units(study):
    catch = [trial for task in tasks_of(study, NATURAL) for trial in task.trials if trial.kind == "catch"]
    assert catch and not any(Unit.from_key(trial.unit).null for trial in catch)
    assert {trial.batch for trial in catch} == {-1}


def test_a_unit_in_a_main_trial_is_shown_with_another_panel(study):
    pack = Pack(study.pack)
    units = pack.manifest.arm(NATURAL).units[:3]
    main = {unit.unit.key: unit.panels[1] for unit in units}
    shown = {key: {e.image for e in panel.references.min} for key, panel in main.items()}
    made = maker(study, NATURAL, units=3)
    for _ in range(9):
        for trial in made.take(3, main):
            assert not shown[trial.unit] & {picture.digest for picture in trial.references.min}


def test_units_that_the_task_does_not_show_already_are_preferred(study):
    units = Pack(study.pack).manifest.arm(NATURAL).units
    main = {unit.unit.key: unit.panels[0] for unit in units[:4]}
    for _ in range(5):
        trials = maker(study, NATURAL, seed=5).take(2, main)
        assert {trial.unit for trial in trials} == {unit.unit.key for unit in units[4:6]}


def test_a_panels_references_are_used_up_before_there_are_too_few(study):
    made = maker(study, NATURAL, units=1)
    # One unit with 4 panels of 9 pairs of references.
    trials = [made.take(1, {})[0] for _ in range(36)]
    assert len({trial.queries.min.digest for trial in trials}) == 36
    with pytest.raises(DesignError, match="only 36 different catch trials can be made"):
        made.take(1, {})


def test_too_few_catch_trials_name_the_arm_and_what_to_change(study, tmp_path):
    # 8 pairs of photographs for each of 6 units: 48 catch trials; 12 tasks × 5 are 60.
    toml = STUDY_TOML.replace("responses = 2", "responses = 12").replace("catch = 2", "catch = 5")
    asking = write_study(tmp_path, toml).file
    with pytest.raises(DesignError, match=rf"arm {SYNTHETIC}, task 10 of 12: only 48 .* lower tasks.catch"):
        list(lay_out(asking, asking.arm(SYNTHETIC), Pack(study.pack)))
