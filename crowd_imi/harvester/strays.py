"""Submissions on the platform that have no visit here: whoever was refused, never came, or came with somebody else's code.

Of such a submission the study keeps a name that follows from the platform's id by the study's key, and no id.
"""

from collections.abc import Collection

from sqlalchemy.orm import Session

from crowd_imi.allocation import hash_key
from crowd_imi.errors import HarvestError
from crowd_imi.harvester.approvals import approve_once, naming_nobody
from crowd_imi.harvester.context import Round
from crowd_imi.harvester.rejections import forget_meant, require_reason, with_category
from crowd_imi.keys import keyed_hash, participant_hash, study_key
from crowd_imi.ledger import IntentState, Operation, PaidCall, lease, note
from crowd_imi.lifecycle import PAYABLE, PlatformStatus
from crowd_imi.platforms.base import Platform, PlatformSubmission, price
from crowd_imi.store import Store
from crowd_imi.store.money import STRAY, find_intent
from crowd_imi.store.postings import postings
from crowd_imi.store.submissions import count_payable, participants_of, submission_ids
from crowd_imi.study import Study


def strays_of(statuses: dict[str, str], submissions: dict[str, str], visits: set[str]) -> set[str]:
    """Submissions on the platform that have no visit here."""
    return statuses.keys() - {submissions[visit] for visit in visits if visit in submissions}


def stray_name(key: bytes, submission: str) -> str:
    """What a submission without a visit is called here; nobody can tell the platform's id from it."""
    return f"{STRAY}{keyed_hash(key, 'stray', submission)[:16]}"


def owners(study: Study, store: Store, platform: Platform, listed: Collection[PlatformSubmission]) -> dict[str, str]:
    """Submission on the platform → its visit here; those that are missing are strays.

    Whoever's ids were deleted has a visit, which is known by the participant's hash. Ids whose visit never came about, as
    the server was killed at that moment, are nobody's.
    """
    with store.people() as people:
        ids = submission_ids(people, platform.name)
    with store.read() as session:
        participants = participants_of(session)
    ours = {submission: visit for visit, submission in ids.items() if visit in participants}
    forgotten = {participant: visit for visit, participant in participants.items() if visit not in ids}
    if forgotten:
        lab = hash_key(store, study)
        for found in listed:
            visit = forgotten.get(participant_hash(lab, platform.name, found.participant))
            if visit is not None:
                ours.setdefault(found.id, visit)
    return ours


def book_found(this: Round) -> None:
    """Write down who was approved on the platform itself and has no visit here, so that the cap sees the money."""
    approved = [found for found in this.listed.values() if found.status == PlatformStatus.APPROVED]
    ours = owners(this.study, this.store, this.platform, approved)
    strangers = [found.id for found in approved if found.id not in ours]
    if not strangers:
        return
    key = study_key(this.study.key)
    names = {stray_name(key, submission): submission for submission in strangers}
    with this.store.read() as session:
        calls = {name: _unbooked(session, name) for name in sorted(names)}
    for name, operation in calls.items():
        if operation is not None:
            call = PaidCall(operation, name, this.price_of(names[name]))
            note(this.lease, call, "approved on the platform, without a visit here")


def _unbooked(session: Session, name: str) -> Operation | None:
    """As what an approved stray is to be booked; None when it is."""
    ours = find_intent(session, "approve", name)  # meant here, but held, refused or cut off
    if ours is not None:
        return None if ours.state == IntentState.DONE else "approve"
    return None if find_intent(session, "found", name) is not None else "found"


def pay_stray(study: Study, store: Store, platform: Platform, name: str) -> str:
    """Pay the reward of somebody who handed in on the platform and has no visit here: a person's explicit decision.

    Args:
        study: whose.
        store: of the study.
        platform: where it was handed in.
        name: as ``ledger`` lists it.

    Returns:
        The outcome that the books keep.

    Raises:
        HarvestError: there is no such stray, or it was paid on the platform.
        LedgerError: the cap forbids it.
        PlatformError: the platform said no.
    """
    each = price(platform, study.file.pay.reward_money)
    with lease(store, "pay", study.file.pay.cap_money) as held:
        submission = _find(study, store, platform, name)
        with store.read() as session:
            if find_intent(session, "found", name) is not None:
                raise HarvestError(f"{name} was approved on {platform.name} and is in the books; nothing more is owed")
            unpaid = count_payable(session, PAYABLE, unpaid_only=True)
        call = PaidCall("approve", name, each)
        return approve_once(held, platform, call, submission, known_as=name, reserved=unpaid * each.amount) or ""


def reject_stray(  # noqa: PLR0913, PLR0917 (whom, and why)
    study: Study, store: Store, platform: Platform, name: str, reason: str, category: str | None = None
) -> None:
    """Refuse the reward of somebody who handed in on the platform and has no visit here.

    Raises:
        HarvestError: there is no such stray, or the reason is too short to be one.
        PlatformError: the platform said no.
    """
    require_reason(platform, reason)
    message = with_category(platform, reason.strip(), category)
    with lease(store, "reject", study.file.pay.cap_money) as held:
        submission = _find(study, store, platform, name)
        with naming_nobody(submission, name):
            platform.reject(submission, message)
        forget_meant(held, name)


def _find(study: Study, store: Store, platform: Platform, name: str) -> str:
    key = study_key(study.key)
    with store.read() as session:
        posted = [posting.platform_id for posting in postings(session) if posting.platform_id is not None]
    for posting in posted:
        for found in platform.submissions(posting):
            if stray_name(key, found.id) == name and found.id not in owners(study, store, platform, [found]):
                return found.id
    raise HarvestError(f"{platform.name} has no submission {name} without a visit here; `crowd-imi ledger` lists them")
