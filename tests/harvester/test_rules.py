"""The bonus that study.toml promises, and what happens when people turn out to be paid too little."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.errors import CapReached, HarvestError, PublishError
from crowd_imi.harvester import harvest, status
from crowd_imi.harvester.bonus_list import plan_payout
from crowd_imi.harvester.money import Compensation, pay
from crowd_imi.harvester.rules import TopUp
from crowd_imi.platforms.base import Capability
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.records import Money
from crowd_imi.store.tables import Visit
from tests.harvester.crowd import SMALL, Crowd


def posted(folder: Path, pay: str, toml: str = SMALL) -> Crowd:
    return Crowd.posted(folder, toml.replace("estimated_minutes = 6", f"estimated_minutes = 6\n{pay}"))


def go(crowd: Crowd):
    return harvest(crowd.study, crowd.store, crowd.platform)


def bonuses(crowd: Crowd, name: str) -> list[int]:
    return [bonus.amount.amount for bonus in crowd.platform.bonuses(crowd.submission_of(name))]


def test_who_has_all_catch_trials_right_gets_the_bonus_once(tmp_path: Path):
    crowd = posted(tmp_path, "bonus = 40")
    crowd.take_part("anna")
    crowd.take_part("ben", good=False)
    crowd.fail_practice(crowd.arrive("carl"))
    done = go(crowd)
    assert (done.paid, done.bonuses) == (3, 1)
    assert (bonuses(crowd, "anna"), bonuses(crowd, "ben"), bonuses(crowd, "carl")) == ([40], [], [])
    assert go(crowd).quiet and bonuses(crowd, "anna") == [40]


def test_for_completion_everybody_who_submits_gets_it_excluded_or_not(tmp_path: Path):
    crowd = posted(tmp_path, 'bonus = 40\nbonus_for = "completion"')
    crowd.take_part("anna")
    crowd.take_part("ben", good=False)
    crowd.fail_practice(crowd.arrive("carl"))
    assert go(crowd).bonuses == 2
    assert (bonuses(crowd, "ben"), bonuses(crowd, "carl")) == ([40], [])


def test_places_are_offered_only_as_far_as_rewards_and_bonuses_fit_the_cap(tmp_path: Path):
    # Four tasks at 150 and a bonus of 40 want 760; a cap of 700 pays three submissions (570), and a fourth (190) doesn't fit.
    with pytest.raises(PublishError, match=r"6\.00 USD, and 1\.60 USD in bonuses, .* at least 760"):
        posted(tmp_path / "low", "bonus = 40", SMALL.replace("cap = 5000", "cap = 759"))
    crowd = posted(tmp_path, "bonus = 40", SMALL.replace("cap = 5000", "cap = 760"))
    crowd.study = posted_study(tmp_path, "bonus = 40", 700)
    done = go(crowd)
    assert done.places == 3 and len(done.short) == 1
    for name in ("anna", "ben", "carl"):
        crowd.take_part(name, good=name != "ben")
    done = go(crowd)
    # Ben earned no bonus, but his task is free again: 700 − 450 − 80 = 170 don't pay a fourth with its bonus.
    assert (done.paid, done.bonuses, done.places) == (3, 2, 3)
    assert crowd.paid() + 80 <= 700


def test_a_reward_goes_before_a_bonus(tmp_path: Path):
    crowd = posted(tmp_path, "bonus = 40", SMALL.replace("cap = 5000", "cap = 800"))
    crowd.take_part("anna")
    crowd.begin(crowd.arrive("ben"))
    # The cap is lowered: both rewards fit, Anna's bonus doesn't.
    lowered = posted_study(tmp_path, "bonus = 40", 310)
    done = harvest(lowered, crowd.store, crowd.platform)
    assert (done.paid, done.bonuses, done.held) == (1, 0, 1)
    crowd.study = posted_study(tmp_path, "bonus = 40", 800)
    assert go(crowd).bonuses == 1 and bonuses(crowd, "anna") == [40]


def test_a_bonus_by_hand_leaves_what_the_rule_promised_and_never_passes_for_it(tmp_path: Path):
    # 4 × (150 + 40) = 760 fit; Anna is owed 190, Ben at most 190: 380 are left for other bonuses.
    crowd = posted(tmp_path, "bonus = 40", SMALL.replace("cap = 5000", "cap = 760"))
    anna = crowd.take_part("anna")
    crowd.begin(crowd.arrive("ben"))

    def pay_extra(amount: int, name: str) -> str:
        given = Compensation(anna.id, Money(amount=amount, currency="USD"), name, "Thanks.")
        return pay(crowd.study, crowd.store, crowd.platform, given)

    with pytest.raises(HarvestError, match="take another --name"):
        pay_extra(10, "rule")
    before = status(crowd.study, crowd.store, crowd.platform)
    with pytest.raises(CapReached):
        pay_extra(381, "travel")
    # What nobody was promised takes nothing of what is, while it is held.
    after = status(crowd.study, crowd.store, crowd.platform)
    assert (after.held.amount, after.committed, after.left_over) == (381, before.committed, before.left_over)
    assert (
        "a payment by hand went over the cap; raise pay.cap in study.toml and run the same `crowd-imi pay` again" in after.remarks
    )
    listed = tmp_path / "bonuses.csv"
    listed.write_text(f"visit,amount,reason\n{anna.id},3.81,Thanks\n")
    with pytest.raises(HarvestError, match=r"0\.01 USD over the cap"):
        plan_payout(crowd.study, crowd.store, crowd.platform, listed)
    pay_extra(380, "travel")
    assert (go(crowd).paid, go(crowd).places) == (1, 2)  # nobody else can be paid any more, so the two places go first
    assert sorted(bonuses(crowd, "anna")) == [40, 380]


def posted_study(folder: Path, pay: str, cap: int):
    from tests.tiny import write_study

    toml = SMALL.replace("estimated_minutes = 6", f"estimated_minutes = 6\n{pay}").replace("cap = 5000", f"cap = {cap}")
    return write_study(folder, toml)


MANY = SMALL.replace("units = 6\nresponses = 2", "units = 6\nresponses = 12").replace("cap = 5000", "cap = 50000")
"""Two arms with 12 tasks each."""


PAY = "`crowd-imi pay STUDY --from STUDY/top-up.csv`"


def said_next(crowd: Crowd) -> tuple[str, ...]:
    return status(crowd.study, crowd.store, crowd.platform).next


def test_people_who_are_paid_too_little_stop_new_places_and_a_top_up_is_proposed(tmp_path: Path):
    crowd = posted(tmp_path, "floor_per_hour = 1200", MANY)
    for number in range(9):
        crowd.take_part(f"p{number}", good=number > 1)  # ten minutes each: 150 cents are 9.00 an hour
    before = go(crowd)
    assert before.top_up is None  # nine are too few to tell
    crowd.take_part("p9")
    done = go(crowd)
    proposal = done.top_up
    # 12.00 an hour for ten minutes are 200 cents: 50 more than everybody got.
    assert proposal is not None and len(proposal.amounts) == 10
    assert set(proposal.amounts.values()) == {50}
    assert (proposal.together.amount, proposal.per_hour.amount, proposal.floor.amount) == (500, 900, 1200)
    assert said_next(crowd) == (f"no more places are offered until the top-up is paid ({PAY}); the harvest after that goes on",)
    assert crowd.free() == 0 and all(bonuses(crowd, f"p{number}") == [] for number in range(10))
    with crowd.store.read() as session:
        visits = [session.get_one(Visit, visit) for visit in proposal.amounts]
    assert {visit.payment for visit in visits} == {"paid"}


def pay_top_up(crowd: Crowd, proposal: TopUp) -> None:
    for visit, amount in proposal.amounts.items():
        missing = Money(amount=amount, currency="USD")
        pay(crowd.study, crowd.store, crowd.platform, Compensation(visit, missing, "top-up", "It took longer."))


def test_everybody_is_topped_up_by_what_they_lack_themselves(tmp_path: Path):
    crowd = posted(tmp_path, "floor_per_hour = 1200", MANY)
    visits = [crowd.take_part(f"p{number}") for number in range(10)]
    go(crowd)
    # 50 are missing: the one has 30 of them already, the other more than all.
    for visit, amount in ((visits[0], 30), (visits[1], 60)):
        given = Compensation(visit.id, Money(amount=amount, currency="USD"), "travel", "Thanks.")
        pay(crowd.study, crowd.store, crowd.platform, given)
    proposal = go(crowd).top_up
    assert proposal.amounts == {visits[0].id: 20, **{visit.id: 50 for visit in visits[2:]}}
    assert proposal.together.amount == 20 + 8 * 50


def test_the_list_of_a_rehearsal_lies_with_it_and_not_where_the_studys_is_paid_from(tmp_path: Path):
    crowd = posted(tmp_path, "floor_per_hour = 1200", MANY)
    for number in range(10):
        crowd.take_part(f"p{number}")
    rehearsal = crowd.study.rehearsal("quick")
    rehearsal.mkdir(parents=True)
    for path, content in crowd.save().items():
        (rehearsal / path.name).write_bytes(content)
    done = CliRunner().invoke(app, ["harvest", str(tmp_path), "--rehearsal", "quick"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "until 10 people are paid 5.00 USD in all" in said and "crowd-imi pay" not in said
    assert not (tmp_path / "top-up.csv").exists()
    assert {line.split(",")[1] for line in (rehearsal / "top-up.csv").read_text().splitlines()[1:]} == {"0.50"}


def test_once_the_top_up_is_paid_places_are_offered_again(tmp_path: Path):
    crowd = posted(tmp_path, "floor_per_hour = 1200", MANY)
    for number in range(10):
        crowd.take_part(f"p{number}")
    proposal = go(crowd).top_up
    pay_top_up(crowd, proposal)
    done = go(crowd)
    assert done.top_up is None and crowd.free() == 14  # 24 tasks, ten of them done


def test_where_places_cant_be_taken_back_the_posting_is_paused_until_the_top_up_is_paid(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(LocalPlatform, "capabilities", LocalPlatform.capabilities - {Capability.FEWER_PLACES})
    crowd = posted(tmp_path, "floor_per_hour = 1200", MANY)
    for number in range(10):
        crowd.take_part(f"p{number}")
    proposal = go(crowd).top_up
    posting = crowd.posting.platform_id
    assert crowd.platform.places(posting) == 24 and crowd.platform.state(posting) == "paused"
    assert go(crowd).top_up is not None and crowd.platform.state(posting) == "paused"
    assert said_next(crowd) == (
        f"paused, as people are paid too little: nobody new is let in; once the top-up is paid ({PAY}), the next harvest opens "
        "it again",
    )
    pay_top_up(crowd, proposal)
    assert said_next(crowd) == (
        "paused, as people were paid too little: nobody new is let in; they aren't any more, and the next harvest opens it again",
    )
    assert go(crowd).top_up is None and crowd.platform.state(posting) == "open"
    crowd.platform.pause(posting)  # by a person, whom no harvest contradicts
    go(crowd)
    assert crowd.platform.state(posting) == "paused"
    assert said_next(crowd) == ("paused: nobody new is let in; `crowd-imi resume` opens it again, `crowd-imi stop` ends it",)


@pytest.mark.parametrize("floor", [900, 0])
def test_pay_at_the_floor_is_enough_and_zero_is_no_floor(tmp_path: Path, floor: int):
    crowd = posted(tmp_path, f"floor_per_hour = {floor}", MANY)
    for number in range(10):
        crowd.take_part(f"p{number}")
    assert go(crowd).top_up is None
    assert Money(amount=crowd.paid(), currency="USD").amount == 1500
