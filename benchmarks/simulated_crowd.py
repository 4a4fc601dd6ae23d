"""A simulated crowd at the store's level: who comes, what becomes of them, and when.

People come, answer and leave without pages; what the platform sees of them goes through its own doors.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sqlalchemy import select

from benchmarks.counted_standins import MINUTE, VISIT_MINUTES, Standin
from crowd_imi.allocation import Arrival, arrive, hand_in
from crowd_imi.errors import Refused
from crowd_imi.keys import completion_code, study_key
from crowd_imi.lifecycle import VisitState, move
from crowd_imi.platforms.base import Platform
from crowd_imi.store import SimulatedClock, Store
from crowd_imi.store.tables import Answer, Posting, PracticeAnswer, Trial, Visit
from crowd_imi.study import Study

S = VisitState

EXCLUDED, RETURNED, TIMED_OUT, LATE, AGAIN = 0.25, 0.10, 0.05, 0.03, 0.05
"""Shares of those who come: who fails a criterion (of those who finish), gives the place back, leaves without a word, finishes
after the time; and of arrivals, who was here before."""
LATE_BY = (20, 24 * 60)
"""Minutes after the time: by then somebody else may have the task."""


@dataclass(slots=True)
class Told:
    """What became of people."""

    came: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    responses: dict[int, list[tuple[int, bool]]] = field(default_factory=dict)
    """Task → (simulated time, passes the criteria) of each response, in order."""


class Crowd:
    """Everybody who takes part in a posted study.

    Args:
        study: whose posting.
        store: its, on ``clock``.
        posting: that people take places of.
        standin: where they do.
        platform: an adapter, for where the last page sends the browser.
        clock: that ``pass_time`` moves.
        chance: of all that happens.
    """

    def __init__(  # noqa: PLR0913, PLR0917 (a study, and where it takes place)
        self,
        study: Study,
        store: Store,
        posting: Posting,
        standin: Standin,
        platform: Platform,
        clock: SimulatedClock,
        chance: random.Random,
    ) -> None:
        self.study, self.store, self.posting, self.standin = study, store, posting, standin
        self.platform, self.clock, self.chance = platform, clock, chance
        self.told = Told()
        self.handed_in: set[str] = set()
        """HITs that somebody has handed in for: the others aren't asked for assignments."""
        self._hits: dict[str, str] = {}
        """Assignment → its HIT, on Mechanical Turk."""
        self._people = 0
        self._agenda: list[tuple[int, int, Callable[[], Any]]] = []
        self._number = 0

    @property
    def done(self) -> bool:
        """Nobody has anything left to do."""
        return not self._agenda

    def come(self, mean: float, within: float) -> None:
        """So many people on average, within so many minutes from now."""
        for _ in range(min(40, _poisson(self.chance, mean))):
            self._later(self.chance.uniform(0, within), self._somebody_comes)

    def pass_time(self, minutes: float) -> None:
        """Do everything that is due until then."""
        until = self.clock.now() + int(minutes * MINUTE)
        while self._agenda and self._agenda[0][0] <= until:
            at, _, what = heapq.heappop(self._agenda)
            self.clock.set(at)
            self.standin.now = at
            what()
        self.clock.set(until)
        self.standin.tell_time(until)

    def _later(self, minutes: float, what: Callable[[], Any]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (self.clock.now() + int(minutes * MINUTE), self._number, what))

    def _somebody_comes(self) -> None:
        if self._people and self.chance.random() < AGAIN:
            name = f"person{self.chance.randrange(self._people)}"
        else:
            name = f"person{self._people}"
            self._people += 1
        taken = self.standin.ask("POST", "take", {"posting": self.posting.platform_id, "participant": name})
        if taken is None:
            self.told.endings["found no place"] += 1
            return
        query = dict(parse_qsl(urlsplit(taken["arrival_url"]).query))
        who = query.get("workerId", name)
        self._hits[taken["submission"]] = query.get("hitId", "")
        arrival = Arrival(self.standin.name, who, taken["submission"], self.posting.id, self.clock.now())
        try:
            visit = arrive(self.store, self.study, arrival)
        except Refused as refused:
            self.told.endings[f"turned away: {refused.code}"] += 1
            self._later(5, lambda: self.standin.ask("POST", "give-back", {"submission": taken["submission"]}))
            return
        if visit.generation > 1:
            return
        self.told.came += 1
        self._goes_on(visit, name, taken["submission"])

    def _goes_on(self, visit: Visit, name: str, submission: str) -> None:
        drawn = self.chance.random()
        if drawn < RETURNED:
            self.told.endings["returned"] += 1
            give_back = {"submission": submission}
            self._later(self.chance.uniform(1, 30), lambda: self.standin.ask("POST", "give-back", give_back))
            return
        if drawn < RETURNED + TIMED_OUT:
            self.told.endings["timed out"] += 1
            if self.chance.random() < 0.5:
                self._begin(visit)
            return
        bad = self.chance.random() < EXCLUDED
        if bad and self.chance.random() < 0.2:
            self._later(10, lambda: self._fails_practice(visit, name, submission))
            return
        self._begin(visit)
        late = drawn > 1 - LATE
        minutes = VISIT_MINUTES + self.chance.uniform(*LATE_BY) if late else self.chance.uniform(8, 35)
        self._later(minutes, lambda: self._submits(visit, name, submission, not bad))

    def _begin(self, visit: Visit) -> None:
        now = self.clock.now()
        with self.store.write() as session:
            row = session.get_one(Visit, visit.id)
            for state in (S.CONSENTED, S.PRACTISING, S.ANSWERING):
                move(row, state, now)
            row.consented_at, row.instructed_at, row.practised_at = now, now + 40_000, now + 90_000
            session.add(_practice(visit.id, 1, True, now))

    def _fails_practice(self, visit: Visit, name: str, submission: str) -> None:
        now = self.clock.now()
        with self.store.write() as session:
            row = session.get_one(Visit, visit.id)
            if row.state != S.ARRIVED:
                return
            for state in (S.CONSENTED, S.PRACTISING, S.FAILED_PRACTICE):
                move(row, state, now)
            row.consented_at, row.instructed_at = now, now + 40_000
            session.add_all(_practice(visit.id, block, False, now) for block in (1, 2, 3))
        self.told.endings["failed practice"] += 1
        self._hands_in(name, submission)

    def _submits(self, visit: Visit, name: str, submission: str, good: bool) -> None:
        now = self.clock.now()
        with self.store.write() as session:
            row = session.get_one(Visit, visit.id)
            if row.state not in {S.ANSWERING, S.TIMED_OUT}:
                return
            trials = session.scalars(select(Trial).where(Trial.task_id == row.task_id).order_by(Trial.position)).all()
            session.add_all(_answer(visit.id, trial, good, now) for trial in trials)
            session.flush()
            hand_in(session, row, now)
            self.told.responses.setdefault(row.task_id, []).append((now, good))
        self.told.endings["finished, good" if good else "finished, excluded"] += 1
        # On Prolific some close the window before handing in there; on Mechanical Turk nobody could pay them.
        if self.standin.name == "mturk" or self.chance.random() > 0.02:
            self._hands_in(name, submission)

    def _hands_in(self, name: str, submission: str) -> None:
        code = completion_code(study_key(self.study.key), self.posting.id)
        finish = self.platform.finish(submission, code)
        if finish is not None and not self.standin.finish(name, finish.url, finish.form):
            self.told.endings["finished here, too late there"] += 1
        else:
            self.handed_in.add(self._hits[submission])


def _answer(visit: str, trial: Trial, good: bool, now: int) -> Answer:
    right = good or trial.kind == "main"
    row = ("upper", "lower")[trial.position % 2]
    return Answer(
        visit_id=visit,
        position=trial.position,
        row=row,
        choice="max" if right else "min",
        correct=right,
        confidence=2,
        rt_ms=2400.0,
        shown_ms=2400.0,
        at=now,
    )


def _practice(visit: str, block: int, correct: bool, now: int) -> PracticeAnswer:
    return PracticeAnswer(
        visit_id=visit, block=block, position=0, trial=0, row="upper", confidence=3, correct=correct, rt_ms=1800.0, at=now
    )


def _poisson(chance: random.Random, mean: float) -> int:
    """Knuth's way, for small means."""
    limit, product, drawn = exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        drawn += 1
    return drawn
