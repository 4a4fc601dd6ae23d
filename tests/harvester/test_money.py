"""Compensation, rejection and the books, on the local platform."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from crowd_imi.errors import HarvestError, LedgerError, Refused, Unreachable
from crowd_imi.harvester import harvest, money, rejections, status
from crowd_imi.harvester.both_books import ledger
from crowd_imi.harvester.money import Compensation, pay, pay_reward
from crowd_imi.harvester.rejections import reject, unfairness
from crowd_imi.harvester.strays import pay_stray, stray_name
from crowd_imi.keys import study_key
from crowd_imi.lifecycle import VisitState, move
from crowd_imi.platforms.base import BonusOrder
from crowd_imi.records import Money
from crowd_imi.store.submissions import submission_ids
from crowd_imi.store.tables import Verdict, Visit
from tests.harvester.crowd import SMALL, Crowd
from tests.tiny import write_study


def extra(visit: str, amount: int) -> Compensation:
    return Compensation(visit, Money(amount=amount, currency="USD"), "extra", "Thank you.")


def by_hand(crowd: Crowd, name: str, money: Money, key: str) -> None:
    """A bonus that is paid on the platform's own pages."""
    order = BonusOrder(submission=crowd.submission_of(name), money=money, key=key, reason="Thanks.")
    crowd.platform.send_bonuses([order], lambda _: None)


REASON = (
    "You were asked to look at twenty pictures in each question; you chose the upper one 45 times, within half a second each, "
    "which nobody can do who looks."
)


@pytest.fixture
def crowd(tmp_path) -> Crowd:
    return Crowd.posted(tmp_path)


def become(crowd: Crowd, name: str, there: str) -> None:
    """What the platform's own staff or a participant's complaint can bring about."""
    change(crowd, crowd.submission_of(name), there)


def change(crowd: Crowd, submission: str, there: str) -> None:
    with closing(sqlite3.connect(crowd.folder / "local.db")) as books_there, books_there:
        books_there.execute("UPDATE submission SET status = ? WHERE id = ?", (there, submission))


def run(crowd: Crowd):
    return harvest(crowd.study, crowd.store, crowd.platform)


def books(crowd: Crowd):
    return ledger(crowd.study, crowd.store, crowd.platform)


def compensation(crowd: Crowd, visit: str, amount: int = 150) -> Compensation:
    return Compensation(visit, Money(amount=amount, currency="USD"), "compensation", "Thank you.")


def test_who_gave_the_place_back_after_the_last_answer_is_compensated_once(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.submit(visit)
    crowd.platform.give_back(crowd.submission_of("anna"))
    for _ in range(2):
        pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, visit.id))
    assert [bonus.amount.amount for bonus in crowd.platform.bonuses(crowd.submission_of("anna"))] == [150]
    assert crowd.state(visit)[1] == "paid"
    done = run(crowd)
    assert (done.paid, done.refused) == (0, ())
    assert books(crowd).spent.amount == 150


def test_the_books_agree_with_the_platform(crowd: Crowd):
    crowd.take_part("anna")
    crowd.take_part("ben", good=False)
    run(crowd)
    seen = books(crowd)
    assert (seen.spent.amount, seen.unknown.amount, seen.held.amount, seen.differences) == (300, 0, 0, 0)
    assert sorted((entry.operation, entry.there) for entry in seen.entries if entry.operation == "approve") == [
        ("approve", "approved"),
        ("approve", "approved"),
    ]


def test_a_payment_that_the_platform_does_not_know_is_marked(crowd: Crowd):
    visit = crowd.take_part("anna")
    run(crowd)
    with closing(sqlite3.connect(crowd.folder / "local.db")) as there, there:
        there.execute("UPDATE submission SET status = 'awaiting_review'")
    entry = next(entry for entry in books(crowd).entries if entry.operation == "approve")
    assert (entry.subject, entry.state, entry.there, entry.differs) == (visit.id, "done", "awaiting_review", True)


@pytest.mark.parametrize("times", [0, 2])
def test_a_bonus_that_the_platform_paid_another_number_of_times_is_marked(crowd: Crowd, times: int):
    visit = crowd.take_part("anna")
    run(crowd)
    pay(crowd.study, crowd.store, crowd.platform, extra(visit.id, 20))
    assert books(crowd).differences == 0
    with closing(sqlite3.connect(crowd.folder / "local.db")) as there, there:
        there.execute("DELETE FROM bonus")
    for number in range(times):
        given = Money(amount=20, currency="USD")
        by_hand(crowd, "anna", given, f"by hand {number}")
    [entry] = [entry for entry in books(crowd).entries if entry.operation == "bonus"]
    assert entry.differs and books(crowd).differences == 1


def test_whoever_can_be_approved_is_not_compensated_and_nobody_gets_both(crowd: Crowd):
    waiting, paid = crowd.take_part("anna"), crowd.take_part("ben")
    with pytest.raises(HarvestError, match="harvest` pays its reward"):
        pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, waiting.id))
    run(crowd)
    with pytest.raises(HarvestError, match="is paid already"):
        pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, paid.id))
    assert crowd.paid() == 300


def test_a_compensation_that_was_sent_keeps_a_harvest_from_paying_the_reward(crowd: Crowd, monkeypatch: pytest.MonkeyPatch):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.submit(visit)
    crowd.platform.give_back(crowd.submission_of("anna"))
    with monkeypatch.context() as patch:
        patch.setattr(money, "note_compensated", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))  # killed right there
        with pytest.raises(KeyboardInterrupt):
            pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, visit.id))
    assert crowd.state(visit)[1] == "unpaid"
    assert run(crowd).paid == 0 and crowd.paid() == 0
    assert crowd.state(visit)[1] == "paid"


def test_bonuses_take_of_what_the_cap_leaves_for_places(tmp_path):
    # Four tasks at 1.50: with 1.50 in bonuses, a cap of 6.00 pays three people.
    crowd = Crowd.posted(tmp_path / "tight", SMALL.replace("cap = 5000", "cap = 600"))
    first = crowd.take_part("anna")
    run(crowd)
    with pytest.raises(LedgerError, match="over the cap"):
        pay(crowd.study, crowd.store, crowd.platform, extra(first.id, 601 - 150))
    visits = [crowd.arrive(name) for name in ("ben", "cem")]
    pay(crowd.study, crowd.store, crowd.platform, Compensation(first.id, Money(amount=150, currency="USD"), "extra 2", "Thanks."))
    with pytest.raises(Refused, match="promised to others"):
        crowd.arrive("dora")
    for visit, name in zip(visits, ("ben", "cem"), strict=True):
        crowd.begin(visit)
        crowd.submit(visit)
        crowd.hand_in(name)
    done = run(crowd)
    assert (done.paid, done.held, len(done.short), done.complete) == (2, 0, 1, True)
    assert crowd.paid() == 450


def test_what_a_person_rejected_counts_no_more_and_its_task_is_offered_again(crowd: Crowd):
    visit = crowd.take_part("anna")
    with crowd.store.write() as session:
        move(session.get_one(Visit, visit.id), VisitState.VALID, crowd.clock.now())
        session.add(Verdict(visit_id=visit.id, valid=True, surplus=False, checks={}, at=crowd.clock.now()))
    reject(crowd.study, crowd.store, crowd.platform, visit.id, REASON)
    assert crowd.state(visit) == ("excluded", "rejected", False)
    assert crowd.verdict(visit).valid is False
    assert run(crowd).paid == 0


def test_a_rejection_on_the_platforms_own_pages_is_noted(crowd: Crowd):
    visit = crowd.take_part("anna")
    crowd.platform.reject(crowd.submission_of("anna"), REASON)
    run(crowd)
    assert crowd.state(visit)[1] == "rejected" and crowd.paid() == 0


def test_an_approval_whose_answer_was_lost_stays_open_and_is_read_back(crowd: Crowd, monkeypatch: pytest.MonkeyPatch):
    crowd.take_part("anna")
    approve = crowd.platform.approve

    def lost(submission: str) -> None:
        approve(submission)
        raise Unreachable(f"no answer about {submission}")

    with monkeypatch.context() as patch:
        patch.setattr(crowd.platform, "approve", lost)
        assert run(crowd).paid == 0
    entry = next(entry for entry in books(crowd).entries if entry.operation == "approve")
    assert (entry.state, entry.differs) == ("open", True)
    run(crowd)
    assert crowd.paid() == 150 and books(crowd).differences == 0


@pytest.mark.parametrize("there", ["awaiting_review", "wrong_code"])
def test_who_handed_in_without_finishing_is_paid_or_rejected_by_hand(crowd: Crowd, there: str):
    paid, refused = crowd.arrive("anna"), crowd.arrive("ben")
    for name in ("anna", "ben"):
        become(crowd, name, there)
    crowd.pass_time(200)
    run(crowd)
    assert {crowd.state(visit)[0] for visit in (paid, refused)} == {"timed_out"}
    with pytest.raises(HarvestError, match=f"pay --visit {paid.id} --approve"):
        pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, paid.id))
    for _ in range(2):
        assert crowd.paid() <= 150
        with suppress(HarvestError):
            pay_reward(crowd.study, crowd.store, crowd.platform, paid.id)
    reject(crowd.study, crowd.store, crowd.platform, refused.id, REASON)
    run(crowd)
    assert (crowd.state(paid)[1], crowd.state(refused)[1], crowd.paid()) == ("paid", "rejected", 150)
    assert status(crowd.study, crowd.store, crowd.platform).differences == () and books(crowd).differences == 0


def test_who_is_still_at_it_or_finished_isnt_approved_by_hand(crowd: Crowd):
    at_it, done = crowd.arrive("anna"), crowd.take_part("ben")
    for visit in (at_it, done):
        with pytest.raises(HarvestError, match="only who handed in there without finishing here"):
            pay_reward(crowd.study, crowd.store, crowd.platform, visit.id)
    assert crowd.paid() == 0


def test_what_makes_a_rejection_unfair_is_said(crowd: Crowd):
    good, careless, confused = crowd.take_part("anna"), crowd.take_part("ben", good=False), crowd.arrive("carl")
    crowd.fail_practice(confused)
    assert unfairness(crowd.store, good.id) == ("no harvest has judged it yet",)
    run(crowd)
    assert unfairness(crowd.store, good.id) == ("it passed every criterion",)
    assert any("clearly a failed attention check" in sentence for sentence in unfairness(crowd.store, careless.id))
    assert any("practice is never a ground" in sentence for sentence in unfairness(crowd.store, confused.id))
    with pytest.raises(HarvestError, match="there is no visit"):
        unfairness(crowd.store, "nobody")


def test_too_fast_is_three_standard_deviations_below_the_others(crowd: Crowd):
    visit = crowd.take_part("anna")
    run(crowd)
    failed = {"total_time": {"passed": False, "measured": 50.0}, "row_choices": {"passed": False, "measured": 1.0}}
    with crowd.store.write() as session:
        verdict = session.get_one(Verdict, visit.id)
        verdict.valid, verdict.checks = False, failed
    assert unfairness(crowd.store, visit.id) == (
        "too few others are there to tell whether its total time is three standard deviations below theirs",
    )
    excuse = rejections._excuse
    others = [Verdict(checks={"total_time": {"passed": True, "measured": 300.0 + 10 * n}}) for n in range(10)]
    with crowd.store.read() as session:
        verdict = session.get_one(Verdict, visit.id)
    assert excuse("total_time", verdict, others) is None
    slower = [Verdict(checks={"total_time": {"passed": True, "measured": 100.0 + 60 * n}}) for n in range(10)]
    assert "isn't three standard deviations below" in (excuse("total_time", verdict, slower) or "")


def test_only_prolific_has_categories_of_rejections(crowd: Crowd):
    visit = crowd.take_part("anna")
    with pytest.raises(HarvestError, match="local knows no categories"):
        reject(crowd.study, crowd.store, crowd.platform, visit.id, REASON, "TOO_QUICKLY")
    assert crowd.state(visit)[1] == "unpaid"


def test_a_rejection_needs_a_reason_and_is_never_paid(crowd: Crowd):
    visit = crowd.take_part("anna", good=False)
    with pytest.raises(HarvestError, match="write 100 or more"):
        reject(crowd.study, crowd.store, crowd.platform, visit.id, "bad")
    reject(crowd.study, crowd.store, crowd.platform, visit.id, REASON)
    assert run(crowd).paid == 0
    assert crowd.paid() == 0
    assert crowd.state(visit)[:2] == ("excluded", "rejected")


def test_who_is_paid_is_not_rejected(crowd: Crowd):
    visit = crowd.take_part("anna")
    run(crowd)
    with pytest.raises(HarvestError, match="is paid"):
        reject(crowd.study, crowd.store, crowd.platform, visit.id, REASON)


def test_unknown_visits_are_named(crowd: Crowd):
    with pytest.raises(HarvestError, match="there is no visit nobody"):
        pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, "nobody"))
    visit = crowd.take_part("anna")
    with pytest.raises(HarvestError, match="above 0"):
        pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, visit.id, 0))


@pytest.mark.parametrize("amount", [5001, 2**31, 10**30])
def test_more_than_the_whole_cap_is_no_bonus(crowd: Crowd, amount: int):
    visit = crowd.take_part("anna")
    with pytest.raises(HarvestError, match=r"more than the whole cap of 50\.00 USD"):
        pay(crowd.study, crowd.store, crowd.platform, extra(visit.id, amount))
    assert books(crowd).held.amount == 0


@pytest.mark.parametrize("name", ["", "a/compensation", "a\0b"])
def test_a_name_that_could_pass_for_a_compensation_is_refused(crowd: Crowd, name: str):
    visit = crowd.take_part("anna")
    with pytest.raises(HarvestError, match="no name of a bonus"):
        pay(crowd.study, crowd.store, crowd.platform, Compensation(visit.id, Money(amount=10, currency="USD"), name, "Thanks."))


def test_a_rejection_that_is_overturned_on_the_platform_is_booked_once(crowd: Crowd, monkeypatch: pytest.MonkeyPatch):
    visit = crowd.take_part("anna")
    reject(crowd.study, crowd.store, crowd.platform, visit.id, REASON)
    run(crowd)
    assert crowd.state(visit) == ("excluded", "rejected", False)
    with closing(sqlite3.connect(crowd.folder / "local.db")) as there, there:
        there.execute("UPDATE submission SET status = 'awaiting_review'")
    crowd.platform.approve(crowd.submission_of("anna"))
    for _ in range(2):
        run(crowd)
    assert crowd.state(visit) == ("excluded", "paid", False)
    assert books(crowd).spent.amount == 150 and books(crowd).differences == 0


def test_who_is_approved_there_beside_a_compensation_is_booked_so_that_the_cap_sees_both(crowd: Crowd):
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.submit(visit)
    crowd.platform.give_back(crowd.submission_of("anna"))
    pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, visit.id))
    crowd.platform.approve(crowd.submission_of("anna"))
    for _ in range(2):
        run(crowd)
    assert books(crowd).spent.amount == 300 and books(crowd).differences == 0
    assert status(crowd.study, crowd.store, crowd.platform).committed.amount == 300


def test_who_gives_the_place_back_after_being_paid_stays_paid_and_is_shown(crowd: Crowd):
    visit = crowd.take_part("anna")
    run(crowd)
    become(crowd, "anna", "returned")
    done = run(crowd)
    assert (done.paid, done.refused) == (0, ()) and crowd.state(visit)[:2] == ("valid", "paid")
    assert crowd.paid() == 150 and books(crowd).differences == 1


@pytest.mark.parametrize("where", ["here", "on the platform's own pages"])
def test_a_rejection_closes_the_approval_that_a_crash_left_open(crowd: Crowd, monkeypatch: pytest.MonkeyPatch, where: str):
    visit = crowd.take_part("anna")

    def cut(submission: str) -> None:
        raise Unreachable(f"no answer about {submission}")

    with monkeypatch.context() as patch:
        patch.setattr(crowd.platform, "approve", cut)
        run(crowd)
    assert books(crowd).unknown.amount == 150
    if where == "here":
        reject(crowd.study, crowd.store, crowd.platform, visit.id, REASON)
    else:
        crowd.platform.reject(crowd.submission_of("anna"), REASON)
    run(crowd)
    assert (books(crowd).unknown.amount, books(crowd).spent.amount, books(crowd).differences) == (0, 0, 0)


def test_a_compensation_closes_the_approval_that_a_crash_left_open(crowd: Crowd, monkeypatch: pytest.MonkeyPatch):
    visit = crowd.take_part("anna")

    def cut(submission: str) -> None:
        raise Unreachable(f"no answer about {submission}")

    with monkeypatch.context() as patch:
        patch.setattr(crowd.platform, "approve", cut)
        run(crowd)
    become(crowd, "anna", "returned")
    pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, visit.id))
    run(crowd)
    assert (books(crowd).unknown.amount, books(crowd).spent.amount, books(crowd).differences) == (0, 150, 0)
    assert status(crowd.study, crowd.store, crowd.platform).remarks == ()  # it was refused by nobody, and is paid


def test_the_approval_of_somebody_without_a_visit_that_was_cut_off_frees_its_money_too(crowd: Crowd, monkeypatch):
    stranger = crowd.platform.take(crowd.platform.postings()[0], "stranger").id
    change(crowd, stranger, "awaiting_review")
    name = stray_name(study_key(crowd.study.key), stranger)

    def cut(submission: str) -> None:
        raise Unreachable(f"no answer about {submission}")

    with monkeypatch.context() as patch, pytest.raises(Unreachable):
        patch.setattr(crowd.platform, "approve", cut)
        pay_stray(crowd.study, crowd.store, crowd.platform, name)
    assert books(crowd).unknown.amount == 150
    crowd.platform.reject(stranger, REASON)
    run(crowd)
    assert (books(crowd).unknown.amount, books(crowd).spent.amount) == (0, 0)


def test_what_was_paid_there_and_not_by_us_is_a_difference(crowd: Crowd):
    for name in ("anna", "ben"):
        crowd.take_part(name)
    run(crowd)
    submission = crowd.submission_of("anna")
    by_hand(crowd, "anna", Money(amount=30, currency="USD"), "by hand")
    stranger = crowd.platform.take(crowd.platform.postings()[0], "stranger").id
    crowd.platform.approve(stranger)
    seen = books(crowd)
    assert seen.differences == 2 and seen.spent.amount == 300
    there = {(e.operation, e.subject, e.amount.amount, e.there) for e in seen.entries if e.intent is None and e.differs}
    with crowd.store.people() as people:
        visit = next(v for v, s in submission_ids(people, "local").items() if s == submission)
    name = stray_name(study_key(crowd.study.key), stranger)
    assert there == {("bonus", visit, 30, "0.30 USD"), ("approve", name, 150, "approved")}


@pytest.mark.parametrize(("amount", "offered"), [(150, 2), (300, 1), (50, 3)])
@pytest.mark.parametrize("noted", [True, False])
def test_a_compensation_takes_of_the_cap_what_it_costs(tmp_path: Path, monkeypatch, amount: int, offered: int, noted: bool):
    crowd = Crowd.posted(tmp_path, SMALL.replace("cap = 5000", "cap = 600"))
    crowd.study = write_study(tmp_path, SMALL.replace("cap = 5000", "cap = 550"))
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.submit(visit, good=False)
    crowd.platform.give_back(crowd.submission_of("anna"))
    with monkeypatch.context() as patch:
        if not noted:  # killed between the payment and the note of it
            patch.setattr(money, "note_compensated", lambda *_: None)
        pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, visit.id, amount))
        before = status(crowd.study, crowd.store, crowd.platform)
    run(crowd)
    now = status(crowd.study, crowd.store, crowd.platform)
    for seen in (before, now):
        assert (seen.committed.amount, seen.left_over.amount) == (amount, 550 - amount)
    assert crowd.free() == offered
    for name in ("ben", "carl", "dora")[:offered]:
        crowd.take_part(name)
    done = run(crowd)
    assert (done.paid, done.held) == (offered, 0)
    assert status(crowd.study, crowd.store, crowd.platform).left_over.amount == 550 - amount - offered * 150


@pytest.mark.parametrize("noted", [True, False])
def test_a_late_ones_compensation_leaves_no_more_for_others_than_there_is(tmp_path: Path, monkeypatch, noted: bool):
    crowd = Crowd.posted(tmp_path, SMALL.replace("cap = 5000", "cap = 600"))
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.pass_time(121)
    run(crowd)
    crowd.submit(visit)
    become(crowd, "anna", "timed_out")
    if not noted:
        monkeypatch.setattr(money, "note_compensated", lambda *_: None)
    pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, visit.id, 50))
    crowd.platform.set_places(crowd.posting.platform_id, 6)
    for name in ("ben", "carl", "dora"):
        crowd.arrive(name)
    with pytest.raises(Refused, match="promised to others"):
        crowd.arrive("emil")


def test_a_bonus_of_nearly_the_same_name_is_no_compensation(crowd: Crowd):
    visit = crowd.take_part("anna")
    run(crowd)
    pay(
        crowd.study,
        crowd.store,
        crowd.platform,
        Compensation(visit.id, Money(amount=50, currency="USD"), "Compensation", "Thanks."),
    )
    assert status(crowd.study, crowd.store, crowd.platform).committed.amount == 200


def test_a_compensation_that_the_cap_holds_leaves_the_reward_promised(tmp_path: Path):
    crowd = Crowd.posted(tmp_path, SMALL.replace("cap = 5000", "cap = 600"))
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.submit(visit)
    crowd.platform.give_back(crowd.submission_of("anna"))
    crowd.arrive("ben")
    crowd.study = write_study(tmp_path, SMALL.replace("cap = 5000", "cap = 200"))
    with pytest.raises(LedgerError, match="cap"):
        pay(crowd.study, crowd.store, crowd.platform, compensation(crowd, visit.id, 100))
    now = status(crowd.study, crowd.store, crowd.platform)
    assert (now.held.amount, now.committed.amount, now.left_over.amount) == (100, 300, 0)
