"""Last step: as many places on the platform as open tasks need, never more than the cap allows."""

from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from crowd_imi.errors import CapReached, PlatformError
from crowd_imi.harvester.context import COMING_BACK, OCCUPYING, Round, held_by_unknown
from crowd_imi.ledger import IntentState, PaidCall, close, spend
from crowd_imi.lifecycle import PAYABLE, PlatformStatus
from crowd_imi.platforms.base import Capability, PostingState
from crowd_imi.records import Money
from crowd_imi.stock import Stock
from crowd_imi.store.money import count_in_flight, count_intents, intents_in, is_paused_below_floor, note_paused_below_floor
from crowd_imi.store.postings import MAIN
from crowd_imi.store.submissions import NEVER_SHOWN, visits_of
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
            if visit.state in PAYABLE
            and visit.platform_state != NEVER_SHOWN
            and this.statuses.get(this.submissions.get(visit.id, "")) in (None, PlatformStatus.ACTIVE)
        }
    occupying = {submission for submission, status in this.statuses.items() if status in OCCUPYING}
    settled = {submission for submission in occupying if this.statuses[submission] not in COMING_BACK}
    unknown = held_by_unknown(this.platform, this.platform_posting, this.statuses)
    # A visit that began after the statuses were read isn't among them, and has a place all the same.
    return Places(offered, len(occupying | payable) + unknown, len(settled | payable) + unknown)


def adjust_places(this: Round, places: Places, stock: Stock, *, more: bool = True) -> int:
    """Offer what open tasks need: an absolute number, so that doing it again changes nothing.

    Args:
        this: the round.
        places: what there is.
        stock: where tasks stand.
        more: whether new people are wanted at all, beyond those who have a place.

    Returns:
        The places offered now.
    """
    if not this.whole:
        if this.state is not PostingState.OPEN or not more or places.used + len(stock.open) <= places.offered:
            return places.offered
        places = replace(places, offered=this.platform.places(this.platform_posting))
    _read_back(this, places.offered)
    if this.state is not PostingState.OPEN:
        return places.offered
    target = places.used + (len(stock.open) if more else 0)
    offered = places.offered
    try:
        if target > max(offered, places.taken):  # else nobody new could come: more are taken than offered, and some come back
            offered = _raise(this, offered, target, stock)
        elif this.whole and max(target, places.taken) < offered and Capability.FEWER_PLACES in this.platform.capabilities:
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


def pause_below_floor(this: Round, *, below: bool) -> None:
    """Where offered places can't be taken back, let nobody new in for as long as people are paid too little.

    It is noted first, so that a harvest which is killed on the way knows its own pause from a person's, and opens no other.

    Args:
        this: the round.
        below: whether the median pay is under the floor now.
    """
    able = this.platform.capabilities
    if not this.whole or this.label != MAIN or Capability.PAUSE not in able or Capability.FEWER_PLACES in able:
        return
    with this.store.read() as session:
        ours = is_paused_below_floor(session, this.posting)
    try:
        if below and this.state is PostingState.OPEN:
            _note_pause(this, paused=True)
            this.platform.pause(this.platform_posting)
        elif ours and not below:
            if this.state is PostingState.PAUSED:
                this.platform.resume(this.platform_posting)
            _note_pause(this, paused=False)
    except PlatformError as error:
        this.refused.append(f"pause: {error}")


def _note_pause(this: Round, *, paused: bool) -> None:
    with this.store.write() as session:
        note_paused_below_floor(session, this.posting, paused=paused)


def _raise(this: Round, offered: int, target: int, stock: Stock) -> int:
    more = target - offered
    with this.store.read() as session:
        subject = _unused(session, this.posting, target) or (
            f"{this.posting}/{count_intents(session, 'places', f'{this.posting}/') + 1}/{target}"
        )
        unpaid = stock.unpaid - count_in_flight(session, PAYABLE)
    call = PaidCall("places", subject, Money(amount=more * this.price.amount, currency=this.price.currency))
    reserved = (unpaid + stock.undecided + len(stock.open) - more + stock.elsewhere) * this.price.amount

    def set_places() -> str:
        this.platform.set_places(this.platform_posting, target)
        return f"{target} places"

    spend(this.lease, call, set_places, reserved=reserved)
    return target


def _unused(session: Session, posting: str, target: int) -> str | None:
    """The subject of an earlier try for as many places, which came to nothing."""
    tried = (*intents_in(session, IntentState.HELD, "places"), *intents_in(session, IntentState.REFUSED, "places"))
    fits = (i.subject for i in tried if i.subject.startswith(f"{posting}/") and i.subject.endswith(f"/{target}"))
    return next(fits, None)


def _read_back(this: Round, offered: int) -> None:
    """Close what a crash left open: places are read, not remembered, so nothing needs to be sent again."""
    with this.store.read() as session:
        every = intents_in(session, IntentState.OPEN, "places")
    left_open = [intent for intent in every if intent.subject.startswith(f"{this.posting}/")]
    for intent in left_open:
        arrived = intent.subject.endswith(f"/{offered}")
        close(this.lease, intent.id, IntentState.DONE if arrived else IntentState.REFUSED, f"{offered} places, as read back")
