"""The words that participants read: a template's texts, with the study's own facts filled in."""

import hashlib
import tomllib
from typing import Any, TypeAlias

from crowd_imi.errors import StudyError
from crowd_imi.resources import resource
from crowd_imi.study import StudyFile

Words: TypeAlias = "str | list[Words] | dict[str, Words]"


def load_texts(study: StudyFile) -> dict[str, Any]:
    """Read ``texts/LANGUAGE.toml`` of the study's template.

    Raises:
        StudyError: the template has no such language, or its texts ask for a fact that there isn't.
    """
    pages = study.pages
    folder = resource("hit_templates", pages.template, "texts")
    path = folder / f"{pages.language}.toml"
    if not path.exists():
        there = ", ".join(sorted(text.stem for text in folder.glob("*.toml")))
        raise StudyError(f"pages.language = {pages.language!r}: {pages.template} has no such texts (there: {there})")
    facts = {
        "title": study.study.title,
        "contact": pages.contact,
        "approval": f" This study was reviewed: {pages.approval}." if pages.approval else "",
        "investigator": pages.investigator,
        "institution": pages.institution,
        "trials": study.tasks.trials + study.tasks.catch,
        "minutes": round(study.pay.estimated_minutes),
        "reward": study.pay.reward_money,
    }
    try:
        words = tomllib.loads(path.read_text(encoding="utf-8"))
        return _warned({key: _fill(value, facts) for key, value in words.items()}, pages.content_warning.strip())
    except (KeyError, ValueError, IndexError) as error:
        raise StudyError(f"{path}: {error} isn't among the facts that can be filled in: {', '.join(facts)}") from None


def _warned(words: dict[str, Any], warning: str) -> dict[str, Any]:
    """The content warning comes first in the consent, whose version changes with it: another warning is another form."""
    consent = words["consent"]
    heading = consent.pop("warning", "Please know beforehand")
    if warning:
        consent["sections"].insert(0, {"heading": heading, "text": warning})
        consent["version"] += f"-{hashlib.sha256(warning.encode()).hexdigest()[:8]}"
    return words


def _fill(value: Words, facts: dict[str, Any]) -> Words:
    if isinstance(value, str):
        return value.format_map(facts)
    if isinstance(value, list):
        return [_fill(part, facts) for part in value]
    if isinstance(value, dict):
        return {key: _fill(part, facts) for key, part in value.items()}
    return value
