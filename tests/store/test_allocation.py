"""Who gets which task: one visit per participant, one participant per task, whatever happens at the same moment."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select

from crowd_imi import allocation
from crowd_imi.allocation import Arrival, arrive, arrive_for_preview, release_expired
from crowd_imi.errors import Refused
from crowd_imi.lifecycle import VisitState, move
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.store import StoreKind
from crowd_imi.store.tables import Person, Posting, Task, Visit
from tests.tiny import STUDY_TOML, fake_plan, write_study

NOW = 1_750_000_000_000
MINUTE = 60_000
TASKS = 6
"""(6 + 2) units × 3 responses / 6 trials = 4 tasks in the natural arm, 6 × 2 / 6 = 2 in the synthetic one."""


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "study")


@pytest.fixture
def run(study, make_store):
    """Makes a store with one posting, of any kind."""

    def make(kind=StoreKind.STUDY):
        store = make_store(fake_plan(study), kind)
        with store.write() as session:
            session.add(Posting(id="post", platform="local", platform_id="P", places=9, state="open", created_at=NOW))
        return store

    return make


def arrival(person, submission=None, now=NOW):
    return Arrival(LocalPlatform.name, person, submission or f"sub-{person}", "post", now)


def all_visits(store):
    with store.read() as session:
        return session.scalars(select(Visit).order_by(Visit.arrived_at, Visit.id)).all()


def people(store):
    with store.people() as session:
        return {person.platform_submission: person.visit_id for person in session.scalars(select(Person))}


def end(store, visit, *states):
    with store.write() as session:
        loaded = session.get_one(Visit, visit.id)
        for state in states:
            move(loaded, state, NOW)


def at_once(calls):
    """Run all calls at the same moment, and return what each returned or was refused with."""
    barrier = Barrier(len(calls))

    def run(call):
        barrier.wait()
        try:
            return call()
        except Refused as refused:
            return refused.code

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_two_places_opened_at_once_become_one_visit(study, run):
    store = run()
    for person in ("ann", "bob", "cleo"):
        arrivals = [arrival(person, f"{person}-{place}") for place in (1, 2)]
        results = at_once([lambda a=a: arrive(store, study, a) for a in arrivals])
        assert sorted(isinstance(result, Visit) for result in results) == [False, True]
        assert "already-took-part" in results
    assert len(all_visits(store)) == 3
    # The refused places' ids are gone again, the others' lie under their visits.
    assert sorted(people(store).values()) == sorted(visit.id for visit in all_visits(store))


def test_the_same_place_opened_twice_at_once_is_one_visit_that_goes_on(study, run):
    store = run()
    results = at_once([lambda: arrive(store, study, arrival("ann"))] * 3)
    assert sorted(visit.generation for visit in results) == [1, 2, 3]
    assert len({visit.id for visit in results}) == len(people(store)) == 1


def test_participants_who_come_at_once_never_hold_the_same_task(study, run):
    store = run()
    results = at_once([lambda n=n: arrive(store, study, arrival(f"person-{n}")) for n in range(TASKS + 3)])
    tasks = [result.task_id for result in results if isinstance(result, Visit)]
    assert sorted(tasks) == list(range(1, TASKS + 1))
    assert results.count("study-full") == 3
    assert len(people(store)) == TASKS


def test_who_is_let_in_while_the_same_place_is_being_refused_keeps_their_ids(study, run, monkeypatch):
    store = run()
    first, *_others = [arrive(store, study, arrival(f"person-{n}")) for n in range(TASKS)]
    found = allocation.find_visit

    def a_task_is_free_again_and_ann_gets_it(session, visit_id, **options):
        before = found(session, visit_id, **options)
        monkeypatch.setattr(allocation, "find_visit", found)
        end(store, first, VisitState.DECLINED)
        arrive(store, study, arrival("ann"))
        return before

    monkeypatch.setattr(allocation, "find_visit", a_task_is_free_again_and_ann_gets_it)
    with pytest.raises(Refused, match="Every task"):
        arrive(store, study, arrival("ann"))
    assert people(store)["sub-ann"] in {visit.id for visit in all_visits(store)}


def test_arriving_again_goes_on_with_the_same_task(study, run):
    store = run()
    first, second = (arrive(store, study, arrival("ann")) for _ in range(2))
    assert (second.id, second.task_id, second.layout_seed) == (first.id, first.task_id, first.layout_seed)
    assert second.generation == 2


def test_who_took_part_is_refused_with_another_submission_whatever_came_of_it(study, run):
    store = run()
    endings = {
        "declined": (VisitState.DECLINED,),
        "returned": (VisitState.RETURNED,),
        "excluded": (VisitState.CONSENTED, VisitState.PRACTISING, VisitState.FAILED_PRACTICE, VisitState.EXCLUDED),
    }
    for person, states in endings.items():
        end(store, arrive(store, study, arrival(person)), *states)
        with pytest.raises(Refused) as caught:
            arrive(store, study, arrival(person, "another"))
        assert caught.value.code == "already-took-part"


def test_the_task_with_the_lowest_draw_of_its_arm_goes_out_first(study, run):
    store = run()
    visits = [arrive(store, study, arrival(f"person-{n}")) for n in range(TASKS)]
    with store.read() as session:
        tasks = {task.id: task for task in session.scalars(select(Task))}
    for arm in {task.arm for task in tasks.values()}:
        draws = [tasks[visit.task_id].draw for visit in visits if tasks[visit.task_id].arm == arm]
        assert draws == sorted(draws)


def test_who_leaves_a_task_and_comes_again_as_somebody_else_meets_another_one(study, run):
    store = run()
    first = arrive(store, study, arrival("cheat"))
    end(store, first, VisitState.RETURNED)
    others = [arrive(store, study, arrival(f"person-{n}")) for n in range(TASKS)]
    with store.read() as session:
        arms = {visit.id: session.get_one(Task, visit.task_id).arm for visit in (first, *others)}
    of_the_arm = [visit.task_id for visit in others if arms[visit.id] == arms[first.id]]
    assert len(of_the_arm) == len(set(of_the_arm)) and of_the_arm[-1] == first.task_id  # once nobody else is left


def test_arms_are_drawn_alike_however_many_tasks_they_have(study, run):
    store = run(StoreKind.REHEARSAL)
    arms = Counter()
    for n in range(40):
        visit = arrive(store, study, arrival(f"person-{n}"))
        with store.read() as session:
            arms[session.get_one(Task, visit.task_id).arm] += 1
        end(store, visit, VisitState.DECLINED)
    # 40 fair tosses: 20 on average with a standard deviation of √40/2 = 3.2; were tasks drawn, it would be 27 to 13.
    assert sum(arms.values()) == 40
    assert abs(arms["toy-natural-easy"] - 20) <= 6


def test_a_visit_that_takes_too_long_gives_its_task_back(study, run):
    store = run()
    for n in range(TASKS):
        arrive(store, study, arrival(f"person-{n}"))
    minutes = study.file.pages.visit_minutes
    with pytest.raises(Refused) as caught:
        arrive(store, study, arrival("late", now=NOW + minutes * MINUTE))
    assert caught.value.code == "study-full"
    visit = arrive(store, study, arrival("later", now=NOW + minutes * MINUTE + 1))
    others = [other for other in all_visits(store) if other.id != visit.id]
    assert {other.state for other in others} == {"timed_out"}
    assert {other.left_at for other in others} == {NOW + minutes * MINUTE + 1}
    assert not any(other.holds_task for other in others)


def test_release_names_the_visits_it_timed_out(study, run):
    store = run()
    visit = arrive(store, study, arrival("ann"))
    with store.write() as session:
        assert release_expired(session, 10, NOW + 10 * MINUTE) == ()
        assert release_expired(session, 10, NOW + 10 * MINUTE + 1) == (visit.id,)
        assert release_expired(session, 10, NOW + 99 * MINUTE) == ()


def test_who_comes_back_after_the_time_goes_on_only_from_the_trials(study, run):
    store = run()
    late = NOW + (study.file.pages.visit_minutes + 1) * MINUTE
    reading, answering = (arrive(store, study, arrival(person)) for person in ("reading", "answering"))
    end(store, answering, VisitState.CONSENTED, VisitState.PRACTISING, VisitState.ANSWERING)
    with store.write() as session:
        session.get_one(Visit, answering.id).practised_at = NOW
    again = arrive(store, study, arrival("answering", now=late))
    assert (again.state, again.generation, again.holds_task) == ("timed_out", 2, False)
    with pytest.raises(Refused) as caught:
        arrive(store, study, arrival("reading", now=late))
    assert caught.value.code == "ended"
    assert people(store)["sub-reading"] == reading.id


def test_a_task_is_given_up_after_the_allowed_number_of_attempts(tmp_path, run):
    study = write_study(tmp_path / "study", STUDY_TOML.replace("catch = 2", "catch = 2\nmax_attempts = 2"))
    store = run()
    failed = (VisitState.CONSENTED, VisitState.PRACTISING, VisitState.FAILED_PRACTICE)
    for n in range(TASKS * 2):
        # Who declines or leaves doesn't use up an attempt.
        end(store, arrive(store, study, arrival(f"leaver-{n}")), VisitState.RETURNED)
        end(store, arrive(store, study, arrival(f"failer-{n}")), *failed)
    with pytest.raises(Refused) as caught:
        arrive(store, study, arrival("one more"))
    assert caught.value.code == "study-full"


def test_a_rehearsal_comes_out_the_same_for_the_same_seed(study, run, tmp_path):
    store = run(StoreKind.REHEARSAL)
    visits = [arrive(store, study, arrival(person, submission)) for person, submission in (("ann", "x"), ("bob", "y"))]
    # Derived from seed 7 and the names alone; submissions' ids are the platform's and don't matter.
    from crowd_imi.allocation import hash_key
    from crowd_imi.keys import participant_hash
    from crowd_imi.seeds import generator

    for person, visit in zip(("ann", "bob"), visits, strict=True):
        hashed = participant_hash(hash_key(store, study), "local", person)
        assert visit.id == generator(7, "visit", hashed, 0).bytes(8).hex()


def test_previews_never_use_up_tasks_and_never_count(study, run):
    store = run(StoreKind.PREVIEW)
    visits = [arrive_for_preview(store, study, NOW) for _ in range(TASKS + 4)]
    assert len({visit.id for visit in visits}) == len({visit.participant for visit in visits}) == TASKS + 4
    assert {visit.label for visit in visits} == {"preview"}
    assert not any(visit.holds_task for visit in visits)


def test_a_study_and_a_rehearsal_hash_people_with_different_keys(study, run):
    from crowd_imi.allocation import hash_key

    store = run(StoreKind.REHEARSAL)
    assert hash_key(store, study) == b"rehearsal:7"
