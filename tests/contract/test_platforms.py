"""What every platform keeps, whatever it is. A platform that can't do something says so by its capabilities."""

import pytest

from crowd_imi.errors import BadLink, PlatformError, Unreachable
from crowd_imi.harvester.context import held_by_unknown
from crowd_imi.platforms.base import BonusOrder, Capability, Ending, PostingState
from crowd_imi.records import Money
from tests.contract.rigs import ARRIVAL, CODE, CURRENCY, FAULTS, OTHER_CODES, REWARD, Rig, request

REASON = (
    "You chose the upper picture in every one of the 45 questions, within less than a second each; "
    "nobody can look at twenty pictures so fast."
)


def test_the_account_and_the_fee_are_told(rig: Rig):
    assert rig.platform.account().name
    fee = rig.platform.fee(Money(amount=REWARD, currency=CURRENCY))
    assert fee.currency == CURRENCY and 0 <= fee.amount < REWARD


def test_the_same_intent_posts_once(rig: Rig):
    posting = rig.platform.post(request())
    assert rig.platform.post(request()) == posting == rig.platform.find("intent-1")
    assert rig.again().post(request()) == posting == rig.again().find("intent-1")
    assert rig.postings() == [posting]
    assert rig.platform.find("intent-2") is None
    other = rig.platform.post(request("intent-2"))
    assert sorted(rig.postings()) == sorted([posting, other])


def test_posting_through_a_fault_makes_one_posting(rig: Rig, fault: str):
    rig.fail(fault)
    try:
        posting = rig.platform.post(request())
    except Unreachable:
        rig.fail()
        posting = rig.again().find("intent-1") or rig.again().post(request())
    assert rig.postings() == [posting]
    assert rig.platform.state(posting) is PostingState.OPEN


def test_who_takes_a_place_is_vouched_for(rig: Rig):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    found = rig.platform.arrive(query)
    assert (found.posting, found.status) == (posting, "active")
    assert found == rig.platform.arrive(query)  # a reload
    if Capability.LISTS_ACTIVE in rig.platform.capabilities:
        assert rig.platform.submission(found.id) == found
        assert list(rig.platform.submissions(posting)) == [found]


def test_two_people_are_two_submissions(rig: Rig):
    posting = rig.platform.post(request())
    anna, ben = (rig.platform.arrive(rig.take(posting, name)) for name in ("anna", "ben"))
    assert anna.id != ben.id and anna.participant != ben.participant


def test_a_link_without_ids_is_a_bad_link(rig: Rig):
    rig.platform.post(request())
    with pytest.raises(BadLink):
        rig.platform.arrive({})


def test_made_up_ids_are_nobodys(rig: Rig):
    if Capability.LISTS_ACTIVE not in rig.platform.capabilities:
        return  # vouched for once it is handed in: tests/platforms/test_mturk.py
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    for name in query:
        with pytest.raises(PlatformError):
            rig.platform.arrive({**query, name: query[name][::-1] + "0"})


def test_handing_in_approving_and_being_paid_once(rig: Rig):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    submission = rig.platform.arrive(query).id
    finish = rig.platform.finish(submission, CODE)
    assert finish.url.startswith(("http://", "https://")) and not finish.url.startswith(ARRIVAL)
    rig.hand_in(query)
    assert rig.platform.submission(submission).status == "awaiting_review"
    assert rig.rewards() == {}
    rig.platform.approve(submission)
    rig.platform.approve(submission)
    rig.again().approve(submission)
    assert rig.platform.submission(submission).status == "approved"
    assert rig.rewards() == {submission: REWARD}


def test_approving_through_a_fault_pays_once(rig: Rig, fault: str):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    submission = rig.platform.arrive(query).id
    rig.hand_in(query)
    rig.fail(fault)
    try:
        rig.platform.approve(submission)
    except Unreachable:
        rig.fail()
        rig.again().approve(submission)
    assert rig.rewards() == {submission: REWARD}


def test_all_pages_of_a_long_list_are_read(rig: Rig):
    posting = rig.platform.post(request(places=45))
    taken = []
    for number in range(45):
        query = rig.take(posting, f"person-{number:02d}")
        taken.append(rig.platform.arrive(query).id)
        rig.hand_in(query)
    assert sorted(found.id for found in rig.platform.submissions(posting)) == sorted(taken)


def test_places_are_an_absolute_number(rig: Rig):
    posting = rig.platform.post(request(places=2))
    assert rig.platform.places(posting) == 2
    rig.platform.set_places(posting, 4)
    rig.platform.set_places(posting, 4)
    assert rig.platform.places(posting) == 4
    if Capability.FEWER_PLACES in rig.platform.capabilities:
        rig.platform.set_places(posting, 1)
        assert rig.platform.places(posting) == 1
    else:
        with pytest.raises(PlatformError, match="can't"):
            rig.platform.set_places(posting, 1)
        assert rig.platform.places(posting) == 4


def test_more_places_through_a_fault_are_the_number_that_was_asked_for(rig: Rig, fault: str):
    posting = rig.platform.post(request(places=2))
    rig.fail(fault)
    try:
        rig.platform.set_places(posting, 5)
    except Unreachable:
        rig.fail()
        rig.again().set_places(posting, 5)
    assert rig.platform.places(posting) == 5


def test_who_gives_the_place_back_is_returned(rig: Rig):
    if Capability.LISTS_ACTIVE not in rig.platform.capabilities:
        return  # a place that was given back was never listed: tests/platforms/test_mturk.py
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    submission = rig.platform.arrive(query).id
    rig.leave(query)
    assert rig.platform.submission(submission).status == "returned"


def test_a_paused_posting_takes_nobody_and_goes_on(rig: Rig):
    posting = rig.platform.post(request())
    assert rig.platform.state(posting) is PostingState.OPEN
    if Capability.PAUSE in rig.platform.capabilities:
        rig.platform.pause(posting)
        rig.platform.pause(posting)
        assert rig.platform.state(posting) is PostingState.PAUSED
        rig.platform.resume(posting)
        rig.platform.resume(posting)
        assert rig.platform.state(posting) is PostingState.OPEN
        rig.take(posting, "anna")
    rig.platform.stop(posting)
    rig.platform.stop(posting)
    assert rig.platform.state(posting) is PostingState.STOPPED


def test_a_rejected_submission_is_not_paid(rig: Rig):
    if Capability.REJECT not in rig.platform.capabilities:
        return
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    submission = rig.platform.arrive(query).id
    rig.hand_in(query)
    rig.platform.reject(submission, REASON)
    rig.platform.reject(submission, REASON)
    assert rig.platform.submission(submission).status == "rejected"
    assert rig.rewards() == {}


def test_a_bonus_arrives_once_and_is_shown(rig: Rig):
    if Capability.BONUS not in rig.platform.capabilities:
        return
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    submission = rig.platform.arrive(query).id
    rig.hand_in(query)
    rig.platform.approve(submission)
    rig.platform.send_bonuses([order(submission)], lambda _: None)
    assert rig.bonuses() == [(submission, 75)]
    assert [shown.amount for shown in rig.platform.bonuses(submission)] == [Money(amount=75, currency=CURRENCY)]


def test_a_bonus_through_a_fault_arrives_once_when_it_is_looked_for_first(rig: Rig, fault: str):
    if Capability.BONUS not in rig.platform.capabilities:
        return
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    submission = rig.platform.arrive(query).id
    rig.hand_in(query)
    rig.platform.approve(submission)
    rig.fail(fault)
    try:
        rig.platform.send_bonuses([order(submission)], lambda _: None)
    except Unreachable:
        rig.fail()
        assert len(rig.bonuses()) <= 1
        if not rig.again().bonuses(submission):
            rig.again().send_bonuses([order(submission)], lambda _: None)
    assert rig.bonuses() == [(submission, 75)]


def test_rejecting_through_a_fault_rejects(rig: Rig, fault: str):
    if Capability.REJECT not in rig.platform.capabilities:
        return
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    submission = rig.platform.arrive(query).id
    rig.hand_in(query)
    rig.fail(fault)
    try:
        rig.platform.reject(submission, REASON)
    except Unreachable:
        rig.fail()
        rig.again().reject(submission, REASON)
    assert rig.platform.submission(submission).status == "rejected"
    assert rig.rewards() == {}


def test_pausing_and_going_on_through_a_fault(rig: Rig, fault: str):
    if Capability.PAUSE not in rig.platform.capabilities:
        return
    posting = rig.platform.post(request())
    for change, state in (("pause", PostingState.PAUSED), ("resume", PostingState.OPEN)):
        rig.fail(fault)
        try:
            getattr(rig.platform, change)(posting)
        except Unreachable:
            rig.fail()
            getattr(rig.again(), change)(posting)
        assert rig.platform.state(posting) is state


def test_what_nobody_knows_is_one_clear_line(rig: Rig):
    for ask in (rig.platform.submission, rig.platform.approve, rig.platform.places, rig.platform.state):
        with pytest.raises(PlatformError) as failure:
            ask("nobody-knows-this")
        assert len(str(failure.value).splitlines()) == 1


def test_a_platform_that_stays_down_is_given_up_in_the_end(rig: Rig):
    posting = rig.platform.post(request())
    rig.fail(*["error"] * 40 if "error" in FAULTS[rig.platform.name] else ["write-refused"])
    with pytest.raises(Unreachable) as failure:
        rig.platform.set_places(posting, 5)
    assert len(str(failure.value).splitlines()) == 1
    rig.fail()
    assert rig.platform.places(posting) == 3


# Bonuses.


def test_bonuses_of_a_posting_are_read_at_once(rig: Rig):
    posting = rig.platform.post(request())
    paid = [handed_in(rig, posting, name) for name in ("anna", "ben")]
    for submission in paid:
        rig.platform.approve(submission)
        rig.platform.send_bonuses([order(submission, f"key of {submission}")], lambda _: None)
    without = handed_in(rig, posting, "cem")
    shown = rig.platform.all_bonuses(posting)
    assert {whose: [bonus.amount.amount for bonus in bonuses] for whose, bonuses in shown.items()} == {one: [75] for one in paid}
    assert rig.platform.bonuses(without) == ()


def test_as_many_bonuses_are_paid_together_as_the_platform_says(rig: Rig):
    posting = rig.platform.post(request())
    paid = [handed_in(rig, posting, name) for name in ("anna", "ben", "cem")][: rig.platform.bonus_batch]
    for submission in paid:
        rig.platform.approve(submission)
    notes: list[str] = []
    outcome = rig.platform.send_bonuses([order(one, f"key of {one}") for one in paid], notes.append)
    assert sorted(rig.bonuses()) == sorted((one, 75) for one in paid)
    if Capability.KEYED_BONUS not in rig.platform.capabilities and len(paid) > 1:
        assert notes == [outcome]  # what it is found by, if the answer is lost


def test_a_bonus_for_who_never_handed_in_goes_where_the_platform_can(rig: Rig):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    submission = rig.platform.arrive(query).id
    rig.leave(query)
    if Capability.BONUS_UNFINISHED in rig.platform.capabilities:
        rig.platform.send_bonuses([order(submission)], lambda _: None)
        assert rig.bonuses() == [(submission, 75)]
    else:
        with pytest.raises(PlatformError):
            rig.platform.send_bonuses([order(submission)], lambda _: None)
        assert rig.bonuses() == []


# Statuses, and how somebody's part ended.


def test_a_status_that_nobody_has_heard_of_is_carried_and_counted(rig: Rig):
    posting = rig.platform.post(request())
    handed_in(rig, posting, "anna")
    submission = handed_in(rig, posting, "ben")
    rig.declare(submission, "ON HOLD")
    there = {found.id: found.status for found in rig.platform.submissions(posting)}
    assert there[submission].upper() == "ON HOLD" and rig.platform.submission(submission).status == there[submission]
    # Where the platform counts places itself, what it counts is what matters; elsewhere such a one counts as taken.
    assert held_by_unknown(rig.platform, posting, there) == (0 if rig.platform.name == "prolific" else 1)


def test_who_fails_the_practice_hands_in_and_can_be_paid(rig: Rig):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    submission = rig.platform.arrive(query).id
    finish = rig.platform.finish(submission, OTHER_CODES[Ending.FAILED_PRACTICE], Ending.FAILED_PRACTICE)
    assert finish is not None
    rig.follow(query, finish)
    assert rig.platform.submission(submission).status == "awaiting_review"
    rig.platform.approve(submission)
    assert rig.rewards() == {submission: REWARD}


@pytest.mark.parametrize("ending", [Ending.NO_CONSENT, Ending.INCOMPATIBLE_DEVICE])
def test_who_never_began_is_not_paid_and_gives_the_place_back(rig: Rig, ending: Ending):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    submission = rig.platform.arrive(query).id
    finish = rig.platform.finish(submission, OTHER_CODES[ending], ending)
    assert finish == rig.platform.finish(submission, OTHER_CODES[ending], ending)
    if Capability.LISTS_ACTIVE not in rig.platform.capabilities:
        assert finish is None  # returning it is the worker's: what is submitted has to be paid or rejected
        return
    if finish is not None:
        rig.follow(query, finish)
        assert rig.platform.submission(submission).status == "return_asked"
        rig.leave(query)
    assert rig.platform.submission(submission).status == "returned"
    assert rig.rewards() == {}


def order(submission: str, key: str = "bonus-1") -> BonusOrder:
    return BonusOrder(submission=submission, money=Money(amount=75, currency=CURRENCY), key=key, reason="Thank you.")


def handed_in(rig: Rig, posting: str, participant: str) -> str:
    query = rig.take(posting, participant)
    submission = rig.platform.arrive(query).id
    rig.hand_in(query)
    return submission
