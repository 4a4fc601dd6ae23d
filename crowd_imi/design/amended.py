"""Tasks that come after the plan: a pilot's, an extension's, and those in the place of bad ones.

They are laid out like the plan's, from the same study file, pack and seed and from what was amended before, so that the
same amendments always lead to the same tasks. Nothing of an earlier task changes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from crowd_imi.design.catch import CatchKey
from crowd_imi.design.encoding import grid_for
from crowd_imi.design.layout import Composer, LaidOutTask, LaidOutTrial, Material, arrange, lay_out, usable_units
from crowd_imi.design.minting import Batch, mint
from crowd_imi.design.pictures import Picture
from crowd_imi.design.tasks import draw_tasks, go_on
from crowd_imi.errors import DesignError
from crowd_imi.keys import study_key
from crowd_imi.pack import Pack, UnitPanels
from crowd_imi.plan import Amendment, PlannedTask, PlannedTrial, tasks_digest
from crowd_imi.progress import Track, silent
from crowd_imi.records import Panel, SidePair
from crowd_imi.seeds import generator
from crowd_imi.study import ArmSection, Study, StudyFile

TaskKey = tuple[str, int]
"""A task's label and number within its arm."""


def pilot_tasks(study: StudyFile, count: int) -> dict[str, int]:
    """How many of a pilot's tasks each arm has: as even as can be.

    Raises:
        DesignError: there are fewer tasks.
    """
    left = {arm.id: study.task_count(arm) for arm in study.arms}
    if count > sum(left.values()):
        raise DesignError(
            f"a pilot of {count} is larger than the study, which has {sum(left.values())} tasks; give a smaller --pilot"
        )
    rounds = [arm for turn in range(max(left.values())) for arm, tasks in left.items() if turn < tasks]
    return dict(Counter(rounds[:count]))


def prepare(
    study: Study, earlier: Sequence[Amendment], amendment: Amendment, track: Track = silent
) -> tuple[Amendment, tuple[PlannedTask, ...]]:
    """Lay out what an amendment adds and mint its sprites; run again, it finds them there.

    Args:
        study: with the pack that was published.
        earlier: the amendments before.
        amendment: what is wanted; its tasks aren't laid out yet.
        track: shows how far minting is.

    Returns:
        The amendment with the digest of its tasks, and these.

    Raises:
        DesignError: the pack can't fill the tasks.
        PackError: the pack, or panels that were made anew, are missing or damaged.
    """
    *_, tasks = _all(study, [*earlier, amendment])
    planned = _minted(study, amendment, tasks, track)
    counts = {arm: sum(task.arm == arm for task in planned) for arm in dict.fromkeys(task.arm for task in planned)}
    return amendment.model_copy(update={"tasks": counts, "tasks_sha256": tasks_digest(planned)}), planned


def bring_back(study: Study, amendments: Sequence[Amendment], track: Track = silent) -> None:
    """Mint those sprites of all amendments that were lost.

    Raises:
        DesignError: their tasks would come out as others now.
    """
    if not amendments:
        return
    for amendment, tasks in zip(amendments, _all(study, amendments), strict=True):
        if tasks_digest(_minted(study, amendment, tasks, track)) != amendment.tasks_sha256:
            raise DesignError(
                f"{study.folder}: the tasks of {amendment.name} would come out as others now; put back the pack, the key and the "
                "versions that study.lock names"
            )


@dataclass
class _Arm:
    """An arm's tasks so far."""

    section: ArmSection
    units: list[UnitPanels]
    """With the panels that are shown from now on."""
    tasks: dict[TaskKey, LaidOutTask]
    revisions: dict[str, int] = field(default_factory=dict)

    def add(self, task: LaidOutTask) -> None:
        self.tasks[task.label, task.number] = task

    def next_number(self, label: str) -> int:
        return 1 + max(number for of, number in self.tasks if of == label)

    def used(self) -> frozenset[CatchKey]:
        """Catch trials that some task shows already; a pilot's are the study's."""
        return frozenset(_catch_key(trial) for task in self.tasks.values() for trial in task.trials if trial.kind == "catch")

    def panel(self, unit: str, batch: int) -> Panel:
        """The unit's panel of a batch as it is shown now."""
        panels = next(each.panels for each in self.units if each.unit.key == unit)
        return next((panel for panel in panels if panel.batch == batch), panels[batch % len(panels)])

    def following(self) -> list[int]:
        """Which of its panels each unit shows next, so that turns go on where they are."""
        last: dict[str, int] = {}
        for task in self.tasks.values():
            if task.label == "main":
                last |= {trial.unit: trial.batch for trial in task.trials if trial.kind == "main"}
        following = []
        for unit in self.units:
            batches, shown = [panel.batch for panel in unit.panels], last.get(unit.unit.key)
            following.append((batches.index(shown) + 1) % len(batches) if shown in batches else 0)
        return following


def _all(study: Study, amendments: Sequence[Amendment]) -> Iterator[tuple[LaidOutTask, ...]]:
    """Each amendment's tasks in turn."""
    pack = Pack(study.pack)
    arms = {}
    for arm in study.file.arms:
        base: dict[TaskKey, LaidOutTask] = {(task.label, task.number): task for task in lay_out(study.file, arm, pack)}
        arms[arm.id] = _Arm(arm, usable_units(pack.manifest.arm(arm.id), arm), base)
    for amendment in amendments:
        tasks = tuple(task for arm in arms.values() for task in _of_arm(study.file, pack, arm, amendment))
        for task in tasks:
            arms[task.arm].add(task)
        yield tasks


def _of_arm(study: StudyFile, pack: Pack, arm: _Arm, amendment: Amendment) -> list[LaidOutTask]:
    match amendment.kind:
        case "pilot":
            return [_copy(study, arm, number) for number in range(1, amendment.tasks.get(arm.section.id, 0) + 1)]
        case "extend":
            return _more(study, pack, arm, amendment)
        case "void":
            return _others(study, pack, arm, amendment)


def _copy(study: StudyFile, arm: _Arm, number: int) -> LaidOutTask:
    """A task of the study for the pilot, with trials and tiles in another order: no sprite is seen in both."""
    rng = generator(study.study.seed, "pilot", arm.section.id, number)
    trials = [_rearranged(trial, rng) for trial in arm.tasks["main", number].trials]
    return LaidOutTask(arm.section.id, number, tuple(trials[place] for place in rng.permutation(len(trials))), "pilot")


def _rearranged(trial: LaidOutTrial, rng: np.random.Generator) -> LaidOutTrial:
    shown, tiles = trial.pictures, trial.tiles
    references = SidePair[tuple[Picture, ...]](
        min=tuple(shown[tile] for tile in tiles.references.min), max=tuple(shown[tile] for tile in tiles.references.max)
    )
    pictures, places = arrange(references, SidePair(min=shown[tiles.queries.min], max=shown[tiles.queries.max]), rng)
    return LaidOutTrial(trial.kind, trial.unit, trial.batch, pictures, places, trial.revision)


def _more(study: StudyFile, pack: Pack, arm: _Arm, amendment: Amendment) -> list[LaidOutTask]:
    before, after = amendment.responses.get(arm.section.id, (0, 0))
    if after == before:
        return []
    rng = generator(study.study.seed, "tasks", arm.section.id, amendment.name)
    null = [unit.unit.null for unit in arm.units]
    tasks = draw_tasks(len(arm.units), after - before, study.tasks.trials, rng, null)
    turns = go_on(tasks, [len(unit.panels) for unit in arm.units], np.asarray(arm.following(), dtype=np.int64))
    composer, first = _composer(study, pack, arm, amendment), arm.next_number("main")
    return [
        LaidOutTask(
            arm.section.id,
            first + place,
            composer.trials({arm.units[u].unit.key: arm.units[u].panels[p] for u, p in zip(row, turn, strict=True)}),
        )
        for place, (row, turn) in enumerate(zip(tasks, turns, strict=True))
    ]


def _others(study: StudyFile, pack: Pack, arm: _Arm, amendment: Amendment) -> list[LaidOutTask]:
    """The same units with the same batches, in another order and beside other catch trials."""
    voided = {one.unit: one.revision for one in amendment.units if one.arm == arm.section.id}
    if voided:
        anew = {unit.unit.key: unit for unit in pack.made_anew(amendment.name, amendment.panels_sha256).arms[arm.section.id]}
        arm.units = [anew.get(unit.unit.key, unit) if unit.unit.key in voided else unit for unit in arm.units]
        arm.revisions |= voided
    replaced = [one for one in amendment.replaced if one.arm == arm.section.id]
    if not replaced:
        return []
    composer, tasks = _composer(study, pack, arm, amendment), []
    for one in replaced:
        main = [trial for trial in arm.tasks[one.label, one.number].trials if trial.kind == "main"]
        trials = composer.trials({trial.unit: arm.panel(trial.unit, trial.batch) for trial in main})
        tasks.append(LaidOutTask(arm.section.id, one.by, trials, one.label))
    return tasks


def _composer(study: StudyFile, pack: Pack, arm: _Arm, amendment: Amendment) -> Composer:
    return Composer(study, arm.section, pack, Material(arm.units, (amendment.name,), arm.used(), arm.revisions))


def _catch_key(trial: LaidOutTrial) -> CatchKey:
    queries = trial.tiles.queries
    return trial.unit, trial.pictures[queries.min].digest, trial.pictures[queries.max].digest


def _minted(study: Study, amendment: Amendment, tasks: Sequence[LaidOutTask], track: Track) -> tuple[PlannedTask, ...]:
    key, grid = study_key(study.key), grid_for(study.file.panels.image_size)
    batches = [
        Batch(f"{amendment.name}: {task.arm}, {task.label} task {task.number}", tuple(trial.pictures for trial in task.trials))
        for task in tasks
    ]
    mint(study.sprites, batches, key, grid, track)
    return tuple(planned(task, batch.file_names(key, grid)) for task, batch in zip(tasks, batches, strict=True))


def planned(task: LaidOutTask, names: Sequence[str]) -> PlannedTask:
    """A task as plan and store keep it; ``names`` are its sprites' in order."""
    return PlannedTask(
        arm=task.arm,
        number=task.number,
        label=task.label,
        trials=tuple(
            PlannedTrial(
                kind=trial.kind,
                unit=trial.unit,
                batch=trial.batch,
                revision=trial.revision,
                sprite=name,
                tiles=trial.tiles,
            )
            for trial, name in zip(task.trials, names, strict=True)
        ),
    )
