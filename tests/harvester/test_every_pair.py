"""Every pair of our state and the platform's status goes through one harvest, and each comes out as its row says."""

from itertools import product

import pytest
from sqlalchemy import text

from crowd_imi.harvester import Difference, harvest, status
from crowd_imi.lifecycle import ACTIONS, HOLDS_TASK, OWED, Action, PlatformStatus, VisitState
from crowd_imi.store.tables import Verdict, Visit
from tests.harvester.crowd import SMALL, Crowd

S, P = VisitState, PlatformStatus
UNHEARD = "PROCESSING"
PAIRS = list(product(VisitState, [*PlatformStatus, UNHEARD]))
MANY = SMALL.replace("responses = 2", "responses = 60").replace("cap = 5000", "cap = 5000000")
"""120 tasks: one for every pair."""

THERE = (
    *(P.ACTIVE, P.AWAITING_REVIEW, P.APPROVED, P.REJECTED, P.RETURNED, P.TIMED_OUT),
    *(P.RETURN_ASKED, P.WRONG_CODE, P.SCREENED_OUT),
)
# Written out once more, so that a slip in the table isn't its own expectation.
EXPECTED = """
arrived          -  show  note  show  return  out  return  show  return
consented        -  show  note  show  return  out  return  show  return
practising       -  show  note  show  return  out  return  show  return
answering        -  show  note  show  return  out  return  show  return
submitted        pay  pay  note  show  pay  pay  pay  pay  show
failed_practice  pay  pay  note  show  pay  pay  pay  pay  show
valid            pay  pay  note  show  pay  pay  pay  pay  show
excluded         pay  pay  note  show  pay  pay  pay  pay  show
declined         release  show  note  -  -  -  show  show  -
returned         release  show  note  -  -  -  show  show  -
timed_out        release  show  note  -  -  -  show  show  -
"""
"""Our state, and what is done about each of ``THERE``."""
WORDS = {"-": Action.NOTHING, "out": Action.TIME_OUT, "note": Action.NOTE_PAID}

JUDGED = {S.SUBMITTED: {"valid", "excluded"}, S.FAILED_PRACTICE: {"excluded"}}
"""A harvest judges who waits for a verdict, whatever the platform says."""


def name_of(state: str, there: str) -> str:
    return f"{state}-{there}"


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory):
    """Who stands where after one harvest: name → visit; and what the platform says then and has paid."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CROWD_IMI_LAB_KEY", "a key for tests")
        crowd = Crowd.posted(tmp_path_factory.mktemp("pairs"), MANY)
        submissions = {}
        for state, there in PAIRS:
            visit = crowd.arrive(name_of(state, there))
            submissions[visit.id] = crowd.submission_of(name_of(state, there))
            _put(crowd, visit, state)
        with crowd.platform._engine.begin() as connection:
            for (_, there), submission in zip(PAIRS, submissions.values(), strict=True):
                connection.execute(text("UPDATE submission SET status = :s WHERE id = :i"), {"s": there, "i": submission})
        done = harvest(crowd.study, crowd.store, crowd.platform)
        assert done.refused == ()
        return _outcomes(crowd, submissions), status(crowd.study, crowd.store, crowd.platform)


def _put(crowd: Crowd, visit: Visit, state: VisitState) -> None:
    now = crowd.clock.now()
    with crowd.store.write() as session:
        row = session.get_one(Visit, visit.id)
        row.state, row.holds_task = state.value, state in HOLDS_TASK
        row.consented_at = now
        if state in {S.RETURNED, S.TIMED_OUT}:
            row.left_at = now
        if state in {S.SUBMITTED, S.VALID, S.EXCLUDED}:
            row.instructed_at, row.practised_at, row.submitted_at = now + 30_000, now + 60_000, now + 600_000
        if state in {S.VALID, S.EXCLUDED}:
            session.add(Verdict(visit_id=visit.id, valid=state == S.VALID, surplus=False, checks={}, at=now))


def _outcomes(crowd: Crowd, submissions: dict[str, str]) -> dict[str, tuple[Visit, str, bool]]:
    paid = {payment.submission for payment in crowd.platform.payments()}
    there = {one.id: one.status for one in crowd.platform.submissions(crowd.posting.platform_id)}
    names = crowd.people()
    return {names[v]: (crowd.visit(Visit(id=v)), there[s], s in paid) for v, s in submissions.items()}


def test_the_table_says_what_it_should():
    written = {
        (S(state), there): WORDS.get(word) or Action(word)
        for state, *row in (line.split() for line in EXPECTED.strip().splitlines())
        for there, word in zip(THERE, row, strict=True)
    }
    assert written == ACTIONS


@pytest.mark.parametrize(("state", "there"), PAIRS, ids=[name_of(*pair) for pair in PAIRS])
def test_a_pair_comes_out_as_its_row_says(after, state: VisitState, there: str):
    outcomes, _ = after
    visit, status_there, paid_by_us = outcomes[name_of(state, there)]
    action = ACTIONS[state, P(there)] if there != UNHEARD else Action.SHOW
    moved = {Action.RETURN: {"returned"}, Action.TIME_OUT: {"timed_out"}}
    assert visit.state in moved.get(action, JUDGED.get(state, {state.value}))
    assert paid_by_us == (action is Action.PAY)
    expected_payment = "paid" if action in {Action.PAY, Action.NOTE_PAID} else "rejected" if there == P.REJECTED else "unpaid"
    assert visit.payment == expected_payment
    expected_there = {Action.PAY: "approved", Action.RELEASE: "timed_out"}.get(action, there)
    assert status_there == expected_there
    if action is not Action.RELEASE:
        assert visit.platform_state == expected_there  # carried, whatever it is


@pytest.mark.parametrize("state", VisitState)
def test_a_status_that_nobody_has_heard_of_is_shown_for_every_state(after, state: VisitState):
    _, now = after
    shown = {difference.here for difference in now.differences if difference.there == UNHEARD}
    assert shown & JUDGED.get(state, {state.value})


def test_what_doesnt_fit_is_shown(after):
    outcomes, now = after
    for here, payment, there in (("answering", "unpaid", "awaiting_review"), ("consented", "rejected", "rejected")):
        which = (outcomes[f"{here}-{there}"][0].id,)
        assert Difference(visits=1, which=which, here=here, payment=payment, there=there) in now.differences


def test_nobody_who_is_owed_stands_nowhere(after):
    outcomes, now = after
    shown = {(difference.here, difference.payment, difference.there) for difference in now.differences}
    for state, there in PAIRS:
        visit, status_there, _ = outcomes[name_of(state, there)]
        if state in OWED and visit.payment == "unpaid":
            assert (visit.state, visit.payment, status_there) in shown
