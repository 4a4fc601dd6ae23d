"""How numbers are written for people: ``.84 [.81, .87]``, ``very hard``, ``279.50 USD``."""

from math import isnan

from crowd_imi.records import Condition, Difficulty
from crowd_imi.study import NULL

NOTHING = "–"


def share(value: float | None) -> str:
    """A proportion without the leading zero, as papers print it; a dash when there is none."""
    if value is None or isnan(value):
        return NOTHING
    return "1.00" if round(value, 2) >= 1 else f"{value:.2f}"[1:]


def interval(low: float | None, high: float | None) -> str:
    """``[.81, .87]``; a dash when there is none."""
    if low is None or high is None or isnan(low):
        return NOTHING
    return f"[{share(low)}, {share(high)}]"


def percent(value: float) -> str:
    """``94 %``."""
    return f"{100 * value:.0f} %"


def model_name(model: str) -> str:
    """A group's name for people."""
    return "null units" if model == NULL else model


def setting(condition: Condition, difficulty: Difficulty) -> str:
    """``natural references, very hard``."""
    return f"{condition} references, {difficulty.replace('_', ' ')}"


def count(number: int, thing: str, things: str = "") -> str:
    """``1 unit``, ``24 units``, ``2,520 answers``."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
