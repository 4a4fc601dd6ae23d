"""Webhooks: who subscribed, and sending signed events until they arrive.

An event is written in the transaction of what it tells of and sent afterwards by a thread, at least once: a server that is
killed between sending and writing that down sends it again, with the same X-Event-ID.
"""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import requests
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crowd_imi.platforms.standins.faults import Faults
from crowd_imi.platforms.standins.prolific.desk import Books, Desk
from crowd_imi.platforms.standins.prolific.tables import Event, Setting, Study, Submission, Subscription

EVENT_TYPES = {
    "submission.status.change": "A submission's status changed",
    "study.status.change": "A study's status changed",
}
TRIES = 12
"""With the default first wait of 40 s, which doubles, the last one comes after some 23 hours."""
TIMEOUT_SECONDS = 5
WRITTEN = "an event was written"
"""Set in the ``info`` of a transaction's session that wrote one."""

Seconds = float


def record_submission(desk: Desk, submission: Submission) -> None:
    """Tell subscribers of a submission's new status."""
    document = {
        "resource_id": submission.id,
        "event_type": "submission.status.change",
        "participant_id": submission.participant,
        "status": submission.status,
    }
    _record(desk, "submission.status.change", document)


def record_study(desk: Desk, study: Study) -> None:
    """Tell subscribers of a study's new status."""
    document = {"resource_id": study.id, "event_type": "study.status.change", "metadata": {}, "status": study.status}
    _record(desk, "study.status.change", document)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """``X-Prolific-Request-Signature``: base64 of HMAC-SHA256 over timestamp and raw body."""
    return base64.b64encode(hmac.new(secret.encode(), timestamp.encode() + body, hashlib.sha256).digest()).decode()


class Courier:
    """Sends events, and sends them again when nobody took them, in a thread that is started by the first one."""

    def __init__(self, books: Books, faults: Faults) -> None:
        self._books, self._faults = books, faults
        self._something_new = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        with books.transaction() as session:
            waiting = _next_time(session) is not None
        if waiting:  # left over by a server that was killed
            self.wake()

    def wake(self) -> None:
        """An event was written."""
        with self._lock:
            if not (self._closed or (self._thread and self._thread.is_alive())):
                self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                self._thread.start()
        self._something_new.set()

    def close(self) -> None:
        """Send no more; what wasn't sent stays in the books."""
        with self._lock:
            self._closed = True
        self._something_new.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            with self._books.transaction() as session:
                letter, next_time = _next_letter(session), _next_time(session)
            if letter is not None:
                self._deliver(letter)
                continue
            wait = None if next_time is None else max(0.0, (next_time - _system_time()) / 1000)
            self._something_new.wait(wait)
            self._something_new.clear()

    def _deliver(self, letter: "_Letter") -> None:
        arrived = _send(letter)
        if arrived and self._faults.duplicates_event():
            _send(letter)
        with self._books.transaction() as session:
            _write_down(session, letter.number, arrived, self._books.account.retry_seconds)


@dataclass(frozen=True, slots=True)
class _Letter:
    number: int
    event_id: str
    secret: str
    target_url: str
    body: str


def _record(desk: Desk, event_type: str, document: Mapping[str, object]) -> None:
    subscribed = select(Subscription).where(Subscription.event_type == event_type, Subscription.enabled)
    for subscription in desk.session.scalars(subscribed):
        event = Event(
            id=secrets.token_hex(16),
            subscription_id=subscription.id,
            body=json.dumps(document),
            happened_at=desk.now,
            next_try_at=_system_time(),
            tries=0,
            delivered=False,
        )
        desk.session.add(event)
        desk.session.info[WRITTEN] = True


def _next_letter(session: Session) -> _Letter | None:
    event = session.scalar(select(Event).where(Event.next_try_at <= _system_time()).order_by(Event.number).limit(1))
    if event is None:
        return None
    subscription = session.scalar(select(Subscription).where(Subscription.id == event.subscription_id))
    secret = session.get(Setting, "hook_secret")
    if subscription is None or secret is None or not subscription.enabled:
        event.next_try_at = None
        return _next_letter(session)
    return _Letter(event.number, event.id, secret.value, subscription.target_url, event.body)


def _next_time(session: Session) -> int | None:
    """When something has to be sent next, by the system's clock."""
    return session.scalar(select(func.min(Event.next_try_at)))


def _send(letter: _Letter) -> bool:
    body, timestamp = letter.body.encode(), str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "X-Event-ID": letter.event_id,
        "X-Prolific-Request-Timestamp": timestamp,
        "X-Prolific-Request-Signature": signature(letter.secret, timestamp, body),
    }
    try:
        reply = requests.post(letter.target_url, data=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    except requests.RequestException:
        return False
    return reply.ok


def _write_down(session: Session, number: int, arrived: bool, first_wait: Seconds) -> None:
    event = session.get_one(Event, number)
    event.tries += 1
    event.delivered = arrived
    given_up = event.tries >= TRIES
    event.next_try_at = None if arrived or given_up else _system_time() + int(first_wait * 1000 * 2 ** (event.tries - 1))


def _system_time() -> int:
    return time.time_ns() // 1_000_000
