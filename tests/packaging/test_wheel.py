"""What is built from a checkout is whole: it works where there is no checkout, no npm and no network."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

COMMITTED = (
    "hit_templates/two_alternative/visit.html",
    "hit_templates/two_alternative/plugin-two-alternative.js",
    "stimuli/practice/practice.toml",
    "stimuli/demo/photographs.toml",
)
IN_PACKAGE = (
    "crowd_imi/_built/jspsych.js",
    "crowd_imi/_built/LICENSES.txt",
    "crowd_imi/py.typed",
    "crowd_imi/study_templates/default.toml",
    "crowd_imi/store/migrations/study/script.py.mako",
)


def test_the_sdist_carries_templates_stimuli_and_built_scripts(built):
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*COMMITTED, *IN_PACKAGE, "hit_templates/build.py", "hit_templates/package-lock.json"} <= names
    assert not [name for name in names if "node_modules" in name or name.startswith((".venv", "demo/"))]


def test_the_wheel_carries_them_inside_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    assert {*IN_PACKAGE, *(f"crowd_imi/_data/{name}" for name in COMMITTED)} <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"crowd_imi"}
    assert "crowd_imi/_data/hit_templates/build.py" not in names


def test_every_committed_file_that_is_served_or_shown_is_in_the_wheel(built):
    with zipfile.ZipFile(built.wheel) as archive:
        carried = {name.removeprefix("crowd_imi/_data/") for name in archive.namelist()}
    folders = [ROOT / "stimuli", *(page.parent for page in (ROOT / "hit_templates").glob("*/*.html"))]
    committed = {str(file.relative_to(ROOT)) for folder in folders for file in folder.rglob("*") if file.is_file()}
    assert not committed - carried


def test_the_command_runs_from_the_wheel_and_not_from_the_checkout(installed):
    done = installed.run("python", "-c", "import crowd_imi; print(crowd_imi.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(installed.folder), done.stderr
    assert installed.run("crowd-imi", "--version").stdout.startswith("crowd-imi ")


@pytest.mark.parametrize("template", ["default", "demo", "imi"])
def test_init_finds_its_templates(installed, template):
    done = installed.run("crowd-imi", "init", template, "--template", template)
    assert done.returncode == 0, done.stderr
    assert (installed.folder / template / "study.toml").read_text().startswith("# ")


def test_pages_and_stimuli_are_found(installed):
    code = (
        "from crowd_imi.resources import built, resource\n"
        "print(built('jspsych.js'), resource('stimuli', 'practice'), resource('hit_templates', 'two_alternative', 'visit.html'))"
    )
    done = installed.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert all(Path(path).is_relative_to(installed.folder) for path in done.stdout.split())
