import shlex
from pathlib import Path

from crowd_imi.errors import command


def test_a_suggested_command_is_what_a_shell_takes():
    folder = Path("/data/it's my study")
    assert shlex.split(command("harvest", folder, "--watch")) == ["crowd-imi", "harvest", str(folder), "--watch"]


def test_a_plain_path_stays_plain():
    assert command("plan", Path("my-study")) == "crowd-imi plan my-study"
