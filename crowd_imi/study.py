"""study.toml: what the researcher writes, as frozen models.

``load_study`` reports every problem at once, each with its key, what is wrong and what would be right.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from crowd_imi.errors import StudyError
from crowd_imi.mistakes import mistakes
from crowd_imi.records import DIFFICULTY_PERCENTILE, REFERENCES, Condition, Difficulty, Money, Record

SCHEMA = 1

NULL = "null"
"""What null units are called in every table, so no model may be called so."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

R = TypeVar("R", bound=Record)

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Pixels = Annotated[int, Field(ge=32, le=512, strict=True)]
AboveZero = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]


class StudySection(Record):
    """``[study]``: what this study is."""

    name: Slug
    title: Annotated[str, Field(min_length=1, max_length=120)]
    """Shown to participants."""
    seed: Natural = 1
    """Everything random follows from it."""


class ImagesSection(Record):
    """``[images]``: where the natural images come from."""

    folder: Path
    """Relative to study.toml; searched recursively for JPEG, PNG and WebP files."""
    licence: Annotated[str, Field(min_length=1)]
    provenance: str = ""


class ModelSection(Record):
    """``[models.NAME]``: one network and the layers whose channels may become units."""

    source: Annotated[str, Field(pattern=r"^timm:.+$")]
    """``timm:ARCHITECTURE``, e.g. ``timm:resnet50.tv_in1k``."""
    layers: Annotated[tuple[str, ...], Field(min_length=1)]
    """Module names; ``*`` stands for any part of a name."""
    checkpoint: Path | None = None
    """A safetensors file, relative to study.toml. Without one: ``pretrained`` or random weights."""
    pretrained: Annotated[bool, Field(strict=True)] = False
    """Take timm's weights from the Hugging Face hub."""
    classes: Positive | None = None
    input_size: Positive | None = None
    """Pixels on a side; the model's own where it isn't set."""


class ArmSection(Record):
    """``[[arms]]``: one model in one condition at one difficulty; a participant sees one arm."""

    model: str
    condition: Condition
    difficulty: Difficulty = "easy"
    units: Positive
    """How many units of the model are sampled: layer uniform, then channel uniform within it."""
    null: Natural = 0
    """Null units mixed in: their activations are permuted, so nobody can answer them above chance."""
    responses: Positive = 30
    """Valid responses per unit."""

    @property
    def id(self) -> str:
        return f"{self.model}-{self.condition}-{self.difficulty}"


class PanelsSection(Record):
    """``[panels]``: how many image batches each unit has, and how large images are stored."""

    batches: Annotated[int, Field(ge=1, le=20, strict=True)] = 11
    """Sets of images per unit that are used in turn."""
    image_size: Pixels = 224
    """Pixels on a side of a stored image."""


class VisualisationSection(Record):
    """``[visualisation]``: the feature visualisations of the synthetic condition, made by lucent."""

    size: Pixels = 224
    steps: Positive = 2500
    learning_rate: AboveZero = 0.05
    diversity: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] = 100.0
    """Weight of the diversity term; 0 leaves it out."""


class TasksSection(Record):
    """``[tasks]``: how trials are put into tasks."""

    trials: Positive = 40
    """Main trials of a task, all of different units."""
    catch: Natural = 5
    """Catch trials of a task: obvious ones, to see who looks."""
    max_attempts: Positive = 3
    """Submissions per task before it is given up as short."""


class ExclusionSection(Record):
    """``[exclusion]``: a submission counts when every one of these holds (inclusive limits)."""

    min_catch_ratio: Share = 0.8
    min_total_seconds: Natural = 135
    max_total_seconds: Positive = 2500
    min_instruction_seconds: Natural = 15
    min_row_choices: Natural = 5
    """Each row, upper and lower, is chosen at least this often."""
    max_practice_blocks: Positive = 3


class PagesSection(Record):
    """``[pages]``: what participants meet."""

    template: str = "two_alternative"
    """Folder of hit_templates/."""
    language: str = "en"
    contact: Annotated[str, Field(min_length=3)]
    """Address for participants' questions."""
    investigator: Annotated[str, Field(min_length=1)]
    institution: Annotated[str, Field(min_length=1)]
    visit_minutes: Positive = 120
    """How long a participant may take before the task goes to somebody else."""


class PaySection(Record):
    """``[pay]``: in minor units (cents, pence) of one currency."""

    reward: Natural = 279
    """For one task."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    cap: Natural
    """No path spends more than this."""
    estimated_minutes: AboveZero = 15.0

    @property
    def reward_money(self) -> Money:
        return Money(amount=self.reward, currency=self.currency)

    @property
    def cap_money(self) -> Money:
        return Money(amount=self.cap, currency=self.currency)


class StudyFile(Record):
    """study.toml."""

    schema_version: Literal[1] = Field(alias="schema")
    study: StudySection
    images: ImagesSection
    models: Annotated[dict[Slug, ModelSection], Field(min_length=1)]
    arms: Annotated[tuple[ArmSection, ...], Field(min_length=1)]
    panels: PanelsSection = PanelsSection()
    visualisation: VisualisationSection = VisualisationSection()
    tasks: TasksSection = TasksSection()
    exclusion: ExclusionSection = ExclusionSection()
    pages: PagesSection
    pay: PaySection

    def arm(self, arm_id: str) -> ArmSection:
        return next(arm for arm in self.arms if arm.id == arm_id)

    def task_count(self, arm: ArmSection) -> int:
        """Tasks of an arm; ``load_study`` has made sure that they come out even."""
        return (arm.units + arm.null) * arm.responses // self.tasks.trials


@dataclass(frozen=True, slots=True)
class Study:
    """A study's folder: where everything is."""

    folder: Path
    file: StudyFile

    @property
    def toml(self) -> Path:
        return self.folder / "study.toml"

    @property
    def images(self) -> Path:
        return self.folder / self.file.images.folder

    @property
    def pack(self) -> Path:
        return self.folder / "pack"

    @property
    def plan(self) -> Path:
        """The tasks as laid out, answers included: never served."""
        return self.folder / "plan.json"

    @property
    def sprites(self) -> Path:
        return self.folder / "sprites"

    @property
    def key(self) -> Path:
        """The study's secret, from which sprite tokens and visit tokens are made."""
        return self.folder / "study.key"

    @property
    def database(self) -> Path:
        return self.folder / "study.db"

    def rehearsal(self, name: str) -> Path:
        return self.folder / "rehearsals" / name

    def path(self, relative: Path) -> Path:
        """A path from study.toml: relative ones start at the study's folder."""
        return self.folder / relative


def load_study(folder: Path) -> Study:
    """Read and check ``folder/study.toml``.

    Raises:
        StudyError: with one line for every problem found, not only the first.
    """
    path = folder / "study.toml"
    raw = _read(path)
    problems = [*mistakes(StudyFile, raw), *_misfits(raw)]
    if problems:
        raise StudyError(*(f"{path}: {problem}" for problem in problems))
    return Study(folder, StudyFile.model_validate(raw))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise StudyError(f"{path}: there is no study here; make one with `crowd-imi init {path.parent}`") from None
    except NotADirectoryError:
        raise StudyError(f"{path.parent}: this is a file; give the study's folder, where study.toml is") from None
    except IsADirectoryError:
        raise StudyError(f"{path}: this is a folder; study.toml must be a file") from None
    try:
        raw = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise StudyError(f"{path}: this is no text in UTF-8; save it as UTF-8, or start from `crowd-imi init`") from None
    except tomllib.TOMLDecodeError as error:
        detail = str(error)
        raise StudyError(f"{path}: this is no valid TOML: {detail[:1].lower()}{detail[1:]}; mend that place first") from None
    if not raw:
        raise StudyError(f"{path}: the file is empty; start from the commented one that `crowd-imi init` writes")
    return raw


def _misfits(raw: dict[str, Any]) -> Iterator[str]:
    """Numbers that are right one by one but don't fit together; looks only at sections that are right."""
    tasks = _section(TasksSection, raw.get("tasks", {}))
    exclusion = _section(ExclusionSection, raw.get("exclusion", {}))
    models = raw.get("models")
    yield from _model_misfits(models if isinstance(models, dict) else {})
    yield from _arm_misfits(raw, models, tasks)
    if exclusion is not None:
        yield from _exclusion_misfits(exclusion, tasks)


def _model_misfits(models: dict[str, object]) -> Iterator[str]:
    for name, value in models.items():
        model = _section(ModelSection, value)
        if name == NULL:
            yield f"models.{name}: this name stands for null units in every table; choose another"
        if model is not None and model.pretrained and model.checkpoint is not None:
            yield f"models.{name}: checkpoint and pretrained = true can't both hold; take one out"


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


def image_files(folder: Path) -> Iterator[Path]:
    """Image files in a folder and below it, in no particular order; whether one can be read shows when it is."""
    return (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def images_needed(study: StudyFile) -> int:
    """The smallest number of usable images from which every arm's panels can be made.

    With B batches a unit's references are its 9·B lowest and 9·B highest images, and its queries come from windows of B
    ranks that don't touch them, so easy panels need 20·B images. The other windows begin at a share p of all
    images, which must be behind the references (p·N ≥ 9·B) and must not meet in the middle.
    """
    batches = study.panels.batches
    needed = 2 * (REFERENCES + 1) * batches
    for arm in study.arms:
        share = DIFFICULTY_PERCENTILE[arm.difficulty]
        if share is not None:
            needed = max(needed, ceil(REFERENCES * batches / share))
    return needed
