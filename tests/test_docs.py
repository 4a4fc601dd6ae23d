"""The documentation says what is so: generated pages are current, links lead somewhere, commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from crowd_imi.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_reference_is_what_make_docs_writes():
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_is_documented():
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    documented = {line.split()[2] for line in reference.splitlines() if line.startswith("## crowd-imi ")}
    assert documented == set(get_command(app).commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_that_are_shown_exist(page):
    commands = get_command(app).commands
    for name, rest in re.findall(r"crowd-imi ([a-z]+)([^\n`;)]*)", page.read_text(encoding="utf-8")):
        assert name in commands, f"{page.name} shows crowd-imi {name}"
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options | {"--help"}, f"{page.name} shows crowd-imi {name}{rest}"


def test_every_decision_is_listed_and_names_tests_that_exist():
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        assert f"({page.name})" in listed
        for file, _, test in re.findall(r"`(tests/[\w/]+\.py)(::(\w+))?`", page.read_text(encoding="utf-8")):
            assert (ROOT / file).exists(), f"{page.name} names {file}"
            assert test in (ROOT / file).read_text(encoding="utf-8"), f"{page.name} names {test}"


def test_the_tutorials_study_is_one(tmp_path):
    from tests.tiny import write_study

    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", tutorial, flags=re.DOTALL)
    file = write_study(tmp_path, toml).file
    # 8 units × 2 responses in tasks of 8: the two tasks that the text speaks of.
    assert [file.task_count(arm) for arm in file.arms] == [2]
