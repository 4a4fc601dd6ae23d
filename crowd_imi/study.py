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

from crowd_imi.errors import StudyError, command
from crowd_imi.mistakes import mistakes
from crowd_imi.records import REFERENCES, Condition, Difficulty, Money, Record, query_share

SCHEMA = 1

NULL = "null"
"""What null units are called in every table, so no model may be called so."""

PUBLISHED = "imi:"
"""How the source of one of the publication's nine models begins."""

Source = Annotated[
    str,
    Field(
        pattern=r"^(timm:.+|lucent:inceptionv1|imi:[a-z0-9_]+|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$",
        json_schema_extra={"form": "timm:ARCHITECTURE (e.g. timm:resnet50.tv_in1k), imi:NAME or package.module:function"},
    ),
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

ReadableBy = Literal["policy", "acl", "own"]
"""How everybody may read hosted sprites: a bucket policy, each object's ACL, or a way that the bucket's owner has set up."""

R = TypeVar("R", bound=Record)

WebAddress = Annotated[
    str,
    Field(
        pattern=r"^https?://[^\s?#;,'\"]+$", json_schema_extra={"form": "https://… without ? or #, e.g. https://s3.example.org"}
    ),
]
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
    """``[images]``: where the natural images come from: a folder, some files of a folder, or tar shards."""

    folder: Path | None = None
    """Relative to study.toml; searched recursively for JPEG, PNG and WebP files."""
    files: Path | None = None
    """A text file that names the images to take, one per line, relative to ``folder``; the others are left alone."""
    shards: Annotated[str, Field(min_length=1)] | None = None
    """Instead of a folder: WebDataset tar files, relative to study.toml, e.g. ``train/shard-*.tar`` or
    ``*/shard-{000..146}.tar``."""
    licence: Annotated[str, Field(min_length=1)]
    provenance: str = ""
    restricted: Annotated[bool, Field(strict=True)] = False
    """The licence forbids showing the images to the public: ``check`` and ``publish`` warn before they are served."""


class ReadoutSection(Record):
    """``[models.NAME.readouts.READOUT]``: units that aren't channels, read from a layer's output.

    Such a unit is written ``LAYER@READOUT/NUMBER``, and ``layers`` names a readout as ``LAYER@READOUT``.
    """

    layer: Annotated[str, Field(min_length=1)]
    """The module whose output is read."""
    kind: Literal["neurons", "directions", "sae", "transcoder"]
    """``neurons``: the channels at one position; ``directions``: rows of a matrix; ``sae``, ``transcoder``: their latents."""
    weights: Path | None = None
    """A safetensors file, relative to study.toml: the matrix of directions, or the encoder."""
    position: Annotated[tuple[Natural, ...], Field(min_length=1, max_length=2)] | None = None
    """Of neurons: ``[row, column]`` in a feature map, ``[token]`` in a transformer."""
    activation: Literal["relu", "topk", "jumprelu", "binary"] = "relu"
    """Of an SAE's or transcoder's encoder."""
    k: Positive | None = None
    """How many latents a topk encoder lets through at a position."""
    subtract_bias: Annotated[bool, Field(strict=True)] | None = None
    """Of an SAE: whether its decoder's bias is taken off the input. Where it isn't set, it is if the file holds one."""


class ModelSection(Record):
    """``[models.NAME]``: one network and the layers whose channels may become units."""

    source: Source
    """``timm:ARCHITECTURE``, ``lucent:inceptionv1``, one of the publication's nine as ``imi:NAME``, or a function of your
    own that returns an ``nn.Module``, as ``package.module:function``."""
    layers: tuple[str, ...] = ()
    """Module names; ``*`` stands for any part of a name. Only ``imi:`` models know their own: those of the publication."""
    units: tuple[str, ...] = ()
    """Ask about these, in this order, instead of sampling: ``LAYER/CHANNEL``, e.g. ``layer3.1.conv2/17``."""
    exclude: tuple[str, ...] = ()
    """Never ask about these: ``LAYER/CHANNEL``, or ``LAYER`` for all of its channels."""
    checkpoint: Path | None = None
    """Weights, relative to study.toml: safetensors, or a pickled state dict. Without: ``pretrained`` or random weights."""
    pretrained: Annotated[bool, Field(strict=True)] = False
    """Fetch the published weights. ``imi:`` models do so unless they have a checkpoint."""
    classes: Positive | None = None
    input_size: Positive | None = None
    """Pixels on a side; the model's own where it isn't set."""
    mean: tuple[float, float, float] | None = None
    """Per channel, of values in 0–1, taken off before the model looks; the model's own where it isn't set."""
    std: tuple[AboveZero, AboveZero, AboveZero] | None = None
    """Per channel, divided by; the model's own where it isn't set."""
    readouts: dict[Slug, ReadoutSection] = Field(default_factory=dict)
    """Units of this model that are not channels."""


class ArmSection(Record):
    """``[[arms]]``: one model in one condition at one difficulty; a participant sees one arm."""

    model: str
    condition: Condition
    difficulty: Difficulty = "easy"
    """How far apart the queries are: easy, medium, hard, very_hard, or a percentile: p99 is medium, p95 hard, p85 very_hard."""
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
    near_duplicate_bits: Annotated[int, Field(ge=0, le=20, strict=True)] = 8
    """Two images whose perceptual hashes (64 bits) differ in at most so many bits are never shown for one unit."""


class RecordingSection(Record):
    """``[recording]``: how activations are recorded; other values give slightly other activations."""

    batch: Positive = 64
    """Images that pass through the network at a time."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """In which the network computes; means are taken in float32."""


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
    content_warning: str = ""
    """What a participant should know beforehand of images that may disturb: stands in the posting and in the consent."""
    contact: Annotated[str, Field(min_length=3)]
    """Address for participants' questions."""
    investigator: Annotated[str, Field(min_length=1)]
    institution: Annotated[str, Field(min_length=1)]
    approval: str = ""
    """Who reviewed the study and under which number, e.g. ``Ethics board of the university, 2026-117``: stands in the consent."""
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


class ProlificSection(Record):
    """``[prolific]``: what Prolific is told besides ``[study]`` and ``[pay]``; the token is read from ``PROLIFIC_API_TOKEN``."""

    project: str | None = None
    """Id of the project that the study is made in; the account's default one where it isn't set."""
    workspace: str | None = None
    """Id of the workspace whose balance is looked at."""
    devices: Annotated[tuple[Literal["desktop", "tablet", "mobile"], ...], Field(min_length=1)] = ("desktop",)
    filters: tuple[dict[str, Any], ...] = ()
    """As Prolific's API takes them, e.g. ``{filter_id = "approval_rate", selected_range = {lower = 95, upper = 100}}``."""
    not_in_studies: tuple[str, ...] = ()
    """Ids of earlier studies: who took part in one isn't invited."""
    not_in_groups: tuple[str, ...] = ()
    """Ids of participant groups: their members aren't invited."""
    signed_arrivals: Annotated[bool, Field(strict=True)] = False
    """Let Prolific sign the link that participants follow, and let in only who comes with one, within two minutes."""
    fee_percent: Annotated[float, Field(ge=0, le=100)] = 33.3
    """Of the reward: 33.3 for academic accounts, 42.8 for corporate ones."""
    vat_percent: Annotated[float, Field(ge=0, le=100)] = 0.0
    """On the fee, where the account pays any."""


class LinkSection(Record):
    """``[link]``: participants whom you invite yourself."""

    open: Annotated[bool, Field(strict=True)] = False
    """One link for everybody, which can't tell whether somebody comes twice; otherwise each invitation is signed and counts
    once."""
    return_url: Annotated[str, Field(pattern=r"^https?://[^\s{}]+$")] | None = None
    """Where the browser goes at the end, with ``code`` and ``participant`` added, e.g. a lab pool's credit page."""


class MturkSection(Record):
    """``[mturk]``: what Mechanical Turk, or an endpoint that speaks its protocol, is told; credentials are AWS's usual ones."""

    profile: str | None = None
    """AWS profile; the environment's where it isn't set."""
    min_approved_percent: Annotated[int, Field(ge=0, le=100, strict=True)] = 98
    min_approved_number: Natural = 100
    countries: tuple[Annotated[str, Field(pattern=r"^[A-Z]{2}$")], ...] = ()
    """ISO 3166 codes; everybody where it is empty."""
    masters: Annotated[bool, Field(strict=True)] = False
    not_qualifications: Annotated[tuple[str, ...], Field(max_length=4)] = ()
    """Ids of earlier studies' qualifications: who has one isn't invited."""


class HostingSection(Record):
    """``[hosting]``: S3, or a storage that speaks its protocol, for the sprites; the pages serve them where no bucket is set.

    Credentials are AWS's usual ones.
    """

    bucket: (
        Annotated[
            str,
            Field(
                pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]+$",
                json_schema_extra={"form": "letters, digits, -, . and _, e.g. my-sprites"},
            ),
        ]
        | None
    ) = None
    """It must be there already."""
    region: str | None = None
    """The environment's or the profile's where it isn't set; AWS says by itself where a bucket is."""
    endpoint_url: WebAddress | None = None
    """Of a storage other than AWS, e.g. ``https://minio.your-lab.org``."""
    prefix: Annotated[
        str,
        Field(
            pattern=r"^([A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*/?)?$",
            json_schema_extra={"form": "letters, digits, -, _, . and /, e.g. studies/my-study"},
        ),
    ] = ""
    """Before every key, e.g. ``my-study``."""
    profile: str | None = None
    """AWS profile; the environment's where it isn't set."""
    public_url: WebAddress | None = None
    """Where browsers reach the bucket: a CDN's address or a domain's; the storage's own where it isn't set."""
    readable_by: ReadableBy = "policy"
    """How browsers may read sprites: ``policy`` or ``acl`` are set by ``host``; ``own`` was set up by you, e.g. a CDN."""

    @property
    def key_prefix(self) -> str:
        """The prefix as keys begin with it: empty, or with a slash at its end."""
        return f"{self.prefix.rstrip('/')}/" if self.prefix else ""


class StudyFile(Record):
    """study.toml."""

    schema_version: Literal[1] = Field(alias="schema")
    study: StudySection
    images: ImagesSection
    models: Annotated[dict[Slug, ModelSection], Field(min_length=1)]
    arms: Annotated[tuple[ArmSection, ...], Field(min_length=1)]
    panels: PanelsSection = PanelsSection()
    recording: RecordingSection = RecordingSection()
    visualisation: VisualisationSection = VisualisationSection()
    tasks: TasksSection = TasksSection()
    exclusion: ExclusionSection = ExclusionSection()
    pages: PagesSection
    pay: PaySection
    prolific: ProlificSection = ProlificSection()
    link: LinkSection = LinkSection()
    mturk: MturkSection = MturkSection()
    hosting: HostingSection = HostingSection()

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
        """The folder below which images are named; of shards, the last one before any that a pattern stands for."""
        images = self.file.images
        return self.folder / (images.folder or _before_patterns(Path(images.shards or "")))

    @property
    def pack(self) -> Path:
        return self.folder / "pack"

    @property
    def recordings(self) -> Path:
        """Activations as the factory recorded them; whoever needs the room may delete it once the pack is done."""
        return self.folder / "recordings"

    @property
    def embeddings(self) -> Path:
        """The pack's images as vectors, by similarity; may be deleted, and is made again where it is needed."""
        return self.folder / "embeddings"

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
        raise StudyError(f"{path}: there is no study here; make one with `{command('init', path.parent)}`") from None
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


def _before_patterns(shards: Path) -> Path:
    """The folders of ``images.shards`` before the first that is a pattern."""
    parts = shards.parent.parts
    plain = next((place for place, part in enumerate(parts) if any(sign in part for sign in "*?[{")), len(parts))
    return Path(*parts[:plain])


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


def images_needed(study: StudyFile) -> int:
    """The smallest number of usable images from which every arm's panels can be made.

    With B batches a unit's references are its 9·B lowest and 9·B highest images, and its queries come from windows of B
    ranks that don't touch them, so easy panels need 20·B images. The other windows begin at a share p of all
    images, which must be behind the references (p·N ≥ 9·B) and must not meet in the middle (p·N + B ≤ N/2). Near-duplicates
    and vetoed images are left out on top of that.
    """
    batches = study.panels.batches
    needed = 2 * (REFERENCES + 1) * batches
    for arm in study.arms:
        share = query_share(arm.difficulty)
        if share is not None:
            needed = max(needed, ceil(REFERENCES * batches / share), ceil(batches / (0.5 - share)))
    return needed
