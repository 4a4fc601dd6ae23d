"""Fees, what studies lock, and the balance. Integers of minor units throughout."""

import json
from collections import Counter, defaultdict
from decimal import ROUND_HALF_UP, Decimal

from sqlalchemy import func, select

from crowd_imi.platforms.standins.prolific.desk import Account, Desk
from crowd_imi.platforms.standins.prolific.tables import Bonus, Reward, Setting, Study, Submission

UNDER_WAY = ("RESERVED", "ACTIVE", "AWAITING REVIEW", "PROCESSING")
"""Submissions that may still have to be paid."""


def fee_of(account: Account, amount: int) -> tuple[int, int]:
    """Fee and the VAT on it for one amount, each rounded half up."""
    fee = _rounded(Decimal(amount) * Decimal(str(account.fee)))
    return fee, _rounded(Decimal(fee) * Decimal(str(account.vat)))


def cost_of(account: Account, reward: int, places: int) -> dict[str, int]:
    """What so many places cost: rewards, fees, VAT on the fees and the total."""
    fee, vat = fee_of(account, reward)
    return {
        "rewards": reward * places,
        "fees": fee * places,
        "vat": vat * places,
        "total_cost": (reward + fee + vat) * places,
    }


def total_balance(desk: Desk) -> int:
    """The deposit without everything that was paid."""
    paid = desk.session.execute(
        select(
            select(func.coalesce(func.sum(Reward.amount + Reward.fee), 0)).scalar_subquery(),
            select(func.coalesce(func.sum(Bonus.amount + Bonus.fee), 0)).scalar_subquery(),
        )
    ).one()
    return int(desk.setting("deposit")) - int(paid[0]) - int(paid[1])


def available_balance(desk: Desk) -> int:
    """What isn't assigned to published studies."""
    counted = select(Submission.study_id, Submission.status, func.count()).group_by(Submission.study_id, Submission.status)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for study, status, count in desk.session.execute(counted):
        counts[study][status] = count
    published = desk.session.scalars(select(Study).where(Study.life != "UNPUBLISHED"))
    return total_balance(desk) - sum(_locked(desk.account, study, counts[study.id]) for study in published)


def set_total_balance(desk: Desk, amount: int) -> None:
    """Pay in or out so that the total is this."""
    deposit = desk.session.get_one(Setting, "deposit")
    deposit.value = str(int(deposit.value) + amount - total_balance(desk))


def _locked(account: Account, study: Study, counts: Counter[str]) -> int:
    """Places that may still have to be paid: all that aren't decided, or once it was stopped those under way."""
    fields = json.loads(study.fields)
    open_places = sum(counts[status] for status in UNDER_WAY)
    if study.life != "STOPPED":
        decided = sum(counts[status] for status in ("APPROVED", "PARTIALLY APPROVED", "REJECTED"))
        open_places = max(fields["total_available_places"] - decided, open_places)
    return cost_of(account, fields["reward"], open_places)["total_cost"]


def _rounded(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))
