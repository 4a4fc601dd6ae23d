"""Bonuses: the one paid call that some platforms would do twice.

A bonus is known by the visit and a name (``compensation``, ``travel``), so that the same command given again pays nothing.
What a crash left open is read back from the platform. Where the platform neither keeps our key nor shows the bonus yet,
nobody can tell whether it arrived: it stays open, and a person may decide it with both books in view. Where several are paid by
one call, they arrived together or not at all: they share what was noted, and are read back and decided together.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from crowd_imi.errors import CapReached, LedgerError, PlatformError, Undecidable, Unreachable
from crowd_imi.ledger.leases import HeldLease
from crowd_imi.ledger.paid_calls import IntentState, PaidCall, close, intend
from crowd_imi.platforms.base import BonusOrder, Capability, Platform, PlatformBonus, price
from crowd_imi.progress import Track, silent
from crowd_imi.records import Money
from crowd_imi.store.money import find_intent, intents_in
from crowd_imi.store.tables import Intent

_ARRIVED, _DID_NOT_ARRIVE = "a person says that it arrived", "a person says that it did not arrive"
_OTHERS = "did those that were sent with it"
"""Said of many at once, this isn't taken for a look at each: what shows of them nevertheless is asked for once more."""


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

    @property
    def subject(self) -> str:
        """What the books know it by."""
        return f"{self.visit}/{self.name}"


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A bonus and where it stands in the books."""

    bonus: Bonus
    intent: Intent
    noted: str | None
    """What an earlier process wrote down right before the money moved."""
    insisted: bool
    """A person looked and said of this very one that it didn't arrive."""


def pay_bonus(lease: HeldLease, platform: Platform, bonus: Bonus, reserved: int = 0) -> str:
    """Pay one bonus; see ``pay_bonuses``.

    Returns:
        The outcome that the books keep, of now or of an earlier time.
    """
    [outcome] = pay_bonuses(lease, platform, [bonus], reserved)
    return outcome


def pay_bonuses(
    lease: HeldLease, platform: Platform, bonuses: Sequence[Bonus], reserved: int = 0, track: Track = silent
) -> list[str]:
    """Pay bonuses once, whatever happened before; in as few calls as the platform allows, one call after the other.

    Args:
        lease: the right to spend.
        platform: who pays them.
        bonuses: to whom, how much, what for; all of one posting, each under a name of its own.
        reserved: minor units promised to others and not yet spent, which the cap must hold as well.
        track: shows how far it is.

    Returns:
        The outcome of each that the books keep, of now or of an earlier time.

    Raises:
        CapReached: one would go over the cap (its intent is held; what comes before it in the list was paid).
        Undecidable: an earlier try may have arrived, and the platform doesn't show it yet.
        Unreachable: the platform gave no answer; the next try reads back first.
        PlatformError: the platform said no to one or more; all others were paid.
        LedgerError: the lease was lost, or a bonus was of another amount before.
    """
    outcomes: dict[int, str] = {}
    refusals: list[PlatformError] = []
    for batch in track(list(_batches(lease, platform, bonuses)), "paying"):
        try:
            paid = _pay_together(lease, platform, [bonuses[at] for at in batch], reserved)
        except Unreachable:
            raise
        except PlatformError as refusal:
            refusals.append(refusal)
        else:
            outcomes.update(zip(batch, paid, strict=True))
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        raise PlatformError("\n".join(map(str, refusals)))
    return [outcomes[at] for at in range(len(bonuses))]


def _batches(lease: HeldLease, platform: Platform, bonuses: Sequence[Bonus]) -> Iterator[list[int]]:
    """Positions of bonuses that are paid by one call: of different submissions, and those that a crash left open first.

    What was sent together and isn't known to have arrived stays together, and alone.
    """
    sent: dict[str, list[int]] = {}
    fresh: list[list[int]] = []
    with lease.store.read() as session:
        known = [find_intent(session, "bonus", bonus.subject) for bonus in bonuses]
    for at, intent in enumerate(known):
        if intent is not None and intent.state == IntentState.OPEN and intent.outcome is not None:
            sent.setdefault(intent.outcome, []).append(at)
            continue
        whose = bonuses[at].submission
        for batch in fresh:
            if len(batch) < platform.bonus_batch and all(bonuses[other].submission != whose for other in batch):
                batch.append(at)
                break
        else:
            fresh.append([at])
    yield from sent.values()
    yield from fresh


def _pay_together(lease: HeldLease, platform: Platform, bonuses: Sequence[Bonus], reserved: int) -> list[str]:
    earlier: list[str | None] = []
    waiting: list[_Waiting] = []
    over: CapReached | None = None
    for bonus in bonuses:
        try:
            one = _open(lease, platform, bonus, reserved)
        except CapReached as reached:
            over = reached
            break
        done = one.intent.state == IntentState.DONE
        earlier.append(one.intent.outcome or "" if done else None)
        if not done:
            waiting.append(one)
    outcome = _settle(lease, platform, waiting) if waiting else ""
    if over is not None:
        raise over
    return [outcome if known is None else known for known in earlier]


def _settle(lease: HeldLease, platform: Platform, waiting: Sequence[_Waiting]) -> str:
    noted = waiting[0].noted
    _require_alone(lease, platform, noted, {one.intent.id for one in waiting})
    outcome = _read_back(lease, platform, waiting)
    together = _sent_as(lease, noted) if outcome is not None and noted is not None else []
    if outcome is None:
        outcome = _send(lease, platform, waiting)
    for intent in {one.intent.id for one in waiting} | {intent.id for intent in together}:
        close(lease, intent, IntentState.DONE, outcome)
    return outcome


def _sent_as(lease: HeldLease, noted: str) -> Sequence[Intent]:
    """Everything that was sent by the same call and isn't known to have arrived."""
    with lease.store.read() as session:
        return [intent for intent in intents_in(session, IntentState.OPEN, "bonus") if intent.outcome == noted]


def _open(lease: HeldLease, platform: Platform, bonus: Bonus, reserved: int) -> _Waiting:
    """A bonus with its intent, done or open."""
    paid = PaidCall("bonus", bonus.subject, price(platform, bonus.money))
    insisted = _a_person_insists(lease, paid)
    intent, left_open = intend(lease, paid, reserved)
    if intent.amount != paid.money.amount:
        raise LedgerError(
            f"{paid}: {Money(amount=intent.amount, currency=intent.currency)} was meant before, fees included, and "
            f"{paid.money} now; give a second bonus another name"
        )
    if intent.state == IntentState.HELD:
        raise CapReached(f"{paid}: {intent.outcome}")
    return _Waiting(bonus, intent, intent.outcome if left_open else None, insisted)


def decide(lease: HeldLease, intent_id: str, *, arrived: bool) -> Intent:
    """A person has looked at the platform and says whether an open bonus arrived, and with it all that were sent together.

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
        noted = intent.outcome
        left_open = [] if noted is None else intents_in(session, IntentState.OPEN, "bonus")
        others = [other for other in left_open if other.outcome == noted and other.id != intent.id]
        among = f", and neither {_OTHERS}" if others and not arrived else ""
        for one in (intent, *others):
            one.state = (IntentState.DONE if arrived else IntentState.REFUSED).value
            one.outcome = f"{noted or 'never sent'}; {_ARRIVED if arrived else _DID_NOT_ARRIVE}{among}"
            one.closed_at = lease.store.now()
        return intent


def _a_person_insists(lease: HeldLease, paid: PaidCall) -> bool:
    """Whether somebody looked and said that this bonus didn't arrive: what the platform shows of its amount is another one."""
    with lease.store.read() as session:
        known = find_intent(session, paid.operation, paid.subject)
    return known is not None and known.state == IntentState.REFUSED and (known.outcome or "").endswith(_DID_NOT_ARRIVE)


def _send(lease: HeldLease, platform: Platform, waiting: Sequence[_Waiting]) -> str:
    bonuses = [one.bonus for one in waiting]
    orders = [BonusOrder(submission=b.submission, money=b.money, key=_key(b), reason=b.reason) for b in bonuses]
    try:
        return platform.send_bonuses(orders, lambda text: _remember(lease, [one.intent.id for one in waiting], text))
    except Unreachable:
        raise
    except PlatformError as error:
        said = str(error)
        for bonus in bonuses:
            said = said.replace(bonus.submission, f"of visit {bonus.visit}")
        for one in waiting:
            close(lease, one.intent.id, IntentState.REFUSED, said)
        raise type(error)(said) from None


def _require_alone(lease: HeldLease, platform: Platform, noted: str | None, these: set[str]) -> None:
    """Where a platform keeps no key, a bonus that shows up must be the one that is looked for: never two calls at once."""
    if Capability.KEYED_BONUS in platform.capabilities:
        return
    with lease.store.read() as session:
        left_open = intents_in(session, IntentState.OPEN, "bonus")
    other = next((i for i in left_open if i.id not in these and i.outcome is not None and i.outcome != noted), None)
    if other is not None:
        raise Undecidable(
            f"bonus {other.id} ({other.subject}) was sent and isn't known to have arrived. Settle it first, as two at once can't "
            f"be told apart on {platform.name}: pay it again later, or decide it with `crowd-imi pay --arrived` "
            "or `--not-arrived`"
        )


def _key(bonus: Bonus) -> str:
    """The same for the same bonus, also from a restored copy of the study that doesn't know what was paid since."""
    return sha256(f"bonus/{bonus.subject}".encode()).hexdigest()[:32]


def _read_back(lease: HeldLease, platform: Platform, waiting: Sequence[_Waiting]) -> str | None:
    """The outcome of bonuses that have arrived already; None when they may be sent (again)."""
    if Capability.KEYED_BONUS in platform.capabilities:
        return None  # the key pays it once
    shown = _shown(platform, waiting)
    keyed = [one for one in waiting if _key(one.bonus) in {found.key for found in shown[one.bonus.submission]}]
    if keyed:  # platforms that show a key are paid one by one
        return f"bonus {_key(keyed[0].bonus)}, as read back"
    others = _others_paid(lease, waiting)
    counts = []
    for one in waiting:
        alike = [found for found in shown[one.bonus.submission] if found.amount == one.bonus.money and found.key is None]
        counts.append((one, len(alike), others[one.bonus.visit, one.intent.amount]))
    noted = waiting[0].noted
    if noted is not None and all(there > known for _, there, known in counts):
        return f"{noted}, as read back"
    unclear = [
        (one, there, known)
        for one, there, known in counts
        if not one.insisted and (there <= known if noted is not None else there > known)
    ]
    if not unclear:
        return None
    one, there, known = unclear[0]
    before = f"was sent ({noted}) when the answer was lost" if noted else "is about to be sent"
    more = f" (and {len(unclear) - 1} others with it)" if len(unclear) > 1 else ""
    raise Undecidable(
        f"bonus {one.intent.id} of visit {one.bonus.visit}{more}: {one.bonus.money} {before}; "
        f"{platform.name} shows {there} of this amount, and our books {known} others. Bonuses show some time after they "
        "are paid: run this again later, or look there and decide it with `crowd-imi pay --arrived` or `--not-arrived`"
    )


def _shown(platform: Platform, waiting: Sequence[_Waiting]) -> dict[str, tuple[PlatformBonus, ...]]:
    """Submission → its bonuses on the platform; of many, read all at once."""
    whose = [one.bonus.submission for one in waiting]
    if len(whose) <= 2:
        return {submission: platform.bonuses(submission) for submission in whose}
    every = platform.all_bonuses(platform.submission(whose[0]).posting)
    return {submission: every.get(submission, ()) for submission in whose}


def _others_paid(lease: HeldLease, waiting: Sequence[_Waiting]) -> Counter[tuple[str, int]]:
    """(visit, amount with the fee) → bonuses that our books know as paid."""
    visits = {one.bonus.visit for one in waiting}
    with lease.store.read() as session:
        done = intents_in(session, IntentState.DONE, "bonus")
    paid = ((intent.subject.partition("/")[0], intent.amount) for intent in done)
    return Counter((visit, amount) for visit, amount in paid if visit in visits)


def _remember(lease: HeldLease, intents: Sequence[str], text: str) -> None:
    with lease.store.write() as session:
        lease.renew(session)
        for intent in intents:
            session.get_one(Intent, intent).outcome = text
