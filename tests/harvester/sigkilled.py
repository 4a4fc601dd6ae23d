"""Harvests in processes of their own that end by SIGKILL, later each time, until one comes through; run with what to work on.

A process is killed before a statement that it would send to a database, so also in the middle of a transaction, or beside a
call to the platform.
"""

import os
import signal
import sys
from pathlib import Path

from sqlalchemy import event

from crowd_imi.harvester import harvest
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.store import SimulatedClock, Store
from crowd_imi.study import load_study
from tests.harvester.death import Death, DyingPlatform


class SigKill(Death):
    """At the moment the process is gone, with nothing closed or given back."""

    def moment(self) -> None:
        self.moments += 1
        if self.moments > self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def harvest_until_killed(folder: Path, urls: tuple[str, str], now: int, at: int) -> None:
    """One round, killed at its ``at``-th moment if it has so many."""
    clock, death = SimulatedClock(now), SigKill(at)
    store, platform = Store.open(*urls, clock), LocalPlatform(folder / "local.db", clock)
    for engine in (store._engine, store._people):
        event.listen(engine, "before_cursor_execute", lambda *_: death.moment())
    harvest(load_study(folder), store, DyingPlatform(platform, death))


def main(folder: str, url: str, people_url: str, now: str) -> None:
    """Print how many were killed."""
    killed, at = 0, 10
    while True:
        process = os.fork()
        if not process:
            status = 1
            try:
                harvest_until_killed(Path(folder), (url, people_url), int(now), at)
                status = 0
            finally:
                os._exit(status)
        ended = os.waitpid(process, 0)[1]
        if not os.WIFSIGNALED(ended):
            break
        killed, at = killed + 1, at + at // 2
    print(killed)
    sys.exit(os.WEXITSTATUS(ended))


if __name__ == "__main__":
    main(*sys.argv[1:])
