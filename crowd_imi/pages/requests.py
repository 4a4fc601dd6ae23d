"""What the task page's API accepts. Anything else is refused with one sentence."""

from typing import Annotated

from pydantic import ConfigDict, Field

from crowd_imi.pages.layout import Row
from crowd_imi.records import Record

Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
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


class Request(Record):
    """Base of all: numbers are numbers, not strings of digits."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ArrivalRequest(Record):
    """Query parameters of ``/arrive``, which the platform adds to the link."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    participant: Id
    submission: Id
    posting: Id


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
