"""What a reader must know of scores, a sentence each: for the report and for ``score``."""

from collections.abc import Iterator

import pandas as pd

from crowd_imi.scoring import wording
from crowd_imi.scoring.mis import Scores

_NAMED = 5


def notes(scores: Scores) -> tuple[str, ...]:
    """Figures that look more certain than they are, each with its count; nothing where there is none."""
    return tuple(_notes(scores))


def _notes(scores: Scores) -> Iterator[str]:
    single = scores.units[scores.units["responses"] == 1]
    if len(single):
        number = wording.count(len(single), "unit")
        yield f"{number} with a single response, hence very wide intervals: {_named(single)}."
    for group in scores.groups:
        where = f"{wording.model_name(group.model)}, {wording.setting(group.condition, group.difficulty)}"
        if group.mean is not None and group.mean in (0.0, 1.0):
            how = "right" if group.mean == 1 else "wrong"
            number = f"{wording.count(group.responses, 'answer')}, all {how}"
            yield f"{where}: {number}, so that the bootstrap sees no spread; its interval without width isn't certainty."
        if group.units == 1:
            yield f"{where}: a single unit has responses, hence no interval over units."


def _named(units: pd.DataFrame) -> str:
    names = (units["arm"] + " " + units["unit"]).head(_NAMED)
    return ", ".join(names) + (" …" if len(units) > _NAMED else "")
