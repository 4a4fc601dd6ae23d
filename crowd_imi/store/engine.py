"""Opening a study's databases, and transactions on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from crowd_imi.errors import StoreError
from crowd_imi.store.clock import Clock, SystemClock
from crowd_imi.store.migrate import Schema, create, current_revision, newest_revision
from crowd_imi.store.tables import About


class StoreKind(StrEnum):
    """What a database is for; a rehearsal's answers can't come into a study's."""

    STUDY = "study"
    REHEARSAL = "rehearsal"
    PREVIEW = "preview"


class Store:
    """A study's database and, apart from it, its people's ids.

    ``with store.write() as session`` is one transaction: committed with fsync at the end, rolled back on an error.
    """

    def __init__(self, engine: Engine, people: Engine, clock: Clock | None = None) -> None:
        self._engine = engine
        self._reading = engine.execution_options(read_only=True)
        self._people = people
        try:
            self.kind = StoreKind(self.about("kind"))
            if clock is not None and not isinstance(clock, SystemClock) and self.kind is not StoreKind.REHEARSAL:
                raise StoreError(f"{engine.url}: only a rehearsal takes a simulated clock; this is a {self.kind}")
        except BaseException:
            self.close()
            raise
        self.clock: Clock = clock or SystemClock()

    @classmethod
    def create(cls, url: str, people_url: str, kind: StoreKind, about: dict[str, str], clock: Clock | None = None) -> "Store":
        """Make both databases and write down what they are.

        Raises:
            StoreError: there is one already.
        """
        engine = open_engine(url)
        if current_revision(engine, "study") is not None:
            engine.dispose()
            raise StoreError(f"{engine.url}: there is a database here already; open it, or choose another place")
        create(engine, "study")
        people = open_engine(people_url)
        create(people, "people")
        with Session(engine) as session, session.begin():
            session.add_all(About(name=name, value=value) for name, value in {**about, "kind": kind.value}.items())
        return cls(engine, people, clock)

    @classmethod
    def open(cls, url: str, people_url: str, clock: Clock | None = None) -> "Store":
        """Open databases that exist.

        Raises:
            StoreError: there is none, or it was made by another version.
        """
        _require_file(url, "there is no study database here; run `crowd-imi publish` first")
        _require_file(people_url, "the people's ids that belong to this study are missing; restore them from a backup")
        engine = _open_current(url, "study")
        try:
            people = _open_current(people_url, "people")
        except StoreError:
            engine.dispose()
            raise
        return cls(engine, people, clock)

    @property
    def url(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)

    def file_mark(self) -> str | None:
        """What a copy of this database's file doesn't have in common with it; None on a server, where everybody uses the one.

        The file's number in its file system: it stays when the folder is renamed or the machine restarted.
        """
        url = self._engine.url
        if url.get_backend_name() != "sqlite" or not url.database:
            return None
        return str(Path(url.database).stat().st_ino)

    def now(self) -> int:
        """Milliseconds since 1970 by this store's clock."""
        return self.clock.now()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that may write; on SQLite it takes the write lock at once (BEGIN IMMEDIATE)."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One transaction that only reads; on SQLite it doesn't wait for writers."""
        with Session(self._reading, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def people(self) -> Iterator[Session]:
        """One transaction on people.db."""
        with Session(self._people, expire_on_commit=False) as session, session.begin():
            yield session

    def about(self, name: str) -> str:
        """A fact that was written when the store was made."""
        with Session(self._engine) as session:
            value = session.get(About, name)
        if value is None:
            raise StoreError(f"{self._engine.url}: the database doesn't say its {name}; it wasn't made by crowd-imi")
        return value.value

    def close(self) -> None:
        """Give back all connections; a forked process calls it before its first transaction."""
        self._engine.dispose()
        self._people.dispose()


def _require_file(url: str, missing: str) -> None:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        raise StoreError(f"{parsed.database}: {missing}")


def _open_current(url: str, schema: Schema) -> Engine:
    engine = open_engine(url)
    revision, needed = current_revision(engine, schema), newest_revision(schema)
    if revision != needed:
        engine.dispose()
        raise StoreError(
            f"{engine.url}: this database has schema {revision}, this version needs {needed}; "
            "open it with the version that made it"
        )
    return engine


def open_engine(url: str) -> Engine:
    """An engine whose transactions are durable: SQLite with WAL and ``synchronous=FULL``.

    Its errors don't quote what was to be written: platforms' ids would end up in logs.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True, hide_parameters=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 30}, hide_parameters=True)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def database_urls(folder: Path) -> tuple[str, str]:
    """URLs of study.db and people.db in a run's folder: the study's own, or a rehearsal's."""
    return f"sqlite:///{folder / 'study.db'}", f"sqlite:///{folder / 'people.db'}"
