"""Whatever the order in which people come, answer and leave, and harvests run or are killed, the rules hold."""

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from crowd_imi.allocation import hand_in
from crowd_imi.errors import PlatformError, Refused
from crowd_imi.harvester import Harvest, harvest
from crowd_imi.lifecycle import PAYABLE, UNDER_WAY, VisitState
from crowd_imi.stock import take_stock
from crowd_imi.store.tables import Visit
from crowd_imi.store.visits import finished_at
from tests.harvester.crowd import SMALL, Crowd
from tests.harvester.death import Death, DyingPlatform, DyingStore, Killed

S = VisitState
TOML = (
    SMALL.replace("min_total_seconds = 60", "min_total_seconds = 60\nmax_total_seconds = 1000000")
    .replace("catch = 2", "catch = 2\nmax_attempts = 2")
    .replace("cap = 5000", "cap = 990")
)
"""Four tasks, 150 each, at most six visits (900 of 990), two attempts per task."""

REWARD, CAP, TASKS = 150, 990, 4


class Orders(RuleBasedStateMachine):
    """One run of a study, in an order that hypothesis chooses."""

    crowd: Crowd
    saved: dict[Path, bytes]

    def __init__(self) -> None:
        super().__init__()
        self.crowd.restore(self.saved)
        self.newcomers = 0
        self.answered: set[str] = set()
        """Visits that answered everything and didn't submit."""

    def visits(self) -> list[Visit]:
        with self.crowd.store.read() as session:
            return list(session.scalars(select(Visit).order_by(Visit.arrived_at, Visit.id)))

    def finished(self, visit: Visit) -> int:
        with self.crowd.store.read() as session:
            return finished_at(session, visit.id)

    def pick(self, number: int, wanted: set[str]) -> Visit | None:
        found = [visit for visit in self.visits() if visit.state in wanted]
        return found[number % len(found)] if found else None

    @rule(again=st.booleans())
    def somebody_arrives(self, again: bool) -> None:
        """A new person, or the last one again."""
        self.newcomers += not (again and self.newcomers)
        with suppress(PlatformError, Refused):
            self.crowd.arrive(f"p{self.newcomers}")

    @rule(number=st.integers(0, 5), how=st.sampled_from(["begin", "fail_practice", "decline"]))
    def somebody_goes_on(self, number: int, how: str) -> None:
        visit = self.pick(number, {S.ARRIVED})
        if visit is not None:
            getattr(self.crowd, how)(visit)

    @rule(number=st.integers(0, 5), good=st.booleans(), hands_in=st.booleans())
    def somebody_submits(self, number: int, good: bool, hands_in: bool) -> None:
        """In time, or after time was called."""
        late = {S.TIMED_OUT, S.RETURNED}
        visit = self.pick(number, {S.ANSWERING, *late})
        if visit is None or visit.practised_at is None:
            return
        if visit.id in self.answered:
            with self.crowd.store.write() as session:
                hand_in(session, session.get_one(Visit, visit.id), self.crowd.clock.now())
        else:
            self.crowd.submit(visit, good=good)
        if hands_in:
            try:
                self.crowd.hand_in(self.crowd.people()[visit.id])
            except PlatformError:
                assert visit.state in late or visit.platform_state != "active"

    @rule(number=st.integers(0, 5), good=st.booleans())
    def somebody_answers_everything_and_presses_no_button(self, number: int, good: bool) -> None:
        visit = self.pick(number, {S.ANSWERING, S.TIMED_OUT})
        if visit is not None and visit.practised_at is not None and visit.id not in self.answered:
            self.crowd.answer_all(visit, good=good)
            self.answered.add(visit.id)

    @rule(number=st.integers(0, 5))
    def somebody_gives_the_place_back(self, number: int) -> None:
        visit = self.pick(number, set(UNDER_WAY) | {S.SUBMITTED})
        if visit is not None:
            try:
                self.crowd.platform.give_back(self.crowd.submission_of(self.crowd.people()[visit.id]))
            except PlatformError:
                assert visit.state == S.SUBMITTED

    @rule(minutes=st.sampled_from([5, 61, 121]))
    def time_passes(self, minutes: int) -> None:
        self.crowd.pass_time(minutes)

    @rule()
    def a_harvest_runs(self) -> None:
        self.harvest()

    @rule(moment=st.integers(0, 45))
    def a_harvest_is_killed(self, moment: int) -> None:
        death = Death(moment)
        with suppress(Killed):
            harvest(self.crowd.study, DyingStore(self.crowd.store, death), DyingPlatform(self.crowd.platform, death))

    def harvest(self) -> Harvest:
        done = harvest(self.crowd.study, self.crowd.store, self.crowd.platform)
        assert done.refused == ()
        return done

    @invariant()
    def money_stays_below_the_cap(self) -> None:
        assert self.crowd.paid() <= CAP
        late = [visit for visit in self.visits() if visit.left_at is not None and visit.payment == "unpaid"]
        payable = [v for v in self.visits() if (v.state in PAYABLE or v.payment == "paid") and v not in late]
        assert len(payable) * REWARD <= CAP

    @invariant()
    def nobody_is_paid_twice_or_for_nothing(self) -> None:
        paid = Counter(payment.submission for payment in self.crowd.platform.payments())
        assert all(times == 1 for times in paid.values())
        names = self.crowd.people()
        owed = {names[visit.id] for visit in self.visits() if visit.state in {S.VALID, S.EXCLUDED}}
        statuses = self.crowd.platform.submissions(self.crowd.posting.platform_id)
        payees = [s.participant for s in statuses if s.id in paid]
        assert set(payees) <= owed and len(set(payees)) == len(payees)

    @invariant()
    def a_task_has_at_most_one_valid_response(self) -> None:
        valid = Counter(visit.task_id for visit in self.visits() if visit.state == S.VALID)
        assert all(times == 1 for times in valid.values())

    @invariant()
    def whoever_answered_everything_is_never_timed_out_first(self) -> None:
        assert all(v.state != S.TIMED_OUT or v.left_at <= self.finished(v) for v in self.visits() if v.id in self.answered)

    @invariant()
    def no_task_is_lost(self) -> None:
        stock = take_stock(self.crowd.study, self.crowd.store, self.crowd.study.file.pay.reward_money)
        lists = (stock.valid, stock.pending, stock.open, stock.unaffordable, stock.exhausted)
        assert sorted(task.task for tasks in lists for task in tasks) == list(range(1, TASKS + 1))

    def teardown(self) -> None:
        """Left to good people, the study ends: every task is valid or, for want of money or attempts, short."""
        for _ in range(TASKS + 4):
            done = self.harvest()
            if done.complete:
                break
            self.crowd.pass_time(121)
            self.harvest()
            while self.crowd.free():
                self.newcomers += 1
                self.crowd.take_part(f"p{self.newcomers}")
        assert done.complete
        self.harvest()
        stock = take_stock(self.crowd.study, self.crowd.store, self.crowd.study.file.pay.reward_money)
        assert len(stock.valid) + len(stock.short) == TASKS
        if stock.unaffordable:
            assert stock.payable == CAP // REWARD
        unpaid = [v for v in self.visits() if v.state in {S.VALID, S.EXCLUDED} and v.payment != "paid"]
        assert all(visit.left_at is not None for visit in unpaid)
        if unpaid:
            assert self.crowd.paid() + REWARD > CAP
        self.money_stays_below_the_cap()
        self.nobody_is_paid_twice_or_for_nothing()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Orders]:
    """The state machine, on a crowd that each example begins anew with."""

    def no_such_process(pid: int, signal: int) -> None:
        raise ProcessLookupError(pid)

    monkeypatch.setattr(os, "kill", no_such_process)
    crowd = Crowd.posted(tmp_path, TOML)

    class Here(Orders):
        pass

    Here.crowd, Here.saved = crowd, crowd.save()
    return Here


def orders(examples: int, *, derandomize: bool) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(
        max_examples=examples,
        stateful_step_count=20,
        deadline=None,
        derandomize=derandomize,
        database=None,
        suppress_health_check=checks,
    )


def test_any_order_of_events_keeps_the_rules(machine: type[Orders]):
    examples = int(os.environ.get("CROWD_IMI_EXAMPLES", "12"))
    run_state_machine_as_test(machine, settings=orders(examples, derandomize=examples <= 12))


@pytest.mark.soak
@pytest.mark.parametrize("batch", range(20))
def test_twenty_thousand_orders_of_events_keep_the_rules(machine: type[Orders], batch: int):
    """A thousand in each batch, other ones in each run."""
    run_state_machine_as_test(machine, settings=orders(1000, derandomize=False))
