"""The plan: every task's trials in order, and the sprite that shows each. It holds the answers and is never served."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from crowd_imi.errors import DesignError
from crowd_imi.files import write_atomically
from crowd_imi.records import Record, Tiles, TrialKind


class PlannedTrial(Record):
    """One trial of a task."""

    kind: TrialKind
    unit: str
    """``Unit.key``."""
    batch: int
    """Which of the unit's panels; −1 for a catch trial, as in the published tables."""
    sprite: str
    """File name below ``sprites/``; an HMAC token that says nothing."""
    tiles: Tiles


class PlannedTask(Record):
    """One task: what one participant answers."""

    arm: str
    number: int
    """Counts from 1 within the arm."""
    trials: tuple[PlannedTrial, ...]


class PracticeTrial(Record):
    """One practice trial; the same for everybody."""

    sprite: str
    tiles: Tiles
    obvious: bool


class Grid(Record):
    """How tiles lie in every sprite: row by row, ``tile`` pixels each, with a gutter around and between them."""

    columns: int
    rows: int
    tile: int
    gutter: int


class Plan(Record):
    """``plan.json``."""

    schema_version: Literal[1] = 1
    study: str
    seed: int
    pack_sha256: str
    grid: Grid
    practice: tuple[PracticeTrial, ...]
    tasks: tuple[PlannedTask, ...]

    def save(self, path: Path) -> None:
        write_atomically(path, self.model_dump_json(indent=1).encode() + b"\n", mode=0o600)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_plan(path: Path) -> Plan:
    """Read ``plan.json``.

    Raises:
        DesignError: there is none, or it isn't of this schema.
    """
    try:
        return Plan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DesignError(f"{path}: nothing is planned yet; run `crowd-imi plan {path.parent}`") from None
    except ValidationError as error:
        raise DesignError(f"{path}: {error.errors()[0]['msg']}; run `crowd-imi plan {path.parent}` again") from None
