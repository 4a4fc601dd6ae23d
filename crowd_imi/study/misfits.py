"""Values of study.toml that are right one by one but don't fit together."""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError

from crowd_imi.records import Record
from crowd_imi.study.fields import NULL, PUBLISHED
from crowd_imi.study.sections import ArmSection, ExclusionSection, ImagesSection, ModelSection, ReadoutSection, TasksSection

R = TypeVar("R", bound=Record)


def misfits(raw: dict[str, Any]) -> Iterator[str]:
    """Numbers that are right one by one but don't fit together; looks only at sections that are right."""
    images = _section(ImagesSection, raw.get("images"))
    tasks = _section(TasksSection, raw.get("tasks", {}))
    exclusion = _section(ExclusionSection, raw.get("exclusion", {}))
    models = raw.get("models")
    if images is not None:
        yield from _image_misfits(images)
    yield from _model_misfits(models if isinstance(models, dict) else {})
    yield from _arm_misfits(raw, models, tasks)
    if exclusion is not None:
        yield from _exclusion_misfits(exclusion, tasks)


def _image_misfits(images: ImagesSection) -> Iterator[str]:
    if (images.folder is None) == (images.shards is None):
        which = "both are there" if images.folder is not None else "neither is there"
        yield f"images: give either folder or shards, as {which}"
    if images.files is not None and images.folder is None:
        yield f"images.files = {str(images.files)!r} names images below images.folder; give that too"


def _model_misfits(models: dict[str, object]) -> Iterator[str]:
    for name, value in models.items():
        model = _section(ModelSection, value)
        if name == NULL:
            yield f"models.{name}: this name stands for null units in every table; choose another"
        if model is not None and model.pretrained and model.checkpoint is not None:
            yield f"models.{name}: checkpoint and pretrained = true can't both hold; take one out"
        if model is not None and not model.layers and not model.units and not model.source.startswith(PUBLISHED):
            yield f'models.{name}.layers is missing; right would be the names of layers, e.g. ["layer3.*"]'
        if model is not None:
            yield from _readout_misfits(f"models.{name}.readouts", model.readouts)


def _readout_misfits(where: str, readouts: dict[str, ReadoutSection]) -> Iterator[str]:
    for name, readout in readouts.items():
        key = f"{where}.{name}"
        needed = {"position": readout.kind == "neurons", "weights": readout.kind != "neurons"}
        needed["k"] = readout.kind in ("sae", "transcoder") and readout.activation == "topk"
        for field, wanted in needed.items():
            there = getattr(readout, field) is not None
            if wanted and not there:
                yield f"{key}.{field} is missing, and a readout of this kind needs it"
            if there and not wanted:
                yield f"{key}.{field} means nothing for a readout of this kind; take it out"
        if readout.subtract_bias is not None and readout.kind != "sae":
            yield f"{key}.subtract_bias means nothing for a readout of this kind; take it out"


def _arm_misfits(raw: dict[str, Any], models: object, tasks: TasksSection | None) -> Iterator[str]:
    seen: dict[str, int] = {}
    listed = raw.get("arms")
    for index, value in enumerate(listed if isinstance(listed, list) else ()):
        arm = _section(ArmSection, value)
        if arm is None:
            continue
        where = f"arms[{index}]"
        first = seen.setdefault(arm.id, index)
        if first != index:
            yield f"{where}: {arm.id} is arms[{first}] already; take one out, or change its condition or difficulty"
        if isinstance(models, dict) and arm.model not in models:
            known = ", ".join(sorted(models)) or "none"
            yield f"{where}.model = {arm.model!r} isn't among [models.…]; right would be one of those there: {known}"
        if tasks is not None:
            yield from _task_misfits(where, arm, tasks)


def _task_misfits(where: str, arm: ArmSection, tasks: TasksSection) -> Iterator[str]:
    units = arm.units + arm.null
    if tasks.trials > units:
        yield (
            f"{where}: tasks.trials = {tasks.trials} needs {tasks.trials} different units, but units + null = {units}; "
            "lower tasks.trials or raise units"
        )
        return
    if (units * arm.responses) % tasks.trials:
        fitting = next(n for n in range(arm.responses, arm.responses + tasks.trials + 1) if not units * n % tasks.trials)
        yield (
            f"{where}.responses = {arm.responses}: {units} units × {arm.responses} responses can't be cut into tasks of "
            f"{tasks.trials} trials; responses = {fitting} can"
        )


def _exclusion_misfits(exclusion: ExclusionSection, tasks: TasksSection | None) -> Iterator[str]:
    if exclusion.min_total_seconds >= exclusion.max_total_seconds:
        yield (
            f"exclusion.min_total_seconds = {exclusion.min_total_seconds} isn't below "
            f"exclusion.max_total_seconds = {exclusion.max_total_seconds}, so everybody would be excluded; swap or change them"
        )
    if tasks is not None and 2 * exclusion.min_row_choices > tasks.trials:
        yield (
            f"exclusion.min_row_choices = {exclusion.min_row_choices} asks for {2 * exclusion.min_row_choices} choices, but "
            f"tasks.trials = {tasks.trials}, so everybody would be excluded; at most {tasks.trials // 2} works"
        )


def _section(model: type[R], raw: object) -> R | None:
    try:
        return model.model_validate(raw)
    except ValidationError:
        return None
