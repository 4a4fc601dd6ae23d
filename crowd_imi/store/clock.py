"""Where "now" comes from: the server's clock in a real study, an explicit one in a rehearsal."""

import time
from typing import Protocol


class Clock(Protocol):
    """Milliseconds since 1970, UTC."""

    def now(self) -> int: ...


class SystemClock:
    """The server's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000


class SimulatedClock:
    """A clock that stands still until it is set; only a rehearsal's store accepts it."""

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def set(self, now: int) -> None:
        """Move the clock; it never goes back."""
        self._now = max(self._now, now)
