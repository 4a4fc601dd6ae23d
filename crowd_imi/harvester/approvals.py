"""Rewards are paid by approving submissions: once each, whoever decides it."""

from collections.abc import Iterator
from contextlib import contextmanager

from crowd_imi.errors import PlatformError
from crowd_imi.ledger import HeldLease, PaidCall, spend
from crowd_imi.lifecycle import PlatformStatus
from crowd_imi.platforms.base import Platform

WITHOUT_FINISHING = frozenset({PlatformStatus.AWAITING_REVIEW, PlatformStatus.WRONG_CODE})
"""A submission that the platform says this of, and that wasn't finished here, waits for a person."""


def approve_once(  # noqa: PLR0913 (with what right, where, what, and beside whom)
    lease: HeldLease, platform: Platform, call: PaidCall, submission: str, *, known_as: str, reserved: int
) -> str | None:
    """Approve a submission, or find that an earlier try arrived.

    Args:
        lease: the right to spend.
        platform: where it was handed in.
        call: as the books have it.
        submission: the platform's id.
        known_as: what messages say instead of that id, which stays in people.db.
        reserved: minor units promised to others.

    Raises:
        CapReached: it would go over the cap.
        PlatformError: the platform said no.
    """

    def approve() -> str:
        with naming_nobody(submission, known_as):
            platform.approve(submission)
        return "approved"

    def approved() -> str | None:
        with naming_nobody(submission, known_as):
            status = platform.submission(submission).status
        return "approved" if status == PlatformStatus.APPROVED else None

    return spend(lease, call, approve, reserved=reserved, read_back=approved)


@contextmanager
def naming_nobody(submission: str, known_as: str) -> Iterator[None]:
    """Whatever the platform says no to, its id of the submission stays in people.db.

    Args:
        submission: the platform's id.
        known_as: what messages say instead.
    """
    try:
        yield
    except PlatformError as error:
        raise type(error)(str(error).replace(submission, known_as)) from None
