"""Events from one end to the other: what happens on a stand-in wakes a harvest whose next round is an hour away.

Everything in between is real: the stand-in's own courier or postman, HTTP, the pages' endpoint or an SQS queue (moto), the store,
and a harvest in a process of its own, as the command starts it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer
from sqlalchemy import select

from crowd_imi.allocation import Arrival, arrive, hand_in
from crowd_imi.pages.app import create_app
from crowd_imi.platforms.opening import Choice
from crowd_imi.platforms.prolific import TOKEN_VARIABLE
from crowd_imi.platforms.standins.prolific.desk import Account
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.tables import Notice, Posting, Visit
from crowd_imi.study import Study
from tests.contract.mturk import mturk
from tests.contract.prolific import TOKEN, ProlificRig, listening, served
from tests.harvester.crowd import answer_all, begin
from tests.tiny import STUDY_TOML, fake_plan, write_study

SOON = 60
SECRET = "the-workspaces-secret"


class Posted:
    """A study on a stand-in, in real time."""

    def __init__(self, folder: Path, rig: Any, name: str, endpoint: str) -> None:
        self.rig, self.name = rig, name
        self.study: Study = write_study(folder, STUDY_TOML)
        self.store: Store = create_store(self.study, fake_plan(self.study), folder, StoreKind.STUDY)
        self.posting: Posting = launch(self.study, self.store, rig.platform, Choice(name=name, endpoint_url=endpoint))

    def comes(self, person: str) -> tuple[dict[str, str], Visit]:
        query = self.rig.take(self.posting.platform_id, person)
        found = self.rig.platform.arrive(query)
        return query, arrive(
            self.store, self.study, Arrival(self.name, found.participant, found.id, self.posting.id, self.store.now())
        )

    def finishes(self, visit: Visit) -> None:
        """Far too fast, so that the criteria exclude: who is excluded is paid as well."""
        now = self.store.now()
        with self.store.write() as session:
            row = session.get_one(Visit, visit.id)
            begin(session, row, now)
            answer_all(session, row, now)
            hand_in(session, row, now)

    def state(self, visit: Visit) -> tuple[str, str]:
        with self.store.read() as session:
            now = session.get_one(Visit, visit.id)
            return now.state, now.payment

    def notices(self) -> int:
        with self.store.read() as session:
            return len(session.scalars(select(Notice)).all())


@contextmanager
def harvesting(there: Posted, *options: str, says: str = "nothing new") -> Iterator[None]:
    """The command, with an hour between its rounds; it has said its first words."""
    words = [sys.executable, "-m", "crowd_imi", "harvest", str(there.study.folder), "--watch", "--every", "3600", *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ) as process:
        try:
            assert process.stdout is not None
            assert says in process.stdout.readline()
            yield
        finally:
            process.terminate()


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not reached():
        assert time.monotonic() < deadline, "it didn't come about"
        time.sleep(0.1)


def subscribe(url: str, target: str) -> str:
    """What a person does once on Prolific; returns the workspace's secret."""
    api = requests.Session()
    api.headers["Authorization"] = f"Token {TOKEN}"
    hooks = f"{url}/api/v1/hooks"
    workspace = api.get(f"{url}/api/v1/workspaces/", timeout=30).json()["results"][0]["id"]
    secret = api.post(f"{hooks}/secrets/", json={"workspace_id": workspace}, timeout=30).json()["value"]
    wanted = {"workspace_id": workspace, "event_type": "submission.status.change", "target_url": target}
    made = api.post(f"{hooks}/subscriptions/", json=wanted, timeout=30)
    path = f"{hooks}/subscriptions/{made.json()['id']}/"
    assert api.post(path, json={"secret": made.headers["X-Hook-Secret"]}, timeout=30).ok
    api.close()
    return str(secret)


def test_what_prolifics_courier_brings_is_followed_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    account = Account(tokens=(TOKEN,), settle_seconds=0, retry_seconds=0.2)
    with served(tmp_path / "standin", account) as url:
        rig = ProlificRig(url)
        there = Posted(tmp_path / "study", rig, "prolific", url)
        with listening(create_app(there.study, there.store, there.rig.platform, run_folder=there.study.folder)) as pages:
            monkeypatch.setenv("PROLIFIC_HOOK_SECRET", subscribe(url, f"{pages}/events/prolific"))
            with harvesting(there):
                rig.fail("duplicate", "duplicate", "duplicate")
                leaving, left = there.comes("anna")
                staying, finished = there.comes("ben")
                there.finishes(finished)
                rig.follow(staying, rig.platform.finish(staying["SESSION_ID"], "a code that isn't ours"))
                wait_for(lambda: there.state(finished) == ("excluded", "paid"))
                rig.leave(leaving)
                wait_for(lambda: there.state(left)[0] == "returned")
        assert list(rig.rewards()) == [staying["SESSION_ID"]]
        # Two came, one handed in, one left, one was approved by us: every event once, though three were brought twice.
        wait_for(lambda: all(event["delivered"] for event in rig.books()["events"]))
        assert there.notices() == len(rig.books()["events"]) == 5
        rig.close()
        there.store.close()


def test_what_mechanical_turk_puts_into_a_queue_is_followed_within_seconds_and_without_a_queue_everything_is_read(tmp_path: Path):
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    moto = f"http://{host}:{port}"
    try:
        with mturk(tmp_path, min_approved_percent=0, min_approved_number=0) as rig:
            queue = boto3.client("sqs", endpoint_url=moto, region_name="us-east-1").create_queue(QueueName="turk")["QueueUrl"]
            there = Posted(tmp_path / "study", rig, "mturk", rig.standin.url)
            with harvesting(there, "--queue", queue):
                rig.fail("duplicate", "duplicate")
                query, visit = there.comes("anna")
                there.finishes(visit)
                rig.follow(query, rig.platform.finish(query["assignmentId"], "a code that nobody reads"))
                wait_for(lambda: there.state(visit) == ("excluded", "paid"))
            assert rig.rewards() == {query["assignmentId"]: there.study.file.pay.reward}
            assert there.notices() == 2  # accepted and submitted, each brought twice
            boto3.client("sqs", endpoint_url=moto, region_name="us-east-1").delete_queue(QueueUrl=queue)
            query, visit = there.comes("ben")
            there.finishes(visit)
            rig.follow(query, rig.platform.finish(query["assignmentId"], "a code that nobody reads"))
            with harvesting(there, "--queue", queue, says="NonExistentQueue"):
                wait_for(lambda: there.state(visit) == ("excluded", "paid"))
            there.store.close()
    finally:
        server.stop()
