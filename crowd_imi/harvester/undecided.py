"""Whom the platform may still have paid, though nothing is owed here: their money is kept until a person decides."""

from collections.abc import Mapping

from crowd_imi.harvester.context import KNOWN, Round, held_by_unknown
from crowd_imi.lifecycle import PAYABLE, PlatformStatus
from crowd_imi.platforms.base import Platform
from crowd_imi.store import Store
from crowd_imi.store.money import keep_undecided
from crowd_imi.store.submissions import are_payable

_WAITING = frozenset({PlatformStatus.AWAITING_REVIEW, PlatformStatus.WRONG_CODE})


def undecided(store: Store, platform: Platform, posting: str, submissions: Mapping[str, str], statuses: Mapping[str, str]) -> int:
    """How many submissions of a posting may cost a reward beside the visits that are paid, or may have to be.

    They were handed in there by somebody who didn't finish here or never came, or stand in a state that nobody here has heard
    of. Who was rejected, or gave the place back, costs nothing; who has a place and may still come is counted with the tasks
    that are open.

    Args:
        store: the run's.
        platform: is only asked when there is a status that nobody here has heard of.
        posting: the platform's id.
        submissions: visit → the platform's id of its submission.
        statuses: of every submission of the posting.
    """
    with store.read() as session:
        payable = {submissions[visit]: may for visit, may in are_payable(session, PAYABLE).items() if visit in submissions}
    others = {submission: status for submission, status in statuses.items() if not payable.get(submission, False)}
    waiting = sum(status in _WAITING for status in others.values())
    # An approved one without a visit is, or will be, in the books.
    approved = sum(status == PlatformStatus.APPROVED and submission in payable for submission, status in others.items())
    unknown = sum(status not in KNOWN for status in others.values())
    return waiting + approved + (min(unknown, held_by_unknown(platform, posting, statuses)) if unknown else 0)


def note_undecided(this: Round) -> None:
    """Write down how many there are, for whoever counts money without asking the platform."""
    count = undecided(this.store, this.platform, this.platform_posting, this.submissions, this.statuses)
    with this.store.write() as session:
        keep_undecided(session, this.posting, count)
