"""Mechanical Turk as a platform: the requester's API by boto3, for AWS or for any endpoint that speaks it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any
from urllib.parse import urlsplit

from crowd_imi.errors import (
    BadLink,
    ForgedLink,
    MalformedLink,
    PlatformError,
    PreviewOnly,
    UnknownSubmission,
    Unreachable,
)
from crowd_imi.platforms.base import (
    UNPAID_ENDINGS,
    Account,
    BonusOrder,
    Capability,
    Ending,
    Finish,
    PlatformBonus,
    PlatformSubmission,
    PostingRequest,
    PostingState,
)
from crowd_imi.platforms.mturk import hits
from crowd_imi.platforms.mturk.client import ATTEMPTS, LIVE_SITE, SANDBOX_SITE, WORKER_SITE, TurkClient, TurkRefusal
from crowd_imi.platforms.mturk.hits import Batch, Mark, Step
from crowd_imi.platforms.mturk.notifications import EVENTS, VERSION
from crowd_imi.records import Money
from crowd_imi.study import MturkSection

NOT_AVAILABLE = "ASSIGNMENT_ID_NOT_AVAILABLE"
"""The assignment's id while somebody only looks."""
KEYWORDS = "images, perception, research, study"
THREADS = 4
"""Requests under way at once while HITs are made, closed or opened."""
PAST = datetime(2015, 1, 1, tzinfo=UTC)

_STATUSES = {"Submitted": "awaiting_review", "Approved": "approved", "Rejected": "rejected"}
_STATES = {
    Mark.BEING_POSTED: PostingState.OPEN,
    Mark.OPEN: PostingState.OPEN,
    Mark.PAUSED: PostingState.PAUSED,
    Mark.STOPPED: PostingState.STOPPED,
}
_IDS = ("assignmentId", "hitId", "workerId")
_ID = re.compile(r"[A-Z0-9]{1,64}")
_WORKER = re.compile(r"A[A-Z0-9]{1,63}")
_MADE_HIT = re.compile(r"\b[A-Z0-9]{20,64}\b")
_KEY = re.compile(r"\[ref\. (?P<key>[^\]]+)\]$")


class MturkPlatform:
    """Mechanical Turk (``platforms.base.Platform``).

    What it doesn't do:

    - fewer places: MTurk can't lower a HIT's assignments; closing HITs instead would take places from people under way in them;
    - release: a requester can't take an assignment back, it runs out by itself;
    - bonuses for who never handed in: MTurk takes them for assignments that were submitted only;
    - listing who is at it: MTurk shows assignments once they are handed in. Until then ``arrive`` believes the link in that
      somebody has accepted one of our HITs.

    Args:
        section: ``[mturk]`` of study.toml.
        endpoint_url: a service that speaks MTurk's protocol; None for AWS.
        sandbox: AWS's sandbox instead of its live service.
        assignment_minutes: how long somebody may take; ``pages.visit_minutes``.
        attempts: of each request.

    Raises:
        PlatformError: no usable AWS credentials, or an endpoint that they must not be sent to.
    """

    name = "mturk"
    capabilities = frozenset({Capability.PAUSE, Capability.REJECT, Capability.BONUS})
    posting_parameter: str | None = None
    bonus_batch = 1

    def __init__(
        self,
        section: MturkSection,
        *,
        endpoint_url: str | None = None,
        sandbox: bool = False,
        assignment_minutes: float = 120,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._section = section
        self._minutes = assignment_minutes
        self._client = TurkClient(section.profile, endpoint_url, sandbox, attempts)
        parts = urlsplit(self._client.endpoint)
        self._at_aws = (parts.hostname or "").endswith(".amazonaws.com")
        self._sandbox = sandbox or (self._at_aws and "sandbox" in parts.netloc)
        origin = f"{parts.scheme}://{parts.netloc}"
        self._site = (SANDBOX_SITE if self._sandbox else LIVE_SITE) if self._at_aws else origin
        self._sites = frozenset({LIVE_SITE, SANDBOX_SITE, self._site})
        self.frames: tuple[str, ...] = (self._site, WORKER_SITE) if self._site == LIVE_SITE else (self._site,)
        self._intents: dict[str, str] = {}
        self._postings: dict[str, str] = {}
        self._workers: dict[str, str] = {}

    # Money.

    def account(self) -> Account:
        where = "sandbox" if self._sandbox else "live" if self._at_aws else urlsplit(self._client.endpoint).netloc
        return Account(name=f"Mechanical Turk ({where})", balance=self._balance())

    def _balance(self) -> Money:
        return _money(self._client.call("get_account_balance")["AvailableBalance"])

    def fee(self, reward: Money) -> Money:
        hits.require_dollars(reward)
        return hits.fee_of(self._section, reward)

    def quote(self, reward: Money, places: int) -> Money | None:
        return None

    def _require_funds(self, reward: Money, places: int) -> None:
        """HITs are made one by one: without this, a balance that is too small would be found out in the middle."""
        needed = Money(amount=places * (reward.amount + self.fee(reward).amount), currency=reward.currency)
        balance = self._balance()
        if balance.amount < needed.amount:
            raise PlatformError(f"{places} places cost {needed} with fees, Mechanical Turk's balance is {balance}; pay in more")

    # Postings.

    def post(self, request: PostingRequest) -> str:
        hits.check_request(request, self._section)
        qualification = self._qualification_for(request.intent)
        if qualification is not None and hits.mark_of(qualification) is not Mark.BEING_POSTED:
            return str(qualification["QualificationTypeId"])
        batches = self._batches(qualification["QualificationTypeId"]) if qualification else []
        steps = hits.steps_to(batches, request.places)
        self._require_funds(request.reward, request.places - sum(batch.places for batch in batches))
        qualification = qualification or self._make_qualification(request)
        posting = str(qualification["QualificationTypeId"])
        kind = self._hit_type(request, posting)
        self._each(lambda step: self._take_step(request.intent, step, kind, hits.question(request.arrival_url)), steps)
        self._mark(qualification, Mark.OPEN)
        return posting

    def _qualification_for(self, intent: str) -> dict[str, Any] | None:
        own = self._client.listing(
            "list_qualification_types", "QualificationTypes", MustBeRequestable=False, MustBeOwnedByCaller=True
        )
        return next((one for one in own if one["Name"] == hits.qualification_name(intent)), None)

    def _make_qualification(self, request: PostingRequest) -> dict[str, Any]:
        try:
            made: dict[str, Any] = self._client.call(
                "create_qualification_type",
                Name=hits.qualification_name(request.intent),
                Description=hits.qualification_description(request.title, Mark.BEING_POSTED),
                QualificationTypeStatus="Active",
            )["QualificationType"]
        except TurkRefusal as refusal:
            if refusal.code != "QualificationTypeAlreadyExists":
                raise
            found = self._qualification_for(request.intent)  # an answer was lost on its way
            if found is None:
                raise Unreachable("Mechanical Turk doesn't list what it has just made; try again in a minute") from None
            made = found
        return made

    def _hit_type(self, request: PostingRequest, posting: str) -> str:
        made = self._client.call(
            "create_hit_type",
            Title=request.title,
            Description=request.description,
            Keywords=KEYWORDS,
            Reward=hits.dollars(request.reward),
            AssignmentDurationInSeconds=ceil(60 * max(self._minutes, request.minutes)),
            AutoApprovalDelayInSeconds=hits.AUTO_APPROVAL_SECONDS,
            QualificationRequirements=hits.requirements(self._section, posting, self._sandbox),
        )
        return str(made["HITTypeId"])

    def _take_step(self, intent: str, step: Step, kind: str, question: str, closed: bool = False) -> None:
        """Make a HIT, or give one more assignments; when it was done already, nothing happens."""
        if step.existing is not None:
            self._extend(intent, step.existing.hit, step.existing.places, step)
            return
        try:
            made = self._client.call(
                "create_hit_with_hit_type",
                HITTypeId=kind,
                MaxAssignments=step.places,
                LifetimeInSeconds=hits.SHORTEST_LIFETIME_SECONDS if closed else hits.LIFETIME_SECONDS,
                Question=question,
                RequesterAnnotation=hits.annotation(intent, step.number),
                UniqueRequestToken=hits.token(intent, step.number),
            )
            hit = str(made["HIT"]["HITId"])
        except TurkRefusal as refusal:
            hit = _hit_that_exists(refusal)
            places = self._client.call("get_hit", HITId=hit)["HIT"]["MaxAssignments"]
            if places < step.places:
                self._extend(intent, hit, places, step)
        if closed:
            self._expire(hit, PAST)

    def _extend(self, intent: str, hit: str, places: int, step: Step) -> None:
        try:
            self._client.call(
                "create_additional_assignments_for_hit",
                HITId=hit,
                NumberOfAdditionalAssignments=step.places - places,
                UniqueRequestToken=hits.token(intent, step.number, step.places),
            )
        except TurkRefusal:
            if self._client.call("get_hit", HITId=hit)["HIT"]["MaxAssignments"] < step.places:
                raise

    def find(self, intent: str) -> str | None:
        qualification = self._qualification_for(intent)
        if qualification is None or hits.mark_of(qualification) is Mark.BEING_POSTED:
            return None
        return str(qualification["QualificationTypeId"])

    def state(self, posting: str) -> PostingState:
        return _STATES[hits.mark_of(self._qualification(posting))]

    def pause(self, posting: str) -> None:
        self._become(posting, Mark.PAUSED, PAST)

    def resume(self, posting: str) -> None:
        self._become(posting, Mark.OPEN, datetime.now(UTC) + timedelta(seconds=hits.LIFETIME_SECONDS))

    def stop(self, posting: str) -> None:
        self._become(posting, Mark.STOPPED, PAST)

    def _become(self, posting: str, mark: Mark, expire_at: datetime) -> None:
        """Close or open all HITs, and write the state down when that is done: doing it again completes it."""
        qualification = self._qualification(posting)
        now = hits.mark_of(qualification)
        if now is mark:
            return
        if now is Mark.STOPPED:
            raise _stopped(posting)
        self._each(lambda batch: self._expire(batch.hit, expire_at), self._batches(posting))
        self._mark(qualification, mark)

    def _expire(self, hit: str, at: datetime) -> None:
        self._client.call("update_expiration_for_hit", HITId=hit, ExpireAt=at)

    def _mark(self, qualification: dict[str, Any], mark: Mark) -> None:
        self._client.call(
            "update_qualification_type",
            QualificationTypeId=qualification["QualificationTypeId"],
            Description=hits.marked(qualification, mark),
        )

    def set_places(self, posting: str, places: int) -> None:
        mark = hits.mark_of(self._qualification(posting))
        intent, batches = self._intent(posting), self._batches(posting)
        offered = sum(batch.places for batch in batches)
        if places < offered:
            raise PlatformError(
                f"posting {posting} has {offered} places, and Mechanical Turk can't lower that to {places}; stop it"
            )
        if places == offered:
            return
        if mark is Mark.STOPPED:
            raise _stopped(posting)
        first = self._client.call("get_hit", HITId=batches[0].hit)["HIT"]
        self._require_funds(_money(first["Reward"]), places - offered)
        self._each(
            lambda step: self._take_step(intent, step, first["HITTypeId"], first["Question"], closed=mark is Mark.PAUSED),
            hits.steps_to(batches, places),
        )

    def places(self, posting: str) -> int:
        return sum(batch.places for batch in self._batches(posting))

    def places_taken(self, posting: str) -> int | None:
        return None

    def _qualification(self, posting: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.call("get_qualification_type", QualificationTypeId=posting)["QualificationType"]
        intent = hits.intent_of(found["Name"])
        if intent is None:
            raise PlatformError(f"qualification {posting} is none that crowd-imi made, so it is no posting")
        self._intents[posting] = intent
        return found

    def _intent(self, posting: str) -> str:
        if posting not in self._intents:
            self._qualification(posting)
        return self._intents[posting]

    def _batches(self, posting: str) -> list[Batch]:
        intent = self._intent(posting)
        found = hits.batches_of(
            self._client.listing("list_hits_for_qualification_type", "HITs", QualificationTypeId=posting), intent
        )
        self._postings |= {batch.hit: posting for batch in found}
        return found

    def _each(self, do: Callable[[Any], None], these: list[Any]) -> None:
        """Several requests at once; the first failure is raised, and what hasn't begun by then is left undone."""
        with ThreadPoolExecutor(THREADS) as pool:
            begun = [pool.submit(do, this) for this in these]
            try:
                for one in begun:
                    one.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def notify(self, posting: str, queue_url: str) -> None:
        """Have everything that happens to the posting's assignments told to an SQS queue; see ``NoticeQueue``."""
        for kind in sorted({batch.kind for batch in self._batches(posting)}):
            self._client.call(
                "update_notification_settings",
                HITTypeId=kind,
                Notification={"Destination": queue_url, "Transport": "SQS", "Version": VERSION, "EventTypes": list(EVENTS)},
                Active=True,
            )

    # Who takes part.

    def arrive(self, query: Mapping[str, str]) -> PlatformSubmission:
        assignment, hit, worker = (query.get(name, "") for name in _IDS)
        if assignment == NOT_AVAILABLE:
            raise PreviewOnly("the HIT is only looked at; it must be accepted first")
        submit_to = query.get("turkSubmitTo", "")
        if not (assignment and hit and worker and submit_to):
            raise BadLink("the link lacks ids of Mechanical Turk, or the site to hand in at")
        if not (_ID.fullmatch(assignment) and _ID.fullmatch(hit) and _WORKER.fullmatch(worker)):
            raise MalformedLink("the link's ids aren't written as Mechanical Turk's are")
        if _origin(submit_to) not in self._sites:
            raise ForgedLink("the link names another site to hand in at than Mechanical Turk's")
        posting = self._posting_of(hit)
        known = self._known(assignment)
        if known is not None:
            if (known["WorkerId"], known["HITId"]) != (worker, hit):
                raise UnknownSubmission("this assignment is somebody else's, or of another HIT")
            return self._record(known, posting)
        self._client.call(
            "associate_qualification_with_worker",
            QualificationTypeId=posting,
            WorkerId=worker,
            IntegerValue=1,
            SendNotification=False,
        )
        return PlatformSubmission(id=assignment, posting=posting, participant=worker, status="active")

    def _posting_of(self, hit: str) -> str:
        """The posting that a HIT belongs to: the qualification that it requires absent and that was made for its intent."""
        if hit not in self._postings:
            try:
                found = self._client.call("get_hit", HITId=hit)["HIT"]
            except TurkRefusal as refusal:
                if refusal.code != "HITDoesNotExist":
                    raise
                raise UnknownSubmission(str(refusal)) from None
            intent = found.get("RequesterAnnotation", "").rpartition("/")[0]
            for one in found.get("QualificationRequirements", ()):
                if one["Comparator"] == "DoesNotExist" and intent and self._made_for(one["QualificationTypeId"]) == intent:
                    self._postings[hit] = one["QualificationTypeId"]
                    break
            else:
                raise UnknownSubmission(f"HIT {hit} is none that crowd-imi made")
        return self._postings[hit]

    def _made_for(self, qualification: str) -> str | None:
        try:
            return self._intent(qualification)
        except Unreachable:
            raise
        except PlatformError:  # another study's, made by other means or deleted since
            return None

    def _known(self, assignment: str) -> dict[str, Any] | None:
        """An assignment that was handed in; None while MTurk doesn't show it."""
        try:
            found: dict[str, Any] = self._client.call("get_assignment", AssignmentId=assignment)["Assignment"]
        except TurkRefusal as refusal:
            if refusal.code in ("AssignmentDoesNotExist", "InvalidAssignmentState"):
                return None
            raise
        return found

    def _record(self, assignment: dict[str, Any], posting: str) -> PlatformSubmission:
        self._workers[assignment["AssignmentId"]] = assignment["WorkerId"]
        status = assignment["AssignmentStatus"]
        return PlatformSubmission(
            id=assignment["AssignmentId"],
            posting=posting,
            participant=assignment["WorkerId"],
            status=_STATUSES.get(status, status.lower()),
        )

    def submissions(self, posting: str) -> Iterator[PlatformSubmission]:
        for batch in self._batches(posting):
            if batch.handed_in > 0:
                for assignment in self._client.listing("list_assignments_for_hit", "Assignments", HITId=batch.hit):
                    yield self._record(assignment, posting)

    def submission(self, submission: str) -> PlatformSubmission:
        found = self._known(submission)
        if found is None:
            raise UnknownSubmission("Mechanical Turk shows an assignment once it is handed in, and doesn't show this one")
        return self._record(found, self._posting_of(found["HITId"]))

    def approve(self, submission: str) -> None:
        # Whoever asks for this wants it paid: a rejection that was taken back is overridden, within MTurk's 30 days.
        self._decide("approve_assignment", "approved", AssignmentId=submission, OverrideRejection=True)

    def reject(self, submission: str, reason: str) -> None:
        self._decide("reject_assignment", "rejected", AssignmentId=submission, RequesterFeedback=reason)

    def _decide(self, operation: str, wanted: str, **parameters: Any) -> None:  # noqa: ANN401
        try:
            self._client.call(operation, **parameters)
        except TurkRefusal:
            known = self._known(parameters["AssignmentId"])
            if known is None or _STATUSES.get(known["AssignmentStatus"]) != wanted:
                raise

    def send_bonuses(self, orders: Sequence[BonusOrder], note: Callable[[str], None]) -> str:
        [order] = orders
        if order.submission not in self._workers:
            self.submission(order.submission)
        try:
            self._client.call(
                "send_bonus",
                WorkerId=self._workers[order.submission],
                BonusAmount=hits.dollars(order.money),
                AssignmentId=order.submission,
                Reason=f"{order.reason} [ref. {order.key}]",
                UniqueRequestToken=hits.token("bonus", order.key),
            )
        except TurkRefusal:
            if order.key not in {paid.key for paid in self.bonuses(order.submission)}:
                raise
        return f"bonus {order.key}"

    def bonuses(self, submission: str) -> tuple[PlatformBonus, ...]:
        return tuple(map(_bonus, self._client.listing("list_bonus_payments", "BonusPayments", AssignmentId=submission)))

    def all_bonuses(self, posting: str) -> Mapping[str, tuple[PlatformBonus, ...]]:
        shown: dict[str, tuple[PlatformBonus, ...]] = {}
        for batch in self._batches(posting):
            if batch.handed_in > 0:
                for paid in self._client.listing("list_bonus_payments", "BonusPayments", HITId=batch.hit):
                    whose = paid["AssignmentId"]
                    shown[whose] = (*shown.get(whose, ()), _bonus(paid))
        return shown

    def release(self, submission: str) -> None:
        raise PlatformError("Mechanical Turk doesn't let requesters take an assignment back; it runs out by itself")

    def finish(self, submission: str, completion_code: str, ending: Ending = Ending.COMPLETED) -> Finish | None:
        if ending in UNPAID_ENDINGS:
            return None  # what is submitted wants to be paid or rejected: returning it is the worker's, on MTurk's page
        return Finish(url=f"{self._site}/mturk/externalSubmit", form={"assignmentId": submission, "code": completion_code})


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _hit_that_exists(refusal: TurkRefusal) -> str:
    """The HIT that an earlier request with the same token made; any other refusal is raised again."""
    if refusal.code != "HitAlreadyExists":
        raise refusal
    found = _MADE_HIT.search(str(refusal))
    if found is None:
        raise Unreachable("Mechanical Turk has this HIT already and doesn't say which; try again in a minute") from None
    return found[0]


def _stopped(posting: str) -> PlatformError:
    return PlatformError(f"posting {posting} was stopped, which is for good; publish a new study")


def _bonus(paid: Mapping[str, Any]) -> PlatformBonus:
    return PlatformBonus(amount=_money(paid["BonusAmount"]), key=_key_in(paid["Reason"]))


def _key_in(reason: str) -> str | None:
    found = _KEY.search(reason)
    return found["key"] if found else None


def _money(amount: str) -> Money:
    return Money(amount=int(Decimal(amount) * 100), currency=hits.CURRENCY)
