"""The states of a visit: one table of what may follow what.

    arrived → consented → practising → answering → submitted → valid | excluded
    every state before submitted → returned | timed_out → submitted (late)
    practising → failed_practice
    arrived → declined

Payment (unpaid → paid | rejected) and what the platform says stand beside it.
"""

from enum import StrEnum

from crowd_imi.errors import Refused


class VisitState(StrEnum):
    """Where a visit stands."""

    ARRIVED = "arrived"
    DECLINED = "declined"
    """Said no to the consent form."""
    CONSENTED = "consented"
    """Reading the instructions."""
    PRACTISING = "practising"
    FAILED_PRACTICE = "failed_practice"
    """Failed the last allowed practice block: thanked, excluded, paid."""
    ANSWERING = "answering"
    SUBMITTED = "submitted"
    VALID = "valid"
    EXCLUDED = "excluded"
    RETURNED = "returned"
    """Left by the participant or given back on the platform."""
    TIMED_OUT = "timed_out"


class Payment(StrEnum):
    """Where the pay of a visit stands."""

    UNPAID = "unpaid"
    PAID = "paid"
    REJECTED = "rejected"


S = VisitState

FOLLOWS: dict[VisitState, frozenset[VisitState]] = {
    S.ARRIVED: frozenset({S.CONSENTED, S.DECLINED, S.RETURNED, S.TIMED_OUT}),
    S.CONSENTED: frozenset({S.PRACTISING, S.RETURNED, S.TIMED_OUT}),
    S.PRACTISING: frozenset({S.ANSWERING, S.FAILED_PRACTICE, S.RETURNED, S.TIMED_OUT}),
    S.ANSWERING: frozenset({S.SUBMITTED, S.RETURNED, S.TIMED_OUT}),
    S.SUBMITTED: frozenset({S.VALID, S.EXCLUDED}),
    S.FAILED_PRACTICE: frozenset({S.EXCLUDED}),
    S.RETURNED: frozenset({S.SUBMITTED}),
    S.TIMED_OUT: frozenset({S.SUBMITTED}),
    S.DECLINED: frozenset(),
    S.VALID: frozenset(),
    S.EXCLUDED: frozenset(),
}

UNDER_WAY = frozenset({S.ARRIVED, S.CONSENTED, S.PRACTISING, S.ANSWERING})
"""The participant is at it; a reload goes on where it was."""

HOLDS_TASK = UNDER_WAY | {S.SUBMITTED, S.VALID}
"""While a visit is in one of these, nobody else gets its task."""

OWED = frozenset({S.SUBMITTED, S.VALID, S.EXCLUDED, S.FAILED_PRACTICE})
"""Who is in one of these is paid, valid or not."""


def require(state: str, following: VisitState) -> None:
    """Check that ``following`` may come after ``state``.

    Raises:
        Refused: it may not.
    """
    if following not in FOLLOWS[VisitState(state)]:
        raise Refused(f"this visit is {state.replace('_', ' ')}, so it can't become {following.replace('_', ' ')}")
