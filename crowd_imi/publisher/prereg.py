"""A preregistration: what is planned, in words, with digests that show later whether it was kept."""

from collections.abc import Iterator, Sequence

from crowd_imi.plan import Plan
from crowd_imi.publisher.lock import CHANGEABLE, Lock, load_lock, make_lock, never_published
from crowd_imi.study import ArmSection, Study

_CRITERIA = {
    "min_catch_ratio": "share of right catch trials of at least {}",
    "min_total_seconds": "at least {} seconds in all, delays of storing answers left out",
    "max_total_seconds": "at most {} seconds in all, delays of storing answers left out",
    "min_instruction_seconds": "at least {} seconds on the instructions",
    "min_row_choices": "each row, upper and lower, chosen at least {} times in the main trials on real units",
    "max_practice_blocks": "practice passed within {} blocks",
}

_ANALYSIS = (
    "A unit's score (MIS) is the share of right answers of valid responses in its main trials; a model's is the mean of its "
    "units' scores. Intervals hold 95 %.",
    "Primary comparison of models: the difference of their mean scores, in the same condition and at the same difficulty, with "
    "the interval of a bootstrap that draws units and participants crossed.",
    "Tests: Welch's F over the models of a condition and difficulty, t for pairs of them after it, and t paired by unit for "
    "natural against synthetic, with what one participant's answers have in common in the standard errors; Spearman's "
    "correlation with depth. Two-sided, α = .05, Holm's correction over pairs or models.",
    "Beside them, as published: Kruskal–Wallis over unit scores, then Conover with Holm's correction; Wilcoxon's test.",
    "Scores of all participants, excluded ones included, are reported beside. Null units take part in no comparison: their mean "
    "is a check that nothing but the pictures gives answers away, and should be .5.",
    "Whatever is decided after the lock is reported as such.",
)


def preregistration(study: Study, plan: Plan, now: int, expected: Sequence[str] = ()) -> str:
    """The text, in Markdown.

    Args:
        study: published or about to be; of a published one, what its lock says.
        plan: its tasks.
        now: milliseconds since 1970, for a study that isn't published yet.
        expected: which precision and power the planned numbers promise, a sentence for each kind of arm.
    """
    lock = None if never_published(study) else load_lock(study)
    said = lock or make_lock(study, plan_sha256=plan.sha256, pack_sha256=plan.pack_sha256, now=now)
    parts = (
        f"# {study.file.study.title}\n\nPreregistration of the study `{said.study}`, made with crowd-imi.",
        _status(lock),
        _question(study),
        _design(study, plan),
        _participants(study, plan, said),
        *((_precision(expected),) if expected else ()),
        "## Analysis\n\n" + "\n".join(f"{number}. {text}" for number, text in enumerate(_ANALYSIS, 1)),
        _frozen(said),
        *_amendments(said),
    )
    return "\n\n".join(parts) + "\n"


def _status(lock: Lock | None) -> str:
    if lock is None:
        return "No participant has been invited when this is written: the study isn't published yet."
    return f"The study was published on {lock.published_at:%Y-%m-%d at %H:%M} UTC; this says what was frozen then."


def _question(study: Study) -> str:
    models = ", ".join(f"`{name}`" for name in dict.fromkeys(arm.model for arm in study.file.arms))
    return (
        f"## Question\n\nHow well do people understand single units of {models}? Hypotheses: *write here what you expect, before "
        "you look at any answer*."
    )


def _design(study: Study, plan: Plan) -> str:
    tasks = study.file.tasks
    rows = "\n".join(map(_row, study.file.arms))
    return (
        "## Design\n\nTwo-alternative forced choice: nine images that drive a unit least and nine that drive it most are shown "
        "with two new ones, and the participant says which of these drives it more, and how sure they are (1 to 3).\n\n"
        "| arm | model | condition | difficulty | units | null units | valid responses per unit |\n"
        f"|---|---|---|---|---|---|---|\n{rows}\n\n"
        f"Each unit has {study.file.panels.batches} sets of images that are used in turn. {len(plan.tasks)} tasks of "
        f"{tasks.trials} main and {tasks.catch} catch trials; a participant does one task of one arm, drawn at arrival. Units "
        f"are sampled by layer, then by channel, with seed {study.file.study.seed}."
    )


def _row(arm: ArmSection) -> str:
    cells = (arm.id, arm.model, arm.condition, arm.difficulty, arm.units, arm.null, arm.responses)
    return f"| {' | '.join(map(str, cells))} |"


def _participants(study: Study, plan: Plan, lock: Lock) -> str:
    pay = study.file.pay
    limits = lock.exclusion.model_dump()
    criteria = "\n".join(f"- {text.format(limits[name])}" for name, text in _CRITERIA.items())
    return (
        f"## Participants\n\nPaid {pay.reward_money} for about {pay.estimated_minutes:g} minutes. A response is valid when all "
        f"of these hold; others are paid, left out and replaced, up to {study.file.tasks.max_attempts} attempts for a task:\n\n"
        f"{criteria}\n\nData are collected until each of the {len(plan.tasks)} tasks has one valid response, its attempts are "
        f"used up, or {pay.cap_money} are spent; nobody looks at scores to decide when to stop."
    )


def _precision(expected: Sequence[str]) -> str:
    lines = "\n".join(f"- {sentence[:1].upper()}{sentence[1:]}" for sentence in expected)
    return (
        "## Expected precision and power\n\nFrom simulated studies with these numbers, analysed as the real one will be; units, "
        f"participants and panels differ in them about as in the published experiment.\n\n{lines}"
    )


def _amendments(lock: Lock) -> Iterator[str]:
    pilots = [str(amendment) for amendment in lock.amendments if not amendment.post_hoc]
    if pilots:
        yield "## Pilot\n\n" + "\n".join(pilots)
    changes = [str(amendment) for amendment in lock.amendments if amendment.post_hoc]
    if changes:
        yield "## Changed after publishing (post hoc)\n\n" + "\n".join(f"- {change}" for change in changes)


def _frozen(lock: Lock) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in lock.versions.items())
    return (
        "## What is frozen\n\n| what | SHA-256 |\n|---|---|\n"
        f"| study.toml | `{lock.study_toml_sha256}` |\n| pack (units and images) | `{lock.pack_sha256}` |\n"
        f"| plan (tasks) | `{lock.plan_sha256}` |\n\nOnly {', '.join(f'`{key}`' for key in CHANGEABLE)} may be edited after "
        f"publishing, and such edits are reported. Made with {versions}."
    )
