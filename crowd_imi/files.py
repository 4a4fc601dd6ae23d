"""Writing so that a crash leaves the old file or the new one, never half of either."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DATABASES_NOTE = "databases.json"
"""In the folder of a study whose databases are on a server: which one."""

LOCK = "study.lock"
"""What was published; written once the databases are there, and before anything is posted."""


def begun_by(folder: Path) -> Path:
    """What is there once a study has begun: its database, or the note of the server that has it."""
    note = folder / DATABASES_NOTE
    return note if note.exists() else folder / "study.db"


def why_no_database(folder: Path) -> str:
    """What to say of a folder without a study's database: nothing was published yet, or it was lost since."""
    if (folder / LOCK).exists():
        return (
            f"this study was published, as {LOCK} says, and its database is missing; put it back from a backup, and "
            f"{DATABASES_NOTE} too where the database is on a server. Without one, stop the posting on the platform, pay there "
            f"who took part, and move {LOCK} away to begin anew"
        )
    return "there is no study database here; run `crowd-imi publish` first"


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write ``content`` to ``path`` with fsync before the file takes its name."""
    with _written(path, content, mode) as temporary:
        temporary.replace(path)


def write_once(path: Path, content: bytes, *, mode: int = 0o644) -> bytes:
    """Write ``content`` unless there is a file already; of two processes one wins, and both get what is there then."""
    with _written(path, content, mode) as temporary, suppress(FileExistsError):
        os.link(temporary, path)
    return path.read_bytes()


@contextmanager
def _written(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """A complete temporary file beside ``path``; it is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        yield temporary
    except OSError as error:
        # Writing and fsync don't say where; people who have to make room want to know.
        if error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
