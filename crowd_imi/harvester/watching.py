"""Harvesting for days: one round after another until the study is complete or somebody says stop."""

import random
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from threading import Event

from sqlalchemy.exc import OperationalError

from crowd_imi.errors import Busy, CrowdImiError, PlatformError
from crowd_imi.harvester.records import Harvest

JITTER = 0.1
"""Waits differ by so much, up and down, so that harvests of several studies don't ask the platform in step."""
LONGEST_WAIT = 900.0
"""Seconds: after failures waits double up to this (or to the interval, where that is longer)."""

LISTENING_SECONDS = 3.0
"""How often it is looked whether the platform told something, while the next round isn't due."""

HOLDING_SECONDS = 60.0
"""How often a wait, however long, says that this harvest is still there: far below the time after which a lease runs out."""

_PASSING = (PlatformError, Busy, OperationalError)
"""What may be over by the next round: the platform or the database fails, or somebody pays by hand at the moment."""


def watch(  # noqa: PLR0913, PLR0917 (what to do, how often, and whom to tell)
    take_round: Callable[[Collection[str] | None], Harvest],
    every: float,
    stop: Event,
    tell: Callable[[Harvest], None],
    tell_failure: Callable[[Exception, float], None],
    news: Callable[[], Collection[str]] = frozenset,
    hold: Callable[[], None] = lambda: None,
) -> Harvest | None:
    """Take rounds until the study is complete and nothing was refused, or ``stop`` is set.

    Only a round that reads everything ends it.

    A failure that may pass is told, and the round taken again later. What can't pass by itself (a key of study.toml that is
    frozen was edited, say) ends the first round; later on it is told and waited for, so that a slip of the editor doesn't
    end a harvest that has run for days.

    Args:
        take_round: one round that reads these submissions anew, or all of them (None).
        every: seconds between rounds.
        stop: set by whoever wants it to end; the round that is being taken is finished.
        tell: called after each round.
        tell_failure: called with what went wrong and the seconds until the next try.
        news: the submissions that the platform told about: a round that looks at them is taken at once.
        hold: keeps others from harvesting or publishing beside this one; called before each round and all through the waits.

    Returns:
        The last round; None when none was finished.

    Raises:
        LedgerError: by ``hold``: somebody else has begun, as this process stood still for too long.
    """
    chance = random.Random()
    last, failures, told, due = None, 0, None, 0.0
    while not stop.is_set():
        wait = every * chance.uniform(1 - JITTER, 1 + JITTER)
        _hold(hold)
        try:
            last = take_round(told)
        except (CrowdImiError, OperationalError) as error:
            if last is None and not isinstance(error, _PASSING):
                raise
            failures += 1
            wait = min(wait * 2 ** min(failures - 1, 10), max(every, LONGEST_WAIT))
            tell_failure(error, wait)
            told = _listen(frozenset, hold, time.monotonic() + wait, stop, tell_failure)
            continue
        tell(last)
        if last.complete and not last.refused:
            if told is None:
                return last
            told = None  # a look goes by what was read before: before it ends, everything is read once more
            continue
        if told is None:
            failures, due = 0, time.monotonic() + wait
        told = _listen(news, hold, due, stop, tell_failure)
    return last


def _listen(
    news: Callable[[], Collection[str]],
    hold: Callable[[], None],
    due: float,
    stop: Event,
    tell_failure: Callable[[Exception, float], None],
) -> Collection[str] | None:
    """Wait for the next round: None when it is due, or the submissions that something was told about before."""
    held = time.monotonic()
    while (left := due - time.monotonic()) > 0 and not stop.wait(min(left, LISTENING_SECONDS)):
        if time.monotonic() - held >= HOLDING_SECONDS:
            _hold(hold)
            held = time.monotonic()
        try:
            told = news()
        except _PASSING as error:
            tell_failure(error, max(0.0, due - time.monotonic()))
            news = frozenset  # the next round reads everything, whatever is told until then
            continue
        if told:
            return told
    return None


def _hold(hold: Callable[[], None]) -> None:
    with suppress(OperationalError):  # the database fails for a moment, and then nobody else can begin either
        hold()
