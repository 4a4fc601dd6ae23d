"""A study's databases on a server: what is asked for, what is noted, and that no password gets anywhere."""

import pytest
from sqlalchemy import make_url, text

from crowd_imi.errors import StoreError
from crowd_imi.keys import study_key
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls, is_there, open_engine
from crowd_imi.store.people import Ids, remember
from crowd_imi.store.server import (
    PEOPLE_VARIABLE,
    VARIABLE,
    address,
    connection_urls,
    databases_asked_for,
    note_databases,
    noted_databases,
    require_where_it_began,
)
from crowd_imi.store.tables import About

ABOUT = {"study": "tiny", "plan_sha256": "0" * 64, "pack_sha256": "0" * 64}
SECRET = "correct-horse"


@pytest.fixture
def server(postgres, monkeypatch):
    """The environment names the tests' PostgreSQL, which takes any password."""
    host = make_url(postgres()).query["host"]
    url = f"postgresql://imi:{SECRET}@/postgres?host={host}"
    monkeypatch.setenv(VARIABLE, url)
    return url


@pytest.fixture
def databases(server, tmp_path):
    found = databases_asked_for(tmp_path / "study.key", "My Study!")
    assert found is not None
    return found


def test_nothing_is_asked_for_where_nothing_is_said(tmp_path):
    assert databases_asked_for(tmp_path / "study.key", "tiny") is None
    assert database_urls(tmp_path)[0].startswith("sqlite:///")


@pytest.mark.parametrize(
    "said",
    [
        "my-server",
        f"postgresql://imi:{SECRET}@db:port/imi",
        f"postgresql://imi:{SECRET}@db:5432",
        f"mysql://imi:{SECRET}@db/imi",
        "sqlite:///study.db",
        f"postgresql://imi:{SECRET}@{SECRET}@db/imi",
        f"postgresql://imi:{SECRET}@x/{SECRET}:5432/imi",
        f"postgresql://imi@db/imi?password={SECRET}",
    ],
)
def test_what_is_no_address_is_refused_without_quoting_it(monkeypatch, tmp_path, said):
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(StoreError, match=VARIABLE) as caught:
        databases_asked_for(tmp_path / "study.key", "tiny")
    assert SECRET not in str(caught.value)


def test_people_elsewhere_need_a_study_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv(PEOPLE_VARIABLE, "postgresql://imi@db/people")
    with pytest.raises(StoreError, match=f"{VARIABLE} isn't"):
        databases_asked_for(tmp_path / "study.key", "tiny")
    monkeypatch.setenv(VARIABLE, "postgres://imi@db/imi")
    found = databases_asked_for(tmp_path / "study.key", "tiny")
    study, people = map(make_url, connection_urls(found))
    assert (study.database, people.database) == ("imi", "people")
    assert people.query["options"] == f"{study.query['options']}_people"


def test_the_note_holds_no_password_and_connections_do(databases, tmp_path):
    note_databases(tmp_path, databases)
    assert SECRET not in (tmp_path / "databases.json").read_text()
    assert noted_databases(tmp_path) == databases
    study, people = map(make_url, database_urls(tmp_path))
    assert study.password == people.password == SECRET
    assert databases.schema_name.startswith("crowd_imi_my_study_")
    assert address(study) == f"postgresql://imi@/postgres (schema {databases.schema_name})"


def test_without_the_environment_the_note_says_where(databases, tmp_path, monkeypatch):
    note_databases(tmp_path, databases)
    monkeypatch.delenv(VARIABLE)  # libpq then asks PGPASSWORD and .pgpass
    assert make_url(database_urls(tmp_path)[0]).password is None
    (tmp_path / "databases.json").write_text("{}")
    with pytest.raises(StoreError, match=r"databases\.json: it is damaged"):
        database_urls(tmp_path)


def test_options_that_a_server_needs_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "postgresql://imi@db/imi?sslmode=require&options=-cstatement_timeout%3D9s")
    query = make_url(connection_urls(databases_asked_for(tmp_path / "study.key", "tiny"))[0]).query
    assert query["sslmode"] == "require" and query["options"].startswith("-cstatement_timeout=9s -csearch_path=crowd_imi_tiny_")


def test_two_studies_of_one_name_have_schemas_of_their_own(server, tmp_path):
    names = {databases_asked_for(tmp_path / place / "study.key", "tiny").schema_name for place in ("one", "two")}
    assert len(names) == 2


def test_a_study_in_its_folder_stays_there(server, tmp_path):
    require_where_it_began(tmp_path)
    (tmp_path / "study.db").touch()
    with pytest.raises(StoreError, match=f"{VARIABLE} names a server; unset it"):
        require_where_it_began(tmp_path)
    assert database_urls(tmp_path)[0].startswith("sqlite:///")


def test_the_key_of_a_study_on_a_server_isnt_made_anew(databases, tmp_path):
    note_databases(tmp_path, databases)
    (tmp_path / "study.key").unlink()
    with pytest.raises(StoreError, match="the study's key is missing"):
        study_key(tmp_path / "study.key")


def crash(_session):
    raise KeyboardInterrupt


def test_a_crash_while_it_is_made_leaves_nothing_and_the_next_try_makes_it(databases):
    urls = connection_urls(databases)
    with pytest.raises(KeyboardInterrupt):
        Store.create(*urls, StoreKind.STUDY, ABOUT, fill=crash)
    assert not is_there(urls[0])
    engine = open_engine(urls[0])
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_schema()")) is None  # not even the schema
    engine.dispose()
    with pytest.raises(StoreError, match="this study's database isn't there"):
        Store.open(*urls)
    store = Store.create(*urls, StoreKind.STUDY, ABOUT, fill=lambda session: session.add(About(name="colour", value="blue")))
    assert store.about("colour") == "blue" and is_there(urls[0])
    store.close()


def test_peoples_ids_of_a_study_that_is_gone_are_kept(databases):
    urls = connection_urls(databases)
    store = Store.create(*urls, StoreKind.STUDY, ABOUT)
    with store.people() as people:
        remember(people, Ids("hash", "local", "ann", "s1"), lambda _: "v1")
    with store.write() as session:
        session.execute(text(f"DROP SCHEMA {databases.schema_name} CASCADE"))
    store.close()
    with pytest.raises(StoreError, match=r"holds the ids of people who took part, but the study's database is missing"):
        Store.create(*urls, StoreKind.STUDY, ABOUT)
    assert not is_there(urls[0])


def test_a_server_that_isnt_there_is_one_line_without_the_password(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, f"postgresql://imi:{SECRET}@127.0.0.1:1/imi")
    with pytest.raises(StoreError) as caught:
        Store.open(*connection_urls(databases_asked_for(tmp_path / "study.key", "tiny")))
    said = str(caught.value)
    assert said.startswith("postgresql://imi@127.0.0.1:1/imi (schema crowd_imi_tiny_") and "can't be used (" in said
    assert SECRET not in said and "\n" not in said


def test_a_copy_of_the_database_has_another_mark(databases, postgres):
    """A dump that is read into another database of the server: who spends there must say that the first one is gone."""
    store = Store.create(*connection_urls(databases), StoreKind.STUDY, ABOUT)
    again = Store.open(*connection_urls(databases))
    assert store.place_mark() is not None and store.place_mark() == again.place_mark()
    again.close()
    store.close()
    admin = open_engine(postgres()).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE copy"))
    elsewhere = tuple(
        make_url(url).set(database="copy").render_as_string(hide_password=False) for url in connection_urls(databases)
    )
    copy = Store.create(*elsewhere, StoreKind.STUDY, ABOUT)
    assert copy.place_mark() != store.place_mark()
    copy.close()
    store.close()
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE copy"))
    admin.dispose()
