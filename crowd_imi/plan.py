"""The plan: every task's trials in order, and the sprite that shows each. It holds the answers and is never served.

What comes after it (a pilot, an extension, others in the place of bad tasks) is an ``Amendment``.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

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
    revision: int = 1
    """Of the unit's panels: 1, and one more each time that they were made anew."""
    sprite: str
    """File name below ``sprites/``; an HMAC token that says nothing."""
    tiles: Tiles


class PlannedTask(Record):
    """One task: what one participant answers."""

    arm: str
    number: int
    """Counts from 1 within the arm and the label."""
    label: Literal["main", "pilot"] = "main"
    """Whose places it is for."""
    trials: tuple[PlannedTrial, ...]


class PracticeTrial(Record):
    """One practice trial; the same for everybody."""

    sprite: str
    tiles: Tiles
    obvious: bool


class Grid(Record):
    """How tiles lie in every sprite: row by row, ``tile`` pixels each, with a gutter left of each tile and above it."""

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


class Replaced(Record):
    """A task that nobody new gets any more, and the one in its place."""

    arm: str
    label: Literal["main", "pilot"]
    number: int
    by: int
    """The number of the task in its place."""


class VoidedUnit(Record):
    """A unit of an arm whose panels were found bad."""

    arm: str
    unit: str
    """``Unit.key``."""
    revision: int
    """Of the panels that were made in their place."""


class Amendment(Record):
    """Something that came after the plan: more tasks, or others in the place of bad ones."""

    name: str
    """``pilot``, ``extend-1``, ``void-2``: the number counts amendments."""
    kind: Literal["pilot", "extend", "void"]
    at: datetime
    tasks: dict[str, int]
    """Arm → tasks that it adds."""
    tasks_sha256: str = ""
    """Of these tasks."""
    responses: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """Of an extension: arm → valid responses per unit, before and from then on."""
    units: tuple[VoidedUnit, ...] = ()
    replaced: tuple[Replaced, ...] = ()
    panels_sha256: str | None = None
    """Of the file with the panels that were made anew."""
    reason: str = ""

    @property
    def post_hoc(self) -> bool:
        """Whether it was decided when the study itself had been published; a pilot comes before."""
        return self.kind != "pilot"

    def __str__(self) -> str:
        day = f"{self.at:%Y-%m-%d}"
        count = sum(self.tasks.values())
        tasks = f"{count} task{'s' * (count != 1)}"
        match self.kind:
            case "pilot":
                return f"A pilot with {tasks} of its own was published on {day}; its answers are in no analysis."
            case "extend":
                arms = ", ".join(f"{arm} from {before} to {after}" for arm, (before, after) in self.responses.items())
                return f"Extended on {day} by {tasks}; valid responses per unit: {arms}."
        what = ", ".join(f"the panels of {one.unit} in {one.arm}" for one in self.units) or ", ".join(
            f"task {one.arm}/{one.number}" for one in self.replaced
        )
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"Voided on {day}{why}: {what}; answers to them are paid and left out of the analysis, and {tasks} took the place "
            f"of {len(self.replaced)}."
        )


def missing_sprites(names: Iterable[str], folder: Path) -> list[str]:
    """Those of these sprites that aren't there, by name."""
    return [name for name in sorted(names) if not (folder / name).exists()]


def tasks_digest(tasks: Sequence[PlannedTask]) -> str:
    """SHA-256 of an amendment's tasks."""
    return hashlib.sha256("\n".join(task.model_dump_json() for task in tasks).encode()).hexdigest()


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
