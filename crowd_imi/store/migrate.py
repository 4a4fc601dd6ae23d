"""Schemas of the databases, made and told apart by Alembic revisions. Workers never migrate by themselves."""

from pathlib import Path
from typing import Literal

from alembic import command, context
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData

Schema = Literal["study", "people"]

_FOLDER = Path(__file__).parent / "migrations"


def create(connection: Connection, schema: Schema) -> None:
    """Bring an empty database to the newest revision, in the connection's transaction."""
    config = _config(schema)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def newest_revision(schema: Schema) -> str | None:
    """The revision that this version of the package works with."""
    return ScriptDirectory.from_config(_config(schema)).get_current_head()


def current_revision(connection: Connection, schema: Schema) -> str | None:
    """The revision of a database; None for an empty one."""
    return MigrationContext.configure(connection, opts={"version_table": _version_table(schema)}).get_current_revision()


def run_migrations(schema: Schema, metadata: MetaData) -> None:
    """What each ``env.py`` calls; the connection comes from ``create``."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=_version_table(schema),
        render_as_batch=connection.dialect.name == "sqlite",
    )
    context.run_migrations()


def _version_table(schema: Schema) -> str:
    return f"{schema}_revision"


def _config(schema: Schema) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER / schema))
    config.set_main_option("path_separator", "os")
    return config
