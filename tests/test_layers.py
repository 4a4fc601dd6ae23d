"""Imports run downwards, and what people wait for doesn't load what it doesn't need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def loaded_by(*arguments: str) -> set[str]:
    """Packages that are loaded after running Python with these arguments."""
    code = "import sys, json; exec(sys.argv[1]); print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_contracts_on_imports_hold():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("heavy", ["torch", "timm", "lucent", "flask", "matplotlib", "statsmodels", "sqlalchemy", "pandas"])
def test_the_command_lines_help_loads_nothing_heavy(heavy, help_loads):
    assert heavy not in help_loads


@pytest.fixture(scope="module")
def help_loads():
    return loaded_by("from crowd_imi.cli import app")


def test_serving_harvesting_and_scoring_work_without_torch():
    modules = "crowd_imi.pages.app, crowd_imi.harvester, crowd_imi.scoring, crowd_imi.publisher.launch, crowd_imi.design.plan"
    assert not {"torch", "torchvision", "timm", "lucent"} & loaded_by(f"import {modules}")
