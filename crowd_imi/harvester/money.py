"""What a person pays by hand: bonuses and compensation."""

import re
from dataclasses import dataclass

from crowd_imi.errors import HarvestError, UnknownSubmission
from crowd_imi.harvester.approvals import WITHOUT_FINISHING, approve_once
from crowd_imi.harvester.settle import note_compensated
from crowd_imi.ledger import Bonus, PaidCall, lease, pay_bonus
from crowd_imi.lifecycle import OWED, PAYABLE, Payment, PlatformStatus
from crowd_imi.platforms.base import Capability, Platform, price
from crowd_imi.promises import promised
from crowd_imi.records import Money
from crowd_imi.store import Store
from crowd_imi.store.money import COMPENSATION, RULE, find_intent
from crowd_imi.store.people import submission_of
from crowd_imi.store.submissions import are_payable, count_payable
from crowd_imi.store.tables import Visit
from crowd_imi.store.visits import find_visit
from crowd_imi.study import Study

_NAME = re.compile(r"[\w .-]{1,80}")


@dataclass(frozen=True, slots=True)
class Compensation:
    """Money for one visit beside the reward."""

    visit: str
    money: Money
    name: str
    reason: str


def pay(study: Study, store: Store, platform: Platform, compensation: Compensation) -> str:
    """Pay a bonus or a compensation to one participant, once for each name.

    Returns:
        The outcome that the books keep.

    Raises:
        HarvestError: there is no such visit, its ids were deleted, or the platform pays no bonuses.
        LedgerError: the cap forbids it, or it can't be told whether an earlier try arrived.
        PlatformError: the platform said no.
    """
    require_bonuses(platform)
    if compensation.money.amount <= 0:
        raise HarvestError(f"{compensation.money} can't be paid; give an amount above 0, in minor units")
    if compensation.money.amount > study.file.pay.cap:
        raise HarvestError(f"{compensation.money} can't be paid: it is more than the whole cap of {study.file.pay.cap_money}")
    if compensation.name == RULE:
        raise HarvestError(
            f"{RULE!r} is what the books call the bonus of [pay] in study.toml, which a harvest pays; take another --name"
        )
    if not _NAME.fullmatch(compensation.name):
        raise HarvestError(
            f"{compensation.name!r} is no name of a bonus; take letters, digits, spaces, dots, - and _, as in travel"
        )
    submission = submission_to_settle(store, compensation.visit)
    require_handed_in(platform, compensation.visit, submission)
    bonus = Bonus(compensation.visit, submission, compensation.name, compensation.money, compensation.reason)
    with lease(store, "pay", study.file.pay.cap_money) as held:
        if compensation.name == COMPENSATION:
            _require_compensable(store, platform, compensation.visit, submission)
        outcome = pay_bonus(held, platform, bonus, _reserved(study, store, platform, compensation))
    if compensation.name == COMPENSATION:
        note_compensated(store, compensation.visit)
    return outcome


def pay_reward(study: Study, store: Store, platform: Platform, visit_id: str) -> str:
    """Pay the reward of somebody who handed in on the platform without finishing here: a person's explicit decision.

    Returns:
        The outcome that the books keep.

    Raises:
        HarvestError: there is no such visit, its ids were deleted, it is paid, or a harvest is to pay it.
        LedgerError: the cap forbids it.
        PlatformError: the platform said no.
    """
    submission = submission_to_settle(store, visit_id)
    each = price(platform, study.file.pay.reward_money)
    with lease(store, "pay", study.file.pay.cap_money) as held:
        with store.read() as session:
            visit, unpaid = session.get_one(Visit, visit_id), count_payable(session, PAYABLE, unpaid_only=True)
        status = platform.submission(submission).status
        if visit.payment != Payment.UNPAID:
            raise HarvestError(f"visit {visit_id} is {visit.payment} already")
        if visit.state in OWED or status not in WITHOUT_FINISHING:
            raise HarvestError(
                f"visit {visit_id} is {visit.state.replace('_', ' ')} here and {status.replace('_', ' ')} on {platform.name}; "
                "only who handed in there without finishing here is approved by hand, and a harvest pays who finished"
            )
        others = (unpaid - (visit.state in PAYABLE)) * each.amount
        call = PaidCall("approve", visit_id, each)
        outcome = approve_once(held, platform, call, submission, known_as=f"of visit {visit_id}", reserved=others)
        with store.write() as session:
            row = session.get_one(Visit, visit_id)
            row.payment, row.platform_state = Payment.PAID.value, PlatformStatus.APPROVED.value
    return outcome or ""


def require_bonuses(platform: Platform) -> None:
    """Make sure that the platform pays bonuses.

    Raises:
        HarvestError: it doesn't.
    """
    if Capability.BONUS not in platform.capabilities:
        raise HarvestError(f"{platform.name} pays no bonuses; pay this participant in another way")


def never_handed_in(platform: Platform, visit_id: str) -> str:
    """Why somebody gets no bonus on a platform that only knows who handed in."""
    return (
        f"visit {visit_id} was never handed in on {platform.name}, which pays bonuses to who handed in only; pay this person in "
        "another way"
    )


def require_handed_in(platform: Platform, visit_id: str, submission: str) -> None:
    """Make sure that a bonus has a way to this participant.

    Raises:
        HarvestError: the platform pays bonuses to who handed in, and this one never did.
    """
    if Capability.BONUS_UNFINISHED in platform.capabilities:
        return
    try:
        platform.submission(submission)
    except UnknownSubmission:
        raise HarvestError(never_handed_in(platform, visit_id)) from None


def _require_compensable(store: Store, platform: Platform, visit_id: str, submission: str) -> None:
    """Whoever can be approved is paid by a harvest; compensation is for who gave the place back, or ran out of time, there."""
    with store.read() as session:
        visit = session.get_one(Visit, visit_id)
        before = find_intent(session, "bonus", f"{visit_id}/{COMPENSATION}")
    if visit.payment != Payment.UNPAID and before is None:
        raise HarvestError(f"visit {visit_id} is {visit.payment} already; a bonus that comes on top wants a --name of its own")
    status = platform.submission(submission).status
    if status in WITHOUT_FINISHING and visit.state not in OWED:
        raise HarvestError(
            f"visit {visit_id} was handed in on {platform.name} without being finished here: `crowd-imi pay --visit {visit_id} "
            f"--approve` pays its reward, `crowd-imi reject --visit {visit_id}` refuses it"
        )
    if status not in (PlatformStatus.RETURNED, PlatformStatus.TIMED_OUT):
        raise HarvestError(
            f"visit {visit_id} is {status.replace('_', ' ')} on {platform.name}, so `crowd-imi harvest` pays its reward; a bonus "
            "that comes on top wants a --name of its own"
        )


def _reserved(study: Study, store: Store, platform: Platform, compensation: Compensation) -> int:
    """What the cap must hold for everybody else who may have to be paid: a reward goes before promised bonuses."""
    with store.read() as session:
        unpaid = count_payable(session, PAYABLE, unpaid_only=True)
        counted = are_payable(session, PAYABLE).get(compensation.visit, False)
        own = session.get_one(Visit, compensation.visit)
        promised_beside = 0 if compensation.name == COMPENSATION else promised(session, study, platform).beside
    itself = compensation.name == COMPENSATION and own.payment == Payment.UNPAID and counted
    return (unpaid - itself) * price(platform, study.file.pay.reward_money).amount + promised_beside


def submission_to_settle(store: Store, visit_id: str) -> str:
    """The platform's id of a visit's submission.

    Raises:
        HarvestError: there is no such visit, or its ids were deleted.
    """
    with store.read() as session:
        if find_visit(session, visit_id) is None:
            raise HarvestError(f"{store.url}: there is no visit {visit_id}; `crowd-imi export --format csv` lists them")
    with store.people() as people:
        submission = submission_of(people, visit_id)
    if submission is None:
        raise HarvestError(f"visit {visit_id}: its platform ids were deleted, so nothing can be paid or refused any more")
    return submission
