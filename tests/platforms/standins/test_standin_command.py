"""``crowd-imi standin``: where it listens, what it writes, and how it fails."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crowd_imi.platforms.standins.serving import SERVING_FILE, StandinServing
from tests.platforms.standins.running import Server


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crowd_imi", "standin", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_writes_where_it_is_and_removes_that_at_the_end(tmp_path: Path):
    server = Server("prolific", tmp_path / "new folder" / "books")
    note = tmp_path / "new folder" / "books" / SERVING_FILE
    try:
        serving = StandinServing.model_validate_json(note.read_bytes())
        assert (serving.platform, serving.url) == ("prolific", server.url)
        assert server.url.startswith("http://127.0.0.1:")
    finally:
        server.stop()
    assert not note.exists()


@pytest.mark.parametrize(("option", "value", "says"), [("--currency", "EUR", "GBP or USD"), ("--port", None, "--port")])
def test_what_cannot_work_is_one_clear_line(tmp_path: Path, option: str, value: str | None, says: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("prolific", tmp_path, option, value or taken.getsockname()[1])
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and says in line


def test_a_token_is_not_printed(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("prolific", tmp_path, "--token", "very-secret", "--port", taken.getsockname()[1])
    assert "very-secret" not in done.stdout + done.stderr
