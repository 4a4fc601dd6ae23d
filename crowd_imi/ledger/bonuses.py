"""Bonuses: the one paid call that some platforms would do twice.

A bonus is known by the visit and a name (``compensation``, ``travel``), so that the same command given again pays nothing.
What a crash left open is read back from the platform. Where the platform neither keeps our key nor shows the bonus yet,
nobody can tell whether it arrived: it stays open, and a person may decide it with both books in view.
"""

from dataclasses import dataclass
from hashlib import sha256

from crowd_imi.errors import CapReached, LedgerError, PlatformError, Undecidable, Unreachable
from crowd_imi.ledger.leases import HeldLease
from crowd_imi.ledger.paid_calls import IntentState, PaidCall, close, intend
from crowd_imi.platforms.base import Capability, Platform, price
from crowd_imi.records import Money
from crowd_imi.store.money import find_intent, intents_in
from crowd_imi.store.tables import Intent

_ARRIVED, _DID_NOT_ARRIVE = "a person says that it arrived", "a person says that it did not arrive"


@dataclass(frozen=True, slots=True)
class Bonus:
    """Money beside the reward."""

    visit: str
    submission: str
    """The platform's id."""
    name: str
    """A visit has one bonus of a name."""
    money: Money
    """What the participant gets; the platform's fee comes on top."""
    reason: str
    """What the participant reads."""


def pay_bonus(lease: HeldLease, platform: Platform, bonus: Bonus, reserved: int = 0) -> str:
    """Pay a bonus once, whatever happened before.

    Args:
        lease: the right to spend.
        platform: who pays it.
        bonus: to whom, how much, what for.
        reserved: minor units promised to others and not yet spent, which the cap must hold as well.

    Returns:
        The outcome that the books keep, of now or of an earlier time.

    Raises:
        CapReached: it would go over the cap (the intent is held).
        Undecidable: an earlier try may have arrived, and the platform doesn't show it yet.
        Unreachable: the platform gave no answer; the next try reads back first.
        PlatformError: the platform said no.
        LedgerError: the lease was lost, or the bonus was of another amount before.
    """
    paid = PaidCall("bonus", f"{bonus.visit}/{bonus.name}", price(platform, bonus.money))
    insisted = _a_person_insists(lease, paid)
    intent, left_open = intend(lease, paid, reserved)
    if intent.amount != paid.money.amount:
        raise LedgerError(
            f"{paid}: {Money(amount=intent.amount, currency=intent.currency)} was meant before, fees included, and "
            f"{paid.money} now; give a second bonus another name"
        )
    if intent.state == IntentState.DONE:
        return intent.outcome or ""
    if intent.state == IntentState.HELD:
        raise CapReached(f"{paid}: {intent.outcome}")
    _require_alone(lease, platform, intent)
    outcome = None if insisted else _read_back(lease, platform, bonus, intent, left_open)
    if outcome is None:
        outcome = _send(lease, platform, bonus, intent)
    close(lease, intent.id, IntentState.DONE, outcome)
    return outcome


def decide(lease: HeldLease, intent_id: str, *, arrived: bool) -> Intent:
    """A person has looked at the platform and says whether an open bonus arrived.

    Raises:
        LedgerError: there is no such bonus, or it isn't open.
    """
    with lease.store.write() as session:
        lease.renew(session)
        intent = session.get(Intent, intent_id)
        if intent is None or intent.operation != "bonus":
            raise LedgerError(f"the ledger knows no bonus {intent_id}; `crowd-imi ledger` lists them")
        if intent.state != IntentState.OPEN:
            raise LedgerError(f"bonus {intent_id} is {intent.state} already ({intent.outcome}), so there is nothing to decide")
        noted = intent.outcome or "never sent"
        intent.state = (IntentState.DONE if arrived else IntentState.REFUSED).value
        intent.outcome = f"{noted}; {_ARRIVED if arrived else _DID_NOT_ARRIVE}"
        intent.closed_at = lease.store.now()
        return intent


def _a_person_insists(lease: HeldLease, paid: PaidCall) -> bool:
    """Whether somebody looked and said that this bonus didn't arrive: what the platform shows of its amount is another one."""
    with lease.store.read() as session:
        known = find_intent(session, paid.operation, paid.subject)
    return known is not None and known.state == IntentState.REFUSED and (known.outcome or "").endswith(_DID_NOT_ARRIVE)


def _send(lease: HeldLease, platform: Platform, bonus: Bonus, intent: Intent) -> str:
    try:
        return platform.send_bonus(
            bonus.submission, bonus.money, _key(bonus), bonus.reason, lambda text: _remember(lease, intent.id, text)
        )
    except Unreachable:
        raise
    except PlatformError as error:
        close(lease, intent.id, IntentState.REFUSED, str(error).replace(bonus.submission, f"of visit {bonus.visit}"))
        raise


def _require_alone(lease: HeldLease, platform: Platform, intent: Intent) -> None:
    """Where a platform keeps no key, a bonus that shows up must be the one that is looked for: never two at once."""
    if Capability.KEYED_BONUS in platform.capabilities:
        return
    with lease.store.read() as session:
        other = next((other for other in intents_in(session, IntentState.OPEN, "bonus") if other.id != intent.id), None)
    if other is not None and other.outcome is not None:
        raise Undecidable(
            f"bonus {other.id} ({other.subject}) was sent and isn't known to have arrived. Settle it first, as two at once can't "
            f"be told apart on {platform.name}: pay it again later, or decide it with `crowd-imi pay --arrived` "
            "or `--not-arrived`"
        )


def _key(bonus: Bonus) -> str:
    """The same for the same bonus, also from a restored copy of the study that doesn't know what was paid since."""
    return sha256(f"bonus/{bonus.visit}/{bonus.name}".encode()).hexdigest()[:32]


def _read_back(lease: HeldLease, platform: Platform, bonus: Bonus, intent: Intent, left_open: bool) -> str | None:
    """The outcome of a bonus that has arrived already; None when it may be sent (again)."""
    if Capability.KEYED_BONUS in platform.capabilities:
        return None  # the key pays it once
    noted = intent.outcome if left_open else None  # is noted before the money moves
    paid = platform.bonuses(bonus.submission)
    if _key(bonus) in {found.key for found in paid}:
        return f"bonus {_key(bonus)}, as read back"
    shown = sum(found.amount == bonus.money and found.key is None for found in paid)  # one with another key is another one
    with lease.store.read() as session:
        others = [
            other
            for other in intents_in(session, IntentState.DONE, "bonus")
            if other.subject.startswith(f"{bonus.visit}/") and other.amount == intent.amount
        ]
    if noted is not None and shown > len(others):
        return f"{noted}, as read back"
    if noted is None and shown <= len(others):
        return None
    before = f"was sent ({noted}) when the answer was lost" if noted else "is about to be sent"
    raise Undecidable(
        f"bonus {intent.id} of visit {bonus.visit}: {bonus.money} {before}; "
        f"{platform.name} shows {shown} of this amount, and our books {len(others)} others. Bonuses show some time after they "
        "are paid: run this again later, or look there and decide it with `crowd-imi pay --arrived` or `--not-arrived`"
    )


def _remember(lease: HeldLease, intent_id: str, text: str) -> None:
    with lease.store.write() as session:
        lease.renew(session)
        session.get_one(Intent, intent_id).outcome = text
