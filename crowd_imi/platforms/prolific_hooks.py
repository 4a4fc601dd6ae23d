"""Prolific's webhooks: whether a request is Prolific's, and which submission it is about."""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crowd_imi.errors import PlatformError

SECRET_VARIABLE = "PROLIFIC_HOOK_SECRET"
"""Where the workspace's secret is read from; without it no event is taken."""
LARGEST_EVENT = 16 * 1024
OLDEST_SECONDS = 25 * 3600
"""Prolific tries for 24 hours."""
_SUBMISSION = "submission.status.change"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class HookEvent:
    """One event."""

    id: str
    """The same for a repeat (X-Event-ID)."""
    submission: str | None
    """None where it is about something else."""


def read_event(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> HookEvent:
    """Check and read one request.

    Args:
        secret: the workspace's.
        headers: of the request.
        body: as it came: the signature is over these bytes, and nothing is read before it fits.
        now: seconds since 1970.

    Raises:
        PlatformError: it isn't Prolific's, is too old, or can't be read.
    """
    named = {name.lower(): value for name, value in headers.items()}
    timestamp = named.get("x-prolific-request-timestamp", "")
    signature = named.get("x-prolific-request-signature", "")
    event = named.get("x-event-id", "")
    if not secret or not hmac.compare_digest(_signature(secret, timestamp, body), _decoded(signature)):
        raise PlatformError("the event isn't signed with the workspace's secret")
    if not re.fullmatch(r"[0-9]{1,12}", timestamp) or abs(now - int(timestamp)) > OLDEST_SECONDS:
        raise PlatformError("the event is too old to be one that Prolific still sends")
    if not _ID.fullmatch(event):
        raise PlatformError("the event has no X-Event-ID, by which repeats are told")
    return HookEvent(event, _submission_in(body))


def _signature(secret: str, timestamp: str, body: bytes) -> bytes:
    return hmac.new(secret.encode(), timestamp.encode("utf-8", "replace") + body, hashlib.sha256).digest()


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _submission_in(body: bytes) -> str | None:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise PlatformError("the event's body is no JSON") from None
    if not isinstance(document, dict):
        raise PlatformError("the event's body is no JSON object")
    submission = document.get("resource_id")
    if document.get("event_type") != _SUBMISSION or not isinstance(submission, str) or not _ID.fullmatch(submission):
        return None
    return submission
