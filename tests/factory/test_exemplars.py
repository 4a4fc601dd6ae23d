import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowd_imi.factory.exemplars import flaw, panels, query_windows, ranked
from crowd_imi.records import DIFFICULTY_PERCENTILE

DIFFICULTIES = tuple(DIFFICULTY_PERCENTILE)


def made(count, batches, difficulty="easy", seed=0):
    return panels(count, batches, difficulty, np.random.default_rng(seed))


def test_easy_queries_come_from_right_behind_the_references():
    # 1,281,167 images, 20 batches. The publication begins the max window one rank lower, which leaves a gap of one.
    easy = query_windows(1_281_167, 20, "easy")
    assert easy.min == range(180, 200)
    assert easy.max == range(1_280_967, 1_280_987)


@pytest.mark.parametrize(
    ("difficulty", "lowest", "highest"),
    [
        # 0.01 · 1,281,167 = 12,811.67, of which the whole part counts; 1,281,167 − 12,811 − 20 = 1,268,336.
        ("medium", range(12_811, 12_831), range(1_268_336, 1_268_356)),
        ("hard", range(64_058, 64_078), range(1_217_089, 1_217_109)),
        ("very_hard", range(192_175, 192_195), range(1_088_972, 1_088_992)),
    ],
)
def test_the_harder_windows_are_the_published_ones(difficulty, lowest, highest):
    windows = query_windows(1_281_167, 20, difficulty)
    assert (windows.min, windows.max) == (lowest, highest)


def test_every_batch_takes_one_image_of_every_bin_the_outermost_first():
    for batch in made(1000, 20):
        assert batch.references.min[0] < 20
        assert batch.references.max[0] >= 980
        assert sorted(rank // 20 for rank in batch.references.min) == list(range(9))
        assert sorted((999 - rank) // 20 for rank in batch.references.max) == list(range(9))


def test_the_other_eight_are_in_random_order():
    orders = {tuple(rank // 20 for rank in batch.references.min[1:]) for batch in made(1000, 20)}
    assert len(orders) > 10


def test_references_are_the_same_at_every_difficulty():
    easy, hard = made(4000, 5, "easy"), made(4000, 5, "very_hard")
    assert [batch.references for batch in easy] == [batch.references for batch in hard]
    assert [batch.queries for batch in easy] != [batch.queries for batch in hard]


@given(batches=st.integers(1, 20), extra=st.integers(0, 500), difficulty=st.sampled_from(DIFFICULTIES), seed=st.integers(0, 9))
def test_no_image_is_used_twice_and_all_ranks_exist(batches, extra, difficulty, seed):
    share = DIFFICULTY_PERCENTILE[difficulty]
    count = max(20 * batches, 0 if share is None else int(np.ceil(9 * batches / share))) + extra
    used = [
        rank
        for batch in made(count, batches, difficulty, seed)
        for side in ("min", "max")
        for rank in (*batch.references.side(side), batch.queries.side(side))
    ]
    assert len(used) == len(set(used)) == 20 * batches
    assert min(used) == 0 and max(used) == count - 1


@given(batches=st.integers(1, 20), difficulty=st.sampled_from(DIFFICULTIES))
def test_min_queries_rank_below_max_queries_and_behind_the_references(batches, difficulty):
    windows = query_windows(2000, batches, difficulty)
    if windows.min[0] >= 9 * batches:
        assert windows.min[-1] < windows.max[0]
        assert windows.max[-1] < 2000 - 9 * batches


def test_ties_are_ordered_by_image_key_not_by_place():
    column = np.array([1, 0, 0, 0], dtype=np.float32)
    assert ranked(column, ["d", "c", "a", "b"]).tolist() == [2, 3, 1, 0]


def test_a_unit_that_never_varies_has_a_flaw():
    assert flaw(np.full(100, 2.0, dtype=np.float32), 2, ["easy"]) == "its activation never varies"


def test_a_unit_whose_queries_tie_has_a_flaw():
    # Above zero on 10 images only; the 18 references already run into the tie.
    column = np.sort(np.r_[np.zeros(190), np.arange(1, 11)]).astype(np.float32)
    assert "the same on min and max queries at easy" in flaw(column, 2, ["easy"])


def test_a_flaw_may_show_at_the_harder_setting_alone():
    # Above zero on 25 of 200: easy max queries (ranks 180–181) drive it, those at 15 % (168–169) don't.
    column = np.r_[np.zeros(175), np.arange(1, 26)].astype(np.float32)
    assert flaw(column, 2, ["easy"]) is None
    assert "at very_hard" in flaw(column, 2, ["easy", "very_hard"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_activation_that_is_no_number_is_a_flaw(bad):
    column = np.r_[np.arange(99), bad].astype(np.float32)
    assert "isn't a finite number" in flaw(column, 2, ["easy"])
