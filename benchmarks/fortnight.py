"""A simulated fortnight: a crowd on a stand-in, and a harvester that is killed all the time.

The stand-in is a process of its own and counts the requests to its requester's side (``benchmarks.counted_standins``). The
harvester is a process too (``benchmarks.watchers``): it reads everything at the stated interval, and in between looks at what
events told of, as far as they arrived (``benchmarks.mail``); it is killed with SIGKILL on the way, begins anew knowing nothing,
and is sometimes started twice at once. Who takes part is in ``benchmarks.simulated_crowd``.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.counted_standins import START, TOKEN, Standin
from benchmarks.fortnight_study import Size, make_plan, write_study
from benchmarks.mail import Mail
from benchmarks.simulated_crowd import EXCLUDED, RETURNED, TIMED_OUT, Crowd
from benchmarks.watchers import Kind, Outcome, Watcher, Workplace
from crowd_imi.harvester import Harvest
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import SimulatedClock, StoreKind

FAULTS = {"throttle": 0.03, "error": 0.02, "cut-before": 0.01, "cut-after": 0.01}
"""Shares of the requests to the platform's requester side."""


@dataclass(slots=True)
class Tally:
    """What happened in a fortnight."""

    rounds: int = 0
    looks: int = 0
    """Times that events were looked at and had told of something."""
    killed: int = 0
    busy: int = 0
    """Harvesters that found another one at work, and stopped."""
    reads: int = 0
    """Requests that reading everything once takes, summed over the rounds at the stated interval."""
    failures: Counter[str] = field(default_factory=Counter)
    """Orders that the harvester reported as failed, by what failed."""
    complete_after_days: float | None = None
    told: Harvest | None = None
    """What the last round said, which nobody killed."""


@contextmanager
def mail(platform: Standin, study: Path, seed: int) -> Iterator[Mail]:
    """The way that events take, ended with the block."""
    made = Mail(platform.name, study, platform.platform, seed)
    try:
        yield made
    finally:
        made.close()


class Fortnight:
    """A posted study, its crowd, and rounds of harvesting that are killed all the time."""

    def __init__(self, folder: Path, size: Size, platform: Standin, post: Mail, cap_share: float = 1.5) -> None:
        self.folder, self.size, self.standin, self.mail = folder, size, platform, post
        self.chance = random.Random(f"{size.seed} {platform.name}")
        self.study = write_study(folder, size, cap_share, platform)
        self.clock = SimulatedClock(START)
        self.store = create_store(self.study, make_plan(self.study, size), folder, StoreKind.REHEARSAL, self.clock)
        self.platform = platform.platform()
        platform.tell_time(START)
        self.posting = launch(self.study, self.store, self.platform, Choice(name=platform.name, endpoint_url=platform.url))
        post.subscribe(platform.url, TOKEN, str(self.posting.platform_id), self.platform)
        self.crowd = Crowd(self.study, self.store, self.posting, platform, self.platform, self.clock, self.chance)
        self.tally = Tally()
        self._place = Workplace(folder, platform.platform, post.queue)
        self._watcher: Watcher | None = None
        self._seconds: dict[Kind, float] = {"round": 0.3, "look": 0.1}
        """How long an order takes, by the last ones that weren't killed."""

    def run(self) -> Tally:
        """The fortnight, and what is left after it until the study is complete (at most as long again)."""
        self.standin.ask("PUT", "faults", {"share": FAULTS, "seed": self.size.seed, "retry_after": 0})
        step = self.size.round_minutes
        expected = self.size.tasks / ((1 - EXCLUDED) * (1 - RETURNED - TIMED_OUT))
        per_round = 1.6 * expected / (self.size.days * 24 * 60 / step)
        for number in range(2 * self.size.days * 24 * 60 // step):
            self.crowd.come(per_round, step)
            self.crowd.pass_time(step / 2)
            self._look()
            self.crowd.pass_time(step / 2)
            done = self._round()
            if done is not None and done.complete and self.crowd.done:
                self.tally.complete_after_days = (number + 1) * step / (24 * 60)
                break
        self.standin.ask("DELETE", "faults")
        for _ in range(3):  # nobody kills these: what a person would run at the end
            self.tally.told = self._round(quietly=True)
        self._let_go()
        return self.tally

    def _round(self, quietly: bool = False) -> Harvest | None:
        """One round at the stated interval: the last harvester that came through, or None."""
        self.tally.rounds += 1
        self.tally.reads += self._reads()
        second = None
        if not quietly and self.chance.random() < self.size.twice:
            second = Watcher(self._place)
            second.order("round", self.clock.now())
        done = self._order("round", self.size.kills if not quietly else 0)
        if second is None:
            return done
        done = self._end(second, "round", None).done or done
        if not second.closed:  # the first one was killed or came too late, so this one goes on
            self._let_go()
            self._watcher = second
        return done

    def _let_go(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
        self._watcher = None

    def _look(self) -> None:
        """What events told of; a harvester that was killed is started again by the next round."""
        if self._watcher is not None:
            self._order("look", self.size.kills / 2)

    def _order(self, kind: Kind, kills: float) -> Harvest | None:
        watcher = self._watcher or Watcher(self._place)
        kill = self.chance.random() < kills
        watcher.order(kind, self.clock.now())
        outcome = self._end(watcher, kind, self.chance.uniform(0, 1.2 * self._seconds[kind]) if kill else None)
        self._watcher = None if watcher.closed else watcher
        return outcome.done

    def _end(self, watcher: Watcher, kind: Kind, kill_after: float | None) -> Outcome:
        begun = time.monotonic()
        outcome = watcher.end(kill_after)
        self.tally.killed += outcome.killed
        self.tally.busy += outcome.busy
        self.tally.looks += kind == "look" and outcome.done is not None
        if outcome.failed is not None:
            self.tally.failures[f"{kind}: {outcome.failed}"] += 1
        if outcome.done is not None and kill_after is None:
            self._seconds[kind] = 0.8 * self._seconds[kind] + 0.2 * (time.monotonic() - begun)
        return outcome

    def _reads(self) -> int:
        """Requests that it takes to read the posting's state, its places and every page of submissions once."""
        with self.store.people() as people:
            known = people.connection().exec_driver_sql("SELECT count(*) FROM person").scalar() or 0
        if self.standin.name == "prolific":
            return 2 + -(-known // 100)
        hits = -(-self.size.tasks // 9)
        return 1 + 2 * -(-hits // 100) + len(self.crowd.handed_in)
