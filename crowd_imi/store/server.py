"""A study's databases on a PostgreSQL server: which one is asked for, and what the study's folder notes of it.

A study has two schemas of its own on the server, named by its key, so that another study's database is never taken for it.
Passwords come from the environment alone, and are written down nowhere.
"""

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from crowd_imi.errors import StoreError
from crowd_imi.files import DATABASES_NOTE, write_atomically
from crowd_imi.keys import keyed_hash, study_key
from crowd_imi.records import Record

VARIABLE, PEOPLE_VARIABLE = "CROWD_IMI_DATABASE_URL", "CROWD_IMI_PEOPLE_URL"

_DRIVER = "postgresql+psycopg"
_SECRET = frozenset({"password", "sslpassword"})


class Databases(Record):
    """``databases.json``: on which server a study began. It holds no password."""

    schema_version: Literal[1] = 1
    study: str
    """Address of the database with the study's schema."""
    people: str
    """Address of the one with its people's; the same one, unless people's ids lie on another server."""
    schema_name: str
    """The study's schema there; its people's is called the same with ``_people`` behind it."""


def databases_asked_for(key: Path, study: str) -> Databases | None:
    """Where the environment wants a new study's databases to be; None where nothing is said: in the study's folder.

    Args:
        key: the file with the study's key, made when it isn't there.
        study: its name, for people who look at the server.

    Raises:
        StoreError: what it says is no address of a PostgreSQL database.
    """
    asked = _from_environment()
    if asked is None:
        return None
    # The key's mark makes the name this study's alone, also where two are called alike.
    readable = re.sub(r"[^a-z0-9]+", "_", study.lower()).strip("_")[:24]
    name = "_".join(("crowd_imi", *filter(None, [readable]), keyed_hash(study_key(key), "schema")[:12]))
    study_url, people_url = (_without_password(url).render_as_string() for url in asked)
    return Databases(study=study_url, people=people_url, schema_name=name)


def noted_databases(folder: Path) -> Databases | None:
    """Where a study that has begun on a server has its databases; None for one that hasn't.

    Raises:
        StoreError: the note is damaged.
    """
    path = folder / DATABASES_NOTE
    try:
        return Databases.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise StoreError(f"{path}: it is damaged ({error.errors()[0]['msg']}); restore it from a backup") from None


def note_databases(folder: Path, databases: Databases) -> None:
    """Write down where they are: from now on the study has begun."""
    write_atomically(folder / DATABASES_NOTE, databases.model_dump_json(indent=2).encode() + b"\n")


def connection_urls(databases: Databases) -> tuple[str, str]:
    """URLs to connect with, passwords included where the environment has them.

    The environment may say another user, host or port than the note, as a server has more than one address; the schema's name
    tells whether it is the same study's.

    Raises:
        StoreError: the environment says something that is no address, or names a server for a damaged note.
    """
    asked = _from_environment() or (_read(databases.study, DATABASES_NOTE), _read(databases.people, DATABASES_NOTE))
    schemas = databases.schema_name, f"{databases.schema_name}_people"
    study, people = (_in_schema(url, schema) for url, schema in zip(asked, schemas, strict=True))
    return study.render_as_string(hide_password=False), people.render_as_string(hide_password=False)


def require_where_it_began(folder: Path) -> None:
    """Make sure that nobody believes a study to be on a server that began in its folder.

    Raises:
        StoreError: the environment names a server.
    """
    if (folder / "study.db").exists() and _from_environment() is not None:
        raise StoreError(
            f"{folder / 'study.db'}: this study began in its folder, and {VARIABLE} names a server; unset it for this study: "
            "a study stays where it began"
        )


def address(url: str | URL) -> str:
    """A database for people to read: without password and options, with the schema that is meant."""
    parsed = make_url(url)
    found = re.search(r"search_path=(\w+)", str(parsed.query.get("options", "")))
    shown = _without_password(parsed.set(query={})).render_as_string()
    return shown if found is None else f"{shown} (schema {found[1]})"


def _from_environment() -> tuple[URL, URL] | None:
    said, people = os.environ.get(VARIABLE), os.environ.get(PEOPLE_VARIABLE)
    if not said:
        if people:
            raise StoreError(f"{PEOPLE_VARIABLE} is set and {VARIABLE} isn't; set both, or the latter alone")
        return None
    return _read(said, VARIABLE), _read(people, PEOPLE_VARIABLE) if people else _read(said, VARIABLE)


def _read(said: str, where: str) -> URL:
    """What is wrong is told without quoting: it may hold a password."""
    wrong = f"{where}: this is no address of a PostgreSQL database; right would be postgresql://user@host:5432/database"
    try:
        url = make_url(said)
    except (ArgumentError, ValueError):
        raise StoreError(wrong) from None
    if url.get_backend_name() not in ("postgresql", "postgres") or not url.database:
        raise StoreError(wrong)
    if said.count("@") > 1 or set(url.database) & set("@:/"):
        raise StoreError(f"{where}: write @ in a user's name or a password as %40, : as %3A and / as %2F")
    if _SECRET & url.query.keys():
        raise StoreError(f"{where}: give the password before the @, in PGPASSWORD or in a .pgpass file, and not behind the ?")
    return url.set(drivername=_DRIVER)


def _without_password(url: URL) -> URL:
    """``URL.set`` takes None for "as it was"."""
    return URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database, url.query)


def _in_schema(url: URL, schema: str) -> URL:
    before = url.query.get("options", ())
    options = (before,) if isinstance(before, str) else before
    return url.update_query_dict({"options": " ".join((*options, f"-csearch_path={schema}"))})
