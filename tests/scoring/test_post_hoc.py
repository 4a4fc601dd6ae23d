import json

import pandas as pd
import pytest

from crowd_imi.scoring.post_hoc import post_hoc
from tests import tiny


def visits(*limits: str) -> pd.DataFrame:
    return pd.DataFrame({"checks": [{"catch_trials": {"limit": limit}} for limit in limits]})


@pytest.fixture
def study(tmp_path):
    return tiny.write_study(tmp_path)


def published(study, **changed) -> None:
    exclusion = {**study.file.exclusion.model_dump(), **changed}
    (study.folder / "study.lock").write_text(json.dumps({"exclusion": exclusion}))


def test_without_a_lock_nothing_was_fixed(study):
    assert post_hoc(study, visits("at least 80%")) is None


def test_with_the_published_criteria_nothing_is_post_hoc(study):
    published(study)
    assert post_hoc(study, visits("at least 80%", "at least 80%")) == ()


def test_a_changed_criterion_and_two_yardsticks_are_named(study):
    published(study, min_catch_ratio=0.6)
    first, second = post_hoc(study, visits("at least 60%", "at least 80%"))
    assert first == "exclusion.min_catch_ratio was 0.6 when the study was published and is 0.8 now."
    assert second == "Submissions were judged by different limits of catch trials: at least 60%; at least 80%."


def test_a_damaged_lock_is_said(study):
    (study.folder / "study.lock").write_text("{")
    assert "can't be read" in post_hoc(study, visits())[0]
