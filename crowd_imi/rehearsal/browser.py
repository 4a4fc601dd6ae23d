"""A participant's browser: follows links, keeps the visit's token, talks to the pages and notes what they acknowledged."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import urljoin, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from crowd_imi.errors import RehearsalError
from crowd_imi.plan import Grid
from crowd_imi.rehearsal.doors import Door, Ticket
from crowd_imi.rehearsal.observers import Choice, Places
from crowd_imi.rehearsal.records import Acknowledged
from crowd_imi.rehearsal.wire import Reply, Wire

Step = Literal["consent", "instructions", "practice", "main", "feedback", "done", "failed_practice", "declined"]

REDIRECTS = (302, 303)

H = TypeVar("H", bound="Heard")


class Heard(BaseModel):
    """Part of a reply. A browser takes what it needs and passes over the rest."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ShownTrial(Heard):
    """One trial, as the page is told."""

    position: int
    sprite: str
    left: tuple[int, ...]
    right: tuple[int, ...]
    upper: int
    lower: int

    @property
    def places(self) -> Places:
        return Places(self.left, self.right, self.upper, self.lower)


class PracticeBlock(Heard):
    """One round of practice; ``position`` is how many trials of it are answered."""

    block: int
    position: int
    trials: tuple[ShownTrial, ...]


class Timing(Heard):
    """Milliseconds that the page keeps to."""

    unlock_ms: int
    verdict_ms: int
    feedback_ms: int


class Completion(Heard):
    """Where the browser goes when everything is stored."""

    url: str
    form: dict[str, str] | None = None


class View(Heard):
    """``GET /api/visit``: where the visit stands and all that the page needs."""

    step: Step
    grid: Grid
    trials: int
    answered: int
    practice: PracticeBlock | None
    main: tuple[ShownTrial, ...] | None
    timing: Timing
    texts: dict[str, Any]
    completion: Completion | None


class Moved(Heard):
    """The reply to consent and instructions."""

    step: Step


class PracticeReply(Heard):
    """The reply to a practice answer."""

    correct: bool
    step: Step
    practice: PracticeBlock | None


class AnswerReply(Heard):
    """The reply to an answer."""

    correct: bool
    answered: int
    correct_count: int
    step: Step


class Submitted(Heard):
    """The reply to the last page."""

    step: Step
    completion: Completion | None


class Said(RehearsalError):
    """The pages said no: ``code`` is the slug of the reply."""

    def __init__(self, reply: Reply, where: str) -> None:
        body = _json(reply)
        self.status = reply.status
        self.code = str(body.get("code", "")) if isinstance(body, dict) else ""
        super().__init__(f"{where}: {reply.status} {self.code or reply.content[:200]!r}")


@dataclass(slots=True)
class Browser:
    """One participant's browser, and what it remembers."""

    wire: Wire
    door: Door
    participant: str
    ticket: Ticket | None = None
    token: str = ""
    base: str = ""
    acknowledged: dict[int, Acknowledged] = field(default_factory=dict)
    """Position → the answer as it was acknowledged last."""
    refusals: list[str] = field(default_factory=list)

    def postings(self) -> list[str]:
        """Open postings, as the platform shows them."""
        return self.door.postings()

    def take(self, posting: str) -> Ticket | None:
        """Take a place; None when none is free."""
        ticket = self.door.take(posting, self.participant)
        self.ticket = ticket or self.ticket
        return ticket

    def arrive(self) -> bool:
        """Follow the platform's link; False when the pages refuse, which is noted by its slug."""
        if self.ticket is None:
            raise RehearsalError(f"{self.participant} has no place to arrive with")
        reply = self._get(self.ticket.arrival_url, {})
        if reply.status != 303:
            self.refusals.append(_refusal(reply, self.ticket.arrival_url))
            return False
        target = urljoin(self.ticket.arrival_url, reply.headers["Location"])
        parts = urlsplit(target)
        self.token = parts.fragment
        self.base = f"{parts.scheme}://{parts.netloc}"
        shell = self._get(target.partition("#")[0], {})
        if not shell.ok:
            raise Said(shell, target)
        return True

    def look(self) -> View:
        """What the page shows now."""
        return _heard(View, self.look_closely())

    def look_closely(self) -> Reply:
        """The reply behind ``look``, with everything around it."""
        return self._api("GET", "visit")

    def consent(self, agree: bool, version: str) -> Step:
        return _heard(Moved, self._api("POST", "consent", {"agree": agree, "version": version})).step

    def page(self, page: str, shown_ms: int) -> None:
        self._api("POST", "page", {"page": page, "shown_ms": shown_ms})

    def instructions(self, browser: Mapping[str, object]) -> Step:
        return _heard(Moved, self._api("POST", "instructions", {"browser": dict(browser)})).step

    def practise(self, block: int, position: int, choice: Choice, rt_ms: float) -> PracticeReply:
        body = {"block": block, "position": position, "row": choice.row, "confidence": choice.confidence, "rt_ms": rt_ms}
        return _heard(PracticeReply, self._api("POST", "practice", body))

    def answer(self, position: int, choice: Choice, rt_ms: float, saving_ms: float | None) -> AnswerReply:
        """Send an answer, and note it once the server has acknowledged it."""
        body = {
            "position": position,
            "row": choice.row,
            "confidence": choice.confidence,
            "rt_ms": rt_ms,
            "shown_ms": rt_ms,
            "saving_ms": saving_ms,
        }
        reply = _heard(AnswerReply, self._api("POST", "answers", body))
        self.acknowledged[position] = Acknowledged(
            participant=self.participant, position=position, row=choice.row, confidence=choice.confidence
        )
        return reply

    def event(self, kind: str, detail: dict[str, object]) -> None:
        self._api("POST", "events", {"kind": kind, "detail": detail})

    def submit(self, feedback: str) -> Submitted:
        return _heard(Submitted, self._api("POST", "submit", {"feedback": feedback}))

    def sprite(self, path: str) -> Reply:
        """Fetch a picture, as an ``<img>`` does: without the token."""
        reply = self._get(urljoin(self.base, path), {"Accept": "image/avif,image/webp,*/*"})
        if not reply.ok:
            raise Said(reply, path)
        return reply

    def complete(self, completion: Completion) -> None:
        """Go back to the platform with the completion code."""
        reply = self.door.hand_in(self.participant, completion.url, completion.form)
        if not reply.ok and reply.status not in REDIRECTS:
            raise Said(reply, completion.url)

    def give_back(self) -> None:
        """Give the place back on the platform."""
        if self.ticket is None:
            raise RehearsalError(f"{self.participant} has no place to give back")
        reply = self.door.give_back(self.ticket)
        if reply is not None and not reply.ok:
            raise Said(reply, "give-back")

    def _get(self, url: str, headers: dict[str, str]) -> Reply:
        return self.wire.send("GET", url, headers)

    def _api(self, method: str, name: str, body: object = None) -> Reply:
        reply = self.wire.send(method, f"{self.base}/api/{name}", {"X-Visit-Token": self.token}, body)
        if not reply.ok:
            raise Said(reply, f"/api/{name}")
        return reply


def _heard(model: type[H], reply: Reply) -> H:
    try:
        return model.model_validate_json(reply.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RehearsalError(f"the pages replied without a usable {where} ({first['msg']}): {reply.content[:300]!r}") from None


def _json(reply: Reply) -> Any:  # noqa: ANN401 (JSON is any of its types)
    try:
        return json.loads(reply.content)
    except ValueError:
        return {}


def _refusal(reply: Reply, url: str) -> str:
    found = re.search(rb'data-refusal="([a-z-]+)"', reply.content)
    if found is None:
        raise Said(reply, url)
    return found.group(1).decode()
