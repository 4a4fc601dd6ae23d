import pytest

from crowd_imi.errors import ScoringError
from crowd_imi.lifecycle import VisitState
from crowd_imi.scoring import score
from crowd_imi.store.answers import intents, main_answers, planned_units, visits
from crowd_imi.store.tables import Intent, Task
from tests.scoring import fake


def task(session, number: int) -> Task:
    return session.query(Task).filter_by(arm="toy-natural-easy", number=number).one()


def test_only_main_trials_of_judged_main_visits_are_read(store):
    with store.write() as session:
        judged = fake.add_visit(session, task(session, 1), 1, VisitState.VALID)
        fake.add_answers(session, judged, dict.fromkeys(range(8), True))
        fake.judge(session, judged)
        waiting = fake.add_visit(session, task(session, 2), 2, VisitState.SUBMITTED)
        fake.add_answers(session, waiting, {0: True})
        pilot = fake.add_visit(session, task(session, 3), 3, VisitState.VALID, label="pilot")
        fake.add_answers(session, pilot, {0: True})
        fake.judge(session, pilot)
    with store.read() as session:
        table = main_answers(session)
    # Positions 0 to 5 are main trials, 6 and 7 catch trials.
    assert len(table) == 6
    assert set(table["visit"]) == {"v1"}
    assert table["correct"].dtype == bool and table["valid"].all() and not table["surplus"].any()


def test_an_answer_is_joined_to_the_unit_that_its_position_shows(store):
    with store.write() as session:
        visit = fake.add_visit(session, task(session, 1), 1, VisitState.VALID)
        fake.add_answers(session, visit, {2: False}, confidence=3, rt_ms=1234.5)
        fake.judge(session, visit)
    with store.read() as session:
        row = main_answers(session).iloc[0].to_dict()
    # The plan's first task asks about units 0 to 5 in order; batch is its number modulo 4.
    assert row == {
        "arm": "toy-natural-easy",
        "unit": "toy/layer2/2",
        "batch": 1,
        "visit": "v1",
        "correct": False,
        "confidence": 3,
        "rt_ms": 1234.5,
        "valid": True,
        "surplus": False,
    }


def test_every_planned_unit_is_listed_with_its_responses(store):
    with store.read() as session:
        table = planned_units(session)
    # 6 + 2 units with 3 responses, and 6 units with 2; catch trials don't add any.
    assert table.groupby("arm").size().to_dict() == {"toy-natural-easy": 8, "toy-synthetic-easy": 6}
    assert set(table.loc[table["arm"] == "toy-natural-easy", "responses"]) == {3}
    assert set(table.loc[table["arm"] == "toy-synthetic-easy", "responses"]) == {2}


def test_visits_without_a_verdict_have_none(store):
    with store.write() as session:
        fake.add_visit(session, task(session, 1), 1, VisitState.ANSWERING, submitted_at=None)
        excluded = fake.add_visit(session, task(session, 2), 2, VisitState.EXCLUDED)
        fake.judge(session, excluded, "catch_trials")
    with store.read() as session:
        table = visits(session)
    assert table["valid"].isna().tolist() == [True, False]
    assert table["submitted_at"].isna().tolist() == [True, False]
    assert table["checks"].iloc[1]["catch_trials"]["passed"] is False


def test_the_ledger_is_summed_by_operation_and_state(store):
    with store.write() as session:
        for number, (operation, state) in enumerate(
            [("approve", "done"), ("approve", "done"), ("approve", "open"), ("post", "done")]
        ):
            session.add(
                Intent(
                    id=str(number), operation=operation, subject=str(number), amount=150, currency="USD", state=state, opened_at=1
                )
            )
    with store.read() as session:
        table = intents(session)
    assert table[["operation", "state", "count", "amount"]].to_numpy().tolist() == [
        ["approve", "done", 2, 300],
        ["approve", "open", 1, 150],
        ["post", "done", 1, 150],
    ]


def test_an_empty_store_has_typed_tables_and_nothing_to_score(study, store):
    with store.read() as session:
        assert main_answers(session)["correct"].dtype == bool
        assert visits(session).empty and intents(session).empty
    with pytest.raises(ScoringError, match="nothing to score"):
        score(study, store)
