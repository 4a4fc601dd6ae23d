"""Bonuses on platforms that keep our key, and on one that would pay twice what it is told twice."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from crowd_imi.errors import CapReached, LedgerError, PlatformError, Undecidable, Unreachable
from crowd_imi.ledger import Bonus, decide, lease, pay_bonus, pay_bonuses
from crowd_imi.platforms.base import BonusOrder, Capability, PlatformBonus, PlatformSubmission
from crowd_imi.records import Money
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.tables import Intent
from tests.harvester.death import Death, Killed
from tests.ledger.test_ledger import CAP, rows, usd
from tests.tiny import fake_plan, write_study

BONUS = Bonus("v1", "s1", "compensation", usd(100), "Thank you.")


class Platform:
    """Keeps no key, takes a fee of a tenth, and shows bonuses once they have settled."""

    name = "unkeyed"
    capabilities = frozenset({Capability.BONUS})
    bonus_batch = 1

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.calls = 0
        self.settled = 0
        self.fails: Exception | None = None
        self.dies = Death(99)

    def fee(self, reward: Money) -> Money:
        return usd(reward.amount // 10)

    def send_bonuses(self, orders: Sequence[BonusOrder], note: Callable[[str], None]) -> str:
        self.dies.moment()
        batch = f"batch {self.calls + 1}"
        note(batch)
        self.dies.moment()
        if isinstance(self.fails, PlatformError) and not isinstance(self.fails, Unreachable):
            raise self.fails
        self.calls += 1
        self.sent += [(order.submission, order.money.amount) for order in orders]
        self.dies.moment()
        if self.fails is not None:
            raise self.fails
        return batch

    def bonuses(self, submission: str) -> tuple[PlatformBonus, ...]:
        settled = self.sent[: self.settled]
        return tuple(PlatformBonus(amount=usd(amount), key=None) for whose, amount in settled if whose == submission)

    def submission(self, submission: str) -> PlatformSubmission:
        return PlatformSubmission(id=submission, posting="p1", participant="", status="approved")

    def all_bonuses(self, posting: str) -> dict[str, tuple[PlatformBonus, ...]]:
        return {whose: self.bonuses(whose) for whose, _ in self.sent[: self.settled]}


@pytest.fixture
def store(tmp_path: Path, make_store: Callable[..., Store]) -> Store:
    return make_store(fake_plan(write_study(tmp_path)), StoreKind.STUDY)


@pytest.fixture
def platform() -> Platform:
    return Platform()


def pay(store: Store, platform: Platform, bonus: Bonus = BONUS) -> str:
    with lease(store, "test", CAP) as held:
        return pay_bonus(held, platform, bonus)  # type: ignore[arg-type]


def test_the_same_bonus_is_paid_once(store: Store, platform: Platform):
    assert pay(store, platform) == pay(store, platform) == "batch 1"
    assert platform.sent == [("s1", 100)]
    assert rows(store) == [("v1/compensation", "done", "batch 1")]


def test_a_bonus_of_another_name_is_another_one(store: Store, platform: Platform):
    pay(store, platform)
    pay(store, platform, Bonus("v1", "s1", "travel", usd(50), "For the bus."))
    assert platform.sent == [("s1", 100), ("s1", 50)]


def test_another_amount_under_the_same_name_is_refused(store: Store, platform: Platform):
    pay(store, platform)
    with pytest.raises(LedgerError, match=r"1\.10 USD was meant before"):
        pay(store, platform, Bonus("v1", "s1", "compensation", usd(200), "More."))
    assert platform.sent == [("s1", 100)]


def test_fees_count_against_the_cap(store: Store, platform: Platform):
    # 370 + 37 = 407 > 400, although the participant would get less than the cap.
    with pytest.raises(CapReached, match=r"0\.07 USD over the cap"):
        pay(store, platform, Bonus("v1", "s1", "compensation", usd(370), "Thank you."))
    assert platform.sent == []


@pytest.mark.parametrize(("moment", "sent"), [(1, 0), (2, 0), (3, 1)])
def test_killed_at_any_moment_it_is_never_sent_twice(store: Store, platform: Platform, moment: int, sent: int):
    platform.dies = Death(moment - 1)
    with pytest.raises(Killed):
        pay(store, platform)
    assert len(platform.sent) == sent
    platform.dies = Death(99)
    if moment == 1:  # nothing was noted, so nothing was paid
        pay(store, platform)
        assert platform.sent == [("s1", 100)]
        return
    with pytest.raises(Undecidable, match="decide it with"):  # noted: nobody can tell before it shows
        pay(store, platform)
    assert len(platform.sent) == sent
    platform.settled = len(platform.sent)
    if sent:
        assert pay(store, platform).endswith("as read back")
    else:
        with pytest.raises(Undecidable):
            pay(store, platform)
    assert len(platform.sent) == sent


def test_an_answer_that_was_lost_leaves_it_open(store: Store, platform: Platform):
    platform.fails = Unreachable("no answer")
    with pytest.raises(Unreachable):
        pay(store, platform)
    platform.fails = None
    assert rows(store) == [("v1/compensation", "open", "batch 1")]
    platform.settled = 1
    pay(store, platform)
    assert platform.sent == [("s1", 100)]
    assert rows(store) == [("v1/compensation", "done", "batch 1, as read back")]


def test_a_bonus_of_the_same_amount_that_is_known_is_not_taken_for_the_lost_one(store: Store, platform: Platform):
    pay(store, platform, Bonus("v1", "s1", "travel", usd(100), "For the bus."))
    platform.settled = 1
    platform.dies = Death(1)
    with pytest.raises(Killed):
        pay(store, platform)
    with pytest.raises(Undecidable, match="shows 1 of this amount, and our books 1 others"):
        pay(store, platform)


@pytest.mark.parametrize(("arrived", "state", "sent"), [(True, "done", 1), (False, "refused", 2)])
def test_a_person_decides(store: Store, platform: Platform, arrived: bool, state: str, sent: int):
    platform.fails = Unreachable("no answer")
    with pytest.raises(Unreachable):
        pay(store, platform)
    platform.fails = None
    with lease(store, "test", CAP) as held:
        intent = decide(held, _only(store), arrived=arrived)
        assert intent.state == state
        with pytest.raises(LedgerError, match="nothing to decide"):
            decide(held, intent.id, arrived=arrived)
        with pytest.raises(LedgerError, match="knows no bonus"):
            decide(held, "another", arrived=arrived)
    pay(store, platform)  # what did not arrive may be sent again, what arrived isn't
    assert len(platform.sent) == sent


def test_a_person_who_says_that_the_one_shown_is_another_one_is_believed(store: Store, platform: Platform):
    platform.sent, platform.settled = [("s1", 100)], 1  # paid by hand, on the platform's own pages
    with pytest.raises(Undecidable, match="shows 1 of this amount, and our books 0 others"):
        pay(store, platform)
    with lease(store, "test", CAP) as held:
        decide(held, _only(store), arrived=False)
    assert pay(store, platform) == "batch 1"
    assert platform.sent == [("s1", 100)] * 2


class KeyShowing(Platform):
    """Notes nothing beforehand, and shows each bonus with the key that it was sent with."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []

    def send_bonuses(self, orders: Sequence[BonusOrder], note: Callable[[str], None]) -> str:
        self.keys += [order.key for order in orders]
        return super().send_bonuses(orders, lambda _: None)

    def bonuses(self, submission: str) -> tuple[PlatformBonus, ...]:
        return tuple(PlatformBonus(amount=usd(amount), key=key) for (_, amount), key in zip(self.sent, self.keys, strict=True))


def test_a_bonus_that_shows_with_its_key_is_never_undecidable_and_not_sent_again(store: Store):
    platform = KeyShowing()
    pay(store, platform, Bonus("v1", "s1", "travel", usd(100), "For the bus."))
    platform.dies = Death(2)
    with pytest.raises(Killed):
        pay(store, platform)
    platform.dies = Death(99)
    assert pay(store, platform).endswith("as read back")
    assert platform.sent == [("s1", 100)] * 2


def test_what_the_platform_refuses_may_be_tried_again(store: Store, platform: Platform):
    platform.fails = PlatformError("submission s1 was returned")
    with pytest.raises(PlatformError):
        pay(store, platform)
    assert rows(store) == [("v1/compensation", "refused", "submission of visit v1 was returned")]
    platform.fails = None
    pay(store, platform)
    assert platform.sent == [("s1", 100)]


def _only(store: Store) -> str:
    with store.read() as session:
        return session.scalars(select(Intent.id)).one()


# Several by one call.


def batching(platform: Platform) -> Platform:
    platform.bonus_batch = 200
    return platform


def bonus_of(number: int, name: str = "list-1", amount: int = 10) -> Bonus:
    return Bonus(f"v{number}", f"s{number}", name, usd(amount), "Thank you.")


def pay_all(store: Store, platform: Platform, bonuses: Sequence[Bonus]) -> list[str]:
    with lease(store, "test", CAP) as held:
        return pay_bonuses(held, platform, bonuses)  # type: ignore[arg-type]


def test_a_list_is_paid_by_as_few_calls_as_submissions_allow(store: Store, platform: Platform):
    # v1 has two bonuses, and a call takes each submission once.
    listed = [bonus_of(1), bonus_of(2), bonus_of(1, "list-2"), bonus_of(3)]
    assert pay_all(store, batching(platform), listed) == ["batch 1", "batch 1", "batch 2", "batch 1"]
    assert platform.sent == [("s1", 10), ("s2", 10), ("s3", 10), ("s1", 10)]
    assert pay_all(store, platform, listed) == ["batch 1", "batch 1", "batch 2", "batch 1"] and platform.calls == 2


@pytest.mark.parametrize(("moment", "sent"), [(1, 0), (2, 0), (3, 3)])
def test_a_list_that_was_killed_is_read_back_as_a_whole(store: Store, platform: Platform, moment: int, sent: int):
    listed = [bonus_of(number) for number in (1, 2, 3)]
    batching(platform).dies = Death(moment - 1)
    with pytest.raises(Killed):
        pay_all(store, platform, listed)
    platform.dies = Death(99)
    if moment == 1:  # nothing was noted, so nothing was paid
        assert pay_all(store, platform, listed) == ["batch 1"] * 3
        return
    platform.settled = max(0, sent - 1)  # one of them doesn't show yet
    with pytest.raises(Undecidable, match="batch 1"):
        pay_all(store, platform, listed)
    assert len(platform.sent) == sent
    if sent:
        platform.settled = sent
        assert pay_all(store, platform, listed) == ["batch 1, as read back"] * 3
    else:
        with lease(store, "test", CAP) as held, store.read() as session:
            decide(held, session.scalars(select(Intent.id)).first() or "", arrived=False)
        assert pay_all(store, platform, listed) == ["batch 1"] * 3
    assert sorted(platform.sent) == [("s1", 10), ("s2", 10), ("s3", 10)]


def test_what_was_sent_together_is_settled_together_also_by_a_part_of_the_list(store: Store, platform: Platform):
    listed = [bonus_of(number) for number in (1, 2, 3)]
    batching(platform).dies = Death(2)
    with pytest.raises(Killed):
        pay_all(store, platform, listed)
    platform.dies, platform.settled = Death(99), 3
    pay_all(store, platform, listed[:1])
    assert {state for _, state, _ in rows(store)} == {"done"}
    pay_all(store, platform, listed)
    assert platform.calls == 1


def test_a_list_over_the_cap_pays_what_the_cap_holds_and_goes_on_when_it_is_raised(store: Store, platform: Platform):
    # Each costs 110 of the cap's 400.
    listed = [bonus_of(number, amount=100) for number in range(1, 6)]
    with pytest.raises(CapReached):
        pay_all(store, batching(platform), listed)
    assert [whose for whose, _ in platform.sent] == ["s1", "s2", "s3"]


def test_one_refusal_does_not_keep_the_others_waiting(store: Store):
    class Refusing(Platform):
        def send_bonuses(self, orders: Sequence[BonusOrder], note: Callable[[str], None]) -> str:
            if orders[0].submission == "s2":
                raise PlatformError("submission s2 can't be paid")
            return super().send_bonuses(orders, note)

    platform = Refusing()
    with pytest.raises(PlatformError, match="of visit v2 can't"):  # platforms' ids stay in people.db
        pay_all(store, platform, [bonus_of(number) for number in (1, 2, 3)])
    assert platform.sent == [("s1", 10), ("s3", 10)]


def test_what_shows_of_a_batch_that_a_person_takes_for_lost_is_not_sent_again(store: Store, platform: Platform):
    # Two of three arrived, which shows only after a person has said that none did.
    listed = [bonus_of(number) for number in (1, 2, 3)]
    batching(platform).fails = Unreachable("no answer")
    with pytest.raises(Unreachable):
        pay_all(store, platform, listed)
    platform.fails = None
    platform.sent.pop()
    with lease(store, "test", CAP) as held:
        decide(held, _intents(store)["v1/list-1"], arrived=False)
    platform.settled = 2
    for arrived in ("v1/list-1", "v2/list-1"):
        with pytest.raises(Undecidable, match="shows 1 of this amount, and our books 0 others"):
            pay_all(store, platform, listed)
        with lease(store, "test", CAP) as held:
            decide(held, _intents(store)[arrived], arrived=True)
    pay_all(store, platform, listed)
    assert platform.sent == [("s1", 10), ("s2", 10), ("s3", 10)]


def _intents(store: Store) -> dict[str, str]:
    with store.read() as session:
        return {intent.subject: intent.id for intent in session.scalars(select(Intent))}
