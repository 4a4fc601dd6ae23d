"""The practice trials: a folder per trial below stimuli/practice, the same for everybody."""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crowd_imi.design.pictures import Picture
from crowd_imi.errors import DesignError
from crowd_imi.records import REFERENCES, Record, Side, SidePair


class PracticeEntry(Record):
    """``[[trials]]`` of practice.toml."""

    folder: str
    obvious: bool
    min: str
    """What the min images show."""
    max: str


@dataclass(frozen=True, slots=True)
class PracticePictures:
    """One practice trial's images."""

    obvious: bool
    references: SidePair[tuple[Picture, ...]]
    queries: SidePair[Picture]


def load_practice(folder: Path) -> tuple[PracticePictures, ...]:
    """The trials that ``practice.toml`` lists, in its order.

    Each trial's folder holds ``min/0-8.png`` and ``max/0-8.png`` (references), ``query_min.png`` and ``query_max.png``.

    Raises:
        DesignError: the list or an image is missing or can't be read.
    """
    listing = folder / "practice.toml"
    try:
        raw: dict[str, Any] = tomllib.loads(listing.read_text(encoding="utf-8"))
        entries = [PracticeEntry.model_validate(entry) for entry in raw["trials"]]
    except FileNotFoundError:
        raise DesignError(f"{listing}: missing; reinstall crowd_imi") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DesignError(f"{listing}: this lists no [[trials]]: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise DesignError(f"{listing}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return tuple(_pictures(folder / entry.folder, entry.obvious) for entry in entries)


def _pictures(folder: Path, obvious: bool) -> PracticePictures:
    def references(side: Side) -> tuple[Picture, ...]:
        return tuple(_picture(folder / side / f"{place}.png") for place in range(REFERENCES))

    return PracticePictures(
        obvious=obvious,
        references=SidePair(min=references("min"), max=references("max")),
        queries=SidePair(min=_picture(folder / "query_min.png"), max=_picture(folder / "query_max.png")),
    )


def _picture(path: Path) -> Picture:
    try:
        return Picture(path, hashlib.sha256(path.read_bytes()).hexdigest())
    except FileNotFoundError:
        raise DesignError(f"{path}: this practice image is missing; reinstall crowd_imi") from None
