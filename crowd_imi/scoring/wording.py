"""How numbers are written for people: ``.84 [.81, .87]``, ``very hard``, ``279.50 USD``."""

from collections.abc import Sequence
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
    return unbroken(f"{100 * value:.0f} %")


def model_name(model: str) -> str:
    """A group's name for people."""
    return "null units" if model == NULL else model


def setting(condition: Condition, difficulty: Difficulty) -> str:
    """``natural references, very hard``."""
    named = f"percentile {difficulty[1:]}" if difficulty.startswith("p") else difficulty.replace("_", " ")
    return f"{condition} references, {named}"


def count(number: int, thing: str, things: str = "") -> str:
    """``1 unit``, ``24 units``, ``2,520 answers``."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def layer_order(by_name: Sequence[str]) -> str:
    """In which order layers stand: the network's own, but for the models named."""
    if not by_name:
        return "Layers stand in the order of the network's modules."
    return f"Layers of {', '.join(by_name)} stand in the order of their names, as that of their modules isn't known."


def p_value(p: float | None) -> str:
    """``p < .001``, ``p = .032``, ``p > .999``, kept on one line; a dash when there is none."""
    if p is None:
        return NOTHING
    said = "p < .001" if p < 0.001 else "p > .999" if p >= 0.9995 else f"p = {p:.3f}".replace("0.", ".", 1)
    return unbroken(said)


def unbroken(text: str) -> str:
    """A figure whose parts stay on one line: ``rho = −.04``, ``75 %``."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def signed(value: float | None) -> str:
    """``+.05``, ``−.12``, ``.00``: a difference or a correlation; a dash when there is none."""
    if value is None or isnan(value):
        return NOTHING
    size = f"{abs(value):.2f}"
    sign = "" if float(size) == 0 else "−" if value < 0 else "+"
    return sign + size.removeprefix("0")


def signed_interval(low: float | None, high: float | None) -> str:
    """``[−.02, +.11]``; a dash when there is none."""
    return NOTHING if low is None or high is None else f"[{signed(low)}, {signed(high)}]"
