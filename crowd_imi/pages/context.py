"""What every request needs: the study, its store, and who is asking."""

import re
import time
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Any, TypeVar

from flask import Response, current_app, request
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from crowd_imi.allocation import has_ended
from crowd_imi.errors import Refused
from crowd_imi.pages.pace import ARRIVALS_AT_ONCE, Pace
from crowd_imi.pages.requests import Request, storable
from crowd_imi.pages.tokens import Tokens
from crowd_imi.plan import Plan
from crowd_imi.platforms.base import Platform
from crowd_imi.records import Record
from crowd_imi.store import Clock, SimulatedClock, Store, StoreKind
from crowd_imi.store.tables import Visit
from crowd_imi.store.tasks import shows
from crowd_imi.store.visits import AtTrial, count_trials, find_visit
from crowd_imi.study import Study

CLOCK_HEADER = "X-Rehearsal-Clock"
TOKEN_HEADER = "X-Visit-Token"
NAME = re.compile(r"[\w\[\]-]{1,40}", re.ASCII)
"""What refusals repeat of a body's keys."""

LONGEST_VISIT_MS = 30 * 24 * 3600 * 1000
"""After so long a visit's token ends, whatever it is at; who was late could finish until then."""

R = TypeVar("R", bound=Request)
V = TypeVar("V", Visit, AtTrial)


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pages of one run are made of; read once, when the app is made."""

    study: Study
    store: Store
    platform: Platform | None
    """None for a preview, which no platform knows of."""
    plan: Plan
    texts: dict[str, Any]
    key: bytes
    """The study's secret."""
    tokens: Tokens
    sprites: frozenset[str]
    """File names that may be asked for."""
    sprites_at: str
    """The name of a sprite behind this is its address for browsers."""
    _trials: dict[int, int] = field(init=False, default_factory=dict)
    """Task → how many questions it asks, as far as somebody wanted to know: it never changes."""
    pace: Pace = field(default_factory=Pace)
    arriving: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(ARRIVALS_AT_ONCE))
    plan_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan_sha256", self.plan.sha256)

    def serves(self, sprite: str) -> bool:
        """Whether a sprite may be asked for: the plan's, or one of tasks that came later, also while this server runs."""
        if sprite in self.sprites:
            return True
        with self.store.read() as session:
            return shows(session, sprite)

    def trials(self, reading: Session | Connection, task_id: int) -> int:
        """How many questions a task asks, from memory when they were counted before."""
        if task_id not in self._trials:
            self._trials[task_id] = count_trials(reading, task_id)
        return self._trials[task_id]


def pages() -> Pages:
    """The pages of the app that handles this request."""
    found: Pages = current_app.extensions["crowd_imi"]
    return found


def request_clock(store: Store) -> Clock:
    """The clock of this request: the store's own, or in a rehearsal the one that the request brings along.

    Raises:
        Refused: a rehearsal's request without its time, or another one with it.
    """
    said = request.headers.get(CLOCK_HEADER)
    if store.kind is not StoreKind.REHEARSAL:
        if said is not None:
            raise Refused(f"{CLOCK_HEADER} is for rehearsals, and this is none.", 400, "bad-request")
        return store.clock
    if said is None or not said.isascii() or not said.isdigit() or len(said) > 15:
        raise Refused(f"This is a rehearsal: send {CLOCK_HEADER}, milliseconds since 1970.", 400, "bad-request")
    return SimulatedClock(int(said))


def open_visit(session: Session, token: tuple[str, int], *, lock: bool) -> Visit:
    """The visit that a token was made for.

    Raises:
        Refused: ``ended`` when it goes on in another window, ``timed-out`` when its time is over.
    """
    return require_open(find_visit(session, token[0], lock=lock), token[1])


def require_open(visit: V | None, generation: int) -> V:
    """Make sure that a visit goes on, and with the page of this generation.

    Raises:
        Refused: as ``open_visit``.
    """
    if visit is None:
        raise Refused("This page belongs to no visit; please open the study again from where you chose it.", 401, "bad-token")
    if visit.generation != generation:
        raise Refused("The study was opened again in another window and goes on there.", 401, "ended")
    if has_ended(visit) or request_clock(pages().store).now() - visit.arrived_at > LONGEST_VISIT_MS:
        raise Refused("Your time for this study is over, and your place went to somebody else.", 410, "timed-out")
    return visit


def asked_token() -> tuple[str, int]:
    """The visit and the generation of the token that came with this request.

    Raises:
        Refused: there is none, nobody here signed it, or its visit asks too often.
    """
    here = pages()
    visit, generation = here.tokens.read(request.headers.get(TOKEN_HEADER, ""))
    simulated = here.store.kind is StoreKind.REHEARSAL
    here.pace.take(visit, request_clock(here.store).now() / 1000 if simulated else time.monotonic())
    return visit, generation


def asked(model: type[R]) -> R:
    """The request's JSON body.

    Raises:
        Refused: it isn't what this address takes.
    """
    try:
        return model.model_validate_json(storable(request.get_data(cache=False)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # Keys of the body are among them, whatever somebody wrote there.
        where = ".".join(str(part) if NAME.fullmatch(str(part)) else "…" for part in first["loc"]) or "the body"
        raise Refused(f"The page sent something that can't be stored ({where}: {first['msg']}).", 400, "bad-request") from None


def as_json(document: Record, status: int = 200) -> Response:
    """A reply of the API; nobody keeps a copy of it."""
    response = Response(document.model_dump_json(), status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
