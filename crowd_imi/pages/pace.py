"""How many requests a visit may make: far more than a page does, far fewer than a script can; and how many arrive at once."""

import threading
from collections import OrderedDict

from crowd_imi.errors import Refused

BURST = 120
"""Requests at once; a page sends some ten when its connection comes back."""
PER_SECOND = 5.0
"""Requests a second in the long run; a page sends less than one."""
MOST_VISITS = 10_000
"""Kept in memory; the longest unseen one is forgotten first, which gives it a full burst again."""

ARRIVALS_AT_ONCE = 6
"""In each process, of its eight threads. An arrival may wait for its platform for seconds, and who is at the trials mustn't wait
for that. Nobody is counted by where they come from: addresses aren't looked at, and a class room or an institute has one."""


class Pace:
    """A bucket of requests for each visit, in each process of its own: with N workers a visit may make N times as many."""

    def __init__(self, burst: float = BURST, per_second: float = PER_SECOND, most: int = MOST_VISITS) -> None:
        self._burst, self._per_second, self._most = burst, per_second, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, visit: str, seconds: float) -> None:
        """Take one request out of a visit's bucket.

        Args:
            visit: its id, from a token that we signed: ids can't be made up to fill the memory.
            seconds: of any clock; one that goes back fills no bucket.

        Raises:
            Refused: it is empty.
        """
        with self._lock:
            left, before = self._left.pop(visit, (self._burst, seconds))
            left = min(self._burst, left + max(0.0, seconds - before) * self._per_second)
            self._left[visit] = (max(0.0, left - 1), seconds)
            if len(self._left) > self._most:
                self._left.popitem(last=False)
        if left < 1:
            raise Refused("This page asks too often; it goes on in a moment.", 429, "too-fast")
