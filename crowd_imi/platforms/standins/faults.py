"""Failing on purpose: which requests of a stand-in fail, and how, by a schedule that can be repeated.

A schedule is set over HTTP (``PUT /standin/faults``, ``routes``) and carried out in front of the app (``FaultyRequests``). It
lives in the server's memory, so a restart begins without one; servers of stand-ins therefore have one worker process.
"""

import random
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated, Any

from flask import Blueprint, Response, request
from pydantic import Field, ValidationError, model_validator
from werkzeug.test import run_wsgi_app

from crowd_imi.records import Record

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Fault(StrEnum):
    """How a request or an event fails."""

    THROTTLE = "throttle"
    """Refused with 429 and Retry-After (or the protocol's word for it); nothing is done."""
    ERROR = "error"
    """Refused with 500; nothing is done."""
    CUT_BEFORE = "cut-before"
    """The connection is closed without a reply; nothing is done."""
    CUT_AFTER = "cut-after"
    """It is done and committed, then the connection is closed without a reply."""
    SLOW = "slow"
    """Done after ``slow_seconds``."""
    DUPLICATE = "duplicate"
    """The next event is sent twice; requests are left alone by it."""


REFUSALS = frozenset({Fault.THROTTLE, Fault.ERROR})


class FaultPlan(Record):
    """``PUT /standin/faults``: it replaces the one before."""

    next: tuple[Fault, ...] = ()
    """One fault each for the next requests that match; ``duplicate`` for the next events."""
    path: str | None = None
    """A regular expression that is looked for in a request's name (``POST /api/v1/studies/``, or the operation's name);
    None hits every request of the requester's API."""
    share: dict[Fault, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Fault → the share of matching requests that it hits; the sum is at most 1. ``duplicate`` counts events and stands alone."""
    seed: int = 0
    """The same seed draws the same faults for the same order of requests."""
    slow_seconds: Annotated[float, Field(ge=0, le=600)] = 1.0
    retry_after: Annotated[int, Field(ge=0, le=3600)] = 1
    """Seconds that a throttled client is told to wait."""

    @model_validator(mode="after")
    def _possible(self) -> "FaultPlan":
        if sum(share for fault, share in self.share.items() if fault is not Fault.DUPLICATE) > 1:
            raise ValueError("the shares of requests add up to more than 1; lower them")
        if self.path is not None:
            try:
                re.compile(self.path)
            except re.error as error:
                raise ValueError(f"path is no regular expression: {error}") from None
        return self


class FaultState(Record):
    """``GET /standin/faults``."""

    plan: FaultPlan
    left: tuple[Fault, ...]
    """What is still to come of ``plan.next``, requests' first."""
    hit: dict[Fault, int]
    """How often each fault happened since the plan was set."""


class Faults:
    """The schedule in force; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.set(FaultPlan())

    def set(self, plan: FaultPlan) -> None:
        """Begin with this plan; what was left of the one before is forgotten."""
        with self._lock:
            self._plan = plan
            self._requests = deque(fault for fault in plan.next if fault is not Fault.DUPLICATE)
            self._events = deque(fault for fault in plan.next if fault is Fault.DUPLICATE)
            self._request_chance = random.Random(f"requests {plan.seed}")
            self._event_chance = random.Random(f"events {plan.seed}")
            self._hit: dict[Fault, int] = {}

    def clear(self) -> None:
        """No more faults."""
        self.set(FaultPlan())

    @property
    def plan(self) -> FaultPlan:
        return self._plan

    def state(self) -> FaultState:
        """The plan, what is left of it and what happened."""
        with self._lock:
            return FaultState(plan=self._plan, left=(*self._requests, *self._events), hit=dict(self._hit))

    def for_request(self, name: str) -> Fault | None:
        """The fault of the request that came in now, or None; each call uses up one.

        Args:
            name: what ``plan.path`` is looked for in.
        """
        with self._lock:
            if self._plan.path is not None and re.search(self._plan.path, name) is None:
                return None
            return self._count(self._requests.popleft() if self._requests else self._by_chance())

    def duplicates_event(self) -> bool:
        """Whether the event that is sent now is sent twice; each call uses up one."""
        with self._lock:
            share = self._plan.share.get(Fault.DUPLICATE, 0.0)
            by_chance = self._event_chance.random() < share
            if not self._events and not by_chance:
                return False
            if self._events:
                self._events.popleft()
            return self._count(Fault.DUPLICATE) is not None

    def _by_chance(self) -> Fault | None:
        drawn, below = self._request_chance.random(), 0.0
        for fault in Fault:
            below += self._plan.share.get(fault, 0.0) if fault is not Fault.DUPLICATE else 0.0
            if drawn < below:
                return fault
        return None

    def _count(self, fault: Fault | None) -> Fault | None:
        if fault is not None:
            self._hit[fault] = self._hit.get(fault, 0) + 1
        return fault


class FaultyRequests:
    """A WSGI app around a stand-in's that lets requests fail as the schedule says.

    Args:
        app: the stand-in.
        faults: the schedule, which ``routes`` sets.
        name: what the schedule calls a request (method and path, or an operation); None for one that isn't of the requester's
            API and never fails (``/standin/…``, what a participant's browser asks for).
        refusal: the reply to a request that is throttled or fails (``Fault.THROTTLE`` or ``Fault.ERROR``), in the
            platform's own form; the plan says ``retry_after``.
    """

    def __init__(
        self,
        app: WsgiApp,
        faults: Faults,
        name: Callable[[Environ], str | None],
        refusal: Callable[[Fault, FaultPlan], Response],
    ) -> None:
        self._app, self._faults, self._name, self._refusal = app, faults, name, refusal

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        name = self._name(environ)
        fault = self._faults.for_request(name) if name is not None else None
        if fault in REFUSALS:
            _read_all(environ)
            return self._refusal(fault, self._faults.plan)(environ, start_response)
        if fault is Fault.CUT_BEFORE:
            _read_all(environ)
            return cut(environ, start_response)
        if fault is Fault.CUT_AFTER:
            run_wsgi_app(self._app, environ)
            return cut(environ, start_response)
        if fault is Fault.SLOW:
            time.sleep(self._faults.plan.slow_seconds)
        return self._app(environ, start_response)


def cut(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Close the connection of a request without a reply.

    Both servers hand the raw socket to the app; what they write afterwards goes nowhere.

    Raises:
        RuntimeError: this server doesn't hand it over.
    """
    connection: socket.socket | None = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if connection is None:
        raise RuntimeError("this server doesn't hand the raw socket to the app; run the stand-in under gunicorn or werkzeug")
    connection.shutdown(socket.SHUT_RDWR)
    start_response("500 Cut", [("Connection", "close"), ("Content-Length", "0")])
    return []


def routes(faults: Faults) -> Blueprint:
    """``/standin/faults``: PUT a ``FaultPlan``, GET the ``FaultState``, DELETE it."""
    blueprint = Blueprint("faults", __name__)

    def state() -> Response:
        return Response(faults.state().model_dump_json(), mimetype="application/json")

    def put() -> Response:
        try:
            plan = FaultPlan.model_validate_json(request.get_data())
        except ValidationError as error:
            return Response(error.json(include_url=False, include_context=False), 400, mimetype="application/json")
        faults.set(plan)
        return state()

    def delete() -> Response:
        faults.clear()
        return state()

    blueprint.add_url_rule("/standin/faults", "put", put, methods=["PUT"])
    blueprint.add_url_rule("/standin/faults", "get", state, methods=["GET"])
    blueprint.add_url_rule("/standin/faults", "delete", delete, methods=["DELETE"])
    return blueprint


def _read_all(environ: Environ) -> None:
    """Take in the body, so that a client that still sends it sees our reply and not a reset connection."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left > 0:
        chunk = environ["wsgi.input"].read(min(left, 65536))
        if not chunk:
            return
        left -= len(chunk)
