"""What a stand-in tells by itself, on its way to the harvester: some of it is lost, comes twice, or late and out of order.

Prolific's webhooks end at the task pages' own endpoint, Mechanical Turk's notifications in an SQS queue (moto). All of it is in a
process of its own, and every letter goes over HTTP.
"""

import hashlib
import json
import logging
import multiprocessing
import os
import random
import signal
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import requests
from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler, make_server

from benchmarks.counted_standins import Name
from crowd_imi.platforms.base import Platform
from crowd_imi.platforms.mturk.notifications import NoticeQueue

LOST, TWICE, LATE = 0.10, 0.10, 0.20
"""Shares of letters that are lost, brought twice, and brought after later ones."""
COUNTED = ("sent", "lost", "twice", "late")
_PASSED_ON = (
    "Authorization",  # by which a server of many services tells a queue from a bucket
    "Content-Type",
    "X-Event-ID",
    "X-Prolific-Request-Timestamp",
    "X-Prolific-Request-Signature",
    "X-Amz-Target",
)


class Letter(NamedTuple):
    """One request as it came."""

    path: str
    body: bytes
    headers: dict[str, str]


Deliver = Callable[[Letter], int]
"""Brings a letter; returns the HTTP status."""


class Mail:
    """The process, from the side of the benchmark.

    Args:
        name: whose letters.
        study: folder of the study, which needn't be there before the first letter.
        platform: an adapter, for the pages.
        seed: of what is lost.
    """

    def __init__(self, name: Name, study: Path, platform: Callable[[], Platform], seed: int) -> None:
        context = multiprocessing.get_context("fork")
        self._counts = multiprocessing.Array("q", len(COUNTED))
        ours, theirs = context.Pipe()
        arguments = (name, study, platform, seed, theirs, self._counts)
        self._process = context.Process(target=_carry, args=arguments, daemon=True)
        self._process.start()
        self.url: str
        self.url, self._moto, self._queue = ours.recv()

    @property
    def counts(self) -> dict[str, int]:
        """What has happened to letters so far."""
        return dict(zip(COUNTED, self._counts[:], strict=True))

    def subscribe(self, standin: str, token: str, posting: str, platform: Platform) -> None:
        """What a person does once, so that the platform tells what happens."""
        if self._queue:
            platform.notify(posting, f"{self.url}/{self._queue.split('/', 3)[3]}")  # type: ignore[attr-defined]
            return
        with requests.Session() as api:
            api.headers["Authorization"] = f"Token {token}"
            workspace = api.get(f"{standin}/api/v1/workspaces/", timeout=60).json()["results"][0]["id"]
            secret = api.post(f"{standin}/api/v1/hooks/secrets/", json={"workspace_id": workspace}, timeout=60).json()["value"]
            api.put(f"{self.url}/secret", data=secret, timeout=60).raise_for_status()
            wanted = {"event_type": "submission.status.change", "target_url": f"{self.url}/events/prolific"}
            hooks = f"{standin}/api/v1/hooks/subscriptions/"
            made = api.post(hooks, json={"workspace_id": workspace, **wanted}, timeout=60)
            confirmed = api.post(f"{hooks}{made.json()['id']}/", json={"secret": made.headers["X-Hook-Secret"]}, timeout=60)
            confirmed.raise_for_status()

    def queue(self) -> NoticeQueue | None:
        """Where the harvester asks for more, on Mechanical Turk."""
        return NoticeQueue(self._queue, endpoint_url=self._moto) if self._queue else None

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        """Says nothing."""


def _carry(  # noqa: PLR0913, PLR0917 (a process's arguments)
    name: Name,
    study: Path,
    platform: Callable[[], Platform],
    seed: int,
    told: Any,  # noqa: ANN401 (multiprocessing's own types)
    counts: Any,  # noqa: ANN401
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # moto's requests
    moto, queue = _moto() if name == "mturk" else ("", "")
    deliver = _to_queue(moto) if moto else _to_pages(study, platform)
    server = make_server("127.0.0.1", 0, _office(deliver, seed, counts), threaded=True, request_handler=_Quiet)
    told.send((f"http://127.0.0.1:{server.server_port}", moto, queue))
    server.serve_forever()


def _moto() -> tuple[str, str]:
    """SQS on this machine: its address, and a queue's."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    sqs = boto3.client("sqs", endpoint_url=url, region_name="us-east-1")
    return url, sqs.create_queue(QueueName="fortnight")["QueueUrl"]


def _to_queue(moto: str) -> Deliver:
    session = requests.Session()

    def deliver(letter: Letter) -> int:
        return session.post(f"{moto}/{letter.path}", data=letter.body, headers=letter.headers, timeout=60).status_code

    return deliver


def _to_pages(study: Path, platform: Callable[[], Platform]) -> Deliver:
    pages: list[Any] = []

    def deliver(letter: Letter) -> int:
        if not pages:
            from crowd_imi.pages.app import create_app
            from crowd_imi.store import Store
            from crowd_imi.store.engine import database_urls
            from crowd_imi.study import load_study

            app = create_app(load_study(study), Store.open(*database_urls(study)), platform(), run_folder=study)
            pages.append(app.test_client())
        return int(pages[0].post(f"/{letter.path}", data=letter.body, headers=letter.headers).status_code)

    return deliver


def _office(deliver: Deliver, seed: int, counts: Any) -> Flask:  # noqa: ANN401
    """Takes letters in, and does to them what networks and queues do."""
    app = Flask("mail")
    chance, lock = random.Random(f"mail {seed}"), threading.Lock()
    waiting: list[Letter] = []

    def count(what: str) -> None:
        counts[COUNTED.index(what)] += 1

    @app.put("/secret")
    def secret() -> Response:
        os.environ["PROLIFIC_HOOK_SECRET"] = request.get_data(as_text=True)
        return Response(status=204)

    @app.post("/")
    @app.post("/<path:path>")
    def take(path: str = "") -> Response:
        letter = Letter(path, request.get_data(), {k: v for k, v in request.headers if k.title() in _TITLED})
        with lock:
            count("sent")
            drawn = chance.random()
            if drawn < LOST:
                count("lost")
                return _taken(letter)
            if drawn < LOST + LATE:
                count("late")
                waiting.append(letter)
                return _taken(letter)
            status = deliver(letter)
            if drawn > 1 - TWICE:
                count("twice")
                deliver(letter)
            while waiting and chance.random() < 0.7:  # the newest of them first
                deliver(waiting.pop())
        return _taken(letter) if status < 300 else Response(status=status)

    return app


_TITLED = frozenset(name.title() for name in _PASSED_ON)


def _taken(letter: Letter) -> Response:
    """The answer that a sender goes away content with."""
    if "X-Amz-Target".title() not in {name.title() for name in letter.headers}:
        return Response(status=204)
    text = json.loads(letter.body).get("MessageBody", "")
    said = {"MessageId": str(uuid.uuid4()), "MD5OfMessageBody": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}
    return Response(json.dumps(said), mimetype="application/x-amz-json-1.0")
