"""What cheaters learn, and how their bets are judged."""

import numpy as np
import pytest

from crowd_imi.rehearsal.cheater import LEARNING, Bettor, Pool, at_least
from crowd_imi.rehearsal.crowd import roles
from crowd_imi.rehearsal.records import TROUBLEMAKERS, Cast


def test_chance_of_heads_is_exact():
    # 4 or 5 heads of 5: (5 + 1) / 32.
    assert at_least(4, 5) == pytest.approx(6 / 32)
    assert at_least(0, 7) == 1


def test_a_telling_clue_is_found_among_others():
    rng = np.random.default_rng(4)
    bettor = Bettor()
    for _ in range(120):
        upper = bool(rng.random() < 0.5)
        clues = rng.normal(size=8)
        clues[5] = 1.0 if upper else -1.0
        bettor.learn(clues, bettor.bet(clues), upper)
    assert sum(bettor.bets[60:]) >= 57


def test_noise_is_bet_on_in_vain():
    rng = np.random.default_rng(4)
    pool = Pool()
    for _ in range(300):
        clues = {"size": rng.normal(size=2), "token": rng.normal(size=12)}
        pool.learn(clues, pool.bets(clues), bool(rng.random() < 0.5))
    result = pool.result()
    assert result is not None and result.p_value > 0.001
    assert {channel.bets for channel in result.channels} == {300 - LEARNING}


def test_too_few_bets_say_nothing():
    assert Pool().result() is None


def test_everybody_of_the_cast_comes_early():
    cast = Cast(cheaters=2)
    order = roles(cast, tasks=60, seed=3)
    first = [next(order) for _ in range(40)]
    assert sorted(who for who in first if who != "observer") == sorted([*TROUBLEMAKERS, "cheater", "cheater"])
    assert next(order) == "observer"


def test_the_same_seed_gives_the_same_order():
    first, second = (roles(Cast(), 60, seed=9) for _ in range(2))
    assert [next(first) for _ in range(80)] == [next(second) for _ in range(80)]
