"""Values of study.toml that are right one by one but don't fit together."""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError

from crowd_imi.records import Record
from crowd_imi.study.fields import NULL, PUBLISHED
from crowd_imi.study.sections import (
    ArmSection,
    ExclusionSection,
    ImagesSection,
    ModelSection,
    PaySection,
    ReadoutSection,
    TasksSection,
    VisualisationSection,
)

R = TypeVar("R", bound=Record)


def misfits(raw: dict[str, Any]) -> Iterator[str]:
    """Numbers that are right one by one but don't fit together; looks only at sections that are right."""
    images = _section(ImagesSection, raw.get("images"))
    tasks = _section(TasksSection, raw.get("tasks", {}))
    exclusion = _section(ExclusionSection, raw.get("exclusion", {}))
    pay = _section(PaySection, raw.get("pay"))
    visualisation = _section(VisualisationSection, raw.get("visualisation", {}))
    models = raw.get("models")
    arms = _arms(raw.get("arms"))
    if images is not None:
        yield from _image_misfits(images)
    yield from _model_misfits(models if isinstance(models, dict) else {}, arms)
    yield from _arm_misfits(arms, models, tasks)
    if visualisation is not None:
        yield from _visualisation_misfits(visualisation)
    if exclusion is not None:
        yield from _exclusion_misfits(exclusion, arms, tasks)
    if pay is not None and tasks is not None:
        yield from _pay_misfits(pay, tasks)


def _arms(listed: object) -> dict[int, ArmSection]:
    """Those that are right, by their place in the list."""
    read = {index: _section(ArmSection, value) for index, value in enumerate(listed if isinstance(listed, list) else ())}
    return {index: arm for index, arm in read.items() if arm is not None}


def _image_misfits(images: ImagesSection) -> Iterator[str]:
    if (images.folder is None) == (images.shards is None):
        which = "both are there" if images.folder is not None else "neither is there"
        yield f"images: give either folder or shards, as {which}"
    if images.files is not None and images.folder is None:
        yield f"images.files = {str(images.files)!r} names images below images.folder; give that too"


def _model_misfits(models: dict[str, object], arms: dict[int, ArmSection]) -> Iterator[str]:
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
            yield from _list_misfits(name, model, arms)


def _list_misfits(name: str, model: ModelSection, arms: dict[int, ArmSection]) -> Iterator[str]:
    """Too few listed units. How many a whole layer has, only the network knows, so a list with one is left alone."""
    listed, excluded = {_unit(written) for written in model.units}, {_unit(written) for written in model.exclude}
    layers = {layer for layer, channel in excluded if channel is None}
    if not listed or any(channel is None for _, channel in listed):
        return
    there = len({(layer, channel) for layer, channel in listed - excluded if layer not in layers})
    # Null units are made of the same units as the others, so they need no more of them.
    wanted, where = max(
        ((max(arm.units, arm.null), f"arms[{index}]") for index, arm in arms.items() if arm.model == name),
        default=(0, ""),
        key=lambda asked: asked[0],
    )
    if there < wanted:
        less = " that exclude leaves" if model.exclude else ""
        yield (
            f"models.{name}.units: {where} needs {wanted} different units, but the list has {there}{less}; "
            "list more units or lower the arm's units and null"
        )


def _unit(written: str) -> tuple[str, int | None]:
    """Layer and channel; a whole layer has no channel."""
    layer, _, channel = written.rpartition("/")
    return (layer, int(channel)) if layer and channel.isdecimal() else (written, None)


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


def _arm_misfits(arms: dict[int, ArmSection], models: object, tasks: TasksSection | None) -> Iterator[str]:
    seen: dict[str, int] = {}
    for index, arm in arms.items():
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


def _visualisation_misfits(visualisation: VisualisationSection) -> Iterator[str]:
    # Here and not in the section: what a lock froze holds the default too, whatever the procedure is.
    if "diversity" in visualisation.model_fields_set and visualisation.procedure != "fixed":
        yield (
            f'visualisation.diversity weighs only with procedure = "fixed", and it is "{visualisation.procedure}"; make it '
            '"fixed", or take diversity out'
        )


def _exclusion_misfits(exclusion: ExclusionSection, arms: dict[int, ArmSection], tasks: TasksSection | None) -> Iterator[str]:
    if exclusion.min_total_seconds >= exclusion.max_total_seconds:
        yield (
            f"exclusion.min_total_seconds = {exclusion.min_total_seconds} isn't below "
            f"exclusion.max_total_seconds = {exclusion.max_total_seconds}, so everybody would be excluded; swap or change them"
        )
    if tasks is None:
        return
    asks = f"exclusion.min_row_choices = {exclusion.min_row_choices} asks for {2 * exclusion.min_row_choices} choices"
    if 2 * exclusion.min_row_choices > tasks.trials:
        yield f"{asks}, but tasks.trials = {tasks.trials}, so everybody would be excluded; at most {tasks.trials // 2} works"
        return
    for index, arm in arms.items():
        # Every task has its share of null units, give or take one, so rounding down is what the worst one has.
        real = tasks.trials * arm.units // (arm.units + arm.null)
        if tasks.trials <= arm.units + arm.null and 2 * exclusion.min_row_choices > real:
            yield (
                f"arms[{index}]: {asks} on real units, but of tasks.trials = {tasks.trials} a task with units = {arm.units} and "
                f"null = {arm.null} may have only {real} of them, so everybody in it would be excluded; at most {real // 2} "
                "works, or lower null"
            )


def _pay_misfits(pay: PaySection, tasks: TasksSection) -> Iterator[str]:
    if pay.bonus and pay.bonus_for == "catch_trials" and not tasks.catch:
        yield (
            f"pay.bonus = {pay.bonus} is for who has all catch trials right, but tasks.catch = 0, so nobody would get it; raise "
            'tasks.catch, say bonus_for = "completion", or take bonus out'
        )


def _section(model: type[R], raw: object) -> R | None:
    try:
        return model.model_validate(raw)
    except ValidationError:
        return None
