"""Posting tasks against the published way, and posting and paying through faults: ``python -m benchmarks.publish``.

Both platforms' stand-ins run in processes of their own, behind a line that adds 50 ms to each request. Whoever asks Mechanical
Turk for tasks as the published experiments' scripts did makes one HIT per task, one after the other. Ours makes one HIT per nine
tasks, several at once, and finds out first whether it had begun already. Faults are drawn by the stand-ins with a fixed seed:
30 % of the requests are throttled and 10 % meet a server error; a throttled client isn't told to wait (Retry-After: 0), so
that it is our own waiting that is measured.

Figures
    mturk_ratio     seconds of posting 200 tasks the published way over those of ours: medians of five, in alternation
    mturk_requests_ratio  its requests over ours
    fault_slowdown  seconds of posting through faults over those without, on the platform where it is worse: medians of five,
                    in alternation; 200 tasks on Mechanical Turk, 10 studies on Prolific
    fault_slowdown_mturk, fault_slowdown_prolific  each of them
    wrong_postings  postings that the stand-ins' books lack, hold twice or hold with another number of places, over all rounds
    ledger_difference  cents between our ledgers and the stand-ins' books, after rewards and bonuses were paid through faults
    upload_ratio    seconds of uploading 100 sprites of 100 KB to S3 (moto's server) one after the other, as the published
                    scripts do, over those of ours, several at once with checksums: medians of five, in alternation
"""

import argparse
import json
import os
import random
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import boto3
import requests
from botocore.config import Config

from benchmarks.document import document
from benchmarks.line import Line
from crowd_imi.errors import Undecidable, Unreachable
from crowd_imi.ledger import Bonus, HeldLease, PaidCall, books, decide, lease, pay_bonus, spend
from crowd_imi.platforms.base import Platform, PostingRequest, price
from crowd_imi.platforms.mturk import MturkPlatform
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.platforms.standins.serving import SERVING_FILE, StandinServing
from crowd_imi.publisher.hosting.client import Bucket, open_bucket
from crowd_imi.publisher.hosting.objects import File, upload
from crowd_imi.records import Money
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.store.money import intents_in
from crowd_imi.study import HostingSection, MturkSection, ProlificSection

GOALS: dict[str, dict[str, float]] = {
    "mturk_ratio": {"at_least": 5},
    "upload_ratio": {"at_least": 3},
    "fault_slowdown": {"at_most": 3},
    "wrong_postings": {"at_most": 0},
    "ledger_difference": {"at_most": 0},
}
PACKAGES = ("crowd-imi", "boto3", "requests", "sqlalchemy", "tenacity")
FAULTS = {"throttle": 0.3, "error": 0.1}
CURRENCY = "USD"
REWARD, BONUS = Money(amount=150, currency=CURRENCY), Money(amount=40, currency=CURRENCY)
CAP = Money(amount=10_000_000, currency=CURRENCY)
CODE = "C0DE123456"
REGION = "us-east-1"
SPRITE_BYTES = 100_000
BALANCE = 1_000_000_000
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAFORBENCHMARKS000",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-benchmark",
    "AWS_EC2_METADATA_DISABLED": "true",
}
TRIES = 10
"""How often a command is given again when the platform gave no answer in the end."""

Name = Literal["mturk", "prolific"]


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = comparison(Path(folder), Size())
    sys.stdout.write(json.dumps(told, indent=2) + "\n" if options.json else table(told))
    return 0 if told["met"] else 1


def table(told: dict[str, Any]) -> str:
    """For a person."""
    lines = [f"{name:>24}  {value:10.2f}  {told['goals'].get(name, '')}" for name, value in told["figures"].items()]
    return "\n".join([*lines, "goals met" if told["met"] else "a goal isn't met", ""])


@dataclass(frozen=True, slots=True)
class Took:
    """What a piece of work took."""

    seconds: float
    requests: int


@dataclass(frozen=True, slots=True)
class Size:
    """How much is posted and paid."""

    tasks: int = 200
    """On Mechanical Turk, by either side."""
    studies: int = 10
    """On Prolific."""
    people: int = 20
    """Paid on each platform."""
    sprites: int = 100
    rounds: int = 5
    line_seconds: float = 0.05


def comparison(folder: Path, size: Size) -> dict[str, Any]:
    """Everything measured, with books under ``folder``."""
    with (
        patch.dict(os.environ, CREDENTIALS),
        bench("mturk", folder, size.line_seconds) as mturk,
        bench("prolific", folder, size.line_seconds) as prolific,
        storage(folder, size) as stored,
    ):
        published, one_by_one, at_once = [], [], []
        for _ in range(size.rounds):
            published.append(mturk.took(lambda: publish_one_by_one(mturk.line.url, size.tasks)))
            mturk.post_twice(1, size.tasks)
            prolific.post_twice(size.studies, 1)
            one_by_one.append(stored.one_by_one())
            at_once.append(stored.at_once())
        benches = (mturk, prolific)
        for each in benches:
            each.pay(size.people)
        told = _told(published, benches)
    told["figures"]["upload_ratio"] = statistics.median(one_by_one) / statistics.median(at_once)
    more = told["more"] | {"upload_one_by_one_s": one_by_one, "upload_s": at_once}
    return document(told["figures"], GOALS, PACKAGES, size=asdict(size), **more)


def _told(published: list[Took], benches: "tuple[Bench, Bench]") -> dict[str, Any]:
    mturk, _ = benches
    slowdowns = {each.name: _seconds(each.through_faults) / _seconds(each.undisturbed) for each in benches}
    figures = {
        "mturk_ratio": _seconds(published) / _seconds(mturk.undisturbed),
        "mturk_requests_ratio": published[0].requests / mturk.undisturbed[0].requests,
        "fault_slowdown": max(slowdowns.values()),
        **{f"fault_slowdown_{name}": slowdown for name, slowdown in slowdowns.items()},
        "wrong_postings": sum(each.wrong_postings() for each in benches),
        "ledger_difference": sum(each.ledger_difference() for each in benches),
    }
    more = {
        "published_mturk_s": [took.seconds for took in published],
        **{f"{each.name}_s": [took.seconds for took in each.undisturbed] for each in benches},
        **{f"{each.name}_through_faults_s": [took.seconds for took in each.through_faults] for each in benches},
        **{f"{each.name}_requests": [each.undisturbed[0].requests, each.through_faults[0].requests] for each in benches},
    }
    return {"figures": figures, "more": more}


def _seconds(rounds: list[Took]) -> float:
    return statistics.median(took.seconds for took in rounds)


def publish_one_by_one(url: str, tasks: int) -> None:
    """The published way: a HIT with one assignment for each task, one call after the other."""
    config = Config(retries={"mode": "standard"})
    client = boto3.Session().client("mturk", region_name=REGION, endpoint_url=url, config=config)
    for number in range(tasks):
        client.create_hit(
            MaxAssignments=1,
            LifetimeInSeconds=86_400,
            AssignmentDurationInSeconds=3600,
            AutoApprovalDelayInSeconds=86_400,
            Reward="1.50",
            Title="Which image fits?",
            Description="Look at pictures.",
            Question=(
                '<ExternalQuestion xmlns="http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2006-07-14/'
                f'ExternalQuestion.xsd"><ExternalURL>https://pages.example.org/task?number={number}</ExternalURL>'
                "<FrameHeight>0</FrameHeight></ExternalQuestion>"
            ),
        )


class Bench:
    """A platform's stand-in behind its line, our ledger, and what was posted and paid.

    Args:
        name: the platform's.
        line: to the stand-in.
        store: whose ledger is used.
    """

    def __init__(self, name: Name, line: Line, store: Store) -> None:
        self.name, self.line, self.store = name, line, store
        self.undisturbed: list[Took] = []
        self.through_faults: list[Took] = []
        self._wanted: Counter[str] = Counter()
        self._posted: dict[str, str] = {}
        """Intent → the platform's id."""
        self._platform()  # warm up: boto3 reads its models

    def _platform(self) -> Platform:
        if self.name == "mturk":
            section = MturkSection(min_approved_percent=0, min_approved_number=0)
            return MturkPlatform(section, endpoint_url=self.line.url)
        return ProlificPlatform("a token", ProlificSection(), self.line.url)

    def took(self, work: Callable[[], object]) -> Took:
        """Do it, and say what it took."""
        begun, before = time.perf_counter(), self.line.requests
        work()
        return Took(time.perf_counter() - begun, self.line.requests - before)

    def post_twice(self, count: int, places: int) -> None:
        """So many postings of so many places, undisturbed and through faults."""
        self.undisturbed.append(self.took(lambda: self.post(count, places)))
        with self._faults():
            self.through_faults.append(self.took(lambda: self.post(count, places)))

    def post(self, count: int, places: int) -> None:
        """Through the ledger, as ``publish`` does; what got no answer in the end is posted again."""
        for _ in range(count):
            intent = secrets.token_hex(8)
            self._wanted[intent] = places
            self._posted[intent] = self._until_answered(lambda held, intent=intent: self._post(held, intent))

    def _post(self, held: HeldLease, intent: str) -> str:
        platform = self._platform()
        request = PostingRequest(
            intent=intent,
            title="Which image fits?",
            description="Look at pictures.",
            arrival_url="https://pages.example.org/arrive",
            reward=REWARD,
            places=self._wanted[intent],
            minutes=10.0,
            completion_code=CODE,
        )
        each = price(platform, REWARD)
        call = PaidCall("post", intent, Money(amount=request.places * each.amount, currency=CURRENCY))
        return str(spend(held, call, lambda: platform.post(request), read_back=lambda: platform.find(intent)))

    def pay(self, people: int) -> None:
        """Rewards and bonuses of so many people, through faults."""
        self.post(1, people)
        posting = list(self._posted.values())[-1]
        submissions = [self._take_part(posting, f"person-{number}") for number in range(people)]
        platform = self._platform()
        reward, visits = price(platform, REWARD), enumerate(submissions)

        def approve(submission: str) -> str:
            platform.approve(submission)
            return "approved"

        def approved(submission: str) -> str | None:
            return "approved" if platform.submission(submission).status == "approved" else None

        with self._faults():
            for number, submission in visits:
                visit = f"visit-{number}"
                bonus = Bonus(visit, submission, "thanks", BONUS, "Thank you.")
                self._until_answered(
                    lambda held, visit=visit, submission=submission: spend(
                        held,
                        PaidCall("approve", visit, reward),
                        lambda: approve(submission),
                        read_back=lambda: approved(submission),
                    )
                )
                self._until_answered(lambda held, bonus=bonus: pay_bonus(held, platform, bonus))

    def _until_answered(self, work: Callable[[HeldLease], Any]) -> Any:  # noqa: ANN401
        for _ in range(TRIES):
            try:
                with lease(self.store, "benchmark", CAP) as held:
                    return work(held)
            except Unreachable:
                continue
            except Undecidable:
                self._decide()
        raise SystemExit(f"{self.name} gave no answer {TRIES} times")

    def _decide(self) -> None:
        """The schedule refuses before anything is done: a person who looks sees that the open bonus didn't arrive."""
        with self.store.read() as session:
            [intent] = intents_in(session, "open", "bonus")
        with lease(self.store, "benchmark", CAP) as held:
            decide(held, intent.id, arrived=False)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        seed = len(self.through_faults)
        self._ask("PUT", "faults", {"share": FAULTS, "seed": seed, "retry_after": 0})
        yield
        self._ask("PUT", "faults", {})

    def _take_part(self, posting: str, participant: str) -> str:
        taken = self._ask("POST", "take", {"posting": posting, "participant": participant})
        submission = str(taken["submission"])
        if self.name == "mturk":
            form = {"assignmentId": submission, "code": CODE}
            requests.post(f"{self.line.server}/mturk/externalSubmit", data=form, timeout=60).raise_for_status()
        else:
            headers, query = {"X-Standin-Participant": participant}, {"cc": CODE}
            url = f"{self.line.server}/submissions/complete"
            requests.get(url, params=query, headers=headers, timeout=60).raise_for_status()
        return submission

    def wrong_postings(self) -> int:
        """Intents for which the platform's books have another number of places than we wanted."""
        found: Counter[str] = Counter()
        there = self._ask("GET", "books")
        if self.name == "mturk":
            for hit in there["hits"]:
                if hit["annotation"]:  # the published way has none
                    found[hit["annotation"].rpartition("/")[0]] += hit["places"]
        else:
            for study in there["studies"]:
                found[study["internal_name"].removeprefix("crowd-imi ")] += study["total_available_places"]
        return sum(found[intent] != self._wanted[intent] for intent in found | self._wanted)

    def ledger_difference(self) -> int:
        """Cents; an intent that is left open would be counted by our books as spent."""
        there = self._ask("GET", "books")
        paid = sum(payment["amount"] + payment["fee"] for payment in (*there["rewards"], *there["bonuses"]))
        with self.store.read() as session:
            return abs(books(session).spent - int(paid))

    def _ask(self, method: str, path: str, content: object = None) -> Any:  # noqa: ANN401
        reply = requests.request(method, f"{self.line.server}/standin/{path}", json=content, timeout=60)
        reply.raise_for_status()
        return reply.json()


class Sprites:
    """Files, and a bucket behind a line."""

    def __init__(self, bucket: Bucket, files: list[File]) -> None:
        self._bucket, self._files = bucket, files

    def one_by_one(self) -> float:
        """Seconds of the published way."""
        client = boto3.Session().client("s3", region_name=self._bucket.region, endpoint_url=self._bucket.endpoint_url)
        begun = time.perf_counter()
        for file in self._files:
            client.put_object(Bucket=self._bucket.name, Key=file.key, Body=file.path.read_bytes(), ContentType="image/avif")
        return time.perf_counter() - begun

    def at_once(self) -> float:
        """Seconds of ours."""
        begun = time.perf_counter()
        upload(self._bucket.client, self._bucket.name, self._files)
        return time.perf_counter() - begun


@contextmanager
def storage(folder: Path, size: Size) -> Iterator[Sprites]:
    """An empty bucket at moto's server, and random sprites."""
    rng, files = random.Random(0), []
    for number in range(size.sprites):
        path = folder / f"{number}.avif"
        path.write_bytes(rng.randbytes(SPRITE_BYTES))
        files.append(File(path.name, path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with Line(f"http://127.0.0.1:{port}", seconds=size.line_seconds) as line:
            _wait_for(port, process)
            boto3.Session().client("s3", region_name=REGION, endpoint_url=line.url).create_bucket(Bucket="sprites")
            yield Sprites(open_bucket(HostingSection(bucket="sprites", region=REGION, endpoint_url=line.url)), files)
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("moto's server ended before it listened")


@contextmanager
def bench(name: Name, folder: Path, line_seconds: float) -> Iterator[Bench]:
    """A stand-in as users start it, a line to it and an empty ledger."""
    home = folder / name
    home.mkdir()
    command = [sys.executable, "-m", "crowd_imi", "standin", name, str(home), "--balance", str(BALANCE)]
    about = {"study": "benchmark", "plan_sha256": "0" * 64, "pack_sha256": "0" * 64}
    store = Store.create(*database_urls(home / "study"), StoreKind.STUDY, about)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with Line(_address(process, home / SERVING_FILE), seconds=line_seconds) as line:
            yield Bench(name, line, store)
    finally:
        process.terminate()
        process.wait()
        store.close()


def _address(process: "subprocess.Popen[bytes]", note: Path) -> str:
    """Where the stand-in listens, once it does."""
    while not note.exists():
        if process.poll() is not None:
            raise SystemExit("the stand-in ended before it listened")
        time.sleep(0.02)
    return StandinServing.model_validate_json(note.read_bytes()).url


if __name__ == "__main__":
    sys.exit(main())
