"""The databases' schemas are those of the tables, and one of another version is refused."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from crowd_imi.errors import StoreError
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls as urls_in
from crowd_imi.store.engine import make_schema, open_engine
from crowd_imi.store.migrate import create, current_revision, newest_revision, upgrade
from crowd_imi.store.tables import Base, PeopleBase

ABOUT = {"study": "tiny", "plan_sha256": "0" * 64, "pack_sha256": "0" * 64}


@pytest.mark.parametrize("make", [create, upgrade])
@pytest.mark.parametrize(("schema", "tables"), [("study", Base), ("people", PeopleBase)])
def test_a_new_database_and_all_migrations_make_the_tables_as_they_are_declared(database_urls, schema, tables, make):
    engine = open_engine(database_urls[0])
    with engine.begin() as connection:
        make_schema(connection)
        make(connection, schema)
        create(connection, schema)  # one that is there already is kept
    with engine.connect() as connection:
        assert current_revision(connection, schema) == newest_revision(schema)
        context = MigrationContext.configure(
            connection,
            opts={"version_table": f"{schema}_revision", "compare_type": True, "compare_server_default": True},
        )
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_a_database_of_an_older_version_is_brought_to_the_newest_and_keeps_its_rows(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'study.db'}")
    with engine.begin() as connection:
        upgrade(connection, "study", "0001")
        connection.execute(text("INSERT INTO task (id, arm, number, draw) VALUES (1, 'toy', 1, 1)"))
        create(connection, "study")
        assert connection.execute(text("SELECT arm, number, label FROM task")).all() == [("toy", 1, "main")]
        assert current_revision(connection, "study") == newest_revision("study")
    engine.dispose()


def test_an_empty_database_has_no_revision(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'study.db'}")
    with engine.connect() as connection:
        assert current_revision(connection, "study") is None
    engine.dispose()


def test_a_database_of_another_version_is_refused_and_left_as_it_is(tmp_path):
    urls = urls_in(tmp_path)
    Store.create(*urls, StoreKind.STUDY, ABOUT).close()
    engine = open_engine(urls[0])
    with engine.begin() as connection:
        connection.execute(text("UPDATE study_revision SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreError, match="has schema 9999, this version needs"):
        Store.open(*urls)


def test_a_study_isnt_opened_without_its_peoples_ids(tmp_path):
    urls = urls_in(tmp_path)
    Store.create(*urls, StoreKind.STUDY, ABOUT).close()
    engine = open_engine(urls[1])
    with engine.begin() as connection:
        connection.execute(text("UPDATE people_revision SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreError, match=r"people\.db: this database has schema 9999"):
        Store.open(*urls)
    (tmp_path / "people.db").unlink()
    with pytest.raises(StoreError, match=r"people\.db: the people's ids .* are missing; restore them"):
        Store.open(*urls)
    assert not (tmp_path / "people.db").exists()


def test_a_store_is_made_once(tmp_path):
    urls = urls_in(tmp_path)
    Store.create(*urls, StoreKind.STUDY, ABOUT).close()
    with pytest.raises(StoreError, match="there is a database here already"):
        Store.create(*urls, StoreKind.STUDY, ABOUT)
    store = Store.open(*urls)
    assert (store.kind, store.about("study")) == (StoreKind.STUDY, "tiny")
    store.close()


def test_opening_a_store_that_is_not_there_makes_none(tmp_path):
    with pytest.raises(StoreError, match="there is no study database here"):
        Store.open(*urls_in(tmp_path))
    assert not list(tmp_path.iterdir())


def test_sqlite_commits_with_fsync_and_readers_do_not_wait(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'study.db'}")
    with engine.connect() as connection:
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")}
    engine.dispose()
    # 2 is FULL.
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}
