"""A posting on Mechanical Turk as it is there: a HIT type, HITs of at most nine assignments, and a qualification.

The qualification is given to everybody who arrives and required absent, so that nobody takes part twice. Its id is the posting's
id: its name tells the intent, its description the posting's state, and MTurk lists the HITs that require something of it. So
everything is found again after a crash, with nothing written down here.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from crowd_imi.errors import PlatformError
from crowd_imi.platforms.base import PostingRequest
from crowd_imi.platforms.mturk.client import LOOPBACK
from crowd_imi.records import Money
from crowd_imi.study import MturkSection

CURRENCY = "USD"
BATCH = 9
"""Assignments of a HIT: from ten on, MTurk's fee is doubled."""
LIFETIME_SECONDS = 180 * 24 * 3600
SHORTEST_LIFETIME_SECONDS = 30
"""MTurk's least: what is made while the posting is paused lives so long, unless it is closed at once, as it is."""
AUTO_APPROVAL_SECONDS = 14 * 24 * 3600
"""After so long MTurk pays by itself what nobody has decided about."""
LONGEST_TITLE, LONGEST_DESCRIPTION, LONGEST_QUESTION_BYTES = 128, 2000, 65_535
LONGEST_INTENT = 100
MOST_LOCALES = 30

LOCALE, PERCENT_APPROVED, NUMBER_APPROVED = "00000000000000000071", "000000000000000000L0", "00000000000000000040"
MASTERS = {False: "2F1QJWKUDD8XADTFD2Q0G6UTO95ALH", True: "2ARFPLSP75KLA8M8DH1HTEQVJT3SY6"}
"""Whether it is the sandbox → the Masters qualification there."""

_NAME = "crowd-imi "
_STATE = re.compile(r"State: (?P<state>[a-z ]+)\.$")
_QUESTION = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<ExternalQuestion xmlns="http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2006-07-14/ExternalQuestion.xsd">'
    "<ExternalURL>{url}</ExternalURL><FrameHeight>0</FrameHeight></ExternalQuestion>"
)


class Mark(StrEnum):
    """The posting's state, as it stands in the qualification's description."""

    BEING_POSTED = "being posted"
    """Not all of its HITs are there yet: posting goes on where it stopped."""
    OPEN = "open"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Batch:
    """One HIT of a posting."""

    number: int
    """From 0; stands in the HIT's annotation behind the intent."""
    hit: str
    kind: str
    """Its HIT type."""
    question: str
    places: int
    handed_in: int
    """Assignments that aren't free and not under way."""
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """What is missing of a posting: a HIT, or assignments of one."""

    number: int
    places: int
    """As many assignments shall the HIT have."""
    existing: Batch | None


def steps_to(batches: list[Batch], places: int) -> list[Step]:
    """What is missing until a posting has so many places: nine in each HIT, the rest in the last.

    The same number of places is always laid out in the same way, so that two processes which do it at once do the same.
    """
    there = {batch.number: batch for batch in batches}
    steps = []
    for number in range(-(-places // BATCH)):
        wanted = min(BATCH, places - number * BATCH)
        existing = there.get(number)
        if existing is None or existing.places < wanted:
            steps.append(Step(number, wanted, existing))
    return steps


def batches_of(hits: Iterator[dict[str, Any]], intent: str) -> list[Batch]:
    """The HITs that were made for an intent, in the order of their numbers."""
    found = (_batch(hit, intent) for hit in hits)
    return sorted((batch for batch in found if batch is not None), key=lambda batch: batch.number)


def _batch(hit: dict[str, Any], intent: str) -> Batch | None:
    made_for, _, number = hit.get("RequesterAnnotation", "").rpartition("/")
    if made_for != intent or not number.isdigit():
        return None
    free, under_way = hit.get("NumberOfAssignmentsAvailable", 0), hit.get("NumberOfAssignmentsPending", 0)
    return Batch(
        number=int(number),
        hit=hit["HITId"],
        kind=hit["HITTypeId"],
        question=hit.get("Question", ""),
        places=hit["MaxAssignments"],
        handed_in=hit["MaxAssignments"] - free - under_way,
        expires_at=hit["Expiration"],
    )


def annotation(intent: str, number: int) -> str:
    """What a HIT says of where it belongs; workers don't see it."""
    return f"{intent}/{number}"


def token(*parts: object) -> str:
    """A UniqueRequestToken (64 characters): the same for the same wish."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def qualification_name(intent: str) -> str:
    """What the qualification of a posting is called; names are unique for a requester."""
    return _NAME + intent


def intent_of(name: str) -> str | None:
    """The intent in a qualification's name; None when it is none of ours."""
    return name.removeprefix(_NAME) if name.startswith(_NAME) else None


def qualification_description(title: str, mark: Mark) -> str:
    """What the qualification's holders read, with the posting's state at the end."""
    return f"Given to everybody who comes to the study “{title}”, so that each takes part once. State: {mark}."


def mark_of(qualification: dict[str, Any]) -> Mark:
    """The posting's state.

    Raises:
        PlatformError: the description was changed by somebody else.
    """
    found = _STATE.search(qualification.get("Description", ""))
    if found is None or found["state"] not in list(Mark):
        raise PlatformError(
            f"qualification {qualification['QualificationTypeId']}: its description must end with “State: open.” (or paused, "
            "stopped), which says how the posting stands; write that there again"
        )
    return Mark(found["state"])


def marked(qualification: dict[str, Any], mark: Mark) -> str:
    """The qualification's description with another state."""
    return _STATE.sub(f"State: {mark}.", qualification["Description"])


def requirements(section: MturkSection, qualification: str, sandbox: bool) -> list[dict[str, Any]]:
    """Who may see a posting and take part: at most nine requirements, MTurk takes ten."""
    absent = [{"QualificationTypeId": one, "Comparator": "DoesNotExist"} for one in (qualification, *section.not_qualifications)]
    needed: list[dict[str, Any]] = []
    if section.min_approved_percent:
        needed.append(_at_least(PERCENT_APPROVED, section.min_approved_percent))
    if section.min_approved_number:
        needed.append(_at_least(NUMBER_APPROVED, section.min_approved_number))
    if section.countries:
        locales = [{"Country": country} for country in section.countries]
        needed.append({"QualificationTypeId": LOCALE, "Comparator": "In", "LocaleValues": locales})
    if section.masters:
        needed.append({"QualificationTypeId": MASTERS[sandbox], "Comparator": "Exists"})
    return [{**one, "ActionsGuarded": "DiscoverPreviewAndAccept"} for one in (*absent, *needed)]


def _at_least(qualification: str, value: int) -> dict[str, Any]:
    return {"QualificationTypeId": qualification, "Comparator": "GreaterThanOrEqualTo", "IntegerValues": [value]}


def question(arrival_url: str) -> str:
    """The HIT's content: a frame with our pages in it, as high as it fits."""
    return _QUESTION.format(url=escape(arrival_url))


def check_request(request: PostingRequest, section: MturkSection) -> None:
    """Find out what MTurk wouldn't take before anything is asked of it.

    Raises:
        PlatformError: with the first thing that doesn't fit.
    """
    require_dollars(request.reward)
    parts = urlsplit(request.arrival_url)
    is_shown = parts.scheme == "https" or parts.hostname in LOOPBACK
    checks = (
        (len(request.title) <= LONGEST_TITLE, f"study.title is longer than {LONGEST_TITLE} characters; shorten it"),
        (len(request.description) <= LONGEST_DESCRIPTION, f"the description is longer than {LONGEST_DESCRIPTION} characters"),
        (len(request.intent) <= LONGEST_INTENT, f"the intent is longer than {LONGEST_INTENT} characters"),
        (request.reward.amount >= 1, f"the reward is {request.reward}, which must be at least 0.01 {CURRENCY}"),
        (request.places >= 1, f"there can't be {request.places} places; ask for at least one"),
        (is_shown, f"{request.arrival_url}: only HTTPS pages are shown; serve the pages at an https:// address"),
        (len(question(request.arrival_url).encode()) <= LONGEST_QUESTION_BYTES, "the address of the pages is too long"),
        (len(section.countries) <= MOST_LOCALES, f"mturk.countries may hold {MOST_LOCALES} countries; leave some out"),
    )
    for holds, problem in checks:
        if not holds:
            raise PlatformError(f"Mechanical Turk wouldn't take this posting: {problem}")


def require_dollars(money: Money) -> None:
    """Refuse every other currency.

    Raises:
        PlatformError: it is another one.
    """
    if money.currency != CURRENCY:
        raise PlatformError(f"Mechanical Turk pays in {CURRENCY} only, not in {money.currency}; set pay.currency = {CURRENCY!r}")


def dollars(money: Money) -> str:
    """An amount as MTurk's API takes it."""
    require_dollars(money)
    return f"{money.amount // 100}.{money.amount % 100:02d}"


def percent_of(amount: int, percent: int) -> int:
    """A fee: rounded up, at least one cent."""
    return max(1, -(-amount * percent // 100))


def fee_of(section: MturkSection, reward: Money) -> Money:
    """MTurk's fee on one reward or bonus: 20 %, and 5 % more for Masters."""
    masters = percent_of(reward.amount, 5) if section.masters else 0
    return Money(amount=percent_of(reward.amount, 20) + masters, currency=reward.currency)
