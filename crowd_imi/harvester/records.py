"""What a harvest did, and where a study stands."""

from crowd_imi.records import Money, Record


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
    """Every task has its valid response or is short, and nobody is at one."""

    @property
    def quiet(self) -> bool:
        """Nothing happened."""
        return not (self.valid or self.excluded or self.surplus or self.paid or self.returned or self.timed_out or self.released)


class ArmStatus(Record):
    """Where an arm's tasks are: every one is in exactly one of valid, submitted, under_way, open and short."""

    arm: str
    tasks: int
    valid: int
    submitted: int
    """Waiting for a verdict."""
    under_way: int
    open: int
    short: int
    """No attempt or no money left."""
    excluded: int
    """Submissions, not tasks; their tasks were offered again."""


class Difference(Record):
    """Visits of which we and the platform don't say the same."""

    visits: int
    here: str
    payment: str
    there: str


class Status(Record):
    """Where a study stands."""

    study: str
    platform: str
    posted: bool
    arms: tuple[ArmStatus, ...]
    excluded_by: dict[str, int]
    """Criterion → submissions that failed it; one submission may fail several."""
    left: dict[str, int]
    """declined, returned, timed_out → visits."""
    surplus: int
    places: int
    places_free: int
    reward: Money
    spent: Money
    committed: Money
    """Spent, or owed to who is under way or done: never more than the cap."""
    held: Money
    """Owed, but over the cap: for a person to decide."""
    cap: Money
    differences: tuple[Difference, ...]
    strays: int
    """Places on the platform that were taken without a visit here."""
    remarks: tuple[str, ...]
    """What a person should look at."""
    complete: bool
