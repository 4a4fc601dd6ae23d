"""study.toml as a whole, and the folder that it stands in."""

import tomllib
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from crowd_imi.errors import StudyError, command
from crowd_imi.files import begun_by
from crowd_imi.mistakes import mistakes
from crowd_imi.records import REFERENCES, Record, query_share
from crowd_imi.study.fields import Slug
from crowd_imi.study.misfits import misfits
from crowd_imi.study.platform_sections import HostingSection, LinkSection, MturkSection, ProlificSection
from crowd_imi.study.sections import (
    ArmSection,
    ExclusionSection,
    ImagesSection,
    ModelSection,
    PagesSection,
    PanelsSection,
    PaySection,
    RecordingSection,
    StudySection,
    TasksSection,
    VisualisationSection,
)


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
        """The file that is there once the study has begun: its database, or the note of the server that has it."""
        return begun_by(self.folder)

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
    problems = [*mistakes(StudyFile, raw), *misfits(raw)]
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
    except RecursionError:
        raise StudyError(f"{path}: values are nested too deeply to be read; start from `crowd-imi init`") from None
    if not raw:
        raise StudyError(f"{path}: the file is empty; start from the commented one that `crowd-imi init` writes")
    return raw


def _before_patterns(shards: Path) -> Path:
    """The folders of ``images.shards`` before the first that is a pattern."""
    parts = shards.parent.parts
    plain = next((place for place, part in enumerate(parts) if any(sign in part for sign in "*?[{")), len(parts))
    return Path(*parts[:plain])


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
