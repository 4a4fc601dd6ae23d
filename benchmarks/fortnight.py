"""A crowd on a stand-in for a simulated fortnight, and a harvester that is killed all the time.

The stand-in runs in a process of its own and counts the requests to its requester's side. The harvester is a process too
(``benchmarks.watchers``): it reads everything at the stated interval, and in between looks at what events told of, as far as
they arrived (``benchmarks.mail``); it is killed with SIGKILL on the way, begins anew knowing nothing, and is sometimes started
twice at once. Participants come, answer and leave at the store's level, without pages; what the platform sees of them goes
through its own doors.
"""

import heapq
import multiprocessing
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import requests
from sqlalchemy import select
from werkzeug.serving import WSGIRequestHandler, make_server

from benchmarks.mail import Mail
from benchmarks.watchers import Kind, Outcome, Watcher, Workplace
from crowd_imi.allocation import Arrival, arrive, hand_in
from crowd_imi.errors import Refused
from crowd_imi.harvester import Harvest
from crowd_imi.keys import completion_code, study_key
from crowd_imi.lifecycle import VisitState, move
from crowd_imi.plan import Grid, Plan, PlannedTask, PlannedTrial, PracticeTrial
from crowd_imi.platforms.base import Platform
from crowd_imi.platforms.mturk import MturkPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.platforms.standins.clocks import CLOCK_HEADER
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.records import SidePair, Tiles, Unit
from crowd_imi.store import SimulatedClock, StoreKind
from crowd_imi.store.tables import Answer, PracticeAnswer, Trial, Visit
from crowd_imi.study import MturkSection, ProlificSection, Study, load_study

Name = Literal["prolific", "mturk"]
S = VisitState

START = 1_800_000_000_000
MINUTE = 60_000
DAY = 24 * 60 * MINUTE
TOKEN = "the-token-of-the-benchmark"
FAULTS = {"throttle": 0.03, "error": 0.02, "cut-before": 0.01, "cut-after": 0.01}
VISIT_MINUTES = 120
REWARD = 279
BALANCE = 1_000_000_000

EXCLUDED, RETURNED, TIMED_OUT, LATE, AGAIN = 0.25, 0.10, 0.05, 0.02, 0.05
"""Shares of those who come: who fails a criterion (of those who finish), gives the place back, leaves without a word, finishes
after the time; and of arrivals, who was here before."""

_TILES = Tiles(references=SidePair(min=tuple(range(9)), max=tuple(range(9, 18))), queries=SidePair(min=18, max=19))


@dataclass(frozen=True, slots=True)
class Size:
    """How much happens."""

    arms: int = 23
    tasks_per_arm: int = 6
    round_minutes: int = 60
    """The stated interval between two rounds; halfway there is a look at what events told of."""
    kills: float = 0.35
    """Share of rounds in which the harvester is killed, if it isn't through before; of looks, half as many."""
    twice: float = 0.02
    """Share of rounds in which another harvester is started."""
    days: int = 14
    seed: int = 0

    @property
    def tasks(self) -> int:
        return self.arms * self.tasks_per_arm


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
    came: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    responses: dict[int, list[tuple[int, bool]]] = field(default_factory=dict)
    """Task → (simulated time, passes the criteria) of each response, in order."""
    complete_after_days: float | None = None


class Standin:
    """One stand-in in a process of its own; ``calls`` counts the requester's requests."""

    def __init__(self, name: Name, folder: Path) -> None:
        self.name, self._calls = name, multiprocessing.Value("q", 0)
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, folder, theirs, self._calls), daemon=True)
        self._process.start()
        self.url: str = ours.recv()
        self._people = requests.Session()
        self.now = START
        """When the people's requests are made."""
        if name == "mturk":
            self.ask("PUT", "balance", {"amount": BALANCE})

    @property
    def calls(self) -> int:
        return int(self._calls.value)

    def ask(self, method: str, path: str, content: object = None) -> Any:  # noqa: ANN401 (JSON is any of its types)
        """One request to what steers the stand-in; None where it says no."""
        headers = {CLOCK_HEADER: str(self.now)}
        reply = self._people.request(method, f"{self.url}/standin/{path}", json=content, headers=headers, timeout=60)
        return reply.json() if reply.ok and reply.content else None

    def finish(self, participant: str, url: str, form: dict[str, str] | None) -> bool:
        """Go where the last page sends the browser."""
        headers = {"X-Standin-Participant": participant, CLOCK_HEADER: str(self.now)}
        if form is None:
            return self._people.get(url, headers=headers, timeout=60).ok
        return self._people.post(url, data=form, headers=headers, timeout=60).ok

    def platform(self) -> Platform:
        """An adapter as a new process makes it."""
        if self.name == "prolific":
            return ProlificPlatform(TOKEN, ProlificSection(), self.url, first_wait=0.002, visit_minutes=VISIT_MINUTES)
        return MturkPlatform(MturkSection(), endpoint_url=self.url, assignment_minutes=VISIT_MINUTES)

    def close(self) -> None:
        self._people.close()
        self._process.terminate()
        self._process.join()


class _KeepAlive(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        """Says nothing."""


def _serve(name: Name, folder: Path, told: Any, calls: Any) -> None:  # noqa: ANN401 (multiprocessing's own types)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder.mkdir(parents=True, exist_ok=True)
    app: Any
    if name == "prolific":
        from crowd_imi.platforms.standins.prolific.app import create_app
        from crowd_imi.platforms.standins.prolific.desk import Account

        app = create_app(folder, Account(tokens=(TOKEN,), settle_seconds=0, opening_balance=BALANCE, fee=0.333, vat=0))
    else:
        from crowd_imi.platforms.standins.mturk.app import create_app as create_turk

        app = create_turk(folder)

    def counted(environ: dict[str, Any], start_response: Any) -> Any:  # noqa: ANN401 (WSGI's own types)
        if environ["PATH_INFO"].startswith("/api/v1/") or "HTTP_X_AMZ_TARGET" in environ:
            with calls.get_lock():
                calls.value += 1
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=_KeepAlive)
    told.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


@contextmanager
def standin(name: Name, folder: Path) -> Iterator[Standin]:
    """A stand-in, ended with the block."""
    made = Standin(name, folder)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def mail(platform: Standin, study: Path, seed: int) -> Iterator[Mail]:
    """The way that events take, ended with the block."""
    made = Mail(platform.name, study, platform.platform, seed)
    try:
        yield made
    finally:
        made.close()


class Fortnight:
    """A posted study, its crowd, and rounds of harvesting."""

    def __init__(self, folder: Path, size: Size, platform: Standin, post: Mail, cap_share: float = 1.75) -> None:
        self.folder, self.size, self.standin, self.mail = folder, size, platform, post
        self.chance = random.Random(f"{size.seed} {platform.name}")
        self.study = write_study(folder, size, cap_share, platform)
        self.clock = SimulatedClock(START)
        self.store = create_store(self.study, make_plan(self.study, size), folder, StoreKind.REHEARSAL, self.clock)
        self.platform = platform.platform()
        self._tell_time()
        self.posting = launch(self.study, self.store, self.platform, Choice(name=platform.name, endpoint_url=platform.url))
        post.subscribe(platform.url, TOKEN, str(self.posting.platform_id), self.platform)
        self.tally = Tally()
        self._place = Workplace(folder, platform.platform, post.queue)
        self._watcher: Watcher | None = None
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self._people = 0
        self._hits: dict[str, str] = {}
        """Assignment → its HIT, on Mechanical Turk."""
        self._handed_in: set[str] = set()
        """HITs that somebody has handed in for: the others aren't asked for assignments."""
        self._seconds: dict[Kind, float] = {"round": 0.3, "look": 0.1}
        """How long an order takes, by the last ones that weren't killed."""

    def run(self) -> Tally:
        """The fortnight, and what is left after it until the study is complete (at most as long again)."""
        self.standin.ask("PUT", "faults", {"share": FAULTS, "seed": self.size.seed, "retry_after": 0})
        step = self.size.round_minutes
        expected = self.size.tasks / ((1 - EXCLUDED) * (1 - RETURNED - TIMED_OUT))
        per_round = 1.6 * expected / (self.size.days * 24 * 60 / step)
        for number in range(2 * self.size.days * 24 * 60 // step):
            self._people_come(per_round)
            self._pass_time(step / 2)
            self._look()
            self._pass_time(step / 2)
            done = self._round()
            if done is not None and done.complete and not self._agenda:
                self.tally.complete_after_days = (number + 1) * step / (24 * 60)
                break
        self.standin.ask("DELETE", "faults")
        for _ in range(3):  # nobody kills these: what a person would run at the end
            self._round(quietly=True)
        self._let_go()
        return self.tally

    # People.

    def _people_come(self, mean: float) -> None:
        for _ in range(min(40, _poisson(self.chance, mean))):
            minutes = self.chance.uniform(0, self.size.round_minutes)
            self._later(minutes, self._somebody_comes)

    def _somebody_comes(self) -> None:
        if self._people and self.chance.random() < AGAIN:
            name = f"person{self.chance.randrange(self._people)}"
        else:
            name = f"person{self._people}"
            self._people += 1
        taken = self.standin.ask("POST", "take", {"posting": self.posting.platform_id, "participant": name})
        if taken is None:
            self.tally.endings["found no place"] += 1
            return
        query = dict(parse_qsl(urlsplit(taken["arrival_url"]).query))
        who = query.get("workerId", name)
        self._hits[taken["submission"]] = query.get("hitId", "")
        arrival = Arrival(self.standin.name, who, taken["submission"], self.posting.id, self.clock.now())
        try:
            visit = arrive(self.store, self.study, arrival)
        except Refused as refused:
            self.tally.endings[f"turned away: {refused.code}"] += 1
            self._later(5, lambda: self.standin.ask("POST", "give-back", {"submission": taken["submission"]}))
            return
        if visit.generation > 1:
            return
        self.tally.came += 1
        self._goes_on(visit, name, taken["submission"])

    def _goes_on(self, visit: Visit, name: str, submission: str) -> None:
        drawn = self.chance.random()
        if drawn < RETURNED:
            self.tally.endings["returned"] += 1
            give_back = {"submission": submission}
            self._later(self.chance.uniform(1, 30), lambda: self.standin.ask("POST", "give-back", give_back))
            return
        if drawn < RETURNED + TIMED_OUT:
            self.tally.endings["timed out"] += 1
            if self.chance.random() < 0.5:
                self._begin(visit)
            return
        bad = self.chance.random() < EXCLUDED
        if bad and self.chance.random() < 0.2:
            self._later(10, lambda: self._fails_practice(visit, name, submission))
            return
        self._begin(visit)
        late = drawn > 1 - LATE
        minutes = VISIT_MINUTES + 20 if late else self.chance.uniform(8, 35)
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
        self.tally.endings["failed practice"] += 1
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
            self.tally.responses.setdefault(row.task_id, []).append((now, good))
        self.tally.endings["finished, good" if good else "finished, excluded"] += 1
        # On Prolific some close the window before handing in there; on Mechanical Turk nobody could pay them.
        if self.standin.name == "mturk" or self.chance.random() > 0.02:
            self._hands_in(name, submission)

    def _hands_in(self, name: str, submission: str) -> None:
        code = completion_code(study_key(self.study.key), self.posting.id)
        finish = self.platform.finish(submission, code)
        if finish is not None and not self.standin.finish(name, finish.url, finish.form):
            self.tally.endings["finished here, too late there"] += 1
        else:
            self._handed_in.add(self._hits[submission])

    # Time.

    def _later(self, minutes: float, what: Callable[[], Any]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (self.clock.now() + int(minutes * MINUTE), self._number, what))

    def _pass_time(self, minutes: float) -> None:
        until = self.clock.now() + int(minutes * MINUTE)
        while self._agenda and self._agenda[0][0] <= until:
            at, _, what = heapq.heappop(self._agenda)
            self.clock.set(at)
            self.standin.now = at
            what()
        self.clock.set(until)
        self._tell_time()

    def _tell_time(self) -> None:
        """For the requests of the harvester, which say nothing of the time."""
        self.standin.now = self.clock.now()
        self.standin.ask("PUT", "clock", {"now": self.clock.now()})

    # Rounds.

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
            self.tally.endings[f"a {kind} failed: {outcome.failed}"] += 1
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
        return 1 + 2 * -(-hits // 100) + len(self._handed_in)


def write_study(folder: Path, size: Size, cap_share: float, platform: Standin) -> Study:
    """A study of so many arms, with tasks of six main and five catch trials."""
    each = REWARD + platform.platform().fee(_money(REWARD)).amount
    cap = int(cap_share * size.tasks * each)
    arms = "".join(
        f'[[arms]]\nmodel = "m{number}"\ncondition = "natural"\nunits = 6\nresponses = {size.tasks_per_arm}\n\n'
        f'[models.m{number}]\nsource = "timm:resnet10t"\nlayers = ["layer*"]\n\n'
        for number in range(size.arms)
    )
    text = f"""schema = 1

[study]
name = "fortnight"
title = "A fortnight"
seed = {size.seed}

[images]
folder = "images"
licence = "CC0"

{arms}[panels]
batches = 4
image_size = 32

[tasks]
trials = 6
catch = 5
max_attempts = 10

[exclusion]
max_total_seconds = 100000
min_row_choices = 1

[pages]
contact = "lab@example.org"
investigator = "The lab"
institution = "The institute"
visit_minutes = {VISIT_MINUTES}

[pay]
reward = {REWARD}
cap = {cap}
estimated_minutes = 15
"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(text, encoding="utf-8")
    study = load_study(folder)
    study_key(study.key)
    return study


def make_plan(study: Study, size: Size) -> Plan:
    """Tasks without pictures: every one asks for each of its arm's six units once."""
    tasks = []
    for arm in study.file.arms:
        units = [Unit(model=arm.model, layer=f"layer{i % 3}", channel=i).key for i in range(arm.units)]
        for number in range(1, size.tasks_per_arm + 1):
            main = [PlannedTrial(kind="main", unit=unit, batch=number % 4, sprite="none", tiles=_TILES) for unit in units]
            catch = [PlannedTrial(kind="catch", unit=unit, batch=-1, sprite="none", tiles=_TILES) for unit in units[:5]]
            tasks.append(PlannedTask(arm=arm.id, number=number, trials=(*main, *catch)))
    plan = Plan(
        study=study.file.study.name,
        seed=size.seed,
        pack_sha256="0" * 64,
        grid=Grid(columns=5, rows=4, tile=32, gutter=8),
        practice=(PracticeTrial(sprite="none", tiles=_TILES, obvious=True),),
        tasks=tuple(tasks),
    )
    plan.save(study.plan)
    return plan


def _money(amount: int) -> Any:  # noqa: ANN401
    from crowd_imi.records import Money

    return Money(amount=amount, currency="USD")


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
    from math import exp

    limit, product, drawn = exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        drawn += 1
    return drawn
