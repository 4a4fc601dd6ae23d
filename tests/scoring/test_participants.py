import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowd_imi.ledger import books
from crowd_imi.lifecycle import VisitState
from crowd_imi.scoring import participants
from crowd_imi.store.answers import intents, visits
from crowd_imi.store.tables import Intent, Task
from tests.scoring import fake


@pytest.fixture
def everything(store):
    """Two visits of each kind that there is, one after another in the same arm."""
    never = {"submitted_at": None}
    early = {**never, "practised_at": None}
    with store.write() as session:
        task = session.query(Task).filter_by(arm="toy-natural-easy", number=1).one()

        def add(number, state, **changes):
            return fake.add_visit(session, task, number, state, holds_task=False, **changes)

        add(1, VisitState.DECLINED, **early)
        add(2, VisitState.RETURNED, **never)
        add(3, VisitState.TIMED_OUT, **never)
        add(4, VisitState.FAILED_PRACTICE, **early)
        fake.judge(session, add(5, VisitState.EXCLUDED, **early), "practice_blocks")
        add(6, VisitState.ANSWERING, **never)
        add(7, VisitState.SUBMITTED)
        fake.judge(session, add(8, VisitState.EXCLUDED), "catch_trials", "row_choices")
        fake.judge(session, add(9, VisitState.EXCLUDED), "catch_trials")
        fake.judge(session, add(10, VisitState.EXCLUDED), surplus=True)
        fake.judge(session, add(11, VisitState.VALID))
    with store.read() as session:
        return visits(session)


def test_everybody_who_arrived_is_in_exactly_one_ending(everything):
    assert participants.flow(everything).loc["toy-natural-easy"].to_dict() == {
        "arrived": 11,
        "declined": 1,
        "failed_practice": 2,
        "returned": 1,
        "timed_out": 1,
        "under_way": 1,
        "submitted": 5,
        "waiting": 1,
        "excluded": 2,
        "surplus": 1,
        "valid": 1,
    }


def test_exclusions_count_all_and_those_that_failed_nothing_else(everything):
    found = {one.criterion: (one.failed, one.alone) for one in participants.exclusions(everything)}
    assert found == {
        "catch_trials": (2, 1),
        "row_choices": (1, 0),
        "practice_blocks": (1, 1),
        "total_time": (0, 0),
        "instruction_time": (0, 0),
    }


def test_a_check_without_a_measurement_is_no_exclusion(everything):
    checks = everything["checks"].dropna().iloc[-1]
    checks["catch_trials"]["passed"] = None
    assert participants.exclusions(everything)[0].failed == 2


def test_minutes_are_taken_of_submissions_by_the_servers_clock(everything):
    taken = participants.minutes(everything)
    assert len(taken) == 5
    # add_visit: consent after ½ minute, instructions until 2, practice until 3, submitted at 10.
    steps = taken[["consent", "instructions", "practice", "trials", "total"]].iloc[0].tolist()
    assert steps == [0.5, 1.5, 1, 7, 9.5]


@settings(max_examples=25)
@given(st.lists(st.sampled_from(list(VisitState)), min_size=1, max_size=20), st.booleans())
def test_no_state_is_lost(states, practised):
    table = pd.DataFrame(
        {
            "arm": "a",
            "state": [state.value for state in states],
            "practised_at": 1.0 if practised else float("nan"),
            "surplus": pd.array([None] * len(states), dtype="boolean"),
        }
    )
    assert participants.flow(table)["arrived"].sum() == len(states)


def test_spending_counts_rewards_bonuses_and_fees_and_what_was_found_paid(study, store):
    # One submission costs 1.50 and 0.50 for the platform; a bonus of 1.00 costs 1.33; posting and places pay nobody yet.
    ledger = [
        ("approve", "done", 200),
        ("approve", "done", 200),
        ("approve", "held", 200),
        ("found", "done", 200),
        ("bonus", "done", 133),
        ("bonus", "open", 133),
        ("bonus", "refused", 133),
        ("post", "done", 5000),
        ("places", "done", 200),
    ]
    with store.write() as session:
        for number, (operation, state, amount) in enumerate(ledger):
            row = {"id": str(number), "subject": str(number), "currency": "USD", "opened_at": 1}
            session.add(Intent(**row, operation=operation, state=state, amount=amount))
    with store.read() as session:
        spent = participants.spending(study.file, intents(session), price=200)
        assert spent.spent.amount == books(session).spent  # as status and the ledger say
    assert (str(spent.spent), str(spent.cap)) == ("8.66 USD", "50.00 USD")
    assert (str(spent.rewards), str(spent.bonuses), str(spent.fee)) == ("6.00 USD", "2.66 USD", "0.50 USD")
    assert (spent.paid, spent.bonuses_paid, spent.undecided) == (3, 2, 2)
