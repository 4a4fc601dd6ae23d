"""What Mechanical Turk tells by itself: an SQS queue with what happened to assignments.

A notice may come twice and in any order: it only says that there is something to look at. ``document`` tells repeats.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from crowd_imi.errors import PlatformError, Unreachable
from crowd_imi.platforms.mturk.client import READ_SECONDS, REGION, check_address

VERSION = "2014-08-15"
EVENTS = ("AssignmentAccepted", "AssignmentAbandoned", "AssignmentReturned", "AssignmentSubmitted")
"""What is asked for: who came, who went, who handed in."""
MOST_AT_ONCE = 10
_NAMES = ("EventType", "HITId", "AssignmentId")
WAIT_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened to an assignment."""

    document: str
    """The same for a repeat (``EventDocId``); one document may tell of several submissions."""
    event: str
    hit: str
    submission: str

    @property
    def mark(self) -> str:
        """The same for a repeat, and for nothing else."""
        return f"{self.document} {self.event} {self.submission}"


class NoticeQueue:
    """An SQS queue that Mechanical Turk writes to.

    Args:
        url: of the queue; MTurk must be allowed to send to it.
        profile: of the AWS configuration; None for the environment's.
        endpoint_url: of an SQS-compatible service; None for AWS.

    Raises:
        PlatformError: an address that credentials must not be sent to, or no credentials.
    """

    def __init__(self, url: str, profile: str | None = None, endpoint_url: str | None = None) -> None:
        check_address(url)
        if endpoint_url is not None:
            check_address(endpoint_url)
        self._url = url
        config = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=5, read_timeout=READ_SECONDS)
        try:
            session = boto3.Session(profile_name=profile, region_name=REGION)
            self._client = session.client("sqs", endpoint_url=endpoint_url, config=config)
        except BotoCoreError as error:
            raise PlatformError(f"the queue {url} can't be asked: {error}") from None

    @contextmanager
    def taken(self) -> Iterator[tuple[Notice, ...]]:
        """What has come in: it is gone from the queue when the block ends well, and comes again when it doesn't.

        Raises:
            Unreachable: the queue gave no answer.
        """
        with self._asking():
            messages = self._client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=MOST_AT_ONCE, WaitTimeSeconds=WAIT_SECONDS
            ).get("Messages", [])
        yield tuple(dict.fromkeys(notice for message in messages for notice in notices_in(message["Body"])))
        with self._asking():
            for message in messages:
                self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise Unreachable(f"the queue {self._url} gave no answer: {error}") from None


def notices_in(body: str) -> tuple[Notice, ...]:
    """What a message tells of assignments; nothing for a message that is none of MTurk's."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(document, dict) or not isinstance(document.get("Events"), list):
        return ()
    told_in = document.get("EventDocId", "")
    return tuple(
        Notice(told_in, *(event[name] for name in _NAMES))
        for event in document["Events"]
        if isinstance(event, dict) and all(_is_a_word(word) for word in (told_in, *(event.get(name) for name in _NAMES)))
    )


def _is_a_word(value: object) -> bool:
    """As MTurk writes its ids and types; JSON may hold text that can't even be encoded."""
    return isinstance(value, str) and value.isascii()
