"""The experiment's sections of study.toml."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from crowd_imi.records import Condition, Difficulty, Money, Record
from crowd_imi.study.fields import AboveZero, Natural, Pixels, Positive, Share, Slug, Source


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
    """``[visualisation]``: the feature visualisations of the synthetic condition."""

    size: Pixels = 224
    procedure: Literal["adaptive", "published", "fixed"] = "adaptive"
    """How long images are optimised and how much their diversity weighs: ``adaptive``: one optimisation of ``steps``, in which it
    weighs as much as activation allows; ``published``: up to ``steps``, stopped early, with the largest weight for which the
    weakest image still drives the unit more than the best natural image; ``fixed``: ``steps`` and ``diversity`` as they stand
    here."""
    steps: Positive = 3400
    """Published: 20,000 at most."""
    learning_rate: AboveZero = 0.05
    diversity: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] = 100.0
    """Weight of the diversity term when the procedure is ``fixed``; 0 leaves it out."""
    engine: Literal["batched", "lucent"] = "batched"
    """``batched``: many units' images at a time; ``lucent``: lucent as it is, one side of a unit at a time, only for the fixed
    procedure."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """In which the network computes while images are optimised; what they reach is measured in float32."""
    at_once: Positive = 4
    """Units of a layer that are visualised together, both sides of each; more need more memory."""
    unbeaten: Literal["keep", "leave_out", "replace"] = "keep"
    """What becomes of a unit that photographs drive more than its strongest visualisation does, on either side: ``keep``: it is
    marked; ``leave_out``: the next sampled unit takes its place in synthetic arms; ``replace``: in all arms of the model."""

    @model_validator(mode="after")
    def _lucent_is_fixed(self) -> Self:
        if self.engine == "lucent" and self.procedure != "fixed":
            raise ValueError(
                f'engine = "lucent" knows only procedure = "fixed", and it is "{self.procedure}"; make it "fixed", or take '
                'engine = "batched"'
            )
        return self


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
    """Each row, upper and lower, is chosen at least this often in the main trials on real units."""
    max_practice_blocks: Positive = 3
    min_reaction_ms: Positive | None = None
    """A trial answered faster, by the browser's clock, is a fast one (buttons are locked for the first 1,500 ms); not judged
    where it isn't set."""
    max_fast_trials: Natural = 0
    """With ``min_reaction_ms``: so many fast trials are let pass."""
    max_button_run: Positive | None = None
    """The same of the six buttons at most so often in a row; not judged where it isn't set."""
    max_away_seconds: Positive | None = None
    """The longest time without the window's focus during the trials; not judged where it isn't set."""
    min_tile_px: Positive | None = None
    """CSS pixels on a side that every picture must have had on the screen; not judged where it isn't set."""
    report_accuracy: Annotated[bool, Field(strict=True)] = False
    """Keep the share of right main trials with every verdict. It is reported only: no threshold on the outcome excludes."""


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
    bonus: Natural = 0
    """On top of the reward, paid by ``harvest`` to who earned it (``bonus_for``), excluded or not; 0 promises none."""
    bonus_for: Literal["catch_trials", "completion"] = "catch_trials"
    """Who earns ``bonus``: ``catch_trials`` everybody who has all catch trials right, ``completion`` everybody who submits."""
    floor_per_hour: Natural | None = None
    """When submissions turn out to be paid less for an hour, on their median time, no more places are offered and a top-up is
    proposed; Prolific's own floor (6 GBP, 8 USD) where it isn't set and the study is there, 0 for none."""

    @property
    def reward_money(self) -> Money:
        return Money(amount=self.reward, currency=self.currency)

    @property
    def cap_money(self) -> Money:
        return Money(amount=self.cap, currency=self.currency)
