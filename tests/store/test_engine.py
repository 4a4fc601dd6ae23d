"""Databases: durable, of one kind, and silent about people in their errors."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from crowd_imi.errors import StoreError
from crowd_imi.store import SimulatedClock, Store, StoreKind
from crowd_imi.store.engine import open_engine
from crowd_imi.store.tables import About, Person
from crowd_imi.store.transactions import ATTEMPTS, transact

ABOUT = {"study": "tiny"}


def test_what_was_committed_is_there_after_opening_again(database_urls):
    first = Store.create(*database_urls, StoreKind.STUDY, ABOUT)
    with first.write() as session:
        session.add(About(name="colour", value="blue"))
    first.close()
    second = Store.open(*database_urls)
    assert (second.about("colour"), second.kind) == ("blue", StoreKind.STUDY)
    second.close()


def test_an_error_in_a_transaction_leaves_nothing_behind(database_urls):
    store = Store.create(*database_urls, StoreKind.STUDY, ABOUT)
    with pytest.raises(ZeroDivisionError), store.write() as session:
        session.add(About(name="colour", value="blue"))
        session.flush()
        _ = 1 // 0
    with pytest.raises(StoreError, match="doesn't say its colour"):
        store.about("colour")
    store.close()


def test_a_second_database_in_the_same_place_is_refused(database_urls):
    Store.create(*database_urls, StoreKind.STUDY, ABOUT).close()
    with pytest.raises(StoreError, match="there is a database here already"):
        Store.create(*database_urls, StoreKind.STUDY, ABOUT)


def test_only_a_rehearsal_takes_a_simulated_clock(database_urls):
    Store.create(*database_urls, StoreKind.STUDY, ABOUT).close()
    with pytest.raises(StoreError, match="only a rehearsal takes a simulated clock"):
        Store.open(*database_urls, SimulatedClock(0))


def test_a_study_without_a_database_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match=r"no study database here; run `crowd-imi publish`"):
        Store.open(f"sqlite:///{tmp_path / 'study.db'}", f"sqlite:///{tmp_path / 'people.db'}")


def test_sqlite_waits_for_the_disk_and_checks_foreign_keys(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with engine.connect() as connection:
        found = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "foreign_keys")]
    engine.dispose()
    assert found == ["wal", 2, 1]  # 2 is FULL: fsync at every commit


def test_errors_dont_quote_peoples_ids(database_urls):
    store = Store.create(*database_urls, StoreKind.STUDY, ABOUT)
    person = {"visit_id": "v", "participant": "hash", "platform": "local", "platform_participant": "JaneDoe"}
    with store.people() as people:
        people.add(Person(**person, platform_submission="S1"))
    with pytest.raises(IntegrityError) as caught, store.people() as people:
        people.add(Person(**person, platform_submission="S2"))
    store.close()
    assert "[parameters" not in str(caught.value)
    assert "JaneDoe" not in str(caught.value)


def test_a_transaction_that_meets_another_on_a_unique_key_goes_again(database_urls):
    store = Store.create(*database_urls, StoreKind.STUDY, ABOUT)
    tries = []

    def work(session):
        tries.append(None)
        session.add(About(name="study" if len(tries) < 3 else "colour", value="blue"))

    transact(store, work)
    assert (len(tries), store.about("colour")) == (3, "blue")
    store.close()


def test_a_conflict_that_stays_is_raised_after_a_bounded_number_of_tries(database_urls):
    store = Store.create(*database_urls, StoreKind.STUDY, ABOUT)
    tries = []

    def work(session):
        tries.append(None)
        session.add(About(name="study", value="again"))

    with pytest.raises(IntegrityError):
        transact(store, work)
    store.close()
    assert len(tries) == ATTEMPTS
