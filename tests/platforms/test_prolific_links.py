"""What is wrong with a link that Prolific should have signed: nothing there, no signature at all, or not this link's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from crowd_imi.errors import BadLink, ForgedLink, MalformedLink
from crowd_imi.platforms.base import Platform
from crowd_imi.platforms.standins.prolific.desk import Account
from tests.contract.prolific import TOKEN, ProlificRig, served
from tests.contract.rigs import request


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ProlificRig]:
    with served(tmp_path / "standin", Account(tokens=(TOKEN,), settle_seconds=0)) as url:
        rig = ProlificRig(url)
        yield rig
        rig.close()


def kind_of_refusal(platform: Platform, query: dict[str, str]) -> type[BaseException]:
    with pytest.raises(BadLink) as refusal:
        platform.arrive(query)
    return refusal.type


def test_a_link_without_a_signature_a_cut_one_and_a_forged_one_are_told_apart(rig: ProlificRig):
    platform = rig.again(signed_arrivals=True)
    posting = platform.post(request())
    anna, ben = rig.take(posting, "anna"), rig.take(posting, "ben")
    head, claims, signature = anna["prolific_token"].split(".")

    assert kind_of_refusal(platform, {**anna, "prolific_token": ""}) is BadLink
    for cut in ("no.token", head, f"{head}.{claims}", f"{head[:9]}.{claims}.{signature}"):
        assert kind_of_refusal(platform, {**anna, "prolific_token": cut}) is MalformedLink, cut
    others = ben["prolific_token"].rpartition(".")[2]
    for forged in (f"{head}.{claims}.{others}", ben["prolific_token"]):
        assert kind_of_refusal(platform, {**anna, "prolific_token": forged}) is ForgedLink, forged


def test_a_signature_that_is_too_old_isnt_called_a_cut_link(rig: ProlificRig):
    platform = rig.again(signed_arrivals=True)
    posting = platform.post(request())
    rig.standin("PUT", "clock", {"now": 1_750_000_000_000})  # in June 2025
    assert kind_of_refusal(platform, rig.take(posting, "anna")) is ForgedLink


def test_ids_that_are_missing_and_ids_that_prolific_doesnt_write_are_told_apart(rig: ProlificRig):
    query = rig.take(rig.platform.post(request()), "anna")
    for name in ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID"):
        assert kind_of_refusal(rig.platform, {**query, name: ""}) is BadLink
        for malformed in ("{{%PROLIFIC_PID%}}", "a/../b", "0" * 65):
            assert kind_of_refusal(rig.platform, {**query, name: malformed}) is MalformedLink
