"""study.toml: what is right is loaded, and everything that is wrong is said at once."""

from pathlib import Path

import pytest

from crowd_imi.errors import StudyError
from crowd_imi.records import query_share
from crowd_imi.study import images_needed, load_study
from crowd_imi.study_templates import TemplateName, template
from tests.tiny import STUDY_TOML, write_study


def problems(folder: Path, *changes: tuple[str, str], toml: str = STUDY_TOML) -> tuple[str, ...]:
    for old, new in changes:
        assert old in toml
        toml = toml.replace(old, new, 1)
    with pytest.raises(StudyError) as failure:
        write_study(folder, toml)
    return tuple(problem.removeprefix(f"{folder / 'study.toml'}: ") for problem in failure.value.problems)


def test_five_different_mistakes_are_reported_at_once_each_with_what_would_be_right(tmp_path):
    assert problems(
        tmp_path,
        ("trials = 6", "trails = 6"),
        ("batches = 4", 'batches = "four"'),
        ("min_row_choices = 1", "min_catch_ratio = 1.5"),
        ('contact = "lab@example.org"\n', ""),
        ('model = "toy"\ncondition = "synthetic"', 'model = "tou"\ncondition = "synthetic"'),
    ) == (
        'panels.batches = "four" doesn\'t work; right would be a whole number, at least 1, at most 20',
        "tasks.trails isn't a known key; did you mean tasks.trials?",
        "exclusion.min_catch_ratio = 1.5 doesn't work; right would be a number, at least 0, at most 1",
        "pages.contact is missing; right would be text in quotes, at least 3 characters",
        "arms[1].model = 'tou' isn't among [models.…]; right would be one of those there: toy",
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seed = 7", "seed = true", "study.seed = true doesn't work; right would be a whole number, at least 0"),
        ("seed = 7", 'seed = "7"', 'study.seed = "7" doesn\'t work; right would be a whole number, at least 0'),
        ("reward = 150", "reward = 1.5", "pay.reward = 1.5 doesn't work; right would be a whole number, at least 0"),
        ("cap = 5000", "cap = -1", "pay.cap = -1 doesn't work; right would be a whole number, at least 0"),
        (
            "estimated_minutes = 6",
            "estimated_minutes = inf",
            "pay.estimated_minutes = inf doesn't work; right would be a number, more than 0",
        ),
        (
            'name = "tiny"',
            'name = "Tiny Study"',
            'study.name = "Tiny Study" doesn\'t work; right would be text in quotes, at most 60 characters, '
            "of the form small letters, digits, - and _, e.g. resnet50",
        ),
        (
            'condition = "natural"',
            'condition = "neutral"',
            'arms[0].condition = "neutral" doesn\'t work; right would be one of "natural", "synthetic"',
        ),
        ("schema = 1", "schema = 2", "schema = 2 doesn't work; right would be 1"),
        (
            'source = "timm:resnet10t"',
            'source = "resnet10t"',
            'models.toy.source = "resnet10t" doesn\'t work; right would be text in quotes, '
            "of the form timm:ARCHITECTURE (e.g. timm:resnet50.tv_in1k), imi:NAME or package.module:function",
        ),
        (
            'layers = ["layer*"]',
            "layers = []",
            'models.toy.layers is missing; right would be the names of layers, e.g. ["layer3.*"]',
        ),
        (
            "[visualisation]",
            "[visualization]",
            "visualization isn't a known key; did you mean visualisation?",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(tmp_path, old, new, expected):
    assert problems(tmp_path, (old, new)) == (expected,)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "trials = 6",
            "trials = 7",
            "arms[1]: tasks.trials = 7 needs 7 different units, but units + null = 6; lower tasks.trials or raise units",
        ),
        (
            "units = 6\nnull = 2\nresponses = 3",
            "units = 6\nnull = 2\nresponses = 4",
            # 8 units × 4 = 32 isn't a multiple of 6; 8 × 6 = 48 is the next that is.
            "arms[0].responses = 4: 8 units × 4 responses can't be cut into tasks of 6 trials; responses = 6 can",
        ),
        (
            'condition = "synthetic"\nunits = 6\nresponses = 2',
            'condition = "natural"\nunits = 6\nresponses = 2',
            "arms[1]: toy-natural-easy is arms[0] already; take one out, or change its condition or difficulty",
        ),
        (
            "min_total_seconds = 60",
            "min_total_seconds = 2500",
            "exclusion.min_total_seconds = 2500 isn't below exclusion.max_total_seconds = 2500, "
            "so everybody would be excluded; swap or change them",
        ),
        (
            "min_row_choices = 1",
            "min_row_choices = 4",
            "exclusion.min_row_choices = 4 asks for 8 choices, but tasks.trials = 6, "
            "so everybody would be excluded; at most 3 works",
        ),
        (
            "units = 6\nnull = 2",
            "units = 2\nnull = 6",
            # 6 trials × 2 / 8 = 1.5 of them on real units: some task has only one.
            "arms[0]: exclusion.min_row_choices = 1 asks for 2 choices on real units, but of tasks.trials = 6 a task with "
            "units = 2 and null = 6 may have only 1 of them, so everybody in it would be excluded; at most 0 works, or lower "
            "null",
        ),
        (
            'source = "timm:resnet10t"',
            'source = "timm:resnet10t"\npretrained = true\ncheckpoint = "a.safetensors"',
            "models.toy: checkpoint and pretrained = true can't both hold; take one out",
        ),
    ],
)
def test_numbers_that_do_not_fit_together_are_reported_with_a_way_out(tmp_path, old, new, expected):
    assert expected in problems(tmp_path, (old, new))


def test_half_of_the_real_trials_are_not_too_many_row_choices(tmp_path):
    # 6 trials × 6 / 8 = 4.5: every task has 4 trials on real units at least, two of each row.
    toml = STUDY_TOML.replace("min_row_choices = 1", "min_row_choices = 2")
    assert write_study(tmp_path / "two", toml).file.exclusion.min_row_choices == 2
    (problem,) = problems(tmp_path / "three", ("min_row_choices = 1", "min_row_choices = 3"))
    assert problem.startswith("arms[0]: ") and "units = 6 and null = 2 may have only 4 of them" in problem


def test_a_bonus_for_catch_trials_without_catch_trials_is_refused(tmp_path):
    changes = ("catch = 2", "catch = 0"), ("reward = 150", "reward = 150\nbonus = 20")
    assert problems(tmp_path, *changes) == (
        "pay.bonus = 20 is for who has all catch trials right, but tasks.catch = 0, so nobody would get it; raise tasks.catch, "
        'say bonus_for = "completion", or take bonus out',
    )
    toml = STUDY_TOML.replace("catch = 2", "catch = 0")
    for pay in ("reward = 150", 'reward = 150\nbonus = 20\nbonus_for = "completion"'):
        assert write_study(tmp_path, toml.replace("reward = 150", pay)).file.tasks.catch == 0


LAYERS = 'layers = ["layer*"]'
SEVEN = [f"layer1/{channel}" for channel in range(7)]


@pytest.mark.parametrize(
    ("units", "exclude", "there"),
    [
        # 07 is 7 written otherwise, and a unit listed twice is one.
        ([*SEVEN[:4], "layer1/07", "layer1/7", "layer1/7"], [], "the list has 5"),
        (SEVEN, ["layer1/0", "layer1/1"], "the list has 5 that exclude leaves"),
        (SEVEN, ["layer1"], "the list has 0 that exclude leaves"),
    ],
)
def test_fewer_listed_units_than_arms_ask_for_are_refused(tmp_path, units, exclude, there):
    # Of 6 units and 2 null units, the null ones are made of the first two of the six.
    assert problems(tmp_path, (LAYERS, f"units = {units}\nexclude = {exclude}")) == (
        f"models.toy.units: arms[0] needs 6 different units, but {there}; list more units or lower the arm's units and null",
    )


@pytest.mark.parametrize("units", [SEVEN[:6], ["layer1/0", "layer2"]])
def test_lists_that_may_have_enough_units_are_taken(tmp_path, units):
    study = write_study(tmp_path, STUDY_TOML.replace(LAYERS, f"units = {units}"))
    assert list(study.file.models["toy"].units) == units


def test_no_model_may_be_called_null_as_null_units_are(tmp_path):
    assert problems(tmp_path, ("[models.toy]", "[models.null]"), ('model = "toy"', 'model = "null"'))[0] == (
        "models.null: this name stands for null units in every table; choose another"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty; start from the commented one that `crowd-imi init` writes"),
        (b"# nothing but a remark\n", "the file is empty; start from the commented one that `crowd-imi init` writes"),
        (b"\x89PNG\r\n\x1a\n\x00", "this is no text in UTF-8; save it as UTF-8, or start from `crowd-imi init`"),
        (b"seed = " + 9_999 * b"[", "values are nested too deeply to be read; start from `crowd-imi init`"),
        (b"seed = ", "this is no valid TOML: invalid value (at end of document); mend that place first"),
    ],
)
def test_a_file_that_is_no_toml_is_told_in_one_line(tmp_path, content, expected):
    (tmp_path / "study.toml").write_bytes(content)
    with pytest.raises(StudyError) as failure:
        load_study(tmp_path)
    assert failure.value.problems == (f"{tmp_path / 'study.toml'}: {expected}",)


def test_sections_that_are_no_tables_are_each_reported(tmp_path):
    toml = "schema = 1\nstudy = 3\nimages = []\nmodels = [1]\narms = {a = 1}\npages = true\npay = 'much'\n"
    assert problems(tmp_path, toml=toml) == (
        "study = 3 doesn't work; right would be a table [study] with name, title",
        "images = [] doesn't work; right would be a table [images] with licence",
        "models = [1] doesn't work; right would be tables [models.NAME]",
        "arms = {…} doesn't work; right would be tables [[arms]], in double brackets",
        "pages = true doesn't work; right would be a table [pages] with contact, investigator, institution",
        'pay = "much" doesn\'t work; right would be a table [pay] with cap',
    )


def test_a_folder_without_a_study_says_how_to_make_one(tmp_path):
    with pytest.raises(StudyError, match="there is no study here; make one with `crowd-imi init"):
        load_study(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_told_apart(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(STUDY_TOML)
    with pytest.raises(StudyError, match="this is a file; give the study's folder"):
        load_study(file)


def test_a_study_that_is_a_folder_is_told_apart(tmp_path):
    (tmp_path / "study.toml").mkdir()
    with pytest.raises(StudyError, match="this is a folder; study"):
        load_study(tmp_path)


def test_what_is_loaded_equals_what_was_written(tmp_path):
    file = write_study(tmp_path).file
    assert [arm.id for arm in file.arms] == ["toy-natural-easy", "toy-synthetic-easy"]
    # (6 + 2) units × 3 responses / 6 trials, and 6 × 2 / 6.
    assert [file.task_count(arm) for arm in file.arms] == [4, 2]
    assert str(file.pay.reward_money) == "1.50 USD"


@pytest.mark.parametrize(
    ("difficulty", "expected"),
    [
        # 4 batches: 9 × 4 references and 4 queries on each side.
        ("easy", 80),
        # The windows begin at 15, 5 and 1 % of the images, which must be behind the 9 × 4 references.
        ("very_hard", 240),
        ("hard", 720),
        ("medium", 3600),
    ],
)
def test_images_needed_grow_as_the_window_of_queries_comes_nearer_to_the_references(tmp_path, difficulty, expected):
    toml = STUDY_TOML.replace('condition = "natural"', f'condition = "natural"\ndifficulty = "{difficulty}"')
    assert images_needed(write_study(tmp_path, toml).file) == expected


@pytest.mark.parametrize(
    ("name", "tasks", "images"),
    [
        (TemplateName.DEFAULT, 10, 220),
        # 48 × 10, 24 × 10, 24 × 6, 16 × 8 and 16 × 8 answers, cut into tasks of 16.
        (TemplateName.DEMO, 30 + 15 + 9 + 8 + 8, 600),
        # 23 arms, 84 × 30 / 40 = 63 tasks each; with medium ones, 9 · 11 references come before the hundredth part.
        (TemplateName.IMI, 23 * 63, 9900),
    ],
)
def test_every_template_is_a_study_without_mistakes(tmp_path, name, tasks, images):
    file = write_study(tmp_path, template(name)).file
    assert sum(file.task_count(arm) for arm in file.arms) == tasks
    assert images_needed(file) == images


def test_the_published_templates_criteria_are_the_published_ones(tmp_path):
    file = write_study(tmp_path, template(TemplateName.IMI)).file
    # What can be switched on beyond them is off.
    assert file.exclusion.model_dump(exclude_defaults=True, exclude_none=True) == {}
    assert file.exclusion.model_dump(exclude_none=True, exclude={"max_fast_trials", "report_accuracy"}) == {
        "min_catch_ratio": 0.8,
        "min_total_seconds": 135,
        "max_total_seconds": 2500,
        "min_instruction_seconds": 15,
        "min_row_choices": 5,
        "max_practice_blocks": 3,
    }
    assert (file.tasks.trials, file.tasks.catch, file.tasks.max_attempts) == (40, 5, 3)
    assert {(arm.units, arm.responses) for arm in file.arms} == {(84, 30)}
    assert str(file.pay.reward_money) == "2.79 USD"
    assert file.images.restricted  # ImageNet's terms


def test_images_come_from_a_folder_or_from_shards(tmp_path):
    folder = 'folder = "images"'
    for new, expected in [
        ("", "images: give either folder or shards, as neither is there"),
        ('folder = "images"\nshards = "*.tar"', "images: give either folder or shards, as both are there"),
        (
            'shards = "*.tar"\nfiles = "list.txt"',
            "images.files = 'list.txt' names images below images.folder; give that too",
        ),
    ]:
        assert problems(tmp_path, (folder, new)) == (expected,)


@pytest.mark.parametrize(
    ("difficulty", "share"),
    [("easy", None), ("p99", 0.01), ("p95", 0.05), ("p85", 0.15), ("p90", 0.1), ("p51", 0.49), ("p99.5", 0.005)],
)
def test_a_percentile_is_a_difficulty(tmp_path, difficulty, share):
    toml = STUDY_TOML.replace('condition = "natural"', f'condition = "natural"\ndifficulty = "{difficulty}"', 1)
    arm = write_study(tmp_path, toml).file.arms[0]
    assert arm.id == f"toy-natural-{difficulty}" and query_share(arm.difficulty) == share


@pytest.mark.parametrize("difficulty", ["p50", "p100", "p9", "p05", "p90.", "99", "hardest"])
def test_what_is_no_percentile_above_the_middle_is_refused(tmp_path, difficulty):
    (problem,) = problems(tmp_path, ('condition = "natural"', f'condition = "natural"\ndifficulty = "{difficulty}"'))
    assert problem.endswith("of the form easy, medium, hard, very_hard, or a percentile from p51 to p99.9999")


def test_windows_of_queries_near_the_middle_need_images_between_them(tmp_path):
    # p51: windows begin at 49 % from either end; 4 batches a side need 2 % of the images to be at least 8, so 400.
    toml = STUDY_TOML.replace('condition = "natural"', 'condition = "natural"\ndifficulty = "p51"', 1)
    assert images_needed(write_study(tmp_path, toml).file) == 400


def test_a_readout_says_what_it_lacks(tmp_path):
    readout = 'layers = ["layer*"]\n[models.toy.readouts.r]\nlayer = "layer1"\nkind = "{}"\n'
    for kind, more, expected in [
        ("neurons", "", "position is missing, and a readout of this kind needs it"),
        ("directions", "", "weights is missing, and a readout of this kind needs it"),
        ("sae", 'weights = "w"\nactivation = "topk"', "k is missing, and a readout of this kind needs it"),
        ("sae", 'weights = "w"\nk = 3', "k means nothing for a readout of this kind; take it out"),
        (
            "transcoder",
            'weights = "w"\nsubtract_bias = true',
            "subtract_bias means nothing for a readout of this kind; take it out",
        ),
        ("directions", 'weights = "w"\nposition = [1, 1]', "position means nothing for a readout of this kind; take it out"),
    ]:
        new = readout.format(kind) + more
        assert problems(tmp_path, ('layers = ["layer*"]', new)) == (f"models.toy.readouts.r.{expected}",)


@pytest.mark.parametrize("procedure", ["published", "adaptive"])
def test_lucent_with_a_search_that_it_does_not_know_is_refused(tmp_path, procedure):
    pair = f'procedure = "{procedure}"\nengine = "lucent"'
    assert problems(tmp_path, ('procedure = "fixed"', pair)) == (
        f'visualisation: engine = "lucent" knows only procedure = "fixed", and it is "{procedure}"; make it "fixed", or take '
        'engine = "batched"',
    )


@pytest.mark.parametrize(("line", "procedure"), [("", "adaptive"), ('procedure = "published"\n', "published")])
def test_a_weight_of_diversity_with_a_search_for_it_is_refused(tmp_path, line, procedure):
    assert problems(tmp_path, ('procedure = "fixed"\n', f"{line}diversity = 0.5\n")) == (
        f'visualisation.diversity weighs only with procedure = "fixed", and it is "{procedure}"; make it "fixed", or take '
        "diversity out",
    )


def test_what_a_lock_froze_is_read_with_every_default(tmp_path):
    file = write_study(tmp_path, STUDY_TOML.replace('procedure = "fixed"\n', "")).file
    assert type(file).model_validate(file.model_dump(mode="json", by_alias=True)) == file


def test_lucent_and_the_fixed_procedure_go_together(tmp_path):
    toml = STUDY_TOML.replace("[visualisation]", '[visualisation]\nengine = "lucent"')
    assert write_study(tmp_path, toml).file.visualisation.engine == "lucent"
