import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowd_imi.errors import FactoryError
from crowd_imi.factory import exemplars
from crowd_imi.factory.exemplars import Looks, PassedOver, choose, panels
from crowd_imi.records import PUBLISHED_SHARES, query_share

DIFFICULTIES = (*PUBLISHED_SHARES, "p90", "p70", "p51")

UNLIKE = np.random.default_rng(5).integers(0, 2**64, 19_000, dtype=np.uint64)
"""Hashes of pictures of which no two look alike: 64 fair bits differ in 8 or fewer once in 10⁹ pairs."""


def looks(count, *, blocked=(), alike=(), bits=8):
    """Images of which some are vetoed, and of which some (sets of places) look the same."""
    hashes = UNLIKE[:count].copy()
    for same in alike:
        hashes[list(same)] = hashes[next(iter(same))]
    vetoed = np.zeros(count, dtype=np.bool_)
    vetoed[list(blocked)] = True
    return Looks(hashes, vetoed, bits)


def chosen(count, batches, difficulty="easy", **known):
    return choose(np.arange(count), looks(count, **known), batches, difficulty)


def made(count, batches, difficulty="easy", seed=0):
    return panels(chosen(count, batches, difficulty), batches, np.random.default_rng(seed))


def flaw(column, batches, difficulties, **known):
    count = len(column)
    return exemplars.flaw(column, np.argsort(column, kind="stable"), looks(count, **known), batches, difficulties)


def windows(count, batches, difficulty):
    """The ranks that queries come from when nothing is passed over."""
    known = Looks(np.random.default_rng(5).integers(0, 2**64, count, dtype=np.uint64), np.zeros(count, dtype=np.bool_), 8)
    queries = choose(np.arange(count), known, batches, difficulty).queries
    return sorted(queries.min), sorted(queries.max)


def test_easy_queries_come_from_right_behind_the_references():
    # 1,281,167 images, 20 batches. The publication begins the max window one rank lower, which leaves a gap of one.
    assert windows(1_281_167, 20, "easy") == (list(range(180, 200)), list(range(1_280_967, 1_280_987)))


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
    assert windows(1_281_167, 20, difficulty) == (list(lowest), list(highest))


def test_a_percentile_begins_at_the_whole_part_of_its_exact_share():
    # p71 of 100 images: 29 % of 100 is 29, which in floating point comes out just below.
    assert windows(100, 1, "p71") == ([29], [70])


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


@given(batches=st.integers(1, 20), extra=st.integers(0, 100), difficulty=st.sampled_from(DIFFICULTIES), seed=st.integers(0, 9))
def test_no_image_is_used_twice_and_all_ranks_exist(batches, extra, difficulty, seed):
    share = query_share(difficulty)
    fitting = 0 if share is None else max(np.ceil(9 * batches / share), np.ceil(batches / (0.5 - share)))
    count = max(20 * batches, int(fitting)) + extra
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
    lowest, highest = windows(2000, batches, difficulty)
    assert 9 * batches <= lowest[0] and lowest[-1] < highest[0] and highest[-1] < 2000 - 9 * batches


@given(data=st.data())
def test_no_panel_shows_what_was_vetoed_or_two_images_that_look_alike(data):
    count, batches = data.draw(st.integers(60, 200)), data.draw(st.integers(1, 3))
    difficulty = data.draw(st.sampled_from(("easy", "p85", "p70")))
    places = st.integers(0, count - 1)
    blocked = data.draw(st.sets(places, max_size=8))
    alike = data.draw(st.lists(st.sets(places, min_size=2, max_size=5), max_size=4))
    order = data.draw(st.permutations(range(count)))
    known = looks(count, blocked=blocked, alike=alike)
    try:
        choice = choose(np.array(order), known, batches, difficulty)
    except FactoryError as error:
        assert "the ranking runs out" in str(error)
        return
    shown = [*choice.references.min, *choice.references.max, *choice.queries.min, *choice.queries.max]
    assert len(shown) == 20 * batches == len(set(shown))
    images = [order[rank] for rank in shown]
    assert not blocked & set(images)
    assert len({int(known.hashes[image]) for image in images}) == len(images)
    # Whatever lies further out than a side's last reference is shown or was passed over, each for a reason that holds.
    passed = {each.rank: each for each in choice.passed_over}
    low, high = choice.references.min[-1], choice.references.max[-1]
    assert set(range(low)) | set(range(high, count)) <= set(shown) | set(passed)
    for rank, each in passed.items():
        if each.resembles is None:
            assert order[rank] in blocked
        else:
            assert each.resembles in shown and known.hashes[order[rank]] == known.hashes[order[each.resembles]]
    # Queries lie behind all references, and min below max.
    assert max(choice.references.min) < min(choice.queries.min) <= max(choice.queries.min) < min(choice.queries.max)
    assert max(choice.queries.max) < min(choice.references.max)


def test_the_next_rank_takes_the_place_of_an_image_that_is_passed_over():
    # 100 images, one batch: references are ranks 0–8 and 91–99, queries 9 and 90. Rank 2 is vetoed; 98 looks like 97, and 9
    # like 99, which was taken before it.
    choice = chosen(100, 1, blocked=[2], alike=[{97, 98}, {9, 99}])
    assert choice.references.min == (0, 1, 3, 4, 5, 6, 7, 8, 10)
    assert choice.references.max == (99, 98, 96, 95, 94, 93, 92, 91, 90)
    assert (choice.queries.min, choice.queries.max) == ((11,), (89,))
    assert set(choice.passed_over) == {PassedOver("min", 2, None), PassedOver("min", 9, 99), PassedOver("max", 97, 98)}


def test_queries_begin_at_their_share_or_behind_the_last_reference():
    # 15 % of 200 images are 30; 24 vetoes push the 9 references past that, to rank 32.
    assert chosen(200, 1, "very_hard").queries.min == (30,)
    assert chosen(200, 1, "very_hard", blocked=range(24)).queries.min == (33,)


def test_few_bits_are_near_and_one_more_is_not():
    hashes = UNLIKE[:60].copy()
    hashes[1], hashes[2] = hashes[0] ^ np.uint64(0xFF), hashes[0] ^ np.uint64(0x1FF)
    choice = choose(np.arange(60), Looks(hashes, np.zeros(60, dtype=np.bool_), 8), 1, "easy")
    assert [each.rank for each in choice.passed_over] == [1]


def test_a_ranking_that_runs_out_says_what_to_do():
    with pytest.raises(
        FactoryError, match=r"runs out on the min side: 40 images, of which 11 were passed over .*; add images, or"
    ):
        chosen(40, 1, alike=[set(range(12))])
    assert "at easy, the ranking runs out" in flaw(np.arange(40, dtype=np.float32), 1, ["easy"], alike=[set(range(12))])


def test_what_is_passed_over_leaves_the_other_panels_randomness_as_it_was():
    plain, skipped = chosen(1000, 4), chosen(1000, 4, blocked=[0])
    one, other = (panels(choice, 4, np.random.default_rng(1)) for choice in (plain, skipped))
    # Every rank on the min side moves one further in; the max side stays.
    assert [panel.references.max for panel in one] == [panel.references.max for panel in other]
    assert [tuple(rank + 1 for rank in panel.references.min) for panel in one] == [panel.references.min for panel in other]


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
