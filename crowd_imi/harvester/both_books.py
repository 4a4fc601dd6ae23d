"""Both books side by side: ours, and the platform's, entry by entry."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crowd_imi.harvester.strays import owners, stray_name
from crowd_imi.keys import study_key
from crowd_imi.ledger import IntentState
from crowd_imi.ledger.books import SPENDING
from crowd_imi.lifecycle import PlatformStatus
from crowd_imi.platforms.base import Capability, Platform, PlatformBonus, PlatformSubmission, price
from crowd_imi.records import Money, Record
from crowd_imi.store import Store
from crowd_imi.store.money import STRAY, all_intents
from crowd_imi.store.tables import Intent
from crowd_imi.study import Study

UNDECIDED = (PlatformStatus.AWAITING_REVIEW, PlatformStatus.WRONG_CODE)
"""Handed in, and for a person to decide where there is no visit."""


class Entry(Record):
    """One paid call in our books and what the platform says of it, or one on the platform that our books don't have."""

    intent: str | None
    """None where it isn't in our books."""
    operation: str
    subject: str
    """The posting's or the visit's id, or the name of a submission that has no visit here."""
    amount: Money
    """Fees included; of post and places, what they may come to cost."""
    state: str
    outcome: str | None
    there: str | None
    """The platform's word; None where it isn't asked."""
    differs: bool


class Ledger(Record):
    """What ``ledger --json`` prints."""

    study: str
    platform: str
    entries: tuple[Entry, ...]
    spent: Money
    held: Money
    unknown: Money
    """Of calls whose outcome isn't known yet."""
    cap: Money
    balance: Money | None
    """The platform's, where it has one."""
    differences: int


@dataclass(frozen=True, slots=True)
class _There:
    """The platform's side, read in as few requests as it allows."""

    platform: Platform
    reward: Money
    listed: Mapping[str, PlatformSubmission]
    bonuses: Mapping[str, tuple[PlatformBonus, ...]]
    subjects: Mapping[str, str]
    """Submission → its visit, or the name of one that has none."""

    @property
    def submissions(self) -> dict[str, str]:
        """Visit or stray → submission."""
        return {subject: submission for submission, subject in self.subjects.items()}

    def cost_of(self, submission: PlatformSubmission) -> Money:
        return price(self.platform, submission.paid or self.reward)


def ledger(study: Study, store: Store, platform: Platform) -> Ledger:
    """Our books next to the platform's, entry by entry.

    Raises:
        PlatformError: the platform can't be read.
    """
    with store.read() as session:
        intents = all_intents(session)
    there = _read(study, store, platform, intents)
    entries = (*_ours(there, intents), *_not_ours(there, intents))
    currency = study.file.pay.currency

    def total(*states: IntentState) -> Money:
        spending = [i for i in intents if i.operation in SPENDING and i.state in states]
        return Money(amount=sum(i.amount for i in spending), currency=currency)

    return Ledger(
        study=study.file.study.name,
        platform=platform.name,
        entries=entries,
        spent=total(IntentState.DONE),
        held=total(IntentState.HELD),
        unknown=total(IntentState.OPEN),
        cap=study.file.pay.cap_money,
        balance=platform.account().balance,
        differences=sum(entry.differs for entry in entries),
    )


def _read(study: Study, store: Store, platform: Platform, intents: Sequence[Intent]) -> _There:
    done = [intent for intent in intents if intent.operation == "post" and intent.state == IntentState.DONE]
    posted = [intent.outcome for intent in done if intent.outcome is not None]
    listed = {found.id: found for posting in posted for found in platform.submissions(posting)}
    visits = owners(study, store, platform, listed.values())
    bonuses: dict[str, tuple[PlatformBonus, ...]] = {}
    if Capability.BONUS in platform.capabilities:
        for posting in posted:
            bonuses.update(platform.all_bonuses(posting))
    key = study_key(study.key)
    subjects = {submission: visits.get(submission) or stray_name(key, submission) for submission in {*listed, *visits}}
    return _There(platform, study.file.pay.reward_money, listed, bonuses, subjects)


def _ours(there: _There, intents: Sequence[Intent]) -> Iterator[Entry]:
    submissions = there.submissions
    paid = Counter(
        (_visit_of(intent), intent.amount)
        for intent in intents
        if intent.operation == "bonus" and intent.state == IntentState.DONE
    )
    for intent in intents:
        word, differs = _word(there, intent, submissions.get(_visit_of(intent), ""), paid)
        yield Entry(
            intent=intent.id,
            operation=intent.operation,
            subject=intent.subject,
            amount=Money(amount=intent.amount, currency=intent.currency),
            state=intent.state,
            outcome=intent.outcome,
            there=word,
            differs=differs or intent.state == IntentState.OPEN,
        )


def _word(there: _There, intent: Intent, submission: str, paid: Counter[tuple[str, int]]) -> tuple[str | None, bool]:
    """What the platform says of one of our paid calls, and whether that is something else."""
    platform = there.platform
    done = intent.state == IntentState.DONE
    match intent.operation:
        case "post" if done and intent.outcome:
            return str(platform.state(intent.outcome)), False
        case "approve" | "found":
            found = there.listed.get(submission)
            status = "not listed" if found is None else found.status
            return status, done != (status == PlatformStatus.APPROVED)
        case "bonus" if submission:
            shown = there.bonuses.get(submission, ())
            alike = sum(price(platform, bonus.amount).amount == intent.amount for bonus in shown)
            words = ", ".join(str(bonus.amount) for bonus in shown) or "none shown"
            return words, alike != paid[_visit_of(intent), intent.amount]
        case _:
            return None, False


def _not_ours(there: _There, intents: Sequence[Intent]) -> Iterator[Entry]:
    """What was paid or handed in there without an intent of ours: paid by hand, by another copy of the study, or nobody's."""
    approvals = {_visit_of(intent) for intent in intents if intent.operation in ("approve", "found")}
    bonuses = {(_visit_of(intent), intent.amount) for intent in intents if intent.operation == "bonus"}
    for submission, found in there.listed.items():
        subject = there.subjects[submission]
        if subject not in approvals and found.status == PlatformStatus.APPROVED:
            yield _unknown_here("approve", subject, there.cost_of(found), found.status)
        elif subject not in approvals and subject.startswith(STRAY) and found.status in UNDECIDED:
            yield _unknown_here("approve", subject, there.cost_of(found), found.status, differs=False)
        for bonus in there.bonuses.get(submission, ()):
            cost = price(there.platform, bonus.amount)
            if (subject, cost.amount) not in bonuses:
                yield _unknown_here("bonus", subject, cost, str(bonus.amount))


def _unknown_here(operation: str, subject: str, amount: Money, there: str, *, differs: bool = True) -> Entry:
    return Entry(
        intent=None,
        operation=operation,
        subject=subject,
        amount=amount,
        state="not in our books",
        outcome=None,
        there=there,
        differs=differs,
    )


def _visit_of(intent: Intent) -> str:
    return intent.subject.partition("/")[0]
