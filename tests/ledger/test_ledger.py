import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from crowd_imi.errors import CapReached, LedgerError, PlatformError
from crowd_imi.ledger import HeldLease, PaidCall, books, lease, note, spend
from crowd_imi.ledger.leases import LEASE_MS
from crowd_imi.records import Money
from crowd_imi.store import SimulatedClock, Store, StoreKind
from crowd_imi.store.tables import Intent, Lease
from tests.tiny import fake_plan, write_study

CAP = Money(amount=400, currency="USD")


def usd(amount: int) -> Money:
    return Money(amount=amount, currency="USD")


def call(subject: str, amount: int = 150) -> PaidCall:
    return PaidCall("approve", subject, usd(amount))


@pytest.fixture
def store(tmp_path: Path, make_store: Callable[..., Store]) -> Store:
    return make_store(fake_plan(write_study(tmp_path)), StoreKind.STUDY)


@pytest.fixture
def held(store: Store):
    with lease(store, "test", CAP) as held:
        yield held


def rows(store: Store) -> list[tuple[str, str, str | None]]:
    with store.read() as session:
        return [(i.subject, i.state, i.outcome) for i in session.scalars(select(Intent).order_by(Intent.subject))]


def test_the_intent_is_on_disk_before_the_call_and_its_outcome_after(store: Store, held: HeldLease):
    def pay() -> str:
        assert rows(store) == [("v1", "open", None)]
        return "paid"

    assert spend(held, call("v1"), pay) == "paid"
    assert rows(store) == [("v1", "done", "paid")]


def test_nothing_is_paid_twice(held: HeldLease):
    calls: list[str] = []
    for _ in range(3):
        assert spend(held, call("v1"), lambda: calls.append("x") or "paid") == "paid"
    assert calls == ["x"]


def test_an_intent_left_open_is_read_back_before_anything_is_sent(store: Store, held: HeldLease):
    class Crash(BaseException):
        pass

    def crash() -> str:
        raise Crash

    for subject in ("arrived", "lost"):
        with pytest.raises(Crash):
            spend(held, call(subject), crash)
    sent: list[str] = []
    assert spend(held, call("arrived"), lambda: sent.append("arrived"), read_back=lambda: "was paid") == "was paid"
    assert spend(held, call("lost"), lambda: sent.append("lost") or "paid now", read_back=lambda: None) == "paid now"
    assert sent == ["lost"]
    assert rows(store) == [("arrived", "done", "was paid"), ("lost", "done", "paid now")]


def test_a_refusal_is_kept_and_tried_again(store: Store, held: HeldLease):
    def refuse() -> str:
        raise PlatformError("no funds")

    with pytest.raises(PlatformError):
        spend(held, call("v1"), refuse)
    assert rows(store) == [("v1", "refused", "no funds")]
    assert spend(held, call("v1"), lambda: "paid") == "paid"
    assert rows(store) == [("v1", "done", "paid")]


def test_the_cap_holds_what_was_spent_and_what_is_promised(store: Store, held: HeldLease):
    spend(held, call("v1"), lambda: "paid")
    # 150 spent + 150 = 300 of 400 would do, but 101 are promised to others.
    with pytest.raises(CapReached, match=r"0\.01 USD over the cap of 4\.00 USD"):
        spend(held, call("v2"), lambda: "paid", reserved=101)
    assert spend(held, call("v2"), lambda: "paid", reserved=100) == "paid"
    with pytest.raises(CapReached):
        spend(held, call("v3"), lambda: "paid")
    with store.read() as session:
        now = books(session)
    assert (now.spent, now.held, now.open_intents) == (300, 150, 0)


def test_a_raised_cap_lets_held_ones_through(store: Store):
    with lease(store, "test", usd(100)) as held, pytest.raises(CapReached):
        spend(held, call("v1"), lambda: "paid")
    with lease(store, "test", usd(150)) as held:
        assert spend(held, call("v1"), lambda: "paid") == "paid"
    assert rows(store) == [("v1", "done", "paid")]


def test_exactly_the_cap_may_be_spent(held: HeldLease):
    assert spend(held, call("v1", 400), lambda: "paid") == "paid"


def test_posting_promises_and_does_not_spend(store: Store, held: HeldLease):
    spend(held, PaidCall("post", "p1", usd(400)), lambda: "posted")
    with store.read() as session:
        assert books(session).spent == 0


def test_another_currency_is_refused(held: HeldLease):
    with pytest.raises(LedgerError, match="EUR"):
        spend(held, PaidCall("approve", "v1", Money(amount=1, currency="EUR")), lambda: "paid")


def test_what_a_platform_paid_by_itself_counts_as_spent_once(store: Store, held: HeldLease):
    for _ in range(2):
        note(held, call("v1"), "approved there")
    assert rows(store) == [("v1", "done", "approved there")]
    with store.read() as session:
        assert books(session).spent == 150


def test_a_second_spender_is_told_who_spends_and_until_when(store: Store, held: HeldLease):
    with (
        pytest.raises(LedgerError, match=rf"test \(process {os.getpid()} on .*, until \d\d:\d\d:\d\d UTC"),
        lease(store, "b", CAP),
    ):
        pass


def test_the_lease_is_given_back(store: Store):
    for _ in range(2):
        with lease(store, "a", CAP):
            pass
    with pytest.raises(ZeroDivisionError), lease(store, "a", CAP):
        _ = 1 / 0
    with store.read() as session:
        assert session.scalars(select(Lease)).all() == []


def test_a_lease_that_ran_out_is_taken_over_and_its_old_holder_stopped(store: Store):
    clock = SimulatedClock(0)
    with lease(store, "slow", CAP, clock) as slow:
        clock.set(LEASE_MS)
        with lease(store, "quick", CAP, clock) as quick:
            assert spend(quick, call("v1"), lambda: "paid") == "paid"
            with pytest.raises(LedgerError, match="ran out while slow"):
                spend(slow, call("v2"), lambda: "paid")
    assert rows(store) == [("v1", "done", "paid")]


def test_spending_keeps_the_lease(store: Store):
    clock = SimulatedClock(0)
    with lease(store, "busy", CAP, clock) as held:
        clock.set(LEASE_MS - 1_000)
        spend(held, call("v1"), lambda: "paid")
        clock.set(LEASE_MS + 80_000)
        with pytest.raises(LedgerError, match="busy"), lease(store, "other", CAP, clock):
            pass


def test_a_container_that_was_killed_and_begins_again_with_the_same_process_number_need_not_wait(store: Store):
    me = f"process {os.getpid()} on {socket.gethostname()}"
    with store.write() as session:
        session.add(Lease(name="spender", holder=f"harvest ({me} a1b2c3)", expires_at=store.now() + 60_000))
    with lease(store, "next", CAP), pytest.raises(LedgerError, match="next"), lease(store, "beside it", CAP):
        pass


@pytest.mark.parametrize(("host", "waits"), [(socket.gethostname(), False), ("another-machine", True)])
def test_nobody_waits_for_a_killed_process_of_the_same_machine(store: Store, monkeypatch: pytest.MonkeyPatch, host, waits):
    def no_such_process(pid: int, signal: int) -> None:
        raise ProcessLookupError(pid)

    with store.write() as session:
        session.add(Lease(name="spender", holder=f"harvest (process 4711 on {host} a1)", expires_at=store.now() + 60_000))
    monkeypatch.setattr(os, "kill", no_such_process)
    if waits:
        with pytest.raises(LedgerError, match="process 4711"), lease(store, "next", CAP):
            pass
    else:
        with lease(store, "next", CAP) as held:
            assert spend(held, call("v1"), lambda: "paid") == "paid"
