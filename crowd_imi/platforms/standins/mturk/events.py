"""Notifications of the Mechanical Turk stand-in: what happens to HITs goes to SQS or SNS, at least once.

What happens is written down in its own transaction and sent afterwards by a thread; a row is ticked off once the queue has it, so
a stand-in that is killed in between sends it again. Queues must be on this machine (moto, LocalStack).
"""

import json
import logging
import secrets
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy import Engine, event, inspect, select
from sqlalchemy.orm import Session, sessionmaker

from crowd_imi.platforms.standins.faults import Faults
from crowd_imi.platforms.standins.mturk import books
from crowd_imi.platforms.standins.mturk.books import Assignment, Hit, HitType, Notice, Subscription
from crowd_imi.platforms.standins.mturk.values import LOOPBACK
from crowd_imi.platforms.standins.mturk.wire import REGION, Params, turk_error

log = logging.getLogger(__name__)

VERSION = "2014-08-15"
TRIES = 10
POLL_SECONDS = 0.5
_OF_STATUS = {
    books.ACCEPTED: "AssignmentAccepted",
    books.RETURNED: "AssignmentReturned",
    books.ABANDONED: "AssignmentAbandoned",
    books.SUBMITTED: "AssignmentSubmitted",
    books.APPROVED: "AssignmentApproved",
    books.REJECTED: "AssignmentRejected",
}


def update_notification_settings(session: Session, params: Params, now: int) -> Params:
    """``UpdateNotificationSettings``: one destination for each HIT type."""
    kind = session.get(HitType, params["HITTypeId"])
    if kind is None:
        raise turk_error("HITTypeDoesNotExist", f"HITType {params['HITTypeId']} does not exist. ({now} s)")
    found = session.get(Subscription, kind.id)
    if "Notification" in params:
        values = _checked(params["Notification"])
        found = found or Subscription(type_id=kind.id, active=True)
        found.destination, found.transport, found.events = values["Destination"], values["Transport"], values["EventTypes"]
        session.add(found)
    if found is None:
        raise turk_error("InvalidParameterValue", "There is no Notification for this HIT type yet; give one.")
    found.active = params.get("Active", found.active)
    return {}


def send_test_event_notification(session: Session, params: Params, now: int) -> Params:
    """``SendTestEventNotification``: whatever happens, to this destination."""
    wanted = _checked(params["Notification"])
    ids = {"HITTypeId": books.new_id(), "HITId": books.new_id(), "AssignmentId": books.new_id()}
    session.add(_notice(wanted["Destination"], wanted["Transport"], [_event(params["TestEventType"], now, ids)], now))
    return {}


def _checked(wanted: Params) -> Params:
    if wanted["Transport"] == "Email":
        raise turk_error("NotSupported", "This stand-in sends to SQS and SNS only.")
    if wanted["Version"] not in (VERSION, "2006-05-05"):
        raise turk_error("InvalidParameterValue", f"The version of notifications is {VERSION}.")
    if wanted["Transport"] == "SQS" and urlsplit(wanted["Destination"]).hostname not in LOOPBACK:
        raise turk_error("InvalidParameterValue", "This stand-in sends to queues on this machine only; give such a queue's URL.")
    return wanted


def record(session: Session, now: int) -> None:
    """Write down what this flush changes, for those who want to know."""
    with session.no_autoflush:
        for hit, kind, assignment in list(_changes(session, now)):
            subscription = session.get(Subscription, hit.type_id)
            if subscription is not None and subscription.active and kind in subscription.events:
                ids = {"HITTypeId": hit.type_id, "HITId": hit.id, **({"AssignmentId": assignment} if assignment else {})}
                session.add(_notice(subscription.destination, subscription.transport, [_event(kind, now, ids)], now))


def _changes(session: Session, now: int) -> Iterator[tuple[Hit, str, str | None]]:
    for row in (*session.new, *session.dirty):
        if isinstance(row, Assignment) and _changed(row, "status") and row.status in _OF_STATUS:
            hit = session.scalars(select(Hit).where(Hit.id == row.hit_id)).one()
            yield hit, _OF_STATUS[row.status], row.id
            if row.status == books.SUBMITTED and _is_reviewable(session, hit, now):
                yield hit, "HITReviewable", None
        elif isinstance(row, Hit):
            yield from ((row, kind, None) for kind in _hit_changes(row, row in session.new, now))


def _hit_changes(hit: Hit, is_new: bool, now: int) -> Iterator[str]:
    if is_new:
        yield "HITCreated"
        return
    if _changed(hit, "max_assignments"):
        yield "HITExtended"
    if _changed(hit, "expires_at"):
        yield "HITExpired" if hit.expires_at <= now else "HITExtended"
    if _changed(hit, "disposed"):
        yield "HITDisposed"


def _is_reviewable(session: Session, hit: Hit, now: int) -> bool:
    """Whether the assignment that is handed in now, and still counted as pending, is the last one."""
    counts = books.counts_of(session, [hit])[hit.id]
    return counts.pending == 1 and (counts.available == 0 or hit.expires_at <= now)


def _changed(row: books.Base, column: str) -> bool:
    return bool(inspect(row).attrs[column].history.added)


def _event(kind: str, now: int, ids: dict[str, str]) -> dict[str, str]:
    at = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"EventType": kind, "EventTimestamp": at, **ids}


def _notice(destination: str, transport: str, events: list[dict[str, str]], now: int) -> Notice:
    document = str(uuid.uuid4())
    body = {
        "Events": events,
        "EventDocId": document,
        "CustomerId": "A" + secrets.token_hex(6).upper(),
        "EventDocVersion": VERSION,
    }
    return Notice(document=document, destination=destination, transport=transport, body=json.dumps(body), tries=0, at=now)


class Postman:
    """Sends what is written down, in a thread of its own."""

    def __init__(self, engine: Engine, faults: Faults, endpoint: str | None) -> None:
        self._engine, self._faults, self._endpoint = engine, faults, endpoint
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier process left."""
        self._news.set()
        self._thread.start()

    def wake(self) -> None:
        """There may be something to send."""
        self._news.set()

    def close(self) -> None:
        """Send no more; what wasn't sent stays in the books."""
        self._closing.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._news.wait()
            self._news.clear()
            while not self._closing.is_set() and self._send_all():
                self._closing.wait(POLL_SECONDS)

    def _send_all(self) -> bool:
        """Try once each; returns whether something is left."""
        waiting = select(Notice).where(Notice.delivered.is_(False), Notice.tries < TRIES).order_by(Notice.number)
        with Session(self._engine.execution_options(read_only=True), expire_on_commit=False) as session:
            notices = list(session.scalars(waiting))
        outcomes = [self._send(notice) for notice in notices]
        return not all(outcomes)

    def _send(self, notice: Notice) -> bool:
        times = 2 if self._faults.duplicates_event() else 1
        try:
            for _ in range(times):
                self._deliver(notice)
            delivered = True
        except (BotoCoreError, ClientError, ValueError) as error:
            log.warning("a notification couldn't be sent: %s", type(error).__name__)
            delivered = False
        with Session(self._engine) as session, session.begin():
            row = session.get(Notice, notice.number)
            if row is not None and row.document == notice.document:  # the books may be new ones by now
                row.delivered, row.tries = delivered, row.tries + 1
        return delivered or notice.tries + 1 >= TRIES

    def _deliver(self, notice: Notice) -> None:
        if notice.transport == "SQS":
            parts = urlsplit(notice.destination)
            client = _client("sqs", self._endpoint or f"{parts.scheme}://{parts.netloc}")
            client.send_message(QueueUrl=notice.destination, MessageBody=notice.body)
            return
        if self._endpoint is None:
            raise ValueError("no endpoint for SNS")
        _client("sns", self._endpoint).publish(TopicArn=notice.destination, Message=notice.body)


def _client(service: str, endpoint: str) -> Any:  # noqa: ANN401 (boto3 makes its clients at run time)
    config = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
    return boto3.Session().client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="standin",
        aws_secret_access_key="standin",
        config=config,
    )


def listen(sessions: sessionmaker[Session], now: Callable[[], int]) -> None:
    """Record what every flush of these sessions changes."""
    event.listen(sessions, "before_flush", lambda session, *_: record(session, now()))
