"""What a review board gets to read is what participants read."""

from crowd_imi.pages.review_sheet import review_sheet
from crowd_imi.pages.texts import load_texts
from crowd_imi.publisher.checks import board_remarks
from crowd_imi.study import load_study
from tests.tiny import STUDY_TOML, write_study


def test_the_consent_stands_there_word_for_word(tmp_path):
    study = write_study(tmp_path)
    sheet = review_sheet(study)
    consent = load_texts(study)["consent"]
    assert all(section["text"] in sheet for section in consent["sections"])
    assert consent["version"] in sheet and "1.50 USD, which is 15.00 USD per hour" in sheet
    assert sheet.count("*fill in") == 5


def test_known_answers_and_the_approval_stand_in_the_consent(tmp_path):
    toml = STUDY_TOML.replace("[pages]\n", '[pages]\napproval = "Ethics board, 2026-117"\n')
    texts = str(load_texts(write_study(tmp_path / "a", toml))["consent"])
    assert "answers that are easy to see" in texts and "This study was reviewed: Ethics board, 2026-117." in texts
    assert "reviewed" not in str(load_texts(write_study(tmp_path / "b"))["consent"])


def test_what_a_board_misses_is_remarked_upon(tmp_path):
    assert [remark.partition(" ")[0] for remark in board_remarks(write_study(tmp_path))] == ["pages.approval"]
    toml = STUDY_TOML.replace("lab@example.org", "the lab").replace("[pages]\n", '[pages]\napproval = "board, 1"\n')
    write_study(tmp_path / "other", toml)
    assert [remark.partition(" ")[0] for remark in board_remarks(load_study(tmp_path / "other"))] == ["pages.contact"]
