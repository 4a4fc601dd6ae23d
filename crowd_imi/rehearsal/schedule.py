"""Simulated time: everybody's next step in one queue, one step at a time, so that a rehearsal is the same every run."""

import heapq
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from crowd_imi.store.clock import SimulatedClock

Life = Generator[int, None, None]
"""What somebody does: each ``yield`` says how many simulated milliseconds pass before the next step."""

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@dataclass(order=True, slots=True)
class _Next:
    at: int
    number: int
    life: Life


class Schedule:
    """Runs lives against a clock; at the same moment the one that was started first goes first."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self._queue: list[_Next] = []
        self._started = 0

    def start(self, life: Life, after: int = 0) -> None:
        """Let somebody begin, so many milliseconds from now."""
        heapq.heappush(self._queue, _Next(self.clock.now() + after, self._started, life))
        self._started += 1

    def steps(self) -> Iterator[int]:
        """Take one step after another until nobody has anything left to do; yields the simulated time of each."""
        while self._queue:
            following = heapq.heappop(self._queue)
            self.clock.set(following.at)
            try:
                wait = next(following.life)
            except StopIteration:
                wait = None
            if wait is not None:
                following.at += max(0, wait)
                heapq.heappush(self._queue, following)
            yield self.clock.now()
