"""A stand-in's time: the system's, one that was set and stands still, or a request's own, for rehearsals."""

import threading
from typing import Annotated

from flask import Blueprint, Response, request
from pydantic import Field, ValidationError

from crowd_imi.records import Record
from crowd_imi.store.clock import Clock, SystemClock

CLOCK_HEADER = "X-Rehearsal-Clock"
"""Milliseconds since 1970; rules for this request alone. The task pages of a rehearsal take the same header."""
LATEST = 253_402_300_799_000
"""The end of the year 9999, beyond which there are no dates."""


class ClockSetting(Record):
    """``PUT /standin/clock``."""

    now: Annotated[int, Field(ge=0, le=LATEST)] | None
    """Milliseconds since 1970 at which the clock stands from now on; None lets it run with the system's again."""


class StandinClock:
    """Milliseconds since 1970. What was set is forgotten by a restart."""

    def __init__(self, system: Clock | None = None) -> None:
        self._system = system or SystemClock()
        self._lock = threading.Lock()
        self._stands_at: int | None = None

    def set(self, now: int | None) -> None:
        with self._lock:
            self._stands_at = now

    def now(self, said: str | None = None) -> int:
        """The time of a request.

        Args:
            said: what its ``X-Rehearsal-Clock`` says, which goes before all else.

        Raises:
            ValueError: it says something that is no time.
        """
        if said is not None:
            if not 0 <= int(said) <= LATEST:
                raise ValueError(f"{said} is no time")
            return int(said)
        with self._lock:
            return self._stands_at if self._stands_at is not None else self._system.now()


def routes(clock: StandinClock) -> Blueprint:
    """``/standin/clock``: PUT a ``ClockSetting``, GET the time."""
    blueprint = Blueprint("clock", __name__)

    def get() -> Response:
        return Response(ClockSetting(now=clock.now()).model_dump_json(), mimetype="application/json")

    def put() -> Response:
        try:
            clock.set(ClockSetting.model_validate_json(request.get_data()).now)
        except ValidationError as error:
            return Response(error.json(include_url=False, include_context=False), 400, mimetype="application/json")
        return get()

    blueprint.add_url_rule("/standin/clock", "get", get, methods=["GET"])
    blueprint.add_url_rule("/standin/clock", "put", put, methods=["PUT"])
    return blueprint
