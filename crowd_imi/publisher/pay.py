"""What participants earn per hour, held against what is fair and what platforms insist on."""

from dataclasses import dataclass
from math import ceil
from statistics import median

from sqlalchemy import select

from crowd_imi.errors import StoreError
from crowd_imi.lifecycle import VisitState
from crowd_imi.records import Money
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.store.postings import PILOT
from crowd_imi.store.tables import Visit
from crowd_imi.study import Study

HOURLY_FLOOR = {"USD": 800, "GBP": 600}
"""What Prolific lets researchers pay at least per hour, in minor units; the sensible floor on any platform."""

HOURLY_FAIR = {"USD": 1200, "GBP": 900}
"""What Prolific recommends."""


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a task takes."""

    minutes: float
    pilot: int
    """How many of a pilot's participants this is the median of; 0 when it is what study.toml expects."""

    def __str__(self) -> str:
        return (
            f"{self.minutes:.1f} minutes a task, the median of {self.pilot} in the pilot"
            if self.pilot
            else (f"{self.minutes:g} minutes a task")
        )


def duration(study: Study) -> Duration:
    """What the study's pilot took, from arrival to the last answer; what study.toml expects before there is one.

    Counted are those whose responses are valid. A rehearsal's times are simulated and never looked at.
    """
    expected = Duration(study.file.pay.estimated_minutes, 0)
    if not study.database.exists():
        return expected
    try:
        store = Store.open(*database_urls(study.folder))
    except StoreError:
        return expected
    try:
        if store.kind is not StoreKind.STUDY:
            return expected
        chosen = select(Visit.submitted_at - Visit.arrived_at).where(Visit.label == PILOT, Visit.state == VisitState.VALID.value)
        with store.read() as session:
            taken = [milliseconds for milliseconds in session.scalars(chosen) if milliseconds is not None]
    finally:
        store.close()
    return Duration(median(taken) / 60_000, len(taken)) if taken and median(taken) > 0 else expected


def pay_per_hour(study: Study) -> Money:
    """By the time that the pilot took, or else by the minutes that study.toml expects."""
    pay = study.file.pay
    return Money(amount=round(pay.reward * 60 / duration(study).minutes), currency=pay.currency)


def below(study: Study, limits: dict[str, int]) -> str | None:
    """What to say when the pay is under a limit; None when it isn't, or nobody has set one for the currency."""
    pay, limit, earned = study.file.pay, limits.get(study.file.pay.currency), pay_per_hour(study)
    if limit is None or earned.amount >= limit:
        return None
    taken = duration(study)
    enough = Money(amount=ceil(limit * taken.minutes / 60), currency=pay.currency)
    why = f"the pilot's {taken.minutes:.1f} minutes" if taken.pilot else f"pay.estimated_minutes = {pay.estimated_minutes:g}"
    return (
        f"pay.reward: {pay.reward_money} for {why} is {earned} per hour, less than "
        f"{Money(amount=limit, currency=pay.currency)}; {enough} would be enough"
    )
