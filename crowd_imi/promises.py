"""The bonus that study.toml promises (``[pay] bonus``): who earns it, and what it takes of the cap until it is paid."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from crowd_imi.ledger import IntentState
from crowd_imi.lifecycle import UNDER_WAY, Payment, VisitState
from crowd_imi.platforms.base import Capability, Platform, price
from crowd_imi.records import Money
from crowd_imi.store.money import RULE, all_intents
from crowd_imi.store.postings import postings
from crowd_imi.store.submissions import NEVER_SHOWN, judged_visits, visits_of
from crowd_imi.store.tables import Verdict, Visit
from crowd_imi.study import PaySection, Study

_MAY_STILL_EARN = UNDER_WAY | {VisitState.SUBMITTED}


@dataclass(frozen=True, slots=True)
class Promised:
    """What the rule's bonus takes of the cap."""

    each: int
    """Minor units of one bonus, fees included; 0 where study.toml promises none."""
    waiting: int
    """People who may still earn it, or have and weren't paid it yet: the pilot's and the study's."""

    @property
    def beside(self) -> int:
        return self.each * self.waiting


def one_bonus(study: Study, platform: Platform) -> int:
    """Minor units of one bonus by rule, fees included; 0 where none is promised, or the platform pays none."""
    pay = study.file.pay
    if not pay.bonus or Capability.BONUS not in platform.capabilities:
        return 0
    return price(platform, Money(amount=pay.bonus, currency=pay.currency)).amount


def promised(session: Session, study: Study, platform: Platform) -> Promised:
    """How much of the cap must be kept for bonuses by rule."""
    return promised_at(session, study, platform.name, one_bonus(study, platform))


def promised_at(session: Session, study: Study, platform: str, each: int) -> Promised:
    """As ``promised``, for who has no platform at hand.

    Args:
        session: only read.
        study: its pay.
        platform: its name.
        each: minor units of one bonus, fees included; 0 where none is promised.
    """
    if not each:
        return Promised(0, 0)
    sent = with_bonus(session, IntentState.OPEN, IntentState.DONE)  # these count against the cap as bonuses already
    judged = judged_visits(session, label=None)
    owed = sum(deserves(study.file.pay, visit, verdict) and visit.id not in sent for _, visit, verdict in judged)
    ours = [posting.id for posting in postings(session) if posting.platform == platform]
    came = (visit for posting in ours for visit in visits_of(session, posting))
    return Promised(each, owed + sum(visit.state in _MAY_STILL_EARN and visit.platform_state != NEVER_SHOWN for visit in came))


def deserves(pay: PaySection, visit: Visit, verdict: Verdict) -> bool:
    """Whether somebody earned the bonus of ``[pay]``; being excluded takes nothing away, nor being in the pilot."""
    if visit.submitted_at is None or visit.payment == Payment.REJECTED:
        return False
    if pay.bonus_for == "completion":
        return True
    catch = verdict.checks.get("catch_trials")
    return catch is not None and catch["measured"] == 1.0


def with_bonus(session: Session, *states: IntentState) -> set[str]:
    """Visits whose rule's bonus is in one of these states in the books."""
    rule = (one for one in all_intents(session) if one.operation == "bonus" and one.subject.endswith(f"/{RULE}"))
    return {one.subject.partition("/")[0] for one in rule if one.state in states}
