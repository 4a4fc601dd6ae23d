"""The design stage: from a pack to tasks and sprites."""

from pathlib import Path

from crowd_imi.design.amended import bring_back, planned
from crowd_imi.design.begun import added_names, begun_amendments, hold_to_begun
from crowd_imi.design.encoding import grid_for
from crowd_imi.design.layout import LaidOutTask, arrange, lay_out
from crowd_imi.design.minting import Batch, mint, remove_stale
from crowd_imi.design.practice import load_practice
from crowd_imi.errors import DesignError, command
from crowd_imi.keys import study_key
from crowd_imi.pack import Pack
from crowd_imi.plan import Plan, PracticeTrial
from crowd_imi.progress import Track, silent
from crowd_imi.resources import resource
from crowd_imi.seeds import generator
from crowd_imi.study import Study


def make_plan(study: Study, track: Track = silent, *, practice: Path | None = None) -> Plan:
    """Lay out every arm's tasks, mint their sprites and write plan.json last.

    Run again with the same study file, pack and key it finds everything there and changes nothing. Sprites that the new
    plan doesn't name are removed once it is written. In a study that has begun it brings back what was lost or changed, and
    writes nothing but the plan that the study began with.

    Args:
        study: with a rendered pack.
        track: shows how far minting is.
        practice: folder of the practice trials; ``stimuli/practice`` unless told otherwise.

    Raises:
        PackError: there is no pack, or it lacks an arm.
        DesignError: the pack doesn't fit study.toml, there are too few catch trials, or the study began with another plan.
        StoreError: the study has begun, and its databases or its key can't be used.
    """
    _require_key(study)
    pack = Pack(study.pack)
    _check_size(study, pack)
    grid = grid_for(study.file.panels.image_size)
    key = study_key(study.key)
    tasks = [task for arm in study.file.arms for task in lay_out(study.file, arm, pack)]
    drills, drill_batch = _practice(study, practice or resource("stimuli", "practice"))
    batches = [_batch(task) for task in tasks]
    plan = Plan(
        study=study.file.study.name,
        seed=study.file.study.seed,
        pack_sha256=pack.digest,
        grid=grid,
        practice=tuple(
            drill.model_copy(update={"sprite": name})
            for drill, name in zip(drills, drill_batch.file_names(key, grid), strict=True)
        ),
        tasks=tuple(planned(task, batch.file_names(key, grid)) for task, batch in zip(tasks, batches, strict=True)),
    )
    hold_to_begun(study, plan)
    mint(study.sprites, [drill_batch, *batches], key, grid, track)
    plan.save(study.plan)
    bring_back(study, begun_amendments(study), track)
    remove_stale(study.sprites, sprite_names(plan) | added_names(study, plan))
    return plan


def sprite_names(plan: Plan) -> set[str]:
    """Every file that the plan needs below ``sprites/``."""
    return {trial.sprite for trial in plan.practice} | {trial.sprite for task in plan.tasks for trial in task.trials}


def _check_size(study: Study, pack: Pack) -> None:
    wanted, stored = study.file.panels.image_size, pack.manifest.image_size
    if wanted != stored:
        raise DesignError(
            f"{study.toml}: panels.image_size = {wanted}, but the pack's images have {stored} px; "
            f"run `{command('render', study.folder)}` again"
        )


def _require_key(study: Study) -> None:
    """Sprites are named by the key: a new one, made in passing, would give other names than those in the store."""
    if study.database.exists() and not study.key.exists():
        raise DesignError(
            f"{study.key}: it is missing, but this study has begun ({study.database.name} is there) and the names of its sprites "
            "come from it; put it back from a backup"
        )


def _practice(study: Study, folder: Path) -> tuple[list[PracticeTrial], Batch]:
    rng = generator(study.file.study.seed, "practice")
    trials, sprites = [], []
    for drill in load_practice(folder):
        pictures, tiles = arrange(drill.references, drill.queries, rng)
        trials.append(PracticeTrial(sprite="", tiles=tiles, obvious=drill.obvious))
        sprites.append(pictures)
    return trials, Batch("practice", tuple(sprites))


def _batch(task: LaidOutTask) -> Batch:
    return Batch(f"{task.arm}, task {task.number}", tuple(trial.pictures for trial in task.trials))
