"""``init`` and ``check``: a study is begun, and everything that keeps it from working is said at once."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.errors import PlatformError
from crowd_imi.plan import load_plan
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.publisher.lock import lock_path
from crowd_imi.study import load_study
from crowd_imi.study_templates import TemplateName
from tests.tiny import STUDY_TOML, approve, fake_plan, render_anew, write_pack, write_study


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_images(folder, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (i % 256, 0, 0)).save(folder / f"{i}.png")


@pytest.mark.parametrize("name", list(TemplateName))
def test_init_writes_a_study_and_says_what_comes_next(tmp_path, name):
    folder = tmp_path / "new" / "study"
    done = run("init", folder, "--template", name.value)
    assert done.exit_code == 0
    assert f"crowd-imi check {folder}" in done.stdout
    assert load_study(folder).file.study.seed == 1


def test_init_keeps_keys_people_and_packs_out_of_git(tmp_path):
    run("init", tmp_path)
    ignored = (tmp_path / ".gitignore").read_text().splitlines()
    assert {"*.key", "*.db", "/pack/", "/plan.json", "/sprites/", "/rehearsals/", "/export/"} <= set(ignored)


def test_init_overwrites_nothing(tmp_path):
    (tmp_path / "study.toml").write_text("mine")
    done = run("init", tmp_path)
    assert done.exit_code == 1
    assert done.stderr == (
        f"error: {tmp_path / 'study.toml'}: there is a study here already; edit it, or choose another folder\n"
    )
    assert (tmp_path / "study.toml").read_text() == "mine"
    assert not (tmp_path / ".gitignore").exists()


def test_init_leaves_a_gitignore_as_it_is(tmp_path):
    (tmp_path / ".gitignore").write_text("mine\n")
    assert run("init", tmp_path).exit_code == 0
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


def test_init_does_not_take_a_file_for_a_folder(tmp_path):
    (tmp_path / "file").touch()
    done = run("init", tmp_path / "file")
    assert (done.exit_code, done.stderr) == (1, f"error: {tmp_path / 'file'}: this is a file; name a folder\n")


def test_check_finds_nothing_wrong_with_a_whole_study(tmp_path):
    study = write_study(tmp_path)
    # 4 batches of easy panels need 9 × 4 references and 4 queries on each side.
    write_images(study.images, 80)
    done = run("check", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "images: 80, 80 are needed" in done.stdout
    # 4 + 2 tasks at 1.50 USD, three attempts each; 1.50 USD for 6 minutes.
    assert "cost:   9.00 USD, at the very most 27.00 USD" in done.stdout
    assert "pay:    15.00 USD per hour" in done.stdout
    assert "no problem found" in done.stdout


def test_check_reports_images_checkpoint_layers_template_and_money_at_once(tmp_path):
    toml = STUDY_TOML.replace('["layer*"]', '["layr1*"]\ncheckpoint = "weights.safetensors"')
    toml = toml.replace("[pages]", '[pages]\ntemplate = "three_alternative"').replace("cap = 5000", "cap = 500")
    write_images(write_study(tmp_path, toml).images, 79)
    done = run("check", tmp_path)
    assert done.exit_code == 1
    problems = done.stderr.splitlines()
    assert problems[0].startswith("error: images.folder = 'images': 79 images are there, 80 are needed")
    assert problems[1].startswith("error: models.toy.checkpoint = 'weights.safetensors': there is no file")
    assert problems[2].startswith("error: models.toy: layers = ['layr1*']: the model has no such layer; the nearest names are")
    assert problems[3] == (
        "error: pages.template = 'three_alternative': there is no such template; right would be one of: two_alternative"
    )
    assert problems[4].startswith("error: pay.cap = 500: 6 tasks at 1.50 USD cost 9.00 USD")
    assert len(problems) == 5


def test_check_knows_no_architecture_that_timm_does_not(tmp_path):
    write_images(write_study(tmp_path, STUDY_TOML.replace("resnet10t", "resnet10x")).images, 80)
    done = run("check", tmp_path)
    assert done.exit_code == 1
    assert "has no such model" in done.stderr and "resnet10t" in done.stderr


def test_check_names_the_list_of_units_whose_layer_is_not_there(tmp_path):
    units = [f"layr1/{channel}" for channel in range(6)]
    write_images(write_study(tmp_path, STUDY_TOML.replace('layers = ["layer*"]', f"units = {units}")).images, 80)
    done = run("check", tmp_path)
    assert done.stderr.startswith("error: models.toy: units = ['layr1/…']: the model has no such layer; the nearest names are")


def test_check_without_torch_says_that_nobody_looked_into_the_networks(tmp_path, monkeypatch):
    monkeypatch.setattr("crowd_imi.readiness._has_torch", lambda: False)
    write_images(write_study(tmp_path, STUDY_TOML.replace("layer*", "layr*")).images, 80)
    done = run("check", tmp_path, "--json")
    assert done.exit_code == 0
    (remark,) = (remark for remark in json.loads(done.stdout)["remarks"] if "torch" in remark)
    assert "nobody looked whether the networks and their layers are there; `pip install 'crowd-imi[factory]'`" in remark


def test_check_says_where_the_image_folder_should_be(tmp_path):
    write_study(tmp_path)
    done = run("check", tmp_path)
    assert f"there is no folder {tmp_path / 'images'}" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("reward = 150", "reward = 70", "is 7.00 USD per hour, less than 8.00 USD; 0.80 USD would be enough"),
        ("cap = 5000", "cap = 900", "the study would cost 27.00 USD"),
        ("[pages]", "[pages]\nvisit_minutes = 30", "is never reached: pages.visit_minutes = 30 ends a visit before"),
        # 2 null units × 3 of (6 + 2) × 3 + 6 × 2 = 36 trials.
        (
            "[panels]",
            '[models.spare]\nsource = "timm:none"\nlayers = ["x"]\n\n[panels]',
            "models.spare: no arm uses it, so nobody looked",
        ),
        ("seed = 7", "seed = 8", "17 % of the trials ask about null units"),
    ],
)
def test_check_remarks_on_what_works_but_deserves_a_thought(tmp_path, old, new, expected):
    write_images(write_study(tmp_path, STUDY_TOML.replace(old, new)).images, 80)
    done = run("check", tmp_path, "--json")
    assert done.exit_code == 0
    assert any(expected in remark for remark in json.loads(done.stdout)["remarks"])


def test_what_comes_next_can_be_pasted_though_the_folder_has_a_space(tmp_path):
    done = run("init", tmp_path / "my study")
    assert f"crowd-imi check '{tmp_path / 'my study'}'" in done.stdout


def test_check_counts_neither_folders_nor_links_that_lead_nowhere(tmp_path):
    images = write_study(tmp_path).images
    write_images(images, 80)
    (images / "folder.png").mkdir()
    (images / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert json.loads(run("check", tmp_path, "--json").stdout)["images"] == 80


@pytest.fixture
def published(tmp_path):
    """A published study with everything in its place."""
    study = write_study(tmp_path)
    write_images(study.images, 80)
    pack = write_pack(study)
    fake_plan(study).model_copy(update={"pack_sha256": pack.digest}).save(study.plan)
    approve(study)
    assert run("publish", tmp_path, "--yes").exit_code == 0
    assert run("check", tmp_path).exit_code == 0
    return study


def test_check_names_every_frozen_key_that_was_edited_beside_every_other_problem(published):
    (published.images / "0.png").unlink()
    toml = STUDY_TOML.replace("reward = 150", "reward = 160").replace("seed = 7", "seed = 9").replace("cap = 5000", "cap = 6000")
    write_study(published.folder, toml)
    problems = json.loads(run("check", published.folder, "--json").stdout)["problems"]
    assert [problem.partition(";")[0] for problem in problems[:2]] == [
        "study.toml: pay.reward was 150 and is 160",
        "study.toml: study.seed was 7 and is 9",
    ]
    assert all("study.lock): put it back as it was" in problem for problem in problems[:2])
    assert "79 images are there" in problems[2]
    assert len(problems) == 3


def test_check_says_that_a_lock_is_damaged(published):
    lock_path(published).write_text("{")
    (problem,) = json.loads(run("check", published.folder, "--json").stdout)["problems"]
    assert problem.startswith(f"{lock_path(published)}: ") and "restore it from a backup" in problem


def test_check_lets_a_study_be_edited_whose_posting_the_platform_refused(tmp_path, monkeypatch):
    study = write_study(tmp_path)
    write_images(study.images, 80)
    pack = write_pack(study)
    fake_plan(study).model_copy(update={"pack_sha256": pack.digest}).save(study.plan)
    approve(study)

    def refuse(_self, _request):
        raise PlatformError("the reward is too low")

    with monkeypatch.context() as patch:
        patch.setattr(LocalPlatform, "post", refuse)
        assert run("publish", tmp_path, "--yes").exit_code == 1
    assert lock_path(study).exists()
    write_study(tmp_path, STUDY_TOML.replace("reward = 150", "reward = 160"))
    assert run("check", tmp_path).exit_code == 0


def test_check_sees_that_the_plan_of_a_study_that_has_begun_was_changed(published):
    plan = load_plan(published.plan)
    plan.model_copy(update={"seed": plan.seed + 1}).save(published.plan)
    (problem,) = json.loads(run("check", published.folder, "--json").stdout)["problems"]
    assert problem.startswith(f"{published.plan}: it has changed since this study began")


def test_check_says_once_that_the_databases_cant_be_used(published):
    (published.folder / "people.db").unlink()
    (problem,) = json.loads(run("check", published.folder, "--json").stdout)["problems"]
    assert "people.db" in problem


def test_check_never_advises_to_plan_anew_what_has_begun(published):
    render_anew(published)
    (problem,) = json.loads(run("check", published.folder, "--json").stdout)["problems"]
    assert "it was made from another pack" in problem and "put that one back, as the study has begun" in problem


def test_check_sees_that_pack_and_plan_no_longer_fit(tmp_path):
    study = write_study(tmp_path)
    write_images(study.images, 80)
    write_pack(study)
    plan = fake_plan(study)
    (study.sprites / plan.tasks[0].trials[0].sprite).unlink()
    write_study(tmp_path, STUDY_TOML.replace("units = 6\nnull = 2", "units = 7\nnull = 1"))
    done = run("check", tmp_path, "--json")
    assert done.exit_code == 1
    problems = json.loads(done.stdout)["problems"]
    assert problems[0].startswith(
        f"{study.pack}: its arm toy-natural-easy has 6 units and 2 null units, study.toml asks for 7 and 1; render again"
    )
    assert problems[1].startswith(f"{study.plan}: it was made from another pack")
    # 6 tasks of 6 + 2 trials, and practice.
    assert problems[2].startswith(f"{study.sprites}: 1 of 53 sprites are missing; plan again")
    assert len(problems) == 3
