"""A rehearsal's own credentials stand in the place of the user's, and nothing of the user's goes to a stand-in."""

import os
from pathlib import Path

import pytest

from crowd_imi.platforms.opening import Choice, open_platform
from crowd_imi.rehearsal.standins import credentials
from tests.tiny import STUDY_TOML, write_study

OWN = {
    "AWS_ACCESS_KEY_ID": "AKIAMYOWN",
    "AWS_SECRET_ACCESS_KEY": "my own",
    "AWS_SESSION_TOKEN": "my session",
    "AWS_PROFILE": "my-lab",
}


def test_the_users_credentials_are_away_during_a_rehearsal_and_back_afterwards(monkeypatch: pytest.MonkeyPatch):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    with credentials("mturk"):
        assert not set(OWN.values()) & set(os.environ.values())
    assert {name: os.environ.get(name) for name in OWN} == OWN


def test_a_rehearsal_asks_for_no_profile(tmp_path: Path):
    study = write_study(tmp_path / "study", STUDY_TOML + '\n[mturk]\nprofile = "my-lab"\n')
    with credentials("mturk"):
        open_platform(study, study.rehearsal("first"), Choice(name="mturk", endpoint_url="http://127.0.0.1:9"))
