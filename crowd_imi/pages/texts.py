"""The words that participants read: a template's texts, with the study's own facts filled in."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, TypeAlias

from crowd_imi.errors import StudyError
from crowd_imi.hit_templates import TEXTS, languages, template_file
from crowd_imi.pages.wording import text_problems
from crowd_imi.study import PagesSection, Study, StudyFile

Words: TypeAlias = "str | list[Words] | dict[str, Words]"


def load_texts(study: Study) -> dict[str, Any]:
    """Read ``texts/LANGUAGE.toml`` of the study's template: its own file, or the one that ships.

    Raises:
        StudyError: the template has no such language; or one line for every text that is missing or can't be filled.
    """
    language = study.file.pages.language
    path = template_file(study, TEXTS, f"{language}.toml")
    if path is None:
        there = ", ".join(languages(study))
        raise StudyError(f"pages.language = {language!r}: {study.file.pages.template} has no such texts (there: {there})")
    raw, facts = _read(path), _facts(study.file)
    problems = list(text_problems(raw, frozenset(facts)))
    if problems:
        raise StudyError(*(f"{path}: {problem}" for problem in problems))
    return _completed({key: _fill(value, facts) for key, value in raw.items()}, study.file.pages)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: this is no valid TOML in UTF-8: {error}; mend that place first") from None


def _facts(file: StudyFile) -> dict[str, Any]:
    pages = file.pages
    return {
        "title": file.study.title,
        "contact": pages.contact,
        "approval": pages.approval,
        "investigator": pages.investigator,
        "institution": pages.institution,
        "trials": file.tasks.trials + file.tasks.catch,
        "minutes": round(file.pay.estimated_minutes),
        "reward": file.pay.reward_money,
    }


def _completed(words: dict[str, Any], pages: PagesSection) -> dict[str, Any]:
    """The consent with what only some studies say, and with a version that no other words have."""
    consent = words["consent"]
    heading, reviewed = consent.pop("warning"), consent.pop("reviewed")
    warning = pages.content_warning.strip()
    if warning:
        consent["sections"].insert(0, {"heading": heading, "text": warning})
    if pages.approval:
        consent["sections"][-1]["text"] += f" {reviewed}"
    content = json.dumps(consent, sort_keys=True, ensure_ascii=False)
    consent["version"] += f"-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    return words


def _fill(value: Words, facts: dict[str, Any]) -> Words:
    if isinstance(value, str):
        return value.format_map(facts)
    if isinstance(value, list):
        return [_fill(part, facts) for part in value]
    if isinstance(value, dict):
        return {key: _fill(part, facts) for key, part in value.items()}
    return value
