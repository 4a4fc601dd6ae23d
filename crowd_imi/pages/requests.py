"""What the task page's API accepts. Anything else is refused with one sentence."""

import re
from typing import Annotated

from pydantic import ConfigDict, Field

from crowd_imi.pages.layout import Row
from crowd_imi.records import Record

Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
Parameter = Annotated[str, Field(max_length=4000, pattern=r"^[\x21-\x7e]*$")]
"""A parameter of an arrival link: an id, or a signed token."""
Milliseconds = Annotated[float, Field(ge=0, le=7 * 24 * 3600 * 1000, allow_inf_nan=False)]
Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Scalar = (
    Annotated[str, Field(max_length=60)]
    | bool
    | Annotated[int, Field(ge=-(2**53), le=2**53)]
    | Annotated[float, Field(allow_inf_nan=False)]
    | None
)
Facts = Annotated[dict[Slug, Scalar], Field(max_length=24)]
"""Flat remarks of the page's own; too short for a user agent."""


_ESCAPE = re.compile(
    rb"""
      \\u d[89ab][0-9a-f]{2} \\u d[c-f][0-9a-f]{2}     # two halves of a character beyond the first 65,536
    | (?P<unfit> \\u (?: 0000 | d[89a-f][0-9a-f]{2} ) )  # NUL, and half a character without the other
    | \\.
    """,
    re.VERBOSE | re.IGNORECASE,
)


def storable(body: bytes) -> bytes:
    """A JSON body whose texts every database takes: NUL and half characters become U+FFFD, the replacement character.

    PostgreSQL refuses NUL for ever, and half an emoji is no text at all; whoever pasted one in must not be stuck with it.
    """
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape["unfit"] else escape[0], body)


class Request(Record):
    """Base of all: numbers are numbers, not strings of digits."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ConsentRequest(Request):
    """``POST /api/consent``."""

    agree: bool
    version: Annotated[str, Field(min_length=1, max_length=60)]
    """Of the form that was read."""


class PageRequest(Request):
    """``POST /api/page``: one page of the instructions was left."""

    page: Slug
    shown_ms: Milliseconds


class InstructionsRequest(Request):
    """``POST /api/instructions``: all of them were read."""

    browser: Facts


class PracticeRequest(Request):
    """``POST /api/practice``."""

    block: Annotated[int, Field(ge=1, le=1000)]
    position: Annotated[int, Field(ge=0, le=1000)]
    row: Row
    confidence: Annotated[int, Field(ge=1, le=3)]
    rt_ms: Milliseconds


class AnswerRequest(Request):
    """``POST /api/answers``."""

    position: Annotated[int, Field(ge=0, le=10_000)]
    row: Row
    confidence: Annotated[int, Field(ge=1, le=3)]
    rt_ms: Milliseconds
    shown_ms: Milliseconds
    saving_ms: Milliseconds | None = None


class EventRequest(Request):
    """``POST /api/events``."""

    kind: Slug
    detail: Facts = Field(default_factory=dict)


class SubmitRequest(Request):
    """``POST /api/submit``."""

    feedback: Annotated[str, Field(max_length=10_000)] = ""
