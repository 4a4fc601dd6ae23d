"""What people say here beside what the platform says of them now."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crowd_imi.harvester.context import KNOWN, OCCUPYING
from crowd_imi.harvester.records import Difference
from crowd_imi.harvester.strays import strays_of
from crowd_imi.lifecycle import Action, Payment, PlatformStatus, action_for
from crowd_imi.platforms.base import Capability, Platform
from crowd_imi.stock import waits_for_a_verdict
from crowd_imi.store.submissions import NEVER_SHOWN
from crowd_imi.store.tables import Visit


@dataclass(frozen=True)
class Comparison:
    """The visits of all postings of a study on one platform, beside its submissions.

    Attributes:
        judging: how many wait for a verdict, or to be given up.
        to_pay: how many are owed their reward, with a verdict or before it.
        missing: visits that were handed in here, and that the platform never showed.
        strays: status → submissions that have a place, or may have, and no visit here.
        differences: what doesn't fit and won't by itself.
    """

    judging: int
    to_pay: int
    missing: tuple[str, ...]
    strays: dict[str, int]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Reported:
    """What the platform said, and of whom.

    Attributes:
        statuses: posting → submission → its status.
        submissions: visit → the platform's id of its submission.
    """

    statuses: dict[str, dict[str, str]]
    submissions: dict[str, str]


def compare(platform: Platform, visits: Sequence[Visit], reported: Reported) -> Comparison:
    """Compare the visits of all postings with what the platform said of them."""
    said, submissions = reported.statuses, reported.submissions
    # Where only those are listed who handed in, others are at it.
    unlisted = None if Capability.LISTS_ACTIVE in platform.capabilities else PlatformStatus.ACTIVE.value
    there = {visit.id: said[visit.posting_id].get(submissions.get(visit.id, ""), unlisted) for visit in visits}
    ours = [visit for visit in visits if unlisted and visit.id in submissions]
    unseen = {visit.id for visit in ours if submissions[visit.id] not in said[visit.posting_id]}
    missing = tuple(visit.id for visit in visits if visit.id in unseen and visit.platform_state == NEVER_SHOWN)
    return Comparison(
        judging=sum(waits_for_a_verdict(visit, shown_up=visit.id not in unseen) for visit in visits),
        to_pay=_to_pay([visit for visit in visits if visit.id not in missing], there),
        missing=missing,
        strays=dict(sorted(_strays(reported, visits).items())),
        differences=_differences(visits, there),
    )


def _to_pay(visits: Sequence[Visit], there: Mapping[str, str | None]) -> int:
    """How many are owed their reward, with a verdict or before it."""
    return sum(visit.payment == Payment.UNPAID and action_for(visit.state, there[visit.id]) is Action.PAY for visit in visits)


def _strays(reported: Reported, visits: Sequence[Visit]) -> Counter[str]:
    """Status → submissions that have a place of any posting, or may have, and no visit here."""
    found: Counter[str] = Counter()
    for posting, statuses in reported.statuses.items():
        ours = {visit.id for visit in visits if visit.posting_id == posting}
        strays = (statuses[stray] for stray in strays_of(statuses, reported.submissions, ours))
        found.update(status for status in strays if status in OCCUPYING or status not in KNOWN)
    return found


def _differences(visits: Sequence[Visit], there: Mapping[str, str | None]) -> tuple[Difference, ...]:
    """Pairs that don't fit and won't by themselves, and who was paid here and isn't approved there."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for visit in visits:
        status = there[visit.id]
        unpaid_there = visit.payment == Payment.PAID and status != PlatformStatus.APPROVED
        if unpaid_there or action_for(visit.state, status) is Action.SHOW:
            found.setdefault((visit.state, visit.payment, status or "unknown"), []).append(visit.id)
    return tuple(
        Difference(visits=len(which), which=tuple(which), here=here, payment=payment, there=status)
        for (here, payment, status), which in sorted(found.items())
    )
