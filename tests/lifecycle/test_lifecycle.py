from itertools import product

import pytest

from crowd_imi.errors import Refused
from crowd_imi.lifecycle import (
    ACTIONS,
    FOLLOWS,
    HOLDS_TASK,
    OWED,
    UNDER_WAY,
    Action,
    PlatformStatus,
    VisitState,
    action_for,
    require,
)

S, P = VisitState, PlatformStatus


def test_every_pair_of_states_has_an_action():
    assert set(ACTIONS) == set(product(VisitState, PlatformStatus))


def test_every_state_is_under_way_owed_or_left():
    left = {S.DECLINED, S.RETURNED, S.TIMED_OUT}
    assert UNDER_WAY | OWED | left == set(VisitState)
    assert not UNDER_WAY & OWED and not (UNDER_WAY | OWED) & left


def test_who_is_excluded_or_left_holds_no_task():
    assert HOLDS_TASK.isdisjoint({S.EXCLUDED, S.FAILED_PRACTICE, S.DECLINED, S.RETURNED, S.TIMED_OUT})


@pytest.mark.parametrize("status", [None, "PROCESSING", ""])
def test_a_status_that_nobody_has_heard_of_is_shown(status):
    assert {action_for(state, status) for state in VisitState} == {Action.SHOW}


def test_nobody_who_is_owed_is_forgotten():
    # Whatever the platform says, who finished here is paid, found paid, or shown to a person.
    for state, status in product(OWED, PlatformStatus):
        assert action_for(state, status) in {Action.PAY, Action.NOTE_PAID, Action.SHOW}


def test_nobody_is_paid_for_nothing():
    for state, status in product(set(VisitState) - OWED, PlatformStatus):
        assert action_for(state, status) is not Action.PAY


def test_moves_that_a_harvest_makes_are_allowed():
    for (state, _), action in ACTIONS.items():
        if action is Action.RETURN:
            require(state, S.RETURNED)
        if action is Action.TIME_OUT:
            require(state, S.TIMED_OUT)


def test_a_rejection_made_by_a_person_is_never_overridden():
    assert all(action_for(state, P.REJECTED) in {Action.SHOW, Action.NOTHING} for state in VisitState)


def test_verdicts_are_final_but_for_what_a_person_rejects():
    assert (FOLLOWS[S.VALID], FOLLOWS[S.EXCLUDED]) == ({S.EXCLUDED}, frozenset())
    with pytest.raises(Refused, match="This visit is valid, so it can't become timed out"):
        require(S.VALID, S.TIMED_OUT)
