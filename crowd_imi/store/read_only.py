"""A study's database opened for looking: it can't be changed through this, and people's ids can't be reached."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from crowd_imi.errors import StoreError
from crowd_imi.files import why_no_database
from crowd_imi.store.engine import Store, open_engine, require_current, server_engine
from crowd_imi.store.server import address

BUSY_SECONDS = 5


class ReadOnlyStore(Store):
    """``read`` works as in a store; ``write`` and ``people`` are refused, and the database itself refuses as well."""

    @classmethod
    def look(cls, url: str) -> "ReadOnlyStore":
        """Open a study's database for looking.

        Raises:
            StoreError: there is none, or it was made by another version.
        """
        parsed = make_url(url)
        path = Path(parsed.database or "")
        if parsed.get_backend_name() == "sqlite" and not path.exists():
            raise StoreError(f"{path}: {why_no_database(path.parent)}")
        engine = _read_only_engine(url)
        try:
            require_current(engine, "study", address(parsed))
        except BaseException:
            engine.dispose()
            raise
        # In place of people.db: an empty database in memory.
        return cls(engine, open_engine("sqlite://"))

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Refused.

        Raises:
            StoreError: always.
        """
        raise StoreError(f"{self.url}: this was opened for looking, so nothing can be written")
        yield

    @contextmanager
    def people(self) -> Iterator[Session]:
        """Refused.

        Raises:
            StoreError: always.
        """
        raise StoreError(f"{self.url}: this was opened for looking, without people's ids")
        yield


def _read_only_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = server_engine(parsed)
        event.listen(engine, "connect", _refuse_writing_postgresql)
        return engine
    path = Path(parsed.database or "").absolute().as_uri()
    arguments = {"timeout": BUSY_SECONDS, "uri": True}
    engine = create_engine(f"sqlite:///{path}?mode=ro&uri=true", connect_args=arguments, hide_parameters=True)
    event.listen(engine, "connect", _refuse_writing_sqlite)
    return engine


def _refuse_writing_sqlite(connection: object, _record: object) -> None:
    connection.execute("PRAGMA query_only=ON")  # type: ignore[attr-defined]


def _refuse_writing_postgresql(connection: object, _record: object) -> None:
    connection.read_only = True  # type: ignore[attr-defined]  # psycopg's, for every transaction of this connection
