"""Prolific, by its API v1.

A posting is one Prolific study. Which arm and task a participant gets is decided when they arrive. Our intent stands in
the study's internal name, by which a study is found again that a crash left unrecorded.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import ROUND_HALF_UP, Decimal
from math import ceil, sqrt
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from crowd_imi.errors import BadLink, MalformedLink, PlatformError, UnknownSubmission, Unreachable
from crowd_imi.platforms.base import (
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
from crowd_imi.platforms.prolific_api import FIRST_WAIT, LAST_TRY_SECONDS, LIVE, NotThere, ProlificApi
from crowd_imi.platforms.prolific_links import SignedLinks
from crowd_imi.records import Money
from crowd_imi.study import ProlificSection

APP = "https://app.prolific.com"
CURRENCIES = ("GBP", "USD")
TOKEN_VARIABLE = "PROLIFIC_API_TOKEN"

STATUSES = {
    "RESERVED": "active",
    "ACTIVE": "active",
    "AWAITING REVIEW": "awaiting_review",
    "PROCESSING": "awaiting_review",
    "APPROVED": "approved",
    "PARTIALLY APPROVED": "approved",
    "REJECTED": "rejected",
    "RETURNED": "returned",
    "TIMED-OUT": "timed_out",
    "SCREENED OUT": "screened_out",
}
"""Prolific's words for a submission in ours; others are carried as they are."""

CODES: dict[Ending, tuple[str, str | None]] = {
    Ending.COMPLETED: ("COMPLETED", None),
    Ending.FAILED_PRACTICE: ("OTHER", None),
    Ending.NO_CONSENT: ("NO_CONSENT", "You didn't agree to take part, so please return your submission. Thank you for looking."),
    Ending.INCOMPATIBLE_DEVICE: (
        "INCOMPATIBLE_DEVICE",
        "The study needs a computer, so please return your submission. Thank you for trying.",
    ),
}
"""Ending → the completion code's type, and why a return is asked for. What isn't returned is reviewed: by the ledger, under the
cap. Failing the practice is no failed attention check: it is paid, and nobody is to be rejected for it."""
_RETURNING = frozenset(kind for kind, reason in CODES.values() if reason is not None)
MOST_BONUSES = 200
"""Of a batch."""

_PARAMETERS = {"PROLIFIC_PID": "{{%PROLIFIC_PID%}}", "STUDY_ID": "{{%STUDY_ID%}}", "SESSION_ID": "{{%SESSION_ID%}}"}
_FULL_OR_STOPPED = ("AWAITING REVIEW", "COMPLETED")
"""A full study goes on when places are added; one that was stopped doesn't."""
CREATIONS = 4
"""How often a study is sent whose reply is lost: with 10 % server errors, all are once in 10,000 studies."""
KEYS_SECONDS = 10.0
"""How long Prolific's public keys are waited for, by which signed links are checked."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REJECTION = re.compile(r"([A-Z_]+): (.+)", re.DOTALL)
SHORTEST_REJECTION = 100
REJECTION_CATEGORIES = (
    *("TOO_QUICKLY", "TOO_SLOWLY", "FAILED_INSTRUCTIONS", "INCOMP_LONGITUDINAL", "FAILED_CHECK", "LOW_EFFORT", "MALINGERING"),
    *("NO_CODE", "BAD_CODE", "NO_DATA", "UNSUPP_DEVICE", "OTHER"),
)
"""Characters of the message that a rejected participant gets, which Prolific insists on."""


class ProlificPlatform:
    """The researcher's side of Prolific.

    Args:
        token: of the account, as Prolific's settings show it.
        section: ``[prolific]`` of study.toml.
        endpoint: a stand-in's address instead of Prolific's own.
        first_wait: seconds before a failed request is tried again.
        patience: seconds after which a request isn't tried again.
        visit_minutes: how long somebody may take by our own clock; Prolific lets them take as long.
        pages: where the task pages are, which signed links must be for; None where nobody arrives.

    Raises:
        PlatformError: there is no token, or it would be sent to an address where others can read it.
    """

    name = "prolific"
    frames: tuple[str, ...] = ()
    posting_parameter: str | None = "STUDY_ID"
    bonus_batch = MOST_BONUSES
    capabilities = frozenset(Capability) - {Capability.FEWER_PLACES, Capability.KEYED_BONUS, Capability.PAYS_RETURNED}

    def __init__(  # noqa: PLR0913 (whose, what, where, and how patiently)
        self,
        token: str,
        section: ProlificSection,
        endpoint: str | None = None,
        first_wait: float = FIRST_WAIT,
        *,
        patience: float = LAST_TRY_SECONDS,
        visit_minutes: float = 0,
        pages: str | None = None,
    ) -> None:
        if not token.strip():
            anything = "" if endpoint is None else "; a stand-in takes any"
            raise PlatformError(
                f"Prolific wants a token: make one in Prolific's settings, and set {TOKEN_VARIABLE} to it{anything}"
            )
        if not (token.strip().isascii() and token.strip().isprintable()):
            raise PlatformError(f"{TOKEN_VARIABLE} holds something that can't be a token, e.g. a line break; set it anew")
        self._section = section
        self._visit_minutes = visit_minutes
        self._api = ProlificApi(token.strip(), endpoint or LIVE, first_wait, patience)
        self._app = APP if endpoint is None else self._api.endpoint
        origin = None if pages is None else "://".join(urlsplit(pages)[:2])
        self._currencies: dict[str, str] = {}
        self._code_types: dict[str, dict[str, str]] = {}
        self._signed = SignedLinks(self._api.endpoint, origin, min(patience, KEYS_SECONDS)) if section.signed_arrivals else None

    def account(self) -> Account:
        who = self._api.get("users/me/")
        name = str(who.get("email") or who.get("name") or who.get("id") or "a Prolific account")
        workspace = self._section.workspace or self._first_workspace()
        if workspace is None:
            return Account(name=name, balance=None)
        balance = self._api.get(f"workspaces/{_id(workspace)}/balance/")
        amount, currency = balance.get("available_balance"), str(balance.get("currency_code", ""))
        known = isinstance(amount, int) and re.fullmatch(r"[A-Z]{3}", currency)
        return Account(name=name, balance=Money(amount=int(amount or 0), currency=currency) if known else None)

    def fee(self, reward: Money) -> Money:
        return fee_of(self._section, reward)

    def post(self, request: PostingRequest) -> str:
        if request.reward.currency not in CURRENCIES:
            raise PlatformError(f"Prolific pays in {' or '.join(CURRENCIES)}; pay.currency is {request.reward.currency}")
        study = self._by_intent(request.intent)
        if study is not None and study.get("status") == "UNPUBLISHED":
            # A draft of an earlier try may say what isn't meant any more.
            study = self._api.put(f"studies/{_id(str(study['id']))}/", self._content(request))
        study = study or self._create(request)
        identity = str(study["id"])
        if study.get("status") == "UNPUBLISHED":
            self._transition_to(identity, "PUBLISH", lambda status: status != "UNPUBLISHED")
        return identity

    def find(self, intent: str) -> str | None:
        study = self._by_intent(intent)
        return None if study is None or study.get("status") == "UNPUBLISHED" else str(study["id"])

    def state(self, posting: str) -> PostingState:
        study = self._study(posting)
        status = study.get("status")
        if status == "PAUSED":
            return PostingState.PAUSED
        if status in _FULL_OR_STOPPED and not _is_full(study):
            return PostingState.STOPPED
        return PostingState.OPEN

    def pause(self, posting: str) -> None:
        if self.state(posting) is PostingState.OPEN:
            self._transition_to(posting, "PAUSE", lambda status: status == "PAUSED")

    def resume(self, posting: str) -> None:
        match self.state(posting):
            case PostingState.PAUSED:
                self._transition_to(posting, "START", lambda status: status == "ACTIVE")
            case PostingState.STOPPED:
                raise PlatformError(f"study {posting} was stopped on Prolific, which is for good; publish a new study")
            case PostingState.OPEN:
                return

    def stop(self, posting: str) -> None:
        if self.state(posting) is not PostingState.STOPPED:
            self._transition_to(posting, "STOP", lambda status: status in _FULL_OR_STOPPED)

    def set_places(self, posting: str, places: int) -> None:
        offered = self.places(posting)
        if places < offered:
            raise PlatformError(f"study {posting} offers {offered} places, and Prolific can't lower that to {places}")
        if places > offered:
            self._api.put(f"studies/{_id(posting)}/", {"total_available_places": places})

    def places(self, posting: str) -> int:
        return int(self._study(posting)["total_available_places"])

    def places_taken(self, posting: str) -> int | None:
        taken = self._study(posting).get("places_taken")
        return taken if isinstance(taken, int) else None

    def arrive(self, query: Mapping[str, str]) -> PlatformSubmission:
        participant, posting, submission = (query.get(name, "") for name in _PARAMETERS)
        if not (participant and posting and submission):
            raise BadLink("the link lacks Prolific's ids")
        if not all(map(_ID.fullmatch, (participant, posting, submission))):
            raise MalformedLink("the link's ids aren't written as Prolific's are")
        if self._signed is not None:
            self._signed.require(query, tuple(_PARAMETERS))
        found = self.submission(submission)
        if (found.participant, found.posting) != (participant, posting):
            raise UnknownSubmission("the ids in the link don't belong together")
        return found

    def submissions(self, posting: str) -> Iterator[PlatformSubmission]:
        for found in self._listed(posting):
            yield self._submission(found)

    def _listed(self, posting: str) -> Iterator[dict[str, Any]]:
        for found in self._api.pages("submissions/", study=_id(posting)):
            yield {"study": posting, **found}

    def submission(self, submission: str) -> PlatformSubmission:
        try:
            return self._submission(self._api.get(f"submissions/{_id(submission)}/"))
        except NotThere as refusal:
            raise UnknownSubmission(str(refusal)) from None

    def _submission(self, found: Mapping[str, Any]) -> PlatformSubmission:
        participant, study = found.get("participant_id") or found.get("participant"), _study_of(found)
        word = str(found.get("status"))
        if isinstance(participant, Mapping):
            participant = participant.get("id")
        status, paid = STATUSES.get(word, word), None
        if status == "awaiting_review":
            status = self._by_code(study, found.get("study_code") or found.get("entered_code"))
        elif word == "PARTIALLY APPROVED" and isinstance(found.get("reward"), int):
            paid = Money(amount=found["reward"], currency=self._currency(study))
        return PlatformSubmission(id=_named(found), posting=study, participant=str(participant), status=status, paid=paid)

    def _by_code(self, posting: str, code: object) -> str:
        """What the code with which somebody handed in says; without any, or with one that isn't the study's, a person looks."""
        if posting not in self._code_types:  # codes never change once a study is published
            codes = self._study(posting).get("completion_codes") or ()
            self._code_types[posting] = {str(one.get("code")): str(one.get("code_type")) for one in codes}
        if not self._code_types[posting]:
            return "awaiting_review"
        kind = self._code_types[posting].get(str(code))
        return "wrong_code" if kind is None else "return_asked" if kind in _RETURNING else "awaiting_review"

    def approve(self, submission: str) -> None:
        try:
            self._api.put(f"submissions/{_id(submission)}/transition/", {"action": "APPROVE"}, method="POST")
        except Unreachable:
            raise
        except PlatformError:  # as of one that is approved already
            if self._status(submission) != "approved":
                raise

    def reject(self, submission: str, reason: str) -> None:
        """Refuse the reward; ``reason`` may begin with one of Prolific's categories, as in ``TOO_QUICKLY: You …``."""
        match = _REJECTION.fullmatch(reason)
        category, message = (match[1], match[2]) if match else ("LOW_EFFORT", reason)
        if category not in REJECTION_CATEGORIES:
            raise PlatformError(f"Prolific has no category {category}; take one of {', '.join(REJECTION_CATEGORIES)}")
        if len(message) < SHORTEST_REJECTION:
            raise PlatformError(
                f"Prolific wants a reason of at least {SHORTEST_REJECTION} characters; this one has {len(message)}"
            )
        if self._status(submission) != "rejected":
            content = {"action": "REJECT", "message": message, "rejection_category": category}
            self._api.put(f"submissions/{_id(submission)}/transition/", content, method="POST")

    def send_bonuses(self, orders: Sequence[BonusOrder], note: Callable[[str], None]) -> str:
        """Pay bonuses in one batch. Prolific keeps neither key nor reason; the batch's id is noted before it is paid."""
        posting = self.submission(orders[0].submission).posting
        made = self._made(posting, orders)
        self._require_whole(made, posting, orders)
        batch = str(made["id"])
        note(f"batch {batch}")
        self._api.once(f"bulk-bonus-payments/{_id(batch)}/pay/", {})
        return f"batch {batch}"

    def _made(self, posting: str, orders: Sequence[BonusOrder]) -> Mapping[str, Any]:
        """A batch that isn't paid yet; made twice, after a cut or to look at, it costs nothing: only paying it does."""
        lines = "\n".join(f"{_id(o.submission)},{o.money.amount // 100}.{o.money.amount % 100:02d}" for o in orders)
        made: Mapping[str, Any] = self._api.put(
            "submissions/bonus-payments/", {"study_id": posting, "csv_bonuses": lines}, method="POST"
        )
        return made

    def _require_whole(self, made: Mapping[str, Any], posting: str, orders: Sequence[BonusOrder]) -> None:
        """Make sure that Prolific took all bonuses of a batch, while nothing is paid; its sum is in minor or major units.

        A hundredth of the whole may be all of it in major units, or one bonus of a hundred in minor ones: then the unit is
        read off a batch of a single bonus.
        """
        understood, amount = made.get("amount"), sum(order.money.amount for order in orders)
        if not isinstance(understood, int | float) or understood == amount:
            return
        if round(100 * understood) == amount:
            if len(orders) == 1 or amount % 100:
                return
            single = self._made(posting, orders[:1]).get("amount")
            if isinstance(single, int | float) and round(100 * single) == orders[0].money.amount:
                return
        raise PlatformError(
            f"Prolific made bonuses of {understood} of a list of {amount} (in minor units), so it left some out; nothing was "
            "paid: pay them in parts, to see which"
        )

    def bonuses(self, submission: str) -> tuple[PlatformBonus, ...]:
        found = self._api.get(f"submissions/{_id(submission)}/")
        return _bonuses(found, self._currency(_study_of(found)))

    def all_bonuses(self, posting: str) -> Mapping[str, tuple[PlatformBonus, ...]]:
        currency, shown = self._currency(posting), {}
        for found in self._listed(posting):
            identity = _named(found)
            bonuses = _bonuses(found, currency) if "bonus_payments" in found else self.bonuses(identity)
            if bonuses:
                shown[identity] = bonuses
        return shown

    def _currency(self, posting: str) -> str:
        if posting not in self._currencies:
            study = self._study(posting)
            self._currencies[posting] = str(study.get("presentment_currency_code") or study.get("currency_code") or "GBP")
        return self._currencies[posting]

    def _status(self, submission: str) -> str:
        """In our words, whatever the code was."""
        found = str(self._api.get(f"submissions/{_id(submission)}/").get("status"))
        return STATUSES.get(found, found)

    def release(self, submission: str) -> None:
        """Ask somebody to give the place back; Prolific takes it back when the allowed time is over."""
        found = self._api.get(f"submissions/{_id(submission)}/")
        if STATUSES.get(str(found.get("status"))) == "active" and not found.get("return_requested"):
            reasons = {"request_return_reasons": ["Withdrew from the study or didn't finish it."]}
            self._api.put(f"submissions/{_id(submission)}/request-return/", reasons, method="POST")

    def finish(self, submission: str, completion_code: str, ending: Ending = Ending.COMPLETED) -> Finish:
        return Finish(url=f"{self._app}/submissions/complete?{urlencode({'cc': completion_code})}")

    def quote(self, reward: Money, places: int) -> Money | None:
        """What so many places cost with Prolific's fee, by its own calculator; None when it doesn't say."""
        try:
            answer = self._api.put("study-cost-calculator/", _priced(reward.amount, places), method="POST")
        except NotThere:
            return None
        total = answer.get("total_cost", answer.get("estimated_study_cost"))
        return None if total is None else Money(amount=ceil(float(total)), currency=reward.currency)

    def _create(self, request: PostingRequest) -> dict[str, Any]:
        """A draft; when the reply is lost, the study is looked for before anything is sent again."""
        content = self._content(request)
        for _ in range(CREATIONS):
            with suppress(Unreachable):
                made = self._api.once("studies/", content)
                if made.get("id"):
                    return made
            study = self._by_intent(request.intent)
            if study is not None:
                return study
        raise Unreachable(f"Prolific gave no answer to {CREATIONS} tries to make a study; run the same command again later")

    def _content(self, request: PostingRequest) -> dict[str, Any]:
        minutes = ceil(request.minutes)
        section = self._section
        lists = [
            {"filter_id": name, "selected_values": list(values)}
            for name, values in (
                ("previous_studies_blocklist", section.not_in_studies),
                ("participant_group_blocklist", section.not_in_groups),
                ("participant_group_allowlist", section.in_groups),
            )
            if values
        ]
        content = {
            "name": request.title,
            "internal_name": _internal_name(request.intent),
            "description": request.description,
            "external_study_url": _arrival(request.arrival_url),
            "prolific_id_option": "url_parameters",
            "completion_codes": [
                _code(code, ending, section.add_to_group)
                for ending, code in {Ending.COMPLETED: request.completion_code, **request.other_codes}.items()
            ],
            "estimated_completion_time": minutes,
            "maximum_allowed_time": max(allowed_minutes(minutes), ceil(self._visit_minutes)),
            "reward": request.reward.amount,
            "total_available_places": request.places,
            "device_compatibility": list(section.devices),
            "peripheral_requirements": [],
            "filters": [*section.filters, *lists],
            "submissions_config": {"max_submissions_per_participant": 1},
            "is_external_study_url_secure": section.signed_arrivals,
        }
        return content if section.project is None else {**content, "project": section.project}

    def _by_intent(self, intent: str) -> dict[str, Any] | None:
        """The study that was made for an intent: the published one, else the oldest draft.

        There are more drafts than one when a request to make one arrived after its sender was killed and replaced. Always the
        same one must be taken, as publishing two would cost twice.
        """
        project = self._section.project
        path = "studies/" if project is None else f"projects/{_id(project)}/studies/"
        drafts = []
        for study in self._api.pages(path):
            if study.get("internal_name") == _internal_name(intent):
                if study.get("status") != "UNPUBLISHED":
                    return study
                drafts.append(study)
        return min(drafts, key=lambda draft: (str(draft.get("date_created")), str(draft["id"])), default=None)

    def _study(self, posting: str) -> dict[str, Any]:
        return self._api.get(f"studies/{_id(posting)}/")

    def _transition_to(self, posting: str, action: str, arrived: Callable[[object], bool]) -> None:
        """Bring a study to another state. A repeat whose first reply was lost is refused, though it had been done."""
        try:
            self._api.put(f"studies/{_id(posting)}/transition/", {"action": action}, method="POST")
        except Unreachable:
            raise
        except PlatformError:
            if not arrived(self._study(posting).get("status")):
                raise

    def _first_workspace(self) -> str | None:
        return next((str(found["id"]) for found in self._api.pages("workspaces/")), None)


def fee_of(section: ProlificSection, reward: Money) -> Money:
    """Prolific's fee on one reward or bonus, with VAT."""
    fee = _percent(reward.amount, section.fee_percent)
    return Money(amount=fee + _percent(fee, section.vat_percent), currency=reward.currency)


def allowed_minutes(minutes: int) -> int:
    """How long Prolific lets a participant take, at least, for an estimate of so many minutes."""
    return ceil(2 + 2 * minutes + 2 * sqrt(minutes))


def _percent(amount: int, percent: float) -> int:
    """Rounded to the nearest cent or penny, halves up, as each place is billed."""
    return int((Decimal(amount) * Decimal(str(percent)) / 100).to_integral_value(ROUND_HALF_UP))


def _priced(reward: int, places: int) -> dict[str, int]:
    return {"reward": reward, "total_available_places": places}


def _is_full(study: Mapping[str, Any]) -> bool:
    """Whether every place is taken, as far as is known: that a study was stopped is never concluded from what isn't said."""
    taken, offered = study.get("places_taken"), study.get("total_available_places")
    return not (isinstance(taken, int) and isinstance(offered, int)) or taken >= offered


def _internal_name(intent: str) -> str:
    return f"crowd-imi {intent}"


def _arrival(url: str) -> str:
    """The study's address with Prolific's placeholders, which mustn't be escaped."""
    joint = "&" if urlsplit(url).query else "?"
    return url + joint + "&".join(f"{name}={placeholder}" for name, placeholder in _PARAMETERS.items())


def _id(identity: str) -> str:
    """An id as a part of a path: what is no id can't lead to another address."""
    if not _ID.fullmatch(identity):
        raise PlatformError(f"{quote(identity[:80])} is no id of Prolific's")
    return identity


def _named(found: Mapping[str, Any]) -> str:
    if not found.get("id"):
        raise PlatformError("Prolific told of a submission without its id; nobody is judged by such a list: try again later")
    return str(found["id"])


def _study_of(found: Mapping[str, Any]) -> str:
    study = found.get("study_id") or found.get("study")
    return str(study.get("id") if isinstance(study, Mapping) else study)


def _bonuses(found: Mapping[str, Any], currency: str) -> tuple[PlatformBonus, ...]:
    paid = found.get("bonus_payments") or ()
    return tuple(PlatformBonus(amount=Money(amount=int(amount), currency=currency), key=None) for amount in paid)


def _code(code: str, ending: Ending, group: str | None) -> dict[str, Any]:
    """One completion code with what Prolific does about it; nothing is approved before it went through the ledger."""
    kind, reason = CODES[ending]
    actions: list[dict[str, str]] = (
        [{"action": "MANUALLY_REVIEW"}] if reason is None else [{"action": "REQUEST_RETURN", "return_reason": reason}]
    )
    if reason is None and group is not None:
        actions.append({"action": "ADD_TO_PARTICIPANT_GROUP", "participant_group": group})
    return {"code": code, "code_type": kind, "actions": actions, "actor": "participant"}
