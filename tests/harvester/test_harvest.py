from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from crowd_imi.allocation import hand_in
from crowd_imi.errors import HarvestError, LedgerError, PlatformError, Refused
from crowd_imi.harvester import Surplus, harvest, rounds, status
from crowd_imi.harvester.places import Places
from crowd_imi.ledger import lease
from crowd_imi.platforms.base import Capability
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.publisher.launch import create_store
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.tables import Intent, Task, Visit
from crowd_imi.store.visits import answers_of
from tests.harvester.crowd import SMALL, Crowd, clock
from tests.tiny import fake_plan, write_study


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    return Crowd.posted(tmp_path)


def go(crowd: Crowd):
    return harvest(crowd.study, crowd.store, crowd.platform)


def test_nothing_happens_before_anybody_came(crowd: Crowd):
    done = go(crowd)
    assert done.quiet and not done.complete
    assert done.places == 4 and done.short == () and done.refused == ()


def test_a_good_submission_is_valid_and_paid(crowd: Crowd):
    visit = crowd.take_part("anna")
    done = go(crowd)
    assert (done.valid, done.excluded, done.paid, done.paid_money.amount) == (1, 0, 1, 150)
    assert crowd.state(visit) == ("valid", "paid", True)
    assert crowd.paid() == 150
    # Four tasks, one is done: its place stays used, so four in all and three free.
    assert done.places == 4 and crowd.free() == 3


def test_who_fails_the_criteria_is_excluded_paid_and_replaced(crowd: Crowd):
    visit = crowd.take_part("anna", good=False)
    done = go(crowd)
    assert (done.valid, done.excluded, done.paid, done.replaced) == (0, 1, 1, 1)
    assert crowd.state(visit) == ("excluded", "paid", False)
    checks = crowd.verdict(visit).checks
    assert [name for name, check in checks.items() if check["passed"] is False] == ["catch_trials"]
    # Five places in all: one used up by Anna, four for the four tasks.
    assert done.places == 5 and crowd.free() == 4


def test_a_round_is_the_same_on_both_kinds_of_database(tmp_path: Path, make_store: Callable[..., Store]):
    study = write_study(tmp_path, SMALL)
    crowd = Crowd(study, make_store(fake_plan(study), StoreKind.REHEARSAL, clock()))
    slow = crowd.arrive("slow")
    crowd.pass_time(121)
    crowd.take_part("good")
    crowd.take_part("bad", good=False)
    crowd.fail_practice(crowd.arrive("lost"))
    done = go(crowd)
    # The slow one was timed out by the next arrival already; the harvest takes the place back.
    assert (done.valid, done.excluded, done.paid, done.timed_out, done.released) == (1, 2, 3, 0, 1)
    assert crowd.state(slow) == ("timed_out", "unpaid", False)
    # Three used places and three open tasks.
    assert (done.places, crowd.free()) == (6, 3)
    assert go(crowd).quiet
    now = status(crowd.study, crowd.store, crowd.platform)
    assert now.excluded_by == {"catch_trials": 1, "practice_blocks": 1} and now.spent.amount == 450


def test_a_second_round_changes_nothing(crowd: Crowd):
    crowd.take_part("anna", good=False)
    crowd.take_part("ben")
    go(crowd)
    before = crowd.outline()
    assert go(crowd).quiet
    assert crowd.outline() == before


def test_who_failed_practice_is_excluded_and_paid_in_full(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.fail_practice(visit)
    done = go(crowd)
    assert (done.excluded, done.paid, done.replaced) == (1, 1, 1)
    assert crowd.state(visit) == ("excluded", "paid", False)
    checks = crowd.verdict(visit).checks
    assert {name: check["measured"] for name, check in checks.items()} == {
        "catch_trials": None,
        "total_time": None,
        "instruction_time": None,
        "row_choices": None,
        "practice_blocks": 3,
    }
    assert crowd.paid() == 150


def test_who_never_handed_in_on_the_platform_is_paid_all_the_same(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.submit(visit)
    assert go(crowd).paid == 1
    assert crowd.state(visit) == ("valid", "paid", True)


def test_who_takes_too_long_loses_the_task_and_the_place(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.pass_time(121)
    done = go(crowd)
    assert (done.timed_out, done.released) == (1, 1)
    assert crowd.state(visit) == ("timed_out", "unpaid", False)
    assert crowd.free() == 4 and done.places == 4


def test_a_place_given_back_frees_the_task(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.platform.give_back(crowd.submission_of("anna"))
    done = go(crowd)
    assert done.returned == 1
    assert crowd.state(visit) == ("returned", "unpaid", False)
    assert crowd.free() == 4 and crowd.paid() == 0


def test_who_declined_makes_room_at_once(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.decline(visit)
    assert go(crowd).released == 1
    assert crowd.state(visit) == ("declined", "unpaid", False)
    assert crowd.free() == 4


def test_a_repeat_visitor_who_stays_away_does_not_block_the_place_for_ever(crowd: Crowd):
    crowd.take_part("anna")
    go(crowd)
    with pytest.raises(Refused):
        crowd.arrive("anna")  # takes another place on the platform, and is turned away here
    assert crowd.free() == 2
    assert go(crowd).released == 0  # may still be on the way, for all we know
    crowd.pass_time(121)
    assert go(crowd).released == 1
    assert crowd.free() == 3


def test_a_late_submission_whose_task_is_still_free_counts(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.pass_time(121)
    go(crowd)
    crowd.submit(visit)
    done = go(crowd)
    # Its catch trials and rows are right, but 131 minutes are more than 2,500 s.
    assert done.excluded == 1 and done.paid == 1
    assert crowd.verdict(visit).checks["total_time"]["measured"] == 131 * 60


def lenient(toml: str) -> str:
    return toml.replace("min_total_seconds = 60", "min_total_seconds = 60\nmax_total_seconds = 100000")


def test_a_late_submission_takes_its_task_back_when_it_is_nobodys(tmp_path: Path):
    crowd = Crowd.posted(tmp_path, lenient(SMALL))
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.pass_time(121)
    go(crowd)
    crowd.submit(visit)
    assert go(crowd).valid == 1
    assert crowd.state(visit) == ("valid", "paid", True)
    assert crowd.free() == 3


def test_a_late_submission_for_a_task_that_was_done_is_paid_as_surplus(tmp_path: Path):
    crowd = Crowd.posted(tmp_path, lenient(SMALL))
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.pass_time(121)
    go(crowd)
    others = [crowd.take_part(name) for name in ("ben", "carl", "dora", "emil")]
    assert visit.task_id in {other.task_id for other in others}
    assert go(crowd).complete
    crowd.submit(visit)
    done = go(crowd)
    assert (done.valid, done.excluded, done.surplus, done.paid) == (0, 0, 1, 1)
    assert crowd.state(visit) == ("excluded", "paid", False)
    verdict = crowd.verdict(visit)
    assert verdict.surplus and not verdict.valid
    assert crowd.paid() == 5 * 150
    assert done.complete and crowd.free() == 0
    [listed] = status(crowd.study, crowd.store, crowd.platform).surplus
    with crowd.store.read() as session:
        task = session.get_one(Task, visit.task_id)
    assert listed == Surplus(visit=visit.id, task=f"{task.arm}/{task.number}", payment="paid")


def test_who_answered_everything_and_pressed_no_button_has_submitted_with_the_last_answer(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.answer_all(visit)
    answered = crowd.clock.now()
    assert go(crowd).quiet and crowd.state(visit) == ("answering", "unpaid", True)  # may still press it
    crowd.pass_time(121)
    done = go(crowd)
    assert (done.valid, done.paid, done.timed_out, done.released) == (1, 1, 0, 0)
    assert crowd.state(visit) == ("valid", "paid", True)
    assert crowd.visit(visit).submitted_at == answered
    # 10 minutes from consent to the last answer, not the 131 until somebody looked.
    assert crowd.verdict(visit).checks["total_time"]["measured"] == 600
    assert crowd.free() == 3


def test_the_next_arrival_finds_the_task_of_who_answered_everything_done(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.answer_all(visit)
    crowd.pass_time(121)
    other = crowd.arrive("ben")
    assert other.task_id != visit.task_id
    assert crowd.state(visit) == ("submitted", "unpaid", True)


def test_who_answered_everything_is_judged_though_the_platform_took_the_place_back(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.answer_all(visit, good=False)
    crowd.platform.release(crowd.submission_of("anna"))
    done = go(crowd)
    assert (done.excluded, done.paid, done.timed_out) == (1, 1, 0)
    assert crowd.state(visit) == ("excluded", "paid", False)


def test_who_answered_the_rest_after_the_time_and_pressed_no_button_is_a_late_submission(tmp_path: Path):
    crowd = Crowd.posted(tmp_path, lenient(SMALL))
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.pass_time(121)
    assert go(crowd).timed_out == 1
    crowd.answer_all(visit)
    done = go(crowd)
    assert (done.valid, done.paid, done.timed_out) == (1, 1, 0)
    assert crowd.state(visit) == ("valid", "paid", True)


def test_delays_of_storing_reach_the_verdict(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.answer_all(visit)
    with crowd.store.write() as session:
        # The answers came one a minute; the third reports that the second took 50 s to be stored.
        for answer in answers_of(session, visit.id):
            answer.at -= (7 - answer.position) * 60_000
            answer.saving_ms = 50_350.0 if answer.position == 2 else 100.0
        hand_in(session, session.get_one(Visit, visit.id), crowd.clock.now())
    assert go(crowd).valid == 1
    assert crowd.verdict(visit).checks["total_time"]["measured"] == 550


def test_nobody_begins_whom_the_cap_cannot_pay(tmp_path: Path):
    crowd = Crowd.posted(tmp_path, SMALL)
    # Two places are taken, then the cap is lowered: two of the four people can be paid.
    first, strays = [crowd.arrive(name) for name in ("anna", "ben")], [crowd.take(name) for name in ("carl", "dora")]
    served = crowd.study
    crowd.study = write_study(tmp_path, SMALL.replace("cap = 5000", "cap = 300"))
    go(crowd)
    # The server still has the old study.toml.
    crowd.study = served
    for name in ("carl", "dora"):
        with pytest.raises(Refused) as refused:
            crowd.arrive(name)
        assert refused.value.code == "study-full"
    for visit in first:
        crowd.begin(visit)
        crowd.submit(visit)
    crowd.study = write_study(tmp_path, SMALL.replace("cap = 5000", "cap = 450"))
    assert go(crowd).paid == 2
    crowd.study = served
    assert crowd.arrive("carl").state == "arrived"  # 300 are spent, and 150 are left
    with pytest.raises(Refused):
        crowd.arrive("dora")
    assert len(strays) == 2


def test_a_study_comes_to_its_end(crowd: Crowd):
    for name in ("anna", "ben", "carl", "dora"):
        crowd.take_part(name, good=name != "ben")
    assert not go(crowd).complete
    crowd.take_part("emil")
    done = go(crowd)
    assert done.complete and done.short == ()
    assert crowd.paid() == 5 * 150
    assert crowd.free() == 0


def test_a_task_out_of_attempts_is_short(tmp_path: Path):
    crowd = Crowd.posted(tmp_path, SMALL.replace("catch = 2", "catch = 2\nmax_attempts = 1"))
    crowd.take_part("anna", good=False)
    done = go(crowd)
    (short,) = done.short
    assert done.replaced == 0
    now = status(crowd.study, crowd.store, crowd.platform)
    assert [f"{task.arm}/{task.number}" for task in now.tasks if task.where == "short"] == [short]
    assert len(now.tasks) == 4 and sum(unit.short > 0 for unit in now.units) == 6  # one for each of its main trials
    for name in ("ben", "carl", "dora"):
        crowd.take_part(name)
    done = go(crowd)
    assert done.complete and len(done.short) == 1


def test_without_money_for_a_replacement_the_task_is_short(tmp_path: Path):
    # Four tasks at 150 and a cap of 700: no fifth visit fits.
    crowd = Crowd.posted(tmp_path, SMALL.replace("cap = 5000", "cap = 700"))
    for name in ("anna", "ben", "carl", "dora"):
        crowd.take_part(name, good=name != "ben")
    done = go(crowd)
    assert done.complete and len(done.short) == 1
    assert crowd.paid() == 600 and crowd.free() == 0


def test_money_that_comes_back_is_offered_again(tmp_path: Path):
    crowd = Crowd.posted(tmp_path, SMALL.replace("cap = 5000", "cap = 600"))
    crowd.take_part("anna", good=False)
    leaving = crowd.arrive("ben")
    done = go(crowd)
    # Anna 150, Ben 150, two free places: 600. Anna's task isn't affordable, but which of the three free ones is short is open.
    assert len(done.short) == 1 and crowd.free() == 2
    crowd.platform.give_back(crowd.submission_of("ben"))
    done = go(crowd)
    assert done.returned == 1 and crowd.state(leaving)[0] == "returned"
    # Four tasks are nobody's, and 450 are left: three places.
    assert crowd.free() == 3 and len(done.short) == 1


def test_who_handed_in_without_finishing_keeps_the_money_of_a_place_until_a_person_decides(tmp_path: Path):
    # Four tasks, money for four: Anna may still be approved on the platform, so that one task is short and the study can end.
    crowd = Crowd.posted(tmp_path, SMALL.replace("cap = 5000", "cap = 600"))
    crowd.begin(crowd.arrive("anna"))
    crowd.hand_in("anna")
    crowd.pass_time(121)
    done = go(crowd)
    assert done.timed_out == 1 and len(done.short) == 1 and crowd.free() == 3
    for name in ("ben", "carl", "dora"):
        crowd.take_part(name)
    done = go(crowd)
    assert done.complete and len(done.short) == 1
    now = status(crowd.study, crowd.store, crowd.platform)
    assert [(arm.open, arm.short) for arm in now.arms if arm.valid < arm.tasks] == [(0, 1)]
    crowd.platform.reject(crowd.submission_of("anna"), "handed in without finishing")
    done = go(crowd)
    assert not done.complete and done.short == () and crowd.free() == 1


@pytest.mark.parametrize(("bonus", "offered"), [("", 2), ('\nbonus = 50\nbonus_for = "completion"', 1)])
def test_who_is_to_be_compensated_and_who_may_be_approved_are_kept_money_for_together(tmp_path: Path, bonus: str, offered: int):
    crowd = Crowd.posted(tmp_path, SMALL.replace("cap = 5000", f"cap = 800{bonus}"))
    crowd.platform.capabilities = frozenset(Capability) - {Capability.PAYS_RETURNED}
    anna, ben = crowd.arrive("anna"), crowd.arrive("ben")
    crowd.begin(anna)
    crowd.submit(anna, good=False)
    crowd.platform.give_back(crowd.submission_of("anna"))
    crowd.begin(ben)
    crowd.hand_in("ben")
    crowd.pass_time(121)
    crowd.study = write_study(tmp_path, SMALL.replace("cap = 5000", f"cap = 600{bonus}"))
    done = go(crowd)
    # Four rewards: Anna is owed one, Ben may be approved. With the bonus: 600 - 150 - 50 - 150 = 250 pay one more with its 50.
    assert done.to_compensate == (anna.id,) and crowd.free() == offered and len(done.short) == 4 - offered
    assert go(crowd).places == done.places


def test_a_late_submission_waits_where_the_money_is_promised_to_others(tmp_path: Path):
    crowd = Crowd.posted(tmp_path, lenient(SMALL.replace("cap = 5000", "cap = 600")))
    late = crowd.arrive("anna")
    crowd.begin(late)
    crowd.pass_time(121)
    go(crowd)
    for name in ("ben", "carl", "dora", "emil"):
        crowd.begin(crowd.arrive(name))
    crowd.submit(late)
    done = go(crowd)
    assert (done.surplus, done.paid, done.held) == (1, 0, 1)
    crowd.platform.give_back(crowd.submission_of("emil"))
    # Emil's 150 would do, but his place was free before we knew: it closes first, then Anna is paid.
    assert go(crowd).paid + go(crowd).paid == 1
    assert crowd.state(late)[1] == "paid"
    assert crowd.paid() == 150


def test_one_refused_payment_does_not_keep_the_others_waiting(crowd: Crowd, monkeypatch: pytest.MonkeyPatch):
    refused, paid = crowd.take_part("anna"), crowd.take_part("ben")
    approve = crowd.platform.approve
    broken = crowd.submission_of("anna")

    def fails(submission: str) -> None:
        if submission == broken:
            raise PlatformError("try again later")
        approve(submission)

    monkeypatch.setattr(crowd.platform, "approve", fails)
    done = go(crowd)
    assert done.paid == 1 and done.refused == (f"approve {refused.id}: try again later",)
    assert crowd.state(refused)[1] == "unpaid" and crowd.state(paid)[1] == "paid"
    monkeypatch.undo()
    assert go(crowd).paid == 1
    assert crowd.paid() == 300


@pytest.mark.parametrize("call", ["approve", "release"])
def test_what_a_platform_says_of_somebody_is_kept_without_their_ids(crowd: Crowd, monkeypatch: pytest.MonkeyPatch, call: str):
    visit = crowd.arrive("anna")
    if call == "approve":
        crowd.begin(visit)
        crowd.submit(visit)
    else:
        crowd.decline(visit)

    def fails(submission: str) -> None:
        raise PlatformError(f"submission {submission} is locked")

    monkeypatch.setattr(crowd.platform, call, fails)
    [refusal] = go(crowd).refused
    assert "is locked" in refusal
    submission = crowd.submission_of("anna")
    with crowd.store.read() as session:
        outcomes = [intent.outcome for intent in session.scalars(select(Intent))]
    assert submission not in f"{refusal} {outcomes}"


def test_what_was_approved_on_the_platform_is_not_paid_again(crowd: Crowd, monkeypatch: pytest.MonkeyPatch):
    visit = crowd.take_part("anna")
    crowd.platform.approve(crowd.submission_of("anna"))

    def never(submission: str) -> None:
        raise AssertionError(submission)

    monkeypatch.setattr(crowd.platform, "approve", never)
    done = go(crowd)
    assert done.paid == 0 and done.refused == ()
    assert crowd.state(visit) == ("valid", "paid", True)


def test_somebody_else_spending_is_named(crowd: Crowd):
    with (
        lease(crowd.store, "publish", crowd.study.file.pay.cap_money),
        pytest.raises(LedgerError, match=r"publish \(process \d+"),
    ):
        go(crowd)


def test_harvesting_comes_after_publishing(tmp_path: Path):
    study = write_study(tmp_path)
    store = create_store(study, fake_plan(study), tmp_path, StoreKind.STUDY)
    with pytest.raises(HarvestError, match="publish"):
        harvest(study, store, LocalPlatform(tmp_path / "local.db"))


def test_no_places_are_asked_for_that_are_taken_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who gave the place back is paid where that can be done, and somebody else has the place: more are taken than offered."""
    crowd = Crowd.posted(tmp_path)

    def refuses(posting: str, places: int) -> None:
        raise PlatformError(f"6 places are taken already, not {places}")

    monkeypatch.setattr(crowd.platform, "set_places", refuses)
    # One more place than there are would be enough for the four open tasks, once three of the six taken ones come back.
    monkeypatch.setattr(rounds, "count_places", lambda this, offered: Places(offered, offered + 2, offered - 3))
    done = go(crowd)
    assert (done.places, done.refused) == (4, ())
    monkeypatch.setattr(rounds, "count_places", lambda this, offered: Places(offered, offered, offered))
    assert "6 places are taken already, not 8" in go(crowd).refused[0]
