import numpy as np
import pytest
from PIL import Image

from crowd_imi.design.pictures import pixels
from crowd_imi.design.practice import load_practice
from crowd_imi.errors import DesignError
from crowd_imi.resources import resource


def test_practice_trials_come_in_the_listed_order_with_nine_references_a_side(practice):
    trials = load_practice(practice)
    assert [trial.obvious for trial in trials] == [True, True, True, True, False]
    assert [trial.queries.max.path for trial in trials] == [practice / str(n) / "query_max.png" for n in range(1, 6)]
    assert all([p.path.name for p in trial.references.min] == [f"{n}.png" for n in range(9)] for trial in trials)


def test_the_committed_practice_trials_are_five_and_show_no_image_twice():
    trials = load_practice(resource("stimuli", "practice"))
    assert [trial.obvious for trial in trials] == [True, True, True, True, False]
    shown = [p for t in trials for p in (*t.references.min, *t.references.max, t.queries.min, t.queries.max)]
    assert len({picture.digest for picture in shown}) == 5 * 20


def test_practice_images_are_resampled_to_the_studys_size(practice):
    assert pixels(load_practice(practice)[0].queries.min, 64).shape == (64, 64, 3)


def test_an_image_of_the_right_size_comes_through_unchanged(practice):
    picture = load_practice(practice)[0].queries.min
    with Image.open(picture.path) as image:
        assert (pixels(picture, 40) == np.asarray(image)).all()


def test_a_missing_image_is_named(practice):
    (practice / "3" / "max" / "4.png").unlink()
    with pytest.raises(DesignError, match=r"3/max/4.png: this practice image is missing"):
        load_practice(practice)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "lists no"),
        ("trials = 3", "lists no"),
        ("[[trials", "lists no"),
        ('[[trials]]\nfolder = "1"\nmin = "a"\nmax = "b"', "obvious: Field required"),
    ],
)
def test_a_damaged_list_is_named(practice, content, says):
    (practice / "practice.toml").write_text(content)
    with pytest.raises(DesignError, match=rf"practice.toml: .*{says}"):
        load_practice(practice)
    (practice / "practice.toml").unlink()
    with pytest.raises(DesignError, match=r"practice\.toml: missing"):
        load_practice(practice)
