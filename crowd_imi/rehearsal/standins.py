"""A platform's stand-in as a child process of a rehearsal, and the credentials that only it takes."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crowd_imi.errors import RehearsalError
from crowd_imi.platforms.opening import PlatformName
from crowd_imi.platforms.standins.serving import SERVING_FILE, StandinServing

PATIENCE = 60.0
"""Seconds until a stand-in that doesn't listen is given up."""

CREDENTIALS: dict[PlatformName, dict[str, str]] = {
    "local": {},
    "link": {},
    "prolific": {"PROLIFIC_API_TOKEN": "rehearsal"},
    "mturk": {"AWS_ACCESS_KEY_ID": "rehearsal", "AWS_SECRET_ACCESS_KEY": "rehearsal", "AWS_DEFAULT_REGION": "us-east-1"},
}
"""What a rehearsal puts in the place of the researcher's own credentials, which no stand-in should see."""
DROPPED: dict[PlatformName, tuple[str, ...]] = {"mturk": ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE")}
"""Variables that would go along with them, or stand in their place."""


@contextmanager
def standin(platform: PlatformName, folder: Path) -> Iterator[str | None]:
    """Run a platform's stand-in.

    Args:
        platform: those that are on this machine anyway need none.
        folder: of the rehearsal; the stand-in's books go below it.

    Yields:
        Its address; None for the local platform and for links.

    Raises:
        RehearsalError: it doesn't come up.
    """
    if platform in ("local", "link"):
        yield None
        return
    books = folder / "standin"
    books.mkdir(parents=True)
    log = (folder / "standin.log").open("wb")
    command = [sys.executable, "-m", "crowd_imi", "standin", platform, str(books), "--port", "0"]
    process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield _wait_for(process, books / SERVING_FILE, folder / "standin.log")
    finally:
        _end(process)
        log.close()


@contextmanager
def credentials(platform: PlatformName) -> Iterator[None]:
    """The rehearsal's credentials in the environment, for this process and its children, and the user's own afterwards."""
    saved = {name: os.environ.get(name) for name in (*CREDENTIALS[platform], *DROPPED.get(platform, ()))}
    for name in DROPPED.get(platform, ()):
        os.environ.pop(name, None)
    os.environ.update(CREDENTIALS[platform])
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def free_port() -> int:
    """A port on this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(process: subprocess.Popen[bytes], note: Path, log: Path) -> str:
    begin = time.monotonic()
    while time.monotonic() - begin < PATIENCE:
        if process.poll() is not None:
            raise RehearsalError(f"the stand-in ended with status {process.returncode}; see {log}")
        if note.exists():
            return StandinServing.model_validate_json(note.read_bytes()).url
        time.sleep(0.05)
    raise RehearsalError(f"the stand-in didn't listen within {PATIENCE:.0f} s; see {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
    except ProcessLookupError:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
