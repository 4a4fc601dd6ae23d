"""Schemas of the databases, made and told apart by Alembic revisions. Workers never migrate by themselves."""

from pathlib import Path
from typing import Literal

from alembic import command, context
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from crowd_imi.store.tables import Base, PeopleBase

Schema = Literal["study", "people"]

_TABLES = {"study": Base.metadata, "people": PeopleBase.metadata}
_FOLDER = Path(__file__).parent / "migrations"


def create(connection: Connection, schema: Schema) -> None:
    """Bring a database to the newest revision, in the connection's transaction.

    An empty one gets the tables as they are declared, another one the revisions that it lacks.
    """
    if current_revision(connection, schema) is not None:
        upgrade(connection, schema)
        return
    _TABLES[schema].create_all(connection, checkfirst=False)
    _context(connection, schema).stamp(ScriptDirectory.from_config(_config(schema)), "head")


def upgrade(connection: Connection, schema: Schema, revision: str = "head") -> None:
    """Run the revisions that a database lacks, in the connection's transaction.

    Args:
        connection: to any database, also to an empty one.
        schema: which one it is.
        revision: the last to run.
    """
    config = _config(schema)
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def newest_revision(schema: Schema) -> str | None:
    """The revision that this version of the package works with."""
    return ScriptDirectory.from_config(_config(schema)).get_current_head()


def current_revision(connection: Connection, schema: Schema) -> str | None:
    """The revision of a database; None for an empty one."""
    return _context(connection, schema).get_current_revision()


def run_migrations(schema: Schema) -> None:
    """What each ``env.py`` calls; the connection comes from ``upgrade``."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=_TABLES[schema],
        version_table=_version_table(schema),
        render_as_batch=connection.dialect.name == "sqlite",
    )
    context.run_migrations()


def _context(connection: Connection, schema: Schema) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": _version_table(schema)})


def _version_table(schema: Schema) -> str:
    return f"{schema}_revision"


def _config(schema: Schema) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER / schema))
    config.set_main_option("path_separator", "os")
    return config
