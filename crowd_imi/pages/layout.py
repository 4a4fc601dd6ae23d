"""What stands where in one visit: which query is the upper one, and in which order practice trials come.

It follows from the visit's seed alone, so nothing of it is stored, and the browser learns no more than what it draws.
"""

from typing import Literal

from crowd_imi.records import Side
from crowd_imi.seeds import generator

Row = Literal["upper", "lower"]


def upper_side(layout_seed: int, *where: str | int) -> Side:
    """Which query stands above: a coin toss for each trial of each visit."""
    return "min" if generator(layout_seed, *where).integers(2) == 0 else "max"


def main_upper(layout_seed: int, position: int) -> Side:
    """Which query of a task's trial stands above."""
    return upper_side(layout_seed, "main", position)


def practice_upper(layout_seed: int, block: int, position: int) -> Side:
    """Which query stands above in a practice block's trial."""
    return upper_side(layout_seed, "practice", block, "upper", position)


def practice_order(layout_seed: int, block: int, trials: int) -> tuple[int, ...]:
    """Indices of the practice trials in the order in which a block shows them."""
    return tuple(int(index) for index in generator(layout_seed, "practice", block).permutation(trials))


def chosen_side(upper: Side, row: Row) -> Side:
    """Which query was chosen, by what it is."""
    other: Side = "max" if upper == "min" else "min"
    return upper if row == "upper" else other
