"""The plan: every task's trials in order, and the sprite that shows each. It holds the answers and is never served."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from crowd_imi.errors import DesignError, command
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
    def sprites(self) -> frozenset[str]:
        """File names of all sprites, practice included."""
        practice = frozenset(trial.sprite for trial in self.practice)
        return practice | {trial.sprite for task in self.tasks for trial in task.trials}

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_plan(path: Path, *, sha256: str | None = None) -> Plan:
    """Read ``plan.json``.

    Args:
        path: of the file.
        sha256: the plan that a store was made from, when there is one: it must be this.

    Raises:
        DesignError: there is none, it is damaged, or it isn't the one it must be.
    """
    run = f"run `{command('plan', path.parent)}`"
    try:
        plan = Plan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        if sha256 is None:
            raise DesignError(f"{path}: nothing is planned yet; {run}") from None
        raise DesignError(f"{path}: it is missing, but this study has begun; {run} to lay the same tasks out again") from None
    except ValidationError as error:
        found = error.errors()[0]
        where = "".join(f"{part}: " for part in found["loc"])
        raise DesignError(f"{path}: it is damaged ({where}{found['msg']}); {run} to lay the tasks out again") from None
    if sha256 is not None and plan.sha256 != sha256:
        raise DesignError(
            f"{path}: it has changed since this study began, and answers point into it; {run} to lay the same tasks out again"
        )
    return plan
