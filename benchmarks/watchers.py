"""Harvesters as processes that live for days, and are killed with SIGKILL whatever they do.

Each is forked, opens the study anew, holds the lease that ``crowd-imi harvest --watch`` holds, begins with reading everything,
and then does as it is told over a pipe: a round that reads everything, or a look at what it was told by events.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crowd_imi.errors import Busy, PlatformError
from crowd_imi.harvester import Harvest, harvest
from crowd_imi.harvester.collect import Inbox, Known
from crowd_imi.ledger import lease
from crowd_imi.platforms.base import Platform
from crowd_imi.platforms.mturk import notifications
from crowd_imi.platforms.mturk.notifications import NoticeQueue
from crowd_imi.store import SimulatedClock, Store
from crowd_imi.store.engine import database_urls
from crowd_imi.store.money import HARVESTER
from crowd_imi.study import load_study

Kind = Literal["round", "look"]
BUSY, NOTHING, FAILED = "busy", "nothing", "failed: "


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a harvester is started with."""

    folder: Path
    platform: Callable[[], Platform]
    queue: Callable[[], NoticeQueue | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one order ended; all None and False when there was nothing to look at."""

    done: Harvest | None = None
    killed: bool = False
    busy: bool = False
    failed: str | None = None


class Watcher:
    """One process."""

    def __init__(self, place: Workplace) -> None:
        orders, self._orders = os.pipe()
        self._replies, replies = os.pipe()
        self.process = os.fork()
        if not self.process:
            os.close(self._orders)
            os.close(self._replies)
            _work(place, orders, replies)
        os.close(orders)
        os.close(replies)
        self._reading = os.fdopen(self._replies, "r", encoding="utf-8")
        self.closed = False

    def order(self, kind: Kind, now: int) -> None:
        """Begin; ``end`` waits for the outcome.

        Args:
            kind: read everything, or only what events told of.
            now: simulated time.
        """
        with contextlib.suppress(BrokenPipeError):  # it found another one at work, and stopped
            os.write(self._orders, f"{json.dumps([kind, now])}\n".encode())

    def end(self, kill_after: float | None = None) -> Outcome:
        """How the order ended; with ``kill_after``, SIGKILL comes so many seconds later, whether it is through or not."""
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
        said = self._reading.readline().strip()
        if kill_after is not None or not said or said == BUSY:
            killed = self.close()
            if killed and not said:
                return Outcome(killed=True)
            if killed:
                return Outcome(_read(said).done, killed=True)
        return _read(said)

    def close(self) -> bool:
        """Let it end by itself, which gives back its lease; whether a signal had ended it before."""
        self.closed = True
        self._reading.close()
        os.close(self._orders)
        return os.WIFSIGNALED(os.waitpid(self.process, 0)[1])


def _read(said: str) -> Outcome:
    if said.startswith("{"):
        return Outcome(Harvest.model_validate_json(said))
    return Outcome(busy=said == BUSY, failed=said.removeprefix(FAILED) if said.startswith(FAILED) else None)


def _work(place: Workplace, orders: int, replies: int) -> None:
    """In the forked process."""
    notifications.WAIT_SECONDS = 0  # simulated days don't wait for real seconds
    try:
        with os.fdopen(orders, encoding="utf-8") as reading, os.fdopen(replies, "w", encoding="utf-8") as writing:
            clock = SimulatedClock(0)
            store, study = Store.open(*database_urls(place.folder), clock), load_study(place.folder)
            platform, known = place.platform(), Known()
            inbox = Inbox(study, store, platform, place.queue())
            try:
                with lease(store, "harvest", study.file.pay.cap_money, name=HARVESTER):
                    for line in reading:
                        kind, now = json.loads(line)
                        clock.set(now)
                        writing.write(f"{_take(place, store, platform, known, inbox, kind)}\n")
                        writing.flush()
            except Busy:
                writing.write(f"{BUSY}\n")
    finally:
        os._exit(0)


def _take(place: Workplace, store: Store, platform: Platform, known: Known, inbox: Inbox, kind: Kind) -> str:  # noqa: PLR0913, PLR0917
    """One order, as ``--watch`` carries it out."""
    try:
        told = inbox.news()
        while len(more := inbox.news()) > len(told):  # a queue gives ten at once
            told = more
        if kind == "look" and not told:
            return NOTHING
        done = harvest(load_study(place.folder), store, platform, known, told if kind == "look" else None)
        inbox.looked()
    except (PlatformError, Busy) as error:
        return f"{FAILED}{type(error).__name__}"
    return done.model_dump_json()
