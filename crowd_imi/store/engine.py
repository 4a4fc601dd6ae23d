"""Opening a study's databases, and transactions on them."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from crowd_imi.errors import StoreError
from crowd_imi.files import why_no_database
from crowd_imi.store.clock import Clock, SystemClock
from crowd_imi.store.migrate import Schema, create, current_revision, newest_revision
from crowd_imi.store.server import address, connection_urls, noted_databases
from crowd_imi.store.tables import About, Person

CONNECTIONS = 8
"""To a server, kept open by each process, as many as the pages have threads: what is asked for beyond these is opened and closed
each time."""
PEOPLE_CONNECTIONS = 2
"""The same for the people's database, which only arrivals and the last page ask."""


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
        # Whoever drops a store gives its connections back; not at exit, where a forked process would end its parent's.
        weakref.finalize(self, _dispose, engine, people).atexit = False
        try:
            self.kind = StoreKind(self.about("kind"))
            if clock is not None and not isinstance(clock, SystemClock) and self.kind is not StoreKind.REHEARSAL:
                raise StoreError(f"{self.url}: only a rehearsal takes a simulated clock; this is a {self.kind}")
        except BaseException:
            self.close()
            raise
        self.clock: Clock = clock or SystemClock()

    @classmethod
    def create(  # noqa: PLR0913, PLR0917 (where, what, and with what in it)
        cls,
        url: str,
        people_url: str,
        kind: StoreKind,
        about: dict[str, str],
        clock: Clock | None = None,
        fill: Callable[[Session], None] = lambda session: None,
    ) -> "Store":
        """Make both databases and write down what they are.

        The people's comes first, empty; the study's in one transaction, so that a crash leaves none or all of it.

        Args:
            url: of the study's database; a schema that its ``search_path`` names is made.
            people_url: of the people's; one that is there already is kept.
            kind: what they are for.
            about: facts that never change.
            clock: whose time counts.
            fill: writes what the study's begins with, in the same transaction.

        Raises:
            StoreError: there is one already, or the ids of people of one that is gone.
        """
        engine, people = open_engine(url), open_engine(people_url, PEOPLE_CONNECTIONS)
        try:
            with _reaching(address(url)), engine.connect() as connection:
                _require_none(connection)
            with _reaching(address(people_url)), people.begin() as connection:
                make_schema(connection)
                create(connection, "people")
                _require_nobody(connection)
            with engine.begin() as connection:
                make_schema(connection)
                _require_none(connection)  # again, as somebody else may have made one meanwhile
                create(connection, "study")
                with Session(connection) as session:
                    session.add_all(About(name=name, value=value) for name, value in {**about, "kind": kind.value}.items())
                    session.flush()
                    fill(session)
                    session.flush()
        except BaseException:
            engine.dispose()
            people.dispose()
            raise
        return cls(engine, people, clock)

    @classmethod
    def open(cls, url: str, people_url: str, clock: Clock | None = None) -> "Store":
        """Open databases that exist.

        Raises:
            StoreError: there is none, or it was made by another version.
        """
        _require_file(url)
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
        """What messages call it; without password."""
        return address(self._engine.url)

    def place_mark(self) -> str | None:
        """What a copy of this database doesn't have in common with it; None where a server doesn't tell.

        A file's number in its file system: it stays when the folder is renamed or the machine restarted. On PostgreSQL the
        numbers of the server's data and of the database in it: another one that a dump was read into has others.
        """
        url = self._engine.url
        if url.get_backend_name() == "sqlite":
            return str(Path(url.database).stat().st_ino) if url.database else None
        number = "SELECT system_identifier, oid FROM pg_control_system(), pg_database WHERE datname = current_database()"
        try:
            with self._engine.connect() as connection:
                return "-".join(map(str, connection.exec_driver_sql(number).one()))
        except ProgrammingError:  # not everybody may ask for it on every server
            return None

    def now(self) -> int:
        """Milliseconds since 1970 by this store's clock."""
        return self.clock.now()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that may write; on SQLite it takes the write lock at once (BEGIN IMMEDIATE)."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write_rows(self) -> Iterator[Connection]:
        """``write`` without objects: a session takes as long again as a narrow statement does."""
        with self._engine.begin() as connection:
            yield connection

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
            raise StoreError(f"{self.url}: the database doesn't say its {name}; it wasn't made by crowd-imi")
        return value.value

    def close(self) -> None:
        """Give back all connections; a forked process calls it before its first transaction."""
        _dispose(self._engine, self._people)


def _dispose(*engines: Engine) -> None:
    for engine in engines:
        engine.dispose()


def _require_none(connection: Connection) -> None:
    if current_revision(connection, "study") is not None:
        shown = address(connection.engine.url)
        raise StoreError(f"{shown}: there is a database here already; open it, or choose another place")


def _require_nobody(connection: Connection) -> None:
    if connection.scalar(select(func.count()).select_from(Person)):
        raise StoreError(
            f"{address(connection.engine.url)}: holds the ids of people who took part, but the study's database is missing; put "
            "that back from a backup, or rename this schema to begin anew (then who took part could do so again, and who isn't "
            "paid yet can't be paid)"
        )


def _require_file(url: str, missing: str | None = None) -> None:
    parsed = make_url(url)
    path = Path(parsed.database or "")
    if parsed.get_backend_name() == "sqlite" and not path.exists():
        raise StoreError(f"{path}: {missing or why_no_database(path.parent)}")


def _open_current(url: str, schema: Schema) -> Engine:
    engine = open_engine(url, CONNECTIONS if schema == "study" else PEOPLE_CONNECTIONS)
    try:
        require_current(engine, schema, address(url))
    except BaseException:
        engine.dispose()
        raise
    return engine


def require_current(engine: Engine, schema: Schema, shown: str) -> None:
    """Make sure that a database is there and of this version.

    Args:
        engine: the database's.
        schema: what it should hold.
        shown: what to call it.

    Raises:
        StoreError: it is of another one, isn't there, or its server can't be reached.
    """
    with _reaching(shown), engine.connect() as connection:
        revision, needed = current_revision(connection, schema), newest_revision(schema)
    if revision is None and engine.dialect.name != "sqlite":
        raise StoreError(f"{shown}: this study's database isn't there; is this the right server?")
    if revision != needed:
        raise StoreError(
            f"{shown}: this database has schema {revision}, this version needs {needed}; open it with the version that made it"
        )


def is_there(url: str) -> bool:
    """Whether a study's database is on a server.

    Raises:
        StoreError: the server can't be reached.
    """
    engine = open_engine(url)
    try:
        with _reaching(address(url)), engine.connect() as connection:
            return current_revision(connection, "study") is not None
    finally:
        engine.dispose()


@contextmanager
def _reaching(shown: str) -> Iterator[None]:
    """Says in one line that a server can't be reached."""
    try:
        yield
    except OperationalError as error:
        if shown.startswith("sqlite"):
            raise
        reason = " ".join(str(error.orig).split())
        raise StoreError(f"{shown}: the server can't be used ({reason}); check that it runs, and whom it lets in") from None


def make_schema(connection: Connection) -> None:
    """Make the schema that a connection's ``search_path`` names, where it isn't there; two at once wait for each other."""
    if connection.dialect.name != "postgresql":
        return
    path = str(connection.exec_driver_sql("SHOW search_path").scalar())
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:path))"), {"path": path})
    there = connection.exec_driver_sql("SELECT current_schema()").scalar()
    if there is None and path.isidentifier():
        connection.exec_driver_sql(f"CREATE SCHEMA {path}")


def open_engine(url: str, connections: int = CONNECTIONS) -> Engine:
    """An engine whose transactions are durable: SQLite with WAL and ``synchronous=FULL``.

    Its errors don't quote what was to be written: platforms' ids would end up in logs.

    Args:
        url: of the database.
        connections: kept open to a server.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return server_engine(parsed, connections)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 30}, hide_parameters=True)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def server_engine(url: URL, connections: int = CONNECTIONS) -> Engine:
    """An engine for a database on a server.

    Raises:
        StoreError: its driver isn't installed.
    """
    try:
        return create_engine(url, pool_pre_ping=True, pool_size=connections, hide_parameters=True)
    except ImportError:
        raise StoreError(
            f"{address(url)}: PostgreSQL's driver isn't installed here; run `pip install 'crowd-imi[postgres]'`"
        ) from None


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
    """URLs of both databases of a run: in its folder, or on the server that the folder notes; they may hold a password.

    Raises:
        StoreError: the note is damaged, or the environment says something that is no address.
    """
    noted = noted_databases(folder)
    if noted is not None:
        return connection_urls(noted)
    return f"sqlite:///{folder / 'study.db'}", f"sqlite:///{folder / 'people.db'}"
