"""Randomness: the same on every machine, and apart for every purpose."""

from hypothesis import given
from hypothesis import strategies as st

from crowd_imi.seeds import generator, seed_for


def test_a_seed_is_the_same_on_every_machine():
    # The first 8 bytes of SHA-256("7/tasks/arm") as a number, without its last bit.
    assert seed_for(7, "tasks", "arm") == 3472394944017155907


@given(seed=st.integers(0, 2**64), purpose=st.text(max_size=20))
def test_a_seed_fits_into_63_bits(seed, purpose):
    assert 0 <= seed_for(seed, purpose) < 2**63


def test_purposes_do_not_share_a_stream():
    drawn = {tuple(generator(7, *purpose).integers(0, 2**32, 4)) for purpose in [("a",), ("b",), ("a", 1), ("a", 2)]}
    assert len(drawn) == 4


def test_drawing_more_for_one_purpose_leaves_the_others_as_they_were():
    first = generator(7, "a")
    first.integers(0, 100, 1000)
    assert generator(7, "b").integers(0, 2**32) == generator(7, "b").integers(0, 2**32)
