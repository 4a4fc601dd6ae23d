"""What participants earn per hour, held against what is fair and what platforms insist on."""

from math import ceil

from crowd_imi.records import Money
from crowd_imi.study import Study

HOURLY_FLOOR = {"USD": 800, "GBP": 600}
"""What Prolific lets researchers pay at least per hour, in minor units; the sensible floor on any platform."""

HOURLY_FAIR = {"USD": 1200, "GBP": 900}
"""What Prolific recommends."""


def pay_per_hour(study: Study) -> Money:
    """By the minutes that study.toml expects."""
    pay = study.file.pay
    return Money(amount=round(pay.reward * 60 / pay.estimated_minutes), currency=pay.currency)


def below(study: Study, limits: dict[str, int]) -> str | None:
    """What to say when the pay is under a limit; None when it isn't, or nobody has set one for the currency."""
    pay, limit, earned = study.file.pay, limits.get(study.file.pay.currency), pay_per_hour(study)
    if limit is None or earned.amount >= limit:
        return None
    enough = Money(amount=ceil(limit * pay.estimated_minutes / 60), currency=pay.currency)
    return (
        f"pay.reward: {pay.reward_money} for pay.estimated_minutes = {pay.estimated_minutes:g} is {earned} per hour, less than "
        f"{Money(amount=limit, currency=pay.currency)}; {enough} would be enough"
    )
