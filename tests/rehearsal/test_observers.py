"""Perceptual observers: what they see and how they decide."""

import io

import numpy as np
import pytest
from PIL import Image

from crowd_imi.plan import Grid
from crowd_imi.rehearsal.eyes import RETINA, Sight, decode, see
from crowd_imi.rehearsal.observers import Observer, Places, similarity
from crowd_imi.resources import resource

PLACES = Places(left=tuple(range(9)), right=tuple(range(9, 18)), upper=18, lower=19)


def pictures(colours: list[tuple[int, int, int]]) -> np.ndarray:
    """Noise around one colour per tile."""
    rng = np.random.default_rng(3)
    noise = rng.integers(-40, 41, (len(colours), RETINA, RETINA, 3))
    return np.clip(np.array(colours)[:, None, None, :] + noise, 0, 255).astype(np.uint8)


def practice_trial(folder: str) -> np.ndarray:
    """Tiles of a practice trial: left, right, the right query, the wrong one."""
    root = resource("stimuli", "practice", folder)
    files = [root / side / f"{index}.png" for side in ("min", "max") for index in range(9)]
    files += [root / "query_max.png", root / "query_min.png"]
    tiles = []
    for file in files:
        with Image.open(file) as image:
            tiles.append(np.asarray(image.convert("RGB").resize((RETINA, RETINA), Image.Resampling.BOX)))
    return np.stack(tiles)


def test_a_red_query_goes_with_red_examples():
    features = see(pictures([(60, 60, 200)] * 9 + [(200, 60, 60)] * 9 + [(200, 60, 60), (60, 60, 200)]))
    observer = Observer.draw(np.random.default_rng(1))
    assert observer.difference(features, PLACES) > 0.2
    swapped = Places(PLACES.left, PLACES.right, upper=19, lower=18)
    assert observer.difference(features, swapped) == pytest.approx(-observer.difference(features, PLACES))


def test_equal_queries_give_no_difference():
    tiles = pictures([(60, 60, 200)] * 9 + [(200, 60, 60)] * 9 + [(130, 60, 130)] * 2)
    tiles[19] = tiles[18]
    assert Observer.draw(np.random.default_rng(1)).difference(see(tiles), PLACES) == 0


@pytest.mark.parametrize("folder", ["1", "2", "3", "4", "5"])
def test_practice_is_solved_nearly_always(folder):
    features = see(practice_trial(folder))
    rng = np.random.default_rng(11)
    rows = [Observer.draw(rng).decide(features, PLACES, rng).row for _ in range(200)]
    # Lapses alone cost at most 1 %: 2 % of the trials, guessed right half of the time.
    assert rows.count("upper") >= 190


def test_people_differ_in_how_they_look():
    rng = np.random.default_rng(5)
    people = [Observer.draw(rng) for _ in range(20)]
    assert len({person.noise for person in people}) == 20
    for person in people:
        assert sum(person.weights.values()) == pytest.approx(1)
        assert min(person.weights.values()) > 0


def test_similarity_lies_between_nought_and_one():
    features = np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32)
    for value in similarity(features, 18, PLACES.left, PLACES.right):
        assert 0 < value <= 1


def test_a_large_difference_is_answered_with_confidence():
    features = see(pictures([(60, 60, 200)] * 9 + [(200, 60, 60)] * 9 + [(200, 60, 60), (60, 60, 200)]))
    rng = np.random.default_rng(2)
    sure = Observer(weights={"colour": 1.0}, noise=0.01, lapse=0.0, sure=(0.1, 0.3))
    assert sure.decide(features, PLACES, rng).confidence == 3


def test_sprites_are_cut_into_their_tiles():
    grid = Grid(columns=5, rows=4, tile=RETINA, gutter=8)
    tiles = pictures([(12 * index, 0, 255 - 12 * index) for index in range(20)])
    sprite = np.zeros((8 + 4 * 72, 8 + 5 * 72, 3), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = 8 + index // 5 * 72, 8 + index % 5 * 72
        sprite[top : top + RETINA, left : left + RETINA] = tile
    buffer = io.BytesIO()
    Image.fromarray(sprite).save(buffer, "PNG")
    assert np.array_equal(decode(buffer.getvalue(), grid), tiles)


def test_the_same_bytes_are_looked_at_once():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(buffer, "PNG")
    grid = Grid(columns=1, rows=1, tile=32, gutter=4)
    sight = Sight(size=1)
    sight.ahead(buffer.getvalue(), grid)
    assert sight(buffer.getvalue(), grid) is sight(buffer.getvalue(), grid)
    sight.close()
