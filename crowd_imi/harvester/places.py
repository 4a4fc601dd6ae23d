"""Last step: as many places on the platform as open tasks need, never more than the cap allows."""

from dataclasses import dataclass

from crowd_imi.errors import CapReached, PlatformError
from crowd_imi.harvester.context import OCCUPYING, Round
from crowd_imi.harvester.stock import PAYABLE, Stock
from crowd_imi.ledger import IntentState, PaidCall, close, spend
from crowd_imi.lifecycle import PlatformStatus
from crowd_imi.records import Money
from crowd_imi.store.money import count_intents, intents_in
from crowd_imi.store.submissions import visits_of
from crowd_imi.store.tables import Posting


@dataclass(frozen=True, slots=True)
class Places:
    """What the platform offers, and who has it."""

    offered: int
    taken: int
    """By anybody."""
    used: int
    """By somebody who is at a task, was, or handed something in: these don't come back."""

    def promised(self, stock: Stock) -> int:
        """Places that may still bring a visit to a task: free ones, and those taken by somebody who has no visit."""
        return min(max(0, self.offered - self.used), len(stock.open) + len(stock.unaffordable))


def count_places(this: Round, offered: int) -> Places:
    """Count places, by the statuses that the round knows.

    Args:
        this: the round.
        offered: how many the platform offers in all.
    """
    with this.store.read() as session:
        payable = {
            this.submissions.get(visit.id, visit.id)
            for visit in visits_of(session, this.posting)
            if visit.state in PAYABLE and this.statuses.get(this.submissions.get(visit.id, "")) in (None, PlatformStatus.ACTIVE)
        }
    occupying = {submission for submission, status in this.statuses.items() if status in OCCUPYING}
    settled = {submission for submission in occupying if this.statuses[submission] != PlatformStatus.ACTIVE}
    # A visit that began after the statuses were read isn't among them, and has a place all the same.
    return Places(offered, len(occupying | payable), len(settled | payable))


def adjust_places(this: Round, places: Places, stock: Stock) -> int:
    """Offer what open tasks need: an absolute number, so that doing it again changes nothing.

    Returns:
        The places offered now.
    """
    _read_back(this, places.offered)
    target = places.used + len(stock.open)
    offered = places.offered
    try:
        if target > offered:
            offered = _raise(this, offered, target, stock)
        elif max(target, places.taken) < offered:
            this.platform.set_places(this.platform_posting, max(target, places.taken))
            offered = max(target, places.taken)
    except PlatformError as error:
        this.refused.append(f"places: {error}")
    except CapReached:
        # Somebody submitted late since the tasks were counted; the next round counts anew.
        pass
    with this.store.write() as session:
        session.get_one(Posting, this.posting).places = offered
    return offered


def _raise(this: Round, offered: int, target: int, stock: Stock) -> int:
    more = target - offered
    with this.store.read() as session:
        number = count_intents(session, "places", f"{this.posting}/") + 1
    call = PaidCall(
        "places", f"{this.posting}/{number}/{target}", Money(amount=more * this.reward.amount, currency=this.reward.currency)
    )
    reserved = (stock.unpaid + len(stock.open) - more) * this.reward.amount

    def set_places() -> str:
        this.platform.set_places(this.platform_posting, target)
        return f"{target} places"

    spend(this.lease, call, set_places, reserved=reserved)
    return target


def _read_back(this: Round, offered: int) -> None:
    """Close what a crash left open: places are read, not remembered, so nothing needs to be sent again."""
    with this.store.read() as session:
        left_open = intents_in(session, IntentState.OPEN, "places")
    for intent in left_open:
        arrived = intent.subject.endswith(f"/{offered}")
        close(this.lease, intent.id, IntentState.DONE if arrived else IntentState.REFUSED, f"{offered} places, as read back")
