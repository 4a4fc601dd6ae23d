"""How the command ends: its status, its streams, and one clear line per failure."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from crowd_imi import __version__
from crowd_imi.cli.app import FailingClearly, app, failure
from crowd_imi.errors import PackError, StudyError

COMMAND = Path(sys.executable).parent / "crowd-imi"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)


def ending_with(error: BaseException):
    """What a command that raises ``error`` ends with."""
    failing = typer.Typer(cls=FailingClearly, pretty_exceptions_enable=False)

    @failing.command()
    def fail() -> None:
        raise error

    @failing.command()
    def other() -> None:
        pass

    return CliRunner().invoke(failing, ["fail"])


def test_the_version_is_printed():
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"crowd-imi {__version__}\n", "")


def test_python_m_does_the_same():
    done = subprocess.run([sys.executable, "-m", "crowd_imi", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"crowd-imi {__version__}\n"


@pytest.mark.parametrize("arguments", [["chekc"], ["check"], ["check", "a", "b"], ["--log-level", "loud", "check", "a"]])
def test_a_wrong_call_ends_with_status_2_and_names_the_help(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: crowd-imi" in done.stderr and "Traceback" not in done.stderr


def test_five_mistakes_in_a_study_end_with_status_1_five_lines_and_no_traceback(tmp_path):
    (tmp_path / "study.toml").write_text(
        'schema = 1\nstudy = {name = "A", title = "t", sede = 1}\nimages = {folder = 1, licence = "l"}\n'
        'models = {toy = {source = "timm:resnet10t", layers = ["*"]}}\n'
        'arms = [{model = "toi", condition = "natural", units = 40}]\n'
        'pages = {contact = "a@b", investigator = "i", institution = "j"}\npay = {reward = 1}\n'
    )
    done = run("check", tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    keys = ["study.name", "study.sede", "images.folder", "pay.cap", "arms[0].model"]
    lines = done.stderr.splitlines()
    assert [line.removeprefix(f"error: {tmp_path / 'study.toml'}: ").split(" ")[0] for line in lines] == keys


def test_each_problem_is_a_line_of_its_own():
    result = ending_with(StudyError("a is wrong", "b is missing"))
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: a is wrong\nerror: b is missing\n")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PackError("the pack is damaged"), "error: the pack is damaged\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/pack"),
            "error: /data/pack: no space left on device; make room and run the same command again\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/pack"),
            "error: /data/pack: permission denied; you may not read or write there: change its owner or permissions, "
            "or choose another folder\n",
        ),
        (
            OSError(errno.EADDRINUSE, "Address already in use"),
            "error: address already in use; another program listens on this port: stop it or choose another with --port\n",
        ),
        (MemoryError(), "error: not enough memory; close other programs, or make the study smaller\n"),
        (KeyboardInterrupt(), "interrupted; run the same command again to go on\n"),
    ],
)
def test_an_expected_failure_is_one_line_and_status_1(error, expected):
    result = ending_with(error)
    assert (result.exit_code, result.stderr) == (1, expected)


def test_a_full_disk_under_the_database_is_one_line():
    from sqlalchemy.exc import OperationalError

    assert list(failure(OperationalError("INSERT", {}, Exception("database or disk is full")))) == [
        "the database can't be used: database or disk is full; check the disk and who else uses it, "
        "then run the same command again"
    ]


def test_a_database_that_is_none_is_one_line():
    from sqlalchemy.exc import DatabaseError, IntegrityError

    assert list(failure(DatabaseError("PRAGMA", {}, Exception("file is not a database")))) == [
        "the database can't be used: file is not a database; check the disk and who else uses it, then run the same command again"
    ]
    assert list(failure(IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed")))) == []


def test_a_mistake_in_this_package_keeps_its_traceback():
    assert list(failure(KeyError("x"))) == []
    assert isinstance(ending_with(KeyError("x")).exception, KeyError)


@pytest.mark.parametrize(
    ("arguments", "remarks"),
    [
        (["--help"], ""),
        (["init", "study"], ""),
        # Here the remark is for stderr, and only the document finds nobody.
        (["init", "study", "--json"], "wrote study/study.toml; edit it, then run: crowd-imi check study\n"),
    ],
)
def test_whoever_stops_reading_ends_the_command_quietly(tmp_path, arguments, remarks):
    # The reader is gone before the command begins, so that every write fails.
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, check=False, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr.decode()) == (1, remarks)


def test_interrupting_a_command_says_how_to_go_on(tmp_path):
    code = (
        # Whoever runs the tests in the background may have told their children to ignore it.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys, time, typer\nfrom crowd_imi.cli.app import app\n"
        "@app.command()\ndef wait() -> None:\n    print('waiting', flush=True)\n    time.sleep(60)\n"
        "app(['wait'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "interrupted; run the same command again to go on\n")


def test_every_command_can_speak_json_and_explains_itself():
    from typer.main import get_command

    for name, command in get_command(app).commands.items():
        leaves = getattr(command, "commands", {name: command})
        for leaf, each in leaves.items():
            assert each.help, f"{leaf} has no docstring"
            assert "--json" in {option for parameter in each.params for option in parameter.opts}, f"{leaf} has no --json"


def test_json_is_all_that_stands_on_stdout(tmp_path):
    done = run("init", tmp_path / "study", "--json")
    written = {"study_toml": str(tmp_path / "study" / "study.toml"), "template": "default", "pages": []}
    assert json.loads(done.stdout) == written
