"""Whatever a file holds, each mistake becomes one line with its key."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from crowd_imi.mistakes import mistakes, written
from crowd_imi.study import StudyFile
from tests.tiny import STUDY_TOML

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=6,
)
whole = tomllib.loads(STUDY_TOML)
places = st.sampled_from([(section, key) for section, table in whole.items() if isinstance(table, dict) for key in table])


@given(raw=st.dictionaries(st.sampled_from([*whole, "other"]), anything))
def test_any_content_gives_one_line_per_mistake(raw):
    found = list(mistakes(StudyFile, raw))
    assert found, "no such content is a whole study"
    assert all("right would be" in line or "isn't a known key" in line for line in found)


@given(place=places, value=anything)
def test_a_wrong_value_anywhere_is_reported_under_its_own_key(place, value):
    section, key = place
    raw = {**whole, section: {**whole[section], key: value}}
    assert all(line.startswith(f"{section}.{key}") for line in mistakes(StudyFile, raw))


def test_a_right_file_has_no_mistakes():
    assert list(mistakes(StudyFile, whole)) == []


def test_values_are_shown_as_toml_writes_them_and_cut_when_long():
    assert written(True) == "true"
    assert written(["a", 1]) == '["a", 1]'
    assert written({"a": 1}) == "{…}"
    assert len(written("x" * 500)) < 62


def test_a_list_whose_every_item_is_wrong_is_not_called_too_short_as_well():
    arm = {"model": "net", "condition": "natura", "units": 3}
    found = list(mistakes(StudyFile, {**whole, "arms": [arm]}))
    assert [line.split(" ")[0] for line in found] == ["arms[0].condition"]
