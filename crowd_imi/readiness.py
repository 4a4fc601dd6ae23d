"""Is a study ready for its next stage? Looks at everything that study.toml points to and reports every problem at once."""

import importlib.util
from collections.abc import Iterator

from crowd_imi.errors import CrowdImiError
from crowd_imi.pack import Pack
from crowd_imi.plan import load_plan
from crowd_imi.progress import Track, silent
from crowd_imi.records import Money, Record
from crowd_imi.resources import resource
from crowd_imi.study import ArmSection, Study, image_files, images_needed

TEMPLATE_PAGE = "visit.html"
"""What a folder of hit_templates/ must hold to be a task's template."""

HOURLY_FLOOR = {"USD": 800, "GBP": 600}
"""What Prolific lets researchers pay at least per hour, in minor units; the sensible floor on any platform."""

NULL_SHARE = 0.1
"""More null units than this cost people effort without measuring anything."""


class Readiness(Record):
    """What `crowd-imi check` found."""

    study: str
    images: int
    """Image files in the folder; whether each can be read shows when they are rendered."""
    images_needed: int
    tasks: int
    cost: Money
    """When every task is done once."""
    most: Money
    """When every task needs all of its attempts."""
    pay_per_hour: Money
    problems: tuple[str, ...]
    """What keeps the study from working."""
    remarks: tuple[str, ...]
    """What works, but deserves a thought."""


def look_at(study: Study, track: Track = silent) -> Readiness:
    """Everything that can be found out without doing the work itself."""
    file = study.file
    tasks = sum(file.task_count(arm) for arm in file.arms)
    images = sum(1 for _ in image_files(study.images))
    problems = [
        *_image_problems(study, images),
        *_model_problems(study, track),
        *_template_problems(study),
        *_money_problems(study, tasks),
        *_pack_problems(study),
    ]
    currency = file.pay.currency
    return Readiness(
        study=file.study.name,
        images=images,
        images_needed=images_needed(file),
        tasks=tasks,
        cost=Money(amount=tasks * file.pay.reward, currency=currency),
        most=Money(amount=tasks * file.tasks.max_attempts * file.pay.reward, currency=currency),
        pay_per_hour=_pay_per_hour(study),
        problems=tuple(problems),
        remarks=tuple(_remarks(study, tasks)),
    )


def _pay_per_hour(study: Study) -> Money:
    pay = study.file.pay
    return Money(amount=round(pay.reward * 60 / pay.estimated_minutes), currency=pay.currency)


def _image_problems(study: Study, images: int) -> Iterator[str]:
    key = f"images.folder = {str(study.file.images.folder)!r}"
    needed = images_needed(study.file)
    if not study.images.is_dir():
        yield f"{key}: there is no folder {study.images}; make it, or name the folder where your images are"
    elif images < needed:
        yield (
            f"{key}: {images} images are there, {needed} are needed for panels.batches = {study.file.panels.batches} "
            "and these difficulties; add images or lower panels.batches"
        )


def _model_problems(study: Study, track: Track) -> Iterator[str]:
    for name, model in study.file.models.items():
        if model.checkpoint is not None and not study.path(model.checkpoint).is_file():
            yield (
                f"models.{name}.checkpoint = {str(model.checkpoint)!r}: there is no file {study.path(model.checkpoint)}; "
                "put it there or correct the path"
            )
    if importlib.util.find_spec("torch") is not None:
        yield from _layer_problems(study, track)


def _layer_problems(study: Study, track: Track) -> Iterator[str]:
    from crowd_imi.vision.layers import unit_layers
    from crowd_imi.vision.models import outline

    for name, model in track(study.file.models.items(), "looking into the networks"):
        try:
            unit_layers(outline(model), model.layers)
        except CrowdImiError as error:
            yield f"models.{name}: {error}"


def _template_problems(study: Study) -> Iterator[str]:
    try:
        resource("hit_templates", study.file.pages.template, TEMPLATE_PAGE)
    except CrowdImiError:
        there = ", ".join(sorted(page.parent.name for page in resource("hit_templates").glob(f"*/{TEMPLATE_PAGE}")))
        yield f"pages.template = {study.file.pages.template!r}: there is no such template; right would be one of: {there}"


def _money_problems(study: Study, tasks: int) -> Iterator[str]:
    pay = study.file.pay
    cost = tasks * pay.reward
    if cost > pay.cap:
        yield (
            f"pay.cap = {pay.cap}: {tasks} tasks at {pay.reward_money} cost {Money(amount=cost, currency=pay.currency)}, "
            f"so the study would end before it is done; raise pay.cap to {cost} or more, or ask for fewer responses"
        )


def _pack_problems(study: Study) -> Iterator[str]:
    if not study.pack.exists():
        return
    try:
        pack = Pack(study.pack)
    except CrowdImiError as error:
        yield str(error)
        return
    again = f"render again: `crowd-imi render {study.folder}`"
    if pack.manifest.study != study.file.study.name:
        yield f"{study.pack}: this pack belongs to the study {pack.manifest.study!r}; {again}"
    for arm in study.file.arms:
        yield from (f"{study.pack}: {problem}; {again}" for problem in _arm_problems(pack, arm, study.file.panels.batches))
    if study.plan.exists():
        yield from _plan_problems(study, pack)


def _arm_problems(pack: Pack, arm: ArmSection, batches: int) -> Iterator[str]:
    rendered = next((each for each in pack.manifest.arms if each.arm == arm.id), None)
    if rendered is None:
        yield f"it has no arm {arm.id}"
        return
    null = sum(each.unit.null for each in rendered.units)
    if (len(rendered.units) - null, null) != (arm.units, arm.null):
        yield (
            f"its arm {arm.id} has {len(rendered.units) - null} units and {null} null units, "
            f"study.toml asks for {arm.units} and {arm.null}"
        )
    if any(len(each.panels) != batches for each in rendered.units):
        yield f"its arm {arm.id} hasn't panels.batches = {batches} panels for each unit"


def _plan_problems(study: Study, pack: Pack) -> Iterator[str]:
    try:
        plan = load_plan(study.plan)
    except CrowdImiError as error:
        yield str(error)
        return
    again = f"plan again: `crowd-imi plan {study.folder}`"
    if plan.pack_sha256 != pack.digest:
        yield f"{study.plan}: it was made from another pack than the one in {study.pack}; {again}"
    sprites = {trial.sprite for task in plan.tasks for trial in task.trials}
    missing = sum(not (study.sprites / sprite).exists() for sprite in sprites)
    if missing:
        yield f"{study.sprites}: {missing} of {len(sprites)} sprites are missing; {again}"


def _remarks(study: Study, tasks: int) -> Iterator[str]:
    file = study.file
    per_hour, floor = _pay_per_hour(study), HOURLY_FLOOR.get(file.pay.currency)
    if floor is not None and per_hour.amount < floor:
        yield (
            f"pay: {file.pay.reward_money} for {file.pay.estimated_minutes:g} minutes is {per_hour} per hour; "
            f"Prolific refuses less than {Money(amount=floor, currency=file.pay.currency)}"
        )
    most = Money(amount=tasks * file.tasks.max_attempts * file.pay.reward, currency=file.pay.currency)
    if tasks * file.pay.reward <= file.pay.cap < most.amount:
        yield (
            f"pay.cap = {file.pay.cap}: enough when few participants are replaced; if every task needed all of its "
            f"tasks.max_attempts = {file.tasks.max_attempts}, the study would cost {most}"
        )
    if file.exclusion.max_total_seconds > 60 * file.pages.visit_minutes:
        yield (
            f"exclusion.max_total_seconds = {file.exclusion.max_total_seconds} is never reached: "
            f"pages.visit_minutes = {file.pages.visit_minutes} ends a visit before"
        )
    null = sum(arm.null * arm.responses for arm in file.arms)
    every = sum((arm.units + arm.null) * arm.responses for arm in file.arms)
    if null > NULL_SHARE * every:
        yield (
            f"arms: {100 * null / every:.0f} % of the trials ask about null units, which nobody can answer; "
            "right for a test of the chain, too much effort for nothing in a study of people (10 % at most)"
        )
    used = {arm.model for arm in file.arms}
    for name in sorted(set(file.models) - used):
        yield f"models.{name}: no arm uses it"
