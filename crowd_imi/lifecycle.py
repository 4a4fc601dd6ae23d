"""The states of a visit: one table of what may follow what.

    arrived → consented → practising → answering → submitted → valid | excluded
    every state before submitted → returned | timed_out → submitted (late)
    practising → failed_practice
    arrived | consented → declined

Payment (unpaid → paid | rejected) and what the platform says stand beside it.
"""

from enum import StrEnum

from crowd_imi.errors import Refused
from crowd_imi.store.tables import Visit


class VisitState(StrEnum):
    """Where a visit stands."""

    ARRIVED = "arrived"
    DECLINED = "declined"
    """Said no to the consent form, or came with a device that can't show the study."""
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
    S.CONSENTED: frozenset({S.PRACTISING, S.DECLINED, S.RETURNED, S.TIMED_OUT}),
    S.PRACTISING: frozenset({S.ANSWERING, S.FAILED_PRACTICE, S.RETURNED, S.TIMED_OUT}),
    S.ANSWERING: frozenset({S.SUBMITTED, S.RETURNED, S.TIMED_OUT}),
    S.SUBMITTED: frozenset({S.VALID, S.EXCLUDED}),
    S.FAILED_PRACTICE: frozenset({S.EXCLUDED}),
    S.RETURNED: frozenset({S.SUBMITTED}),
    S.TIMED_OUT: frozenset({S.SUBMITTED}),
    S.DECLINED: frozenset(),
    S.VALID: frozenset({S.EXCLUDED}),  # rejected by a person
    S.EXCLUDED: frozenset(),
}

UNDER_WAY = frozenset({S.ARRIVED, S.CONSENTED, S.PRACTISING, S.ANSWERING})
"""The participant is at it; a reload goes on where it was."""

HOLDS_TASK = UNDER_WAY | {S.SUBMITTED, S.VALID}
"""While a visit is in one of these, nobody else gets its task."""

OWED = frozenset({S.SUBMITTED, S.VALID, S.EXCLUDED, S.FAILED_PRACTICE})
"""Who is in one of these is paid, valid or not."""

PAYABLE = UNDER_WAY | OWED
"""States in which a visit may have to be paid."""


def require(state: str, following: VisitState) -> None:
    """Check that ``following`` may come after ``state``.

    Raises:
        Refused: it may not.
    """
    if following not in FOLLOWS[VisitState(state)]:
        raise Refused(f"This visit is {state.replace('_', ' ')}, so it can't become {following.replace('_', ' ')}.")


def move(visit: Visit, following: VisitState, now: int) -> None:
    """Bring a visit to another state; its task is free again when the new state doesn't hold it.

    Args:
        visit: loaded in a transaction that writes.
        following: the new state.
        now: milliseconds since 1970; when the participant left, for ``returned`` and ``timed_out``.

    Raises:
        Refused: the table doesn't allow it.
    """
    require(visit.state, following)
    visit.state = following.value
    visit.holds_task = visit.holds_task and following in HOLDS_TASK
    if following in {S.RETURNED, S.TIMED_OUT}:
        visit.left_at = now


class PlatformStatus(StrEnum):
    """What a platform says of a submission, in the words of ``platforms.local``; adapters translate into them."""

    ACTIVE = "active"
    AWAITING_REVIEW = "awaiting_review"
    APPROVED = "approved"
    REJECTED = "rejected"
    RETURNED = "returned"
    TIMED_OUT = "timed_out"
    RETURN_ASKED = "return_asked"
    """Handed in with the code of somebody who never began: the platform asks for the place, and holds it until it is given."""
    WRONG_CODE = "wrong_code"
    """Handed in with a code that isn't the posting's, or with none."""
    SCREENED_OUT = "screened_out"
    """Sent away by a person on the platform; the place is free again."""


P = PlatformStatus


class Action(StrEnum):
    """What a harvest does about one pair of (our state, platform's status)."""

    NOTHING = "nothing"
    """Both say the same, or will soon."""
    RETURN = "return"
    """The participant gave the place back there: the task is free again here."""
    TIME_OUT = "time out"
    """The platform took the place back: the task is free again here."""
    RELEASE = "release"
    """The visit ended here: take the place back there, so that somebody else can have it."""
    PAY = "pay"
    """Owed: pay it once there is a verdict."""
    NOTE_PAID = "note paid"
    """Paid there without us: write it into the books, and never pay again."""
    SHOW = "show"
    """The two don't fit together and nothing can be done by itself: for a person to look at."""


_UNDER_WAY_ACTIONS = {
    P.ACTIVE: Action.NOTHING,
    P.AWAITING_REVIEW: Action.SHOW,  # handed in there before the end here; times out here if it stays so
    P.APPROVED: Action.NOTE_PAID,
    P.REJECTED: Action.SHOW,
    P.RETURNED: Action.RETURN,
    P.TIMED_OUT: Action.TIME_OUT,
    P.RETURN_ASKED: Action.RETURN,  # somebody else's code, or a person on the platform: this one isn't coming back
    P.WRONG_CODE: Action.SHOW,
    P.SCREENED_OUT: Action.RETURN,
}

_OWED_ACTIONS = {
    P.ACTIVE: Action.PAY,  # finished here, and closed the window before handing in there
    P.AWAITING_REVIEW: Action.PAY,
    P.APPROVED: Action.NOTE_PAID,
    P.REJECTED: Action.SHOW,  # somebody rejected it there, which is a person's decision
    P.RETURNED: Action.PAY,
    P.TIMED_OUT: Action.PAY,
    P.RETURN_ASKED: Action.PAY,
    P.WRONG_CODE: Action.PAY,  # whoever finished here is paid, whatever was typed there
    P.SCREENED_OUT: Action.SHOW,  # paid there by other rules, which a person chose
}

_LEFT_ACTIONS = {
    P.ACTIVE: Action.RELEASE,
    P.AWAITING_REVIEW: Action.SHOW,
    P.APPROVED: Action.NOTE_PAID,
    P.REJECTED: Action.NOTHING,
    P.RETURNED: Action.NOTHING,
    P.TIMED_OUT: Action.NOTHING,
    P.RETURN_ASKED: Action.SHOW,  # until the place is given back
    P.WRONG_CODE: Action.SHOW,
    P.SCREENED_OUT: Action.NOTHING,
}

ACTIONS: dict[tuple[VisitState, PlatformStatus], Action] = {
    (state, status): action
    for states, row in (
        (UNDER_WAY, _UNDER_WAY_ACTIONS),
        (OWED, _OWED_ACTIONS),
        (frozenset({S.DECLINED, S.RETURNED, S.TIMED_OUT}), _LEFT_ACTIONS),
    )
    for state in states
    for status, action in row.items()
}
"""(our state, platform's status) → what a harvest does."""


def action_for(state: str, status: str | None) -> Action:
    """What to do about a visit; a status that nobody has heard of is carried and shown.

    Args:
        state: of the visit.
        status: the platform's; None when the platform doesn't list the submission.
    """
    known = next((word for word in PlatformStatus if word == status), None)
    return Action.SHOW if known is None else ACTIONS[VisitState(state), known]
