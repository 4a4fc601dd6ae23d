"""What a file of texts must hold, name by name, and what may be filled into each text."""

import re
from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Annotated, Literal

from pydantic import Field

from crowd_imi.mistakes import dotted, mistakes
from crowd_imi.records import Condition, Record

Text = Annotated[str, Field(min_length=1)]
Paragraphs = Annotated[tuple[Text, ...], Field(min_length=1)]

PAGE_VALUES: Mapping[str, frozenset[str]] = {
    "check.small": frozenset({"width", "height"}),
    "check.tiny": frozenset({"width", "height"}),
    "instructions": frozenset({"practice"}),
    "preload.progress": frozenset({"there", "total"}),
    "practice.again": frozenset({"practice"}),
    "trial.practice": frozenset({"position", "total"}),
    "trial.main": frozenset({"position", "total"}),
    "trial.count": frozenset({"correct", "answered"}),
    "trial.left_example": frozenset({"number"}),
    "trial.right_example": frozenset({"number"}),
    "trial.keys": frozenset({"upper", "lower"}),
}
"""Beginning of a text's name → what the page fills in as %name% while it runs."""

_PAGE_VALUE = re.compile(r"%(\w+)%")


class Sheet(Record):
    """A page of text."""

    heading: Text
    paragraphs: Paragraphs


class PageWords(Record):
    """``[page]``."""

    title: Text


class ButtonWords(Record):
    """``[buttons]``."""

    next: Text
    back: Text
    continue_: Text = Field(alias="continue")
    start: Text
    reload: Text


class StartWords(Sheet):
    """``[start]``: the first page of who is invited by a link."""

    begin: Text


class FinishedWords(Sheet):
    """``[finished]``: the last page of who was."""

    code: Text
    reference: Text
    contact: Text


class Section(Record):
    """``[[consent.sections]]``."""

    heading: Text
    text: Text


class ConsentWords(Record):
    """``[consent]``."""

    version: Annotated[str, Field(min_length=1, max_length=40)]
    heading: Text
    lead: Text
    agree: Text
    disagree: Text
    warning: Text
    """Heading of ``pages.content_warning``."""
    reviewed: Text
    """Behind the last section where ``pages.approval`` says who reviewed the study."""
    sections: Annotated[tuple[Section, ...], Field(min_length=1)]


class CheckWords(Sheet):
    """``[check]``: eyesight and window."""

    fits: Text
    small: Text
    tiny: Text
    go_on: Text
    cannot: Text


class InstructionWords(Sheet):
    """``[[instructions]]``."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    """Under which the time on this page is kept."""
    condition: Condition | None = None
    picture: Literal["all", "right", "left", "first", "centre", "answers", "frames"] | None = None
    alt: Text | None = None
    """What the picture shows, for who can't see it."""


class FullscreenWords(Sheet):
    """``[fullscreen]``."""

    again_heading: Text
    again_paragraphs: Paragraphs
    small: Text


class PreloadWords(Record):
    """``[preload]``."""

    heading: Text
    progress: Text
    trouble: Text


class PracticeWords(Record):
    """``[practice]``."""

    passed_heading: Text
    passed_paragraphs: Paragraphs
    again_heading: Text
    again_paragraphs: Paragraphs


class TrialWords(Record):
    """``[trial]``."""

    question: Text
    left: Text
    right: Text
    practice: Text
    main: Text
    count: Text
    unsure: Text
    sure: Text
    levels: Annotated[tuple[Text, ...], Field(min_length=3, max_length=3)]
    upper: Text
    lower: Text
    left_example: Text
    right_example: Text
    correct: Text
    wrong: Text
    saving: Text
    keys: Text


class FeedbackWords(Record):
    """``[feedback]``."""

    heading: Text
    prompt: Text
    send: Text


class SavingWords(Record):
    """``[saving]``: while something is sent."""

    heading: Text


class DoneWords(Sheet):
    """``[done]``: it is saved, and what it was about."""

    click: Text
    complete: Text
    leave: Text
    back: Text
    no_link: Text
    debrief_heading: Text
    debrief: Paragraphs


class NoticeWords(Record):
    """``[reconnecting]``."""

    text: Text


class Refusal(Record):
    """``[refusals.CODE]``: what somebody reads who can't take part."""

    heading: Text
    explanation: Text
    what_to_do: Text
    given_back: Text | None = None
    """Instead of ``what_to_do`` when we gave their place back."""
    no_place: Text | None = None
    """Instead of ``what_to_do`` when they had none."""


class Refusals(Record):
    """``[refusals]``, by the code of the refusal."""

    already_took_part: Refusal = Field(alias="already-took-part")
    study_full: Refusal = Field(alias="study-full")
    paused: Refusal
    try_again: Refusal = Field(alias="try-again")
    failed: Refusal
    unknown_submission: Refusal = Field(alias="unknown-submission")
    ended: Refusal
    preview: Refusal
    bad_link: Refusal = Field(alias="bad-link")
    malformed_link: Refusal = Field(alias="malformed-link")
    forged_link: Refusal = Field(alias="forged-link")
    not_ours: Refusal = Field(alias="not-ours")
    not_found: Refusal = Field(alias="not-found")


class Texts(Record):
    """``texts/LANGUAGE.toml``."""

    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
    """As browsers know it, e.g. ``de`` or ``pt-BR``."""
    page: PageWords
    buttons: ButtonWords
    loading: Sheet
    noscript: Sheet
    unsupported: Sheet
    start: StartWords
    finished: FinishedWords
    consent: ConsentWords
    declined: Sheet
    check: CheckWords
    incompatible: Sheet
    instructions: Annotated[tuple[InstructionWords, ...], Field(min_length=1)]
    fullscreen: FullscreenWords
    preload: PreloadWords
    practice: PracticeWords
    trial: TrialWords
    feedback: FeedbackWords
    saving: SavingWords
    done: DoneWords
    failed_practice: Sheet
    ended: Sheet
    timed_out: Sheet
    no_visit: Sheet
    problem: Sheet
    reconnecting: NoticeWords
    refusals: Refusals


def text_problems(raw: object, facts: frozenset[str]) -> Iterator[str]:
    """One line for every text that is missing, unknown or of the wrong kind, and for every placeholder that nothing fills.

    Args:
        raw: the file as TOML gives it.
        facts: names that the server fills in as {name}.
    """
    yield from mistakes(Texts, raw)
    for where, text in _leaves(raw):
        yield from _server_placeholders(where, text, facts)
        values = next((names for name, names in PAGE_VALUES.items() if where.startswith(name)), frozenset())
        for name in _PAGE_VALUE.findall(text):
            if name not in values:
                yield f"{where}: %{name}% isn't among what the page fills in here: {_listed(values)}"


def _server_placeholders(where: str, text: str, facts: frozenset[str]) -> Iterator[str]:
    try:
        fields = list(Formatter().parse(text))
    except ValueError:
        yield f"{where}: a single {{ or }} must be doubled, as single ones stand around the name of a fact"
        return
    for _literal, name, form, conversion in fields:
        if name is not None and (name not in facts or form or conversion):
            written = f"{name}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
            yield f"{where}: {{{written}}} isn't among the facts that can be filled in: {_listed(facts)}"


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _leaves(raw: object, *where: str | int) -> Iterator[tuple[str, str]]:
    if isinstance(raw, str):
        yield dotted(where), raw
    elif isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from _leaves(value, *where, key)
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            yield from _leaves(value, *where, index)
