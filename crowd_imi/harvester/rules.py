"""Money beside the reward: the bonus that study.toml promises, and a top-up when people turn out to be paid too little."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from statistics import median

from sqlalchemy.orm import Session

from crowd_imi.errors import CapReached, PlatformError, Undecidable
from crowd_imi.harvester.context import Round
from crowd_imi.ledger import Bonus, IntentState, pay_bonus
from crowd_imi.lifecycle import Payment
from crowd_imi.platforms.base import Platform, price
from crowd_imi.promises import deserves, one_bonus, with_bonus
from crowd_imi.records import Money, Record
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.money import COMPENSATION, RULE, all_intents
from crowd_imi.store.submissions import judged_visits
from crowd_imi.store.tables import Intent, Visit
from crowd_imi.study import Study

FEWEST = 10
"""So many submissions must have been timed before anybody concludes that they are paid too little."""
FLOORS: Mapping[tuple[str, str], int] = {("prolific", "GBP"): 600, ("prolific", "USD"): 800}
"""(Platform, currency) → what it wants paid for an hour at least, on the median time, in minor units."""
_THANKS = "Thank you: this bonus was promised to everybody who did as well as you did."


class TopUp(Record):
    """What would bring the median pay up to the floor; proposed, never sent by itself."""

    per_hour: Money
    """What the median submission was paid for an hour, bonuses included."""
    floor: Money
    """What it should be at least."""
    amounts: dict[str, int]
    """Visit that was paid less than the floor for the median time → minor units that are missing, fees not included."""
    together: Money
    """All of them."""


@dataclass(frozen=True, slots=True)
class RulePaid:
    """What one round paid by the rule."""

    paid: int
    held: int


def pay_by_rule(this: Round, reserved: int) -> RulePaid:
    """Pay the rule's bonus to who earned it and has the reward, as far as the cap holds everybody's reward besides.

    Args:
        this: the round.
        reserved: minor units promised to others as rewards.
    """
    pay = this.study.file.pay
    if not one_bonus(this.study, this.platform):
        return RulePaid(0, 0)
    with this.store.read() as session:
        sent = with_bonus(session, IntentState.DONE)
        earned = [visit for _, visit, verdict in judged_visits(session, label=None) if deserves(pay, visit, verdict)]
    waiting = [visit for visit in earned if visit.payment == Payment.PAID and visit.id not in sent]
    outcomes = [_pay(this, visit.id, reserved) for visit in waiting if visit.posting_id == this.posting]
    return RulePaid(outcomes.count("paid"), outcomes.count("held"))


def _pay(this: Round, visit: str, reserved: int) -> str:
    submission = this.submissions.get(visit)
    if submission is None:
        return "not now"
    pay = this.study.file.pay
    bonus = Bonus(visit, submission, RULE, Money(amount=pay.bonus, currency=pay.currency), _THANKS)
    try:
        pay_bonus(this.lease, this.platform, bonus, reserved)
    except CapReached:
        return "held"
    except (PlatformError, Undecidable) as error:
        this.refused.append(f"bonus {visit}: {str(error).replace(submission, f'of visit {visit}')}")
        return "not now"
    return "paid"


def top_up(session: Session, study: Study, store: Store, platform: Platform) -> TopUp | None:
    """Whether people are paid less than the floor by the median of the time that they really took, and what would mend it.

    Args:
        session: only read.
        study: its pay, and the floor where it sets one.
        store: a rehearsal's simulated people take what time they like, so no platform's own floor is held against them.
        platform: which may have a floor of its own.

    Returns:
        None where there is no floor, fewer than ``FEWEST`` were timed, or the pay is enough.
    """
    pay = study.file.pay
    theirs = FLOORS.get((platform.name, pay.currency)) if store.kind is StoreKind.STUDY else None
    floor = theirs if pay.floor_per_hour is None else pay.floor_per_hour
    timed = _hours_in_time(session)
    if not floor or len(timed) < FEWEST:
        return None
    hours = median(took for _, took in timed)
    bonuses = _bonuses(session, pay.reward_money, price(platform, pay.reward_money))
    got = {visit.id: pay.reward + bonuses.get(visit.id, 0) for visit, _ in timed}
    wanted = ceil(floor * hours)
    if median(got.values()) >= wanted or hours <= 0:
        return None
    missing = {visit: wanted - paid for visit, paid in got.items() if paid < wanted}
    return TopUp(
        per_hour=Money(amount=int(median(got.values()) / hours), currency=pay.currency),
        floor=Money(amount=floor, currency=pay.currency),
        amounts=missing,
        together=Money(amount=sum(missing.values()), currency=pay.currency),
    )


def _hours_in_time(session: Session) -> list[tuple[Visit, float]]:
    """Who submitted in time, with the hours from arrival to submission."""
    return [
        (visit, (visit.submitted_at - visit.arrived_at) / 3_600_000)
        for _, visit, _ in judged_visits(session)
        if visit.submitted_at is not None and visit.left_at is None
    ]


def _bonuses(session: Session, reward: Money, each: Money) -> dict[str, int]:
    """Visit → its bonuses so far without fees, to the cent; fees are taken to be the same share as on rewards."""
    found: dict[str, int] = {}
    for one in all_intents(session):
        if one.operation == "bonus" and one.state == IntentState.DONE and not one.subject.endswith(f"/{COMPENSATION}"):
            plain = round(one.amount * reward.amount / each.amount) if each.amount else one.amount
            found[_visit_of(one)] = found.get(_visit_of(one), 0) + plain
    return found


def _visit_of(intent: Intent) -> str:
    return intent.subject.partition("/")[0]
