"""Is a study ready for its next stage? Looks at everything that study.toml points to and reports every problem at once."""

import importlib.util
from collections.abc import Iterator

from crowd_imi.design.begun import current_plan
from crowd_imi.errors import CrowdImiError, StudyError, command
from crowd_imi.image_sets import image_set
from crowd_imi.pack import Pack
from crowd_imi.pages.texts import load_texts
from crowd_imi.plan import Plan, missing_sprites
from crowd_imi.platforms.opening import Choice, open_platform
from crowd_imi.progress import Track, silent
from crowd_imi.publisher.checks import board_remarks, concerns, panels_made_anew, posting_problems
from crowd_imi.publisher.launch import offer_of
from crowd_imi.publisher.lock import edited_keys, load_lock, lock_path, never_published
from crowd_imi.publisher.pay import pay_per_hour
from crowd_imi.publisher.reach import not_served_yet, reach_problems
from crowd_imi.records import Money, Record
from crowd_imi.signoff import require_sign_off
from crowd_imi.study import ArmSection, ModelSection, Study, images_needed
from crowd_imi.vetoes import load_vetoes, vetoed_but_shown

NULL_SHARE = 0.1
"""More null units than this cost people effort without measuring anything."""


class Readiness(Record):
    """What `crowd-imi check` found."""

    study: str
    images: int
    """Image files, each counted once; whether one can be read shows when they are rendered."""
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
    images, image_problems = _images(study)
    problems = [
        *_lock_problems(study),
        *image_problems,
        *_model_problems(study, track),
        *_template_problems(study),
        *_money_problems(study, tasks),
        *_pack_problems(study),
        *_veto_problems(study),
        *_plan_problems(study),
    ]
    currency = file.pay.currency
    return Readiness(
        study=file.study.name,
        images=images,
        images_needed=images_needed(file),
        tasks=tasks,
        cost=Money(amount=tasks * file.pay.reward, currency=currency),
        most=Money(amount=tasks * file.tasks.max_attempts * file.pay.reward, currency=currency),
        pay_per_hour=pay_per_hour(study),
        problems=tuple(dict.fromkeys(problems)),
        remarks=tuple(_remarks(study, tasks)),
    )


def with_platform(study: Study, found: Readiness, choice: Choice) -> Readiness:
    """What ``look_at`` found, and what is in the way on a platform: credentials, balance, pay, pages, review board.

    Args:
        study: with a plan, else its pages aren't asked for.
        found: by ``look_at``.
        choice: the platform and where the pages are.
    """
    problems = list(found.problems)
    usable = False
    try:
        platform = open_platform(study, study.folder, choice)
        usable = True  # the addresses are some
        offer = offer_of(study, found.tasks, platform)
        problems += posting_problems(study, platform, choice, offer)
    except CrowdImiError as error:
        problems.append(str(error))
    try:
        plan = current_plan(study)
    except CrowdImiError:
        problems.append(
            f"{study.folder}: there is no plan yet, so the pages can't be looked at; `{command('plan', study.folder)}`"
        )
    else:
        if usable:
            problems += reach_problems(study, plan, choice)
        problems += _unsigned(study)
    unseen = not_served_yet(study, choice)
    remarks = (*found.remarks, *board_remarks(study), *([] if unseen is None else [unseen]))
    return found.model_copy(update={"problems": tuple(dict.fromkeys(problems)), "remarks": tuple(dict.fromkeys(remarks))})


def _unsigned(study: Study) -> Iterator[str]:
    try:
        require_sign_off(study, Pack(study.pack))
    except CrowdImiError as error:
        yield str(error)


def _lock_problems(study: Study) -> Iterator[str]:
    try:
        lock = load_lock(study)
        edited = [] if lock is None or never_published(study) else edited_keys(study, lock)
    except CrowdImiError as error:
        yield str(error)
        return
    if lock is not None:
        yield from (
            f"{edit}; it is frozen since the study was published on {lock.published_at:%Y-%m-%d} ({lock_path(study)}): put it "
            "back as it was, or copy the folder without study.lock and study.db to a new study"
            for edit in edited
        )


def _images(study: Study) -> tuple[int, list[str]]:
    """How many images there are, and what is wrong with that."""
    try:
        count = len(image_set(study).names)
    except CrowdImiError as error:
        return 0, [str(error)]
    file, needed = study.file, images_needed(study.file)
    if count >= needed:
        return count, []
    key, value = next((key, value) for key in ("files", "folder", "shards") if (value := getattr(file.images, key)) is not None)
    return count, [
        f"images.{key} = {str(value)!r}: {count} images are there, {needed} are needed for panels.batches = "
        f"{file.panels.batches} and these difficulties; add images or lower panels.batches"
    ]


def _used_models(study: Study) -> dict[str, ModelSection]:
    """Those that arms ask about, the only ones that are ever loaded."""
    used = {arm.model for arm in study.file.arms}
    return {name: model for name, model in study.file.models.items() if name in used}


def _model_problems(study: Study, track: Track) -> Iterator[str]:
    for name, model in _used_models(study).items():
        if model.checkpoint is not None and not study.path(model.checkpoint).is_file():
            yield (
                f"models.{name}.checkpoint = {str(model.checkpoint)!r}: there is no file {study.path(model.checkpoint)}; "
                "put it there or correct the path"
            )
        for readout, section in model.readouts.items():
            if section.weights is not None and not study.path(section.weights).is_file():
                yield (
                    f"models.{name}.readouts.{readout}.weights = {str(section.weights)!r}: there is no file "
                    f"{study.path(section.weights)}; put it there or correct the path"
                )
    if _has_torch():
        yield from _layer_problems(study, track)


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _layer_problems(study: Study, track: Track) -> Iterator[str]:
    from crowd_imi.vision.layers import unit_layers
    from crowd_imi.vision.models import outline
    from crowd_imi.vision.published import layer_globs
    from crowd_imi.vision.readouts import readout_names

    for name, model in track(_used_models(study).items(), "looking into the networks"):
        try:
            module = outline(model, study.folder)
            unit_layers(module, layer_globs(model), readout_names(model), listed=bool(model.units))
        except CrowdImiError as error:
            yield f"models.{name}: {error}"


def _template_problems(study: Study) -> Iterator[str]:
    try:
        load_texts(study)
    except StudyError as error:
        yield from error.problems


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
    again = f"render again: `{command('render', study.folder)}`"
    if pack.manifest.study != study.file.study.name:
        yield f"{study.pack}: this pack belongs to the study {pack.manifest.study!r}; {again}"
    for arm in study.file.arms:
        yield from (f"{study.pack}: {problem}; {again}" for problem in _arm_problems(pack, arm, study.file.panels.batches))


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


def _plan_problems(study: Study) -> Iterator[str]:
    begun = study.database.exists()
    if not study.plan.exists() and not begun:
        return
    try:
        plan = current_plan(study)
    except CrowdImiError as error:
        yield str(error)
        return
    again = f"plan again: `{command('plan', study.folder)}`"
    if _another_pack(study, plan):
        remedy = f"put that one back, as the study has begun ({study.database.name} is there)" if begun else again
        yield f"{study.plan}: it was made from another pack than the one in {study.pack}; {remedy}"
    missing = missing_sprites(plan.sprites, study.sprites)
    if missing:
        yield f"{study.sprites}: {len(missing)} of {len(plan.sprites)} sprites are missing; {again}"


def _another_pack(study: Study, plan: Plan) -> bool:
    """Whether the pack isn't the one that was planned; what is wrong with a pack itself is said elsewhere."""
    try:
        return Pack(study.pack).digest != plan.pack_sha256
    except CrowdImiError:
        return False


def _veto_problems(study: Study) -> Iterator[str]:
    try:
        load_vetoes(study)
        problem = vetoed_but_shown(study, Pack(study.pack), panels_made_anew(study)) if study.pack.exists() else None
    except CrowdImiError as error:
        problem = str(error)
    if problem is not None:
        yield problem


def _remarks(study: Study, tasks: int) -> Iterator[str]:
    yield from concerns(study)
    file = study.file
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
    for name in sorted(set(file.models) - set(_used_models(study))):
        yield f"models.{name}: no arm uses it, so nobody looked whether it works"
    if not _has_torch():
        yield (
            "models: torch isn't installed, so nobody looked whether the networks and their layers are there; "
            "`pip install 'crowd-imi[factory]'`, and check again"
        )
