"""How long Prolific's API is asked again: as the contract can't show, because it would take minutes."""

import pytest
from tenacity import Future, RetryCallState

from crowd_imi.ledger.leases import LEASE_MS
from crowd_imi.platforms.prolific_api import LAST_TRY_SECONDS, LONGEST_WAIT, TIMEOUT, _as_asked, _Transient


def failed(error: Exception) -> RetryCallState:
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.outcome = Future(1)
    state.outcome.set_exception(error)
    return state


def test_no_request_outlives_a_spenders_lease():
    # Else another process would take the lease over, read back that nothing arrived, and send it again.
    assert LAST_TRY_SECONDS + sum(TIMEOUT) < LEASE_MS / 1000


def test_each_wait_is_twice_the_one_before_and_what_prolific_asks_for_goes_before():
    wait = _as_asked(0.1)
    error, throttled = failed(_Transient("its server failed")), failed(_Transient("too many requests", 3.0))
    assert 0.1 <= wait(error) <= 0.2
    assert [wait(throttled) for _ in range(5)] == [3.0] * 5
    # The second wait of ours, whatever was waited for on request: 0.2 and up to 0.1 by chance.
    assert 0.2 <= wait(error) <= 0.3
    assert wait(failed(_Transient("too many requests", 600.0))) == LONGEST_WAIT


@pytest.mark.parametrize("times", [8, 20])
def test_no_wait_is_longer_than_the_longest(times: int):
    wait = _as_asked(0.5)
    assert max(wait(failed(_Transient("its server failed"))) for _ in range(times)) <= LONGEST_WAIT + 0.5
