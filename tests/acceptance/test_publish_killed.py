"""Publishing, replacing and paying, killed at any moment and run again: nothing is posted or paid twice, and nothing is lost.

The processes are killed by SIGKILL, between a request and its answer too, and before and after every write to their
databases. What happened is read from the stand-in's own books.
"""

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from benchmarks.line import Line
from crowd_imi.allocation import Arrival, arrive
from crowd_imi.harvester.both_books import ledger
from crowd_imi.keys import completion_code, study_key
from crowd_imi.ledger import decide, lease
from crowd_imi.platforms.opening import Choice, PlatformName, open_platform
from crowd_imi.store import SimulatedClock, Store
from crowd_imi.store.engine import database_urls
from crowd_imi.store.money import all_intents
from crowd_imi.store.people import submission_of
from crowd_imi.store.postings import postings
from crowd_imi.store.tables import Intent, Posting
from crowd_imi.study import Study, load_study
from tests.acceptance.killable import DONE, PAGES, UNDECIDABLE, Death, Job, Life, Mother
from tests.contract.mturk import KEY, SECRET, StandinProcess
from tests.harvester.crowd import Crowd
from tests.platforms.standins.running import Server
from tests.tiny import STUDY_TOML, fake_plan, write_study

TOKEN = "the-token-of-the-tests"
ENVIRONMENT = {
    "CROWD_IMI_LAB_KEY": "a key for tests",
    "PROLIFIC_API_TOKEN": TOKEN,
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",
}
ARMS = STUDY_TOML[STUDY_TOML.index("[[arms]]") : STUDY_TOML.index("[panels]")]
ONE_ARM = """\
[[arms]]
model = "toy"
condition = "natural"
units = 6
responses = {tasks}

"""
"""A task asks six main trials: with six units, there are as many tasks as responses."""
AMOUNTS = (10, 20, 10, 10)
"""Cents of a visit's bonuses: bonuses of the same amount are the ones that could be taken for each other."""


CHANGING = re.compile(r"(before|after) (POST|PATCH) (?!Get|List)")
"""Requests that may change something at the platform."""


class Platform(Protocol):
    """A stand-in in a process of its own, with its people and its books."""

    name: PlatformName
    url: str
    stop: Callable[[], None]

    def take_part(self, posting: str, participant: str) -> str:
        """Take a place; the submission."""
        ...

    def hand_in(self, submission: str, participant: str, code: str) -> None:
        """Complete it."""
        ...

    def fail(self, plan: dict[str, Any]) -> None:
        """Let requests fail by a plan (``standins.faults.FaultPlan``)."""
        ...

    def places(self) -> "Counter[str]":
        """Intent → places, of everything that is posted."""
        ...

    def payments(self) -> "Counter[tuple[str, str, int]]":
        """(reward or bonus, submission, cents with the fee) → how often it was paid."""
        ...


class Prolific:
    name: PlatformName = "prolific"

    def __init__(self, folder: Path, settle_seconds: float) -> None:
        self._server = Server("prolific", folder, "--token", TOKEN, "--settle-seconds", str(settle_seconds))
        self.url = self._server.url
        self.stop = self._server.stop

    def ask(self, method: str, path: str, content: object = None) -> Any:
        reply = requests.request(method, f"{self.url}/standin/{path}", json=content, timeout=60)
        assert reply.ok, reply.text
        return reply.json() if reply.content else None

    def take_part(self, posting: str, participant: str) -> str:
        return str(self.ask("POST", "take", {"posting": posting, "participant": participant})["submission"])

    def hand_in(self, submission: str, participant: str, code: str) -> None:
        headers = {"X-Standin-Participant": participant}
        reply = requests.get(f"{self.url}/submissions/complete", params={"cc": code}, headers=headers, timeout=60)
        assert reply.ok, reply.text

    def fail(self, plan: dict[str, Any]) -> None:
        self.ask("PUT", "faults", plan)

    def pass_time(self, seconds: int) -> None:
        self.ask("PUT", "clock", {"now": self.ask("GET", "clock")["now"] + seconds * 1000})

    def studies(self, status: Callable[[str], bool]) -> "Counter[str]":
        """Intent → studies in a status."""
        return Counter(_intent(study) for study in self.ask("GET", "books")["studies"] if status(study["status"]))

    def places(self) -> "Counter[str]":
        found: Counter[str] = Counter()
        for study in self.ask("GET", "books")["studies"]:
            if study["status"] != "UNPUBLISHED":
                found[_intent(study)] += study["total_available_places"]
        return found

    def payments(self) -> "Counter[tuple[str, str, int]]":
        return _payments(self.ask("GET", "books"))


class Mturk:
    name: PlatformName = "mturk"

    def __init__(self, folder: Path) -> None:
        self._standin = StandinProcess(folder)
        self.url = self._standin.url
        self._standin.ask("PUT", "balance", json={"balance": 100_000_000})
        self.stop = self._standin.kill

    def take_part(self, posting: str, participant: str) -> str:
        taken = self._standin.ask("POST", "take", json={"posting": posting, "participant": participant})
        return dict(parse_qsl(urlsplit(taken["arrival_url"]).query))["assignmentId"]

    def hand_in(self, submission: str, participant: str, code: str) -> None:
        form = {"assignmentId": submission, "code": code}
        assert requests.post(f"{self.url}/mturk/externalSubmit", data=form, timeout=60).ok

    def fail(self, plan: dict[str, Any]) -> None:
        self._standin.ask("PUT", "faults", json=plan)

    def places(self) -> "Counter[str]":
        found: Counter[str] = Counter()
        for hit in self._standin.ask("GET", "books")["hits"]:
            found[hit["annotation"].rpartition("/")[0]] += hit["places"]
        return found

    def payments(self) -> "Counter[tuple[str, str, int]]":
        return _payments(self._standin.ask("GET", "books"))


def _intent(study: Any) -> str:
    return str(study["internal_name"]).removeprefix("crowd-imi ")


def _payments(books: Any) -> "Counter[tuple[str, str, int]]":
    return Counter(
        (kind, paid["submission"], paid["amount"] + paid["fee"])
        for kind, listed in (("reward", books["rewards"]), ("bonus", books["bonuses"]))
        for paid in listed
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """Studies, the stand-in that they are posted on, the line to it, and what starts processes."""

    platform: Platform
    line: Line
    mother: Mother
    studies: tuple[Path, ...]
    deaths: set[str]
    """Where a process was killed: job, study or bonus, and moment."""

    def live(self, job: Job, death: Death | None = None) -> Life:
        """One process, killed or not."""
        death = death or Death()
        self.line.listener = death
        life = self.mother.live(job, death)
        if life.killed_at is not None:
            self.deaths.add(f"{job.do} {job.folder} {job.visit} {job.name}: {life.moments}, {life.killed_at}")
        return life

    def job(self, do: str, folder: Path, **more: Any) -> Job:
        return Job(do=do, folder=str(folder), platform=self.platform.name, endpoint=self.line.url, **more)

    def to_the_end(self, job: Job, deaths: tuple[int, ...]) -> Life:
        """Killed at these moments of one life after the other, and started again each time until it ends."""
        for at in deaths:
            life = self.live(job, Death(at))
            if life.killed_at is None:
                return self._decided(job, life)
        return self._decided(job, self.live(job))

    def _decided(self, job: Job, life: Life) -> Life:
        """Where it can't be told whether a bonus arrived, a person looks at both books."""
        if life.code == UNDECIDABLE:
            assert job.platform == "prolific", "Mechanical Turk shows each bonus with its key"
            assert re.search(r"shows \d+ of this amount, and our books \d+ others", life.said)
            if job.do == "pay":
                _decide_by_the_platforms_books(self.platform, Path(job.folder), job)
            else:
                _decide_that_the_list_did_not_arrive(Path(job.folder))
            life = self.live(job)
        assert life.code == DONE, life.said
        return life


@pytest.fixture(scope="module")
def mother() -> Iterator[Mother]:
    started = Mother(ENVIRONMENT)
    yield started
    started.close()


@contextmanager
def bench(mother: Mother, folder: Path, platform: Platform, toml: str, count: int) -> Iterator[Bench]:
    studies = []
    for number in range(count):
        study = write_study(folder / str(number), toml.replace('name = "tiny"', f'name = "tiny-{number}"'))
        fake_plan(study)
        studies.append(study.folder)
    try:
        with Line(platform.url) as line:
            yield Bench(platform, line, mother, tuple(studies), set())
    finally:
        platform.stop()


def toml_of(tasks: int | None = None) -> str:
    arms = ARMS if tasks is None else ONE_ARM.format(tasks=tasks)
    return STUDY_TOML.replace(ARMS, arms).replace("cap = 5000", "cap = 10_000_000")


def open_store(folder: Path) -> Store:
    return Store.open(*database_urls(folder))


def posting_of(store: Store) -> Posting:
    with store.read() as session:
        [posting] = postings(session)
    return posting


def intents_of(store: Store) -> list[Intent]:
    with store.read() as session:
        return list(all_intents(session))


class People(Crowd):
    """Participants of a real study, on a stand-in."""

    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store, self.clock = study, store, SimulatedClock(store.now())

    def fail(self, platform: Platform, participant: str) -> str:
        """Take part from the first click to the last, with answers that don't count; the visit."""
        posting = posting_of(self.store)
        assert posting.platform_id is not None
        submission = platform.take_part(posting.platform_id, participant)
        visit = arrive(self.store, self.study, Arrival(platform.name, participant, submission, posting.id, self.store.now()))
        self.begin(visit)
        self.submit(visit, good=False)
        platform.hand_in(submission, participant, completion_code(study_key(self.study.key), posting.id))
        return visit.id


def fail(platform: Platform, folder: Path, participants: int) -> list[str]:
    """So many take part in vain: they are paid, and their tasks want other places."""
    store = open_store(folder)
    people = People(load_study(folder), store)
    visits = [people.fail(platform, f"{folder.name}-{number}") for number in range(participants)]
    store.close()
    return visits


def _decide_by_the_platforms_books(platform: Platform, folder: Path, job: Job) -> None:
    study, store = load_study(folder), open_store(folder)
    [intent] = [each for each in intents_of(store) if each.subject == f"{job.visit}/{job.name}"]
    with store.people() as people:
        submission = submission_of(people, job.visit)
    known = sum(
        each.subject.startswith(f"{job.visit}/") and each.amount == intent.amount and each.state == "done"
        for each in intents_of(store)
    )
    arrived = platform.payments()["bonus", str(submission), intent.amount] > known
    with lease(store, "pay", study.file.pay.cap_money) as held:
        decide(held, intent.id, arrived=arrived)
    store.close()


def _decide_that_the_list_did_not_arrive(folder: Path) -> None:
    """Whatever arrived shows at once here; one of the list is decided, and with it the others."""
    study, store = load_study(folder), open_store(folder)
    intent = next(each for each in intents_of(store) if each.operation == "bonus" and each.state == "open")
    with lease(store, "pay", study.file.pay.cap_money) as held:
        decide(held, intent.id, arrived=False)
    assert all(each.state != "open" for each in intents_of(store))
    store.close()


def our_places(studies: tuple[Path, ...]) -> "Counter[str]":
    found: Counter[str] = Counter()
    for folder in studies:
        store = open_store(folder)
        posting = posting_of(store)
        found[posting.id] = posting.places
        assert [each.outcome for each in intents_of(store) if each.operation == "post"] == [posting.platform_id]
        store.close()
    return found


def our_payments(studies: tuple[Path, ...]) -> "Counter[tuple[str, str, int]]":
    """What the ledgers say, in the words of ``Platform.payments``."""
    found: Counter[tuple[str, str, int]] = Counter()
    for folder in studies:
        store = open_store(folder)
        with store.people() as people:
            for intent in intents_of(store):
                if intent.operation in ("approve", "bonus"):
                    assert intent.state == "done"
                    submission = str(submission_of(people, intent.subject.partition("/")[0]))
                    found["reward" if intent.operation == "approve" else "bonus", submission, intent.amount] += 1
        store.close()
    return found


def differences(here: Bench) -> int:
    """What ``crowd-imi ledger`` marks, over all studies; no intent is left open."""
    found = 0
    for folder in here.studies:
        study, store = load_study(folder), open_store(folder)
        assert {intent.state for intent in intents_of(store)} <= {"done", "refused"}
        choice = Choice(name=here.platform.name, pages_url=PAGES, endpoint_url=here.line.url)
        here.line.listener = None
        found += ledger(study, store, open_platform(study, folder, choice)).differences
        store.close()
    return found


class Moments:
    """When the next lives end: by the moments that an undisturbed life of the same job has, in an order that mixes them.

    Args:
        undisturbed: what a life met, in its order.
        changes_only: only right before and right after requests that change something at the platform.
    """

    def __init__(self, undisturbed: list[str], *, changes_only: bool) -> None:
        chosen = [at for at, name in enumerate(undisturbed, 1) if CHANGING.match(name) or not changes_only]
        random.Random(0).shuffle(chosen)
        self._coming = itertools.cycle(chosen)

    def next(self, number: int) -> tuple[int, ...]:
        return tuple(itertools.islice(self._coming, number))


@dataclass(frozen=True, slots=True)
class Kills:
    """How often each command is killed before it may end."""

    publish: int
    harvest: int
    pay: int
    changes_only: bool = False


def publish_and_pay(here: Bench, kills: Kills, *, participants: int, bonuses: int) -> None:
    """Everything that costs money. The first command of a kind shows which moments there are, the others are killed."""
    platform = here.platform

    def each(do: str, times: int, jobs: list[Job]) -> None:
        seen = Death()
        assert here.live(jobs[0], seen).code == DONE
        moments = Moments(seen.names, changes_only=kills.changes_only)
        for job in jobs[1:]:
            here.to_the_end(job, moments.next(times))

    each("publish", kills.publish, [here.job("publish", folder) for folder in here.studies])
    posted = our_places(here.studies)
    assert platform.places() == posted and len(posted) == len(here.studies)

    visits = [(folder, visit) for folder in here.studies for visit in fail(platform, folder, participants)]
    each("harvest", kills.harvest, [here.job("harvest", folder) for folder in here.studies])
    assert our_places(here.studies) == Counter({intent: places + participants for intent, places in posted.items()})
    assert platform.places() == our_places(here.studies)
    assert platform.payments() == our_payments(here.studies)
    assert platform.payments().total() == len(visits)

    jobs = []
    for number in range(bonuses):
        folder, visit = visits[number % len(visits)]
        amount = AMOUNTS[number // len(visits) % len(AMOUNTS)]
        jobs.append(here.job("pay", folder, visit=visit, name=f"bonus-{number}", amount=amount))
    each("pay", kills.pay, jobs)
    assert platform.payments() == our_payments(here.studies)
    assert platform.payments().total() == len(visits) + bonuses


@pytest.fixture(autouse=True)
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_prolific_killed_around_every_change_loses_and_doubles_nothing(tmp_path: Path, mother: Mother):
    with bench(mother, tmp_path / "studies", Prolific(tmp_path / "books", 0), toml_of(), 5) as here:
        publish_and_pay(here, Kills(1, 1, 1, changes_only=True), participants=1, bonuses=5)
        assert differences(here) == 0
        # Made, published, approved, more places, a bonus set up and paid: killed before and after each.
        assert len(here.deaths) == 12


def test_a_list_of_bonuses_killed_around_every_change_pays_each_line_once(tmp_path: Path, mother: Mother):
    with bench(mother, tmp_path / "studies", Prolific(tmp_path / "books", 0), toml_of(), 1) as here:
        folder = here.studies[0]
        here.to_the_end(here.job("publish", folder), ())
        visits = fail(here.platform, folder, 3)
        here.to_the_end(here.job("harvest", folder), ())

        def listed(number: int) -> Job:
            # Of one amount in all lists, so that bonuses could be taken for each other.
            path = folder / f"list-{number}.csv"
            path.write_text("visit,amount,reason\n" + "".join(f"{visit},0.10,List {number}\n" for visit in visits))
            return here.job("pay-list", folder, file=str(path))

        seen = Death()
        assert here.live(listed(0), seen).code == DONE
        changes = [at for at, name in enumerate(seen.names, 1) if CHANGING.match(name)]
        assert len(changes) == 4  # before and after a batch is set up and paid
        for number, at in enumerate(changes, 1):
            here.to_the_end(listed(number), (at,))
            here.to_the_end(listed(number), ())
        bonuses = [count for (kind, _, _), count in here.platform.payments().items() if kind == "bonus"]
        assert bonuses == [1 + len(changes)] * 3
        assert here.platform.payments() == our_payments(here.studies) and differences(here) == 0


def test_mturk_killed_around_changes_loses_and_doubles_nothing(tmp_path: Path, mother: Mother):
    with bench(mother, tmp_path / "studies", Mturk(tmp_path / "books"), toml_of(tasks=10), 4) as here:
        publish_and_pay(here, Kills(2, 1, 1, changes_only=True), participants=1, bonuses=3)
        assert differences(here) == 0
        assert len(here.deaths) >= 8


def test_a_request_that_arrives_after_its_sender_was_killed_and_replaced_posts_nothing_twice(tmp_path: Path, mother: Mother):
    prolific = Prolific(tmp_path / "books", 0)
    with bench(mother, tmp_path / "studies", prolific, toml_of(), 1) as here:
        job = here.job("publish", here.studies[0])
        make = "before POST /api/v1/studies/"
        late = Death(on_the_way=True, name=make)
        assert here.live(job, late).killed_at == make

        # The next process finds no study either: it makes one and publishes it. Only then does the first one's request arrive.
        assert here.live(job, Death(name="after POST *transition/")).killed_at is not None
        late.arrive()
        assert prolific.studies(lambda status: status == "UNPUBLISHED").total() == 1

        # A draft costs nothing; one that is taken for the study would be published, and cost it twice.
        here.to_the_end(job, ())
        assert prolific.places() == our_places(here.studies)
        assert prolific.studies(lambda status: status != "UNPUBLISHED").total() == 1


def publish_through_faults(here: Bench) -> None:
    """30 % throttles and 10 % server errors: complete at the first try, with as many requests as that takes and few more."""
    here.live(here.job("publish", here.studies[0]))
    undisturbed = here.line.requests
    here.platform.fail({"share": {"throttle": 0.3, "error": 0.1}, "seed": 4, "retry_after": 0})
    for folder in here.studies[1:]:
        life = here.live(here.job("publish", folder))
        assert life.code == DONE, life.said
    here.platform.fail({})
    assert here.platform.places() == our_places(here.studies)
    # A request wants 1 / 0.6 = 1.7 tries, and one that may not be sent twice a look in between.
    assert here.line.requests <= 3 * undisturbed * len(here.studies)


def test_publishing_on_prolific_ends_complete_under_throttles_and_server_errors(tmp_path: Path, mother: Mother):
    with bench(mother, tmp_path / "studies", Prolific(tmp_path / "books", 0), toml_of(), 5) as here:
        publish_through_faults(here)


def test_publishing_on_mturk_ends_complete_under_throttles_and_server_errors(tmp_path: Path, mother: Mother):
    with bench(mother, tmp_path / "studies", Mturk(tmp_path / "books"), toml_of(tasks=24), 2) as here:
        publish_through_faults(here)


@pytest.mark.soak
def test_publishing_ends_complete_under_faults_fifty_times(tmp_path: Path, mother: Mother):
    with bench(mother, tmp_path / "prolific", Prolific(tmp_path / "books of prolific", 0), toml_of(), 50) as here:
        publish_through_faults(here)
    with bench(mother, tmp_path / "mturk", Mturk(tmp_path / "books of mturk"), toml_of(tasks=200), 10) as here:
        publish_through_faults(here)


@pytest.mark.soak
@pytest.mark.parametrize(("settle_seconds", "not_shown"), [(0, 0), (3600, 200)])
def test_prolific_killed_at_hundreds_of_moments_loses_and_doubles_nothing(
    tmp_path: Path, mother: Mother, settle_seconds: int, not_shown: int
):
    """Fifty studies with top-ups and two hundred bonuses, which show at once, or an hour later: then a person decides."""
    prolific = Prolific(tmp_path / "books", settle_seconds)
    with bench(mother, tmp_path / "studies", prolific, toml_of(), 50) as here:
        publish_and_pay(here, Kills(2, 2, 2), participants=1, bonuses=200)
        assert differences(here) == not_shown
        prolific.pass_time(settle_seconds)
        assert differences(here) == 0
        assert len(here.deaths) >= 200


@pytest.mark.soak
def test_mturk_killed_at_hundreds_of_moments_loses_and_doubles_nothing(tmp_path: Path, mother: Mother):
    """Two hundred tasks, topped up, and two hundred bonuses."""
    with bench(mother, tmp_path / "studies", Mturk(tmp_path / "books"), toml_of(tasks=200), 2) as here:
        publish_and_pay(here, Kills(60, 60, 2), participants=20, bonuses=200)
        assert differences(here) == 0
        assert len(here.deaths) >= 200
