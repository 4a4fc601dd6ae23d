import tomllib

import pytest
from PIL import Image

from crowd_imi.rehearsal.demo.practice import FREE_LICENCES, PAIRS, write_practice
from crowd_imi.resources import resource


@pytest.fixture(scope="module")
def listed():
    with resource("stimuli", "practice", "practice.toml").open("rb") as file:
        return tomllib.load(file)


def paths(folder):
    references = [folder / side / f"{place}.png" for side in ("min", "max") for place in range(9)]
    return [*references, folder / "query_min.png", folder / "query_max.png"]


def test_four_trials_are_obvious_and_one_is_less_so(listed):
    assert sorted(trial["obvious"] for trial in listed["trials"]) == [False, True, True, True, True]


def test_no_two_images_of_a_trial_are_equal_and_all_have_one_size(listed):
    for trial in listed["trials"]:
        images = []
        for path in paths(resource("stimuli", "practice", trial["folder"])):
            with Image.open(path) as image:
                assert image.size == (80, 80)
                images.append(image.convert("RGB").tobytes())
        assert len(set(images)) == 20


def test_practice_is_small_to_load(listed):
    total = sum(path.stat().st_size for path in resource("stimuli", "practice").rglob("*.png"))
    assert total <= 1_200_000


def test_only_photographs_that_may_be_passed_on_are_used_and_credited(listed):
    used = {name for pair in PAIRS for name in (pair.min.photograph, pair.max.photograph)}
    assert {credit["name"] for credit in listed["credits"]} == used
    assert all(credit["licence"] in FREE_LICENCES for credit in listed["credits"])


def test_the_documented_command_makes_the_committed_pictures(listed, tmp_path):
    write_practice(tmp_path)
    for trial in listed["trials"]:
        committed = resource("stimuli", "practice", trial["folder"])
        for path in paths(tmp_path / trial["folder"]):
            with Image.open(path) as made, Image.open(committed / path.relative_to(tmp_path / trial["folder"])) as there:
                assert made.tobytes() == there.tobytes()
