"""Texts: every one that is missing or can't be filled is named, and another language is another file."""

import re

import pytest

from crowd_imi.errors import StudyError
from crowd_imi.hit_templates import own_folder
from crowd_imi.pages.texts import load_texts
from crowd_imi.readiness import look_at
from crowd_imi.resources import resource
from tests.pages.visitor import Visitor
from tests.tiny import STUDY_TOML, write_study

ENGLISH = resource("hit_templates", "two_alternative", "texts", "en.toml").read_text(encoding="utf-8")
ESPERANTO = STUDY_TOML.replace("[pages]", '[pages]\nlanguage = "eo"')
KEPT = re.compile(r"^(id|condition|picture|version|language) = ")


def translated() -> str:
    """The English file with a mark in front of every text, as if it were another language."""
    lines = []
    for line in ENGLISH.replace('language = "en"', 'language = "eo"').splitlines():
        plain = KEPT.match(line) or line.startswith("#")
        lines.append(line if plain else re.sub(r'"((?:[^"\\]|\\.)+)"', r'"¤\1"', line))
    return "\n".join(lines)


def write_texts(study, text, language="en"):
    path = own_folder(study) / "texts" / f"{language}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_missing_or_unknown_text_and_wrong_placeholder_is_named_at_once(tmp_path):
    study = write_study(tmp_path)
    broken = (
        ENGLISH.replace('reload = "Reload', 'relaod = "Reload')
        .replace("(a “unit”)", "(a “{unit}”)")
        .replace("Question %position%", "Question %number%")
        .replace("[refusals.ended]", "[refusals.over]")
    )
    path = write_texts(study, broken)
    with pytest.raises(StudyError) as error:
        load_texts(study)
    found = [problem.removeprefix(f"{path}: ") for problem in error.value.problems]
    assert [problem.partition(" ")[0].rstrip(":") for problem in found] == [
        "buttons.reload",
        "buttons.relaod",
        "refusals.ended",
        "refusals.over",
        "trial.main",
        "done.debrief[0]",
    ]
    assert set(found) <= {problem.removeprefix(f"{path}: ") for problem in look_at(study).problems}  # `check` says so too


@pytest.mark.parametrize(
    ("text", "says"),
    [("a { b", "a single { or } must be doubled"), ("{title.__class__}", "{title.__class__} isn't among the facts")],
)
def test_nothing_but_a_facts_name_may_stand_in_braces(tmp_path, text, says):
    study = write_study(tmp_path)
    write_texts(study, ENGLISH.replace('title = "{title}"', f'title = "{text}"'))
    with pytest.raises(StudyError, match="page.title: " + re.escape(says)):
        load_texts(study)


def test_a_file_that_is_no_toml_is_named(tmp_path):
    study = write_study(tmp_path)
    path = write_texts(study, "language =")
    with pytest.raises(StudyError, match=re.escape(f"{path}: this is no valid TOML")):
        load_texts(study)


def test_another_wording_of_the_consent_is_another_version(tmp_path):
    study = write_study(tmp_path)
    before = load_texts(study)["consent"]["version"]
    write_texts(study, ENGLISH.replace("You must be 18 or older", "You must be 21 or older"))
    assert load_texts(study)["consent"]["version"] != before
    write_texts(study, ENGLISH.replace('send = "Finish"', 'send = "Send"'))
    assert load_texts(study)["consent"]["version"] == before


def test_a_second_language_is_a_second_file(make_run, tmp_path):
    study = write_study(tmp_path / "study", ESPERANTO)
    with pytest.raises(StudyError, match=r"no such texts \(there: en\)"):
        load_texts(study)
    write_texts(study, translated(), "eo")
    run = make_run(ESPERANTO)
    visitor = run.visitor("ann")
    texts = visitor.view()["texts"]
    assert texts["language"] == "eo" and texts["trial"]["question"].startswith("¤Which")
    client = run.app.test_client()
    for reply in (client.get("/visit"), Visitor(run.app).client.get("/arrive")):
        assert '<html lang="eo">' in reply.text
        words = re.findall(r"<(?:h1|p|title)[^>]*>\s*(.*?)\s*</", reply.text)
        assert words and all(word.startswith("¤") for word in words), words
