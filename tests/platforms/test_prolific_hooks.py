"""Prolific's webhooks: only what is signed over the raw body, and not too old, is read."""

import json

import pytest

from crowd_imi.errors import PlatformError
from crowd_imi.platforms.prolific_hooks import OLDEST_SECONDS, HookEvent, read_event
from crowd_imi.platforms.standins.prolific.events import signature

SECRET, NOW = "the workspace's secret", 1_800_000_000
BODY = json.dumps({"event_type": "submission.status.change", "resource_id": "abc123", "status": "APPROVED"}).encode()


def headers(body: bytes = BODY, at: object = NOW, event: str = "event-1", secret: str = SECRET) -> dict[str, str]:
    """As the stand-in, which was written from Prolific's documentation, signs it."""
    return {
        "X-Event-Id": event,
        "x-prolific-request-timestamp": str(at),
        "X-Prolific-Request-Signature": signature(secret, str(at), body),
    }


def test_a_signed_event_is_read():
    assert read_event(SECRET, headers(), BODY, NOW) == HookEvent("event-1", "abc123")


def test_an_event_about_something_else_names_no_submission():
    body = json.dumps({"event_type": "study.status.change", "resource_id": "abc123"}).encode()
    assert read_event(SECRET, headers(body), body, NOW).submission is None
    odd = json.dumps({"event_type": "submission.status.change", "resource_id": {"$ne": 1}}).encode()
    assert read_event(SECRET, headers(odd), odd, NOW).submission is None


@pytest.mark.parametrize(
    ("changes", "body", "secret", "words"),
    [
        ({"X-Prolific-Request-Signature": "bm90IGl0"}, BODY, SECRET, "isn't signed"),
        ({"X-Prolific-Request-Signature": "no base64 ä"}, BODY, SECRET, "isn't signed"),
        ({"X-Prolific-Request-Signature": ""}, BODY, SECRET, "isn't signed"),
        # The same document, written otherwise: the signature is over the bytes.
        ({}, json.dumps(json.loads(BODY), indent=1).encode(), SECRET, "isn't signed"),
        ({"x-prolific-request-timestamp": str(NOW + 1)}, BODY, SECRET, "isn't signed"),
        ({}, BODY, "another secret", "isn't signed"),
        ({}, BODY, "", "isn't signed"),
        ({"X-Event-Id": ""}, BODY, SECRET, "no X-Event-ID"),
        ({"X-Event-Id": "../../etc"}, BODY, SECRET, "no X-Event-ID"),
    ],
)
def test_anything_else_is_refused(changes, body, secret, words):
    with pytest.raises(PlatformError, match=words):
        read_event(secret, {**headers(), **changes}, body, NOW)


@pytest.mark.parametrize("at", [NOW - OLDEST_SECONDS - 1, NOW + OLDEST_SECONDS + 1, "soon", ""])
def test_an_event_of_another_time_is_refused(at):
    with pytest.raises(PlatformError, match="too old"):
        read_event(SECRET, headers(at=at), BODY, NOW)


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"[" * 5000, b"\xff"])
def test_a_signed_body_that_is_no_document_is_refused(body):
    with pytest.raises(PlatformError, match="JSON"):
        read_event(SECRET, headers(body), body, NOW)
