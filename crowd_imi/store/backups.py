"""Copies of a whole study while it runs, and putting one back; a copy may not spend before it takes over.

Whoever pays from two copies pays twice, so a restored study is fenced: everything may be looked at, and the lease that
every spender needs is refused until a person says that the original is gone.
"""

import io
import shlex
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath

from sqlalchemy.orm import Session

from crowd_imi.errors import StoreError, command
from crowd_imi.records import Record
from crowd_imi.store.engine import Store, StoreKind
from crowd_imi.store.server import noted_databases
from crowd_imi.store.tables import About

FENCE = "restored"
"""The row in ``about`` that keeps a restored copy from spending."""

HOME = "home"
"""The row in ``about`` that says which database may spend: a copy of it has another mark."""

DATABASES = ("study.db", "people.db", "local.db", "link.db")
"""In the order in which they are copied: a visit's ids are written before the visit, so a copy never lacks them."""

_LEFT_OUT = frozenset({"recordings", "embeddings", "rehearsals", "report", "export", "serving.json"})
"""What can be made again, or says something of the machine it was on."""


class BackedUp(Record):
    """What ``backup`` wrote."""

    file: Path
    files: int
    bytes: int
    elsewhere: tuple[str, ...] = ()
    """Databases on a server, which aren't in the file; as ``pg_dump`` commands that copy them."""


def back_up(study: Path, target: Path) -> BackedUp:
    """Copy a study into one tar file, readable by its owner alone; servers and harvests may go on meanwhile.

    Databases on a server aren't copied: its own tools do that better.

    Args:
        study: its folder.
        target: the tar file; never overwritten.

    Raises:
        StoreError: there is no study, or the file is there already.
        OSError: no room; nothing is left behind.
    """
    if not (study / "study.toml").exists():
        raise StoreError(f"{study}: there is no study here")
    if target.exists():
        raise StoreError(f"{target}: is there already, and a backup is never overwritten; choose another name")
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".making-", delete=False) as file:
        making = Path(file.name)
    try:
        count = _write(study, making, leave_out=(target.resolve(), making.resolve()))
        making.rename(target)
    except BaseException:
        making.unlink(missing_ok=True)
        raise
    return BackedUp(file=target, files=count, bytes=target.stat().st_size, elsewhere=_dumps(study, target))


def _dumps(study: Path, target: Path) -> tuple[str, ...]:
    """Commands that copy the databases of a study on a server, people's ids first: so a copy has them of every visit."""
    noted = noted_databases(study)
    if noted is None:
        return ()
    both = (noted.people, f"{noted.schema_name}_people"), (noted.study, noted.schema_name)
    return tuple(
        shlex.join(["pg_dump", "--format=custom", f"--schema={schema}", f"--file={target.with_suffix(f'.{name}.dump')}", url])
        for name, (url, schema) in zip(("people", "study"), both, strict=True)
    )


def restore(source: Path, target: Path) -> None:
    """Unpack a backup as a study that may not spend yet; a crash leaves nothing at ``target``.

    Raises:
        StoreError: the file is no backup, or ``target`` is there already.
    """
    if target.exists():
        raise StoreError(f"{target}: is there already; a backup is restored to a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=target.parent, prefix=".making-"))
    try:
        _unpack(source, making)
        if (making / "study.db").exists():
            _fence(making / "study.db", source.name)
        making.chmod(0o755)
        making.rename(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def require_original(session: Session, store: Store) -> None:
    """Make sure that this is no copy, restored from a backup or made with ``cp``; whoever spends first makes it the original.

    Args:
        session: of a transaction that writes.
        store: its.

    Raises:
        StoreError: it is one, and nobody has said yet that the original is gone.
    """
    row = session.get(About, FENCE)
    if row is not None:
        raise StoreError(
            f"this study was restored from {row.value}, and paying from two copies pays twice: if the original is gone and its "
            f"processes have ended, say so with `{command('restore', '--take-over', 'STUDY')}`"
        )
    mark = store.place_mark()
    if store.kind is not StoreKind.STUDY or mark is None:
        return
    home = session.get(About, HOME)
    if home is None:
        session.add(About(name=HOME, value=mark))
    elif home.value != mark:
        raise StoreError(
            f"{store.url}: this is a copy of the database that spent until now, and paying from two copies pays twice: if the "
            f"original is gone and its processes have ended, say so with `{command('restore', '--take-over', 'STUDY')}`"
        )


def take_over(store: Store) -> bool:
    """The original is gone: from now on this copy may spend.

    Returns:
        Whether it might not before.
    """
    mark = store.place_mark()
    with store.write() as session:
        row, home = session.get(About, FENCE), session.get(About, HOME)
        if row is not None:
            session.delete(row)
        moved = home is not None and mark is not None and home.value != mark
        if home is not None and mark is not None:
            home.value = mark
    return row is not None or moved


def _write(study: Path, target: Path, leave_out: tuple[Path, ...]) -> int:
    count = 0
    with tarfile.open(target, "w", dereference=True) as tar:
        for name in DATABASES:
            if (study / name).exists():
                content = _snapshot(study / name)
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o600
                tar.addfile(member, io.BytesIO(content))
                count += 1
        for path in _files(study):
            if path.resolve() not in leave_out:
                tar.add(path, path.relative_to(study).as_posix(), recursive=False)
                count += 1
    return count


def _files(study: Path) -> Iterator[Path]:
    """Everything but databases, which are copied apart, and what can be made again."""
    for path in sorted(study.iterdir()):
        database = path.name.removesuffix("-wal").removesuffix("-shm") in DATABASES
        if not (path.name in _LEFT_OUT or database):
            yield from _below(path, frozenset({study.resolve()}))


def _below(path: Path, above: frozenset[Path]) -> Iterator[Path]:
    """A file, or all files below a folder; links are followed, but to no folder that one comes from."""
    if path.name.startswith(".making-"):
        return
    if path.is_file():
        yield path
    elif path.is_dir() and (real := path.resolve()) not in above:
        for inside in sorted(path.iterdir()):
            yield from _below(inside, above | {real})


def _snapshot(path: Path) -> bytes:
    """One database as it is at a moment, also while others write to it."""
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as live,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        live.backup(copy)
        return copy.serialize()


def _unpack(source: Path, target: Path) -> None:
    try:
        with tarfile.open(source, "r:") as tar:
            names = [PurePosixPath(name) for name in tar.getnames()]
            if PurePosixPath("study.toml") not in names:
                raise StoreError(f"{source}: holds no study.toml, so it is no backup of a study")
            tar.extractall(target, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise StoreError(f"{source}: can't be read as a backup ({error}); take another one") from None


def _fence(database: Path, source: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM lease")
        connection.execute("INSERT OR REPLACE INTO about (name, value) VALUES (?, ?)", (FENCE, source))
