"""What a harvest did, and where a study stands."""

from collections.abc import Mapping, Sequence
from typing import Any

from crowd_imi.harvester.rules import TopUp
from crowd_imi.platforms.base import PostingState
from crowd_imi.records import Money, Record
from crowd_imi.stock import ArmStatus, TaskStatus


class Harvest(Record):
    """What one round did. Everything counts this round alone but ``short`` and ``complete``."""

    valid: int
    excluded: int
    surplus: int
    """Good ones whose task was somebody else's by the time they came: paid, and not counted."""
    paid: int
    paid_money: Money
    held: int
    """Owed, but over the cap: for a person to decide."""
    bonuses: int
    """Paid by the rule of ``[pay]``."""
    top_up: TopUp | None
    """Proposed because people are paid too little: until somebody pays it, no more places are offered."""
    returned: int
    timed_out: int
    released: int
    """Places that were taken back on the platform."""
    replaced: int
    """Tasks of excluded submissions that are offered again."""
    places: int
    """Places offered on the platform in all."""
    short: tuple[str, ...]
    """Tasks without a valid response that have no attempt or no money left, as ``arm/number``."""
    to_compensate: tuple[str, ...]
    """Visits that are owed their reward and gave the place back on the platform: for a person, with ``crowd-imi pay``."""
    refused: tuple[str, ...]
    """What the platform said no to; tried again in the next round."""
    complete: bool
    """Every task has its valid response or is short, or the study was stopped, and nobody is at one."""
    broken_off: tuple[str, ...] = ()
    """Postings (main, pilot) whose round the platform ended; what was done until then stands in the books."""

    @property
    def quiet(self) -> bool:
        """Nothing happened."""
        counts = (self.valid, self.excluded, self.surplus, self.paid, self.bonuses, self.returned, self.timed_out, self.released)
        return not any(counts)


def together(rounds: Sequence[Harvest], broken_off: Mapping[str, str] | None = None) -> Harvest:
    """The rounds of a study's postings as one.

    Args:
        rounds: at least one.
        broken_off: another posting's label → why its round didn't come to its end.
    """
    broken_off = broken_off or {}
    first = rounds[0]
    summed: dict[str, Any] = {
        name: sum((getattr(one, name) for one in rounds), type(value)())
        for name, value in first
        if isinstance(value, int | tuple) and not isinstance(value, bool)
    }
    paid = Money(amount=sum(one.paid_money.amount for one in rounds), currency=first.paid_money.currency)
    summed["refused"] += tuple(f"harvest of the {label} posting: {why}" for label, why in broken_off.items())
    summed["broken_off"] = tuple(broken_off)
    complete = all(one.complete for one in rounds) and not broken_off
    return first.model_copy(update={**summed, "paid_money": paid, "complete": complete})


class Difference(Record):
    """Visits of which we and the platform don't say the same."""

    visits: int
    which: tuple[str, ...]
    """The visits' ids, as ``pay --visit`` and ``reject --visit`` take them."""
    here: str
    payment: str
    there: str


class UnitStatus(Record):
    """One unit's responses: wanted = valid + under_way + open + short."""

    arm: str
    unit: str
    wanted: int
    valid: int
    under_way: int
    """At it, or waiting for a verdict."""
    open: int
    short: int
    excluded: int
    """Beside them: responses that were excluded."""


class ArmAttrition(Record):
    """Who came to an arm and who left it; who isn't counted after ``came`` is still at it."""

    arm: str
    came: int
    finished: int
    declined: int
    returned: int
    timed_out: int
    failed_practice: int


class Surplus(Record):
    """A good submission whose task was somebody else's by the time it came: kept and paid, and not analysed."""

    visit: str
    task: str
    """As ``arm/number``; the pilot's with ``pilot`` before it."""
    payment: str


class ClosingRemark(Record):
    """What a participant wrote on the last page."""

    visit: str
    """The study's own id, as ``pay --visit`` takes it; no platform's."""
    label: str
    """main or pilot."""
    arm: str
    state: str
    """submitted, valid or excluded."""
    text: str
    """As it was written; it may say who somebody is."""


class ClosingRemarks(Record):
    """All of them, in the order of submission."""

    study: str
    remarks: tuple[ClosingRemark, ...]


class Status(Record):
    """Where a study stands."""

    study: str
    platform: str
    posted: bool
    """The study itself; before, it may be its pilot that is out."""
    state: PostingState | None
    """Whether new participants are let in, to the study, or to its pilot before; None where nothing is posted."""
    arms: tuple[ArmStatus, ...]
    pilot: ArmStatus | None
    """All arms of the pilot together, apart from the study's; None where there is none."""
    tasks: tuple[TaskStatus, ...]
    """The study's, not its pilot's."""
    units: tuple[UnitStatus, ...]
    attrition: tuple[ArmAttrition, ...]
    excluded_by: dict[str, int]
    """Criterion → submissions that failed it; one submission may fail several."""
    left: dict[str, int]
    """declined, returned, timed_out → visits."""
    surplus: tuple[Surplus, ...]
    places: int
    places_free: int
    reward: Money
    spent: Money
    committed: Money
    """Spent, or owed to who is under way or done: never more than the cap."""
    held: Money
    """Owed, but over the cap: for a person to decide."""
    cap: Money
    left_over: Money
    """Of the cap, for who comes yet."""
    top_up: TopUp | None
    """Proposed, as people are paid too little; until it is paid no more places are offered."""
    differences: tuple[Difference, ...]
    strays: int
    """Places on the platform, of every posting, that were taken without a visit here."""
    strays_are: dict[str, int]
    """What the platform says of these → how many."""
    events_elsewhere: int
    """Events of the last days that named submissions which are in no posting of this study: passed over."""
    remarks: tuple[str, ...]
    """What a person should look at."""
    closing_remarks: int
    """Participants who wrote something on the last page; ``closing_remarks`` has the texts."""
    next: tuple[str, ...]
    """What the next harvest will do, and what it waits for."""
    complete: bool
    """As a harvest's: nobody is at a task, and each has its valid response, or is short, or the study was stopped."""
