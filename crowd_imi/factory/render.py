"""From a study's models and images to its pack."""

import logging
import platform
from dataclasses import dataclass, field, replace
from importlib.metadata import version

from crowd_imi.errors import FactoryError
from crowd_imi.factory.images import find_images
from crowd_imi.factory.pack import PackWriter, manifest_bytes
from crowd_imi.factory.panels import PanelMaker
from crowd_imi.factory.record import Recording
from crowd_imi.factory.sample import Sample, draw_sample
from crowd_imi.pack import ArmPack, Manifest, ModelProvenance, Replacement
from crowd_imi.progress import Track, silent
from crowd_imi.study import Study, images_needed

MADE_WITH = ("crowd-imi", "kornia", "numpy", "pillow", "timm", "torch", "torch-lucent", "torchvision")
"""Whose versions the manifest states."""

log = logging.getLogger(__name__)


def render(study: Study, track: Track = silent) -> Manifest:
    """Sample units, record activations, choose exemplars, visualise features and write the pack.

    Running it again gives the same pack, and doesn't make a visualisation anew that an earlier run has finished.

    Raises:
        VisionError: a model, its weights or its layers can't be used.
        FactoryError: images or usable units are too few, or the study has begun with another pack.
    """
    images = find_images(study.images, study.file.panels.image_size, images_needed(study.file))
    writer = PackWriter(study.pack)
    made = _Made()
    for model_name in dict.fromkeys(arm.model for arm in study.file.arms):
        sample = draw_sample(study, model_name, images, track)
        made.add(model_name, sample)
        # Later models don't look again at what the first found out to be unusable.
        images = replace(images, names=sample.recording.names)
        maker = PanelMaker(study, sample, writer)
        for arm in study.file.arms:
            if arm.model == model_name:
                made.arms[arm.id] = maker.arm_pack(arm, track)
    _warn(study, made.recordings[0])
    manifest = _manifest(study, made, writer)
    _refuse_to_change(study, manifest)
    writer.finish(manifest)
    return manifest


def _refuse_to_change(study: Study, manifest: Manifest) -> None:
    """Answers are about the pack's panels: once there is a store, the pack stays as it is."""
    path = study.pack / "manifest.json"
    if study.database.exists() and path.exists() and path.read_bytes() != manifest_bytes(manifest):
        raise FactoryError(
            f"{path}: this study has begun ({study.database.name} is there), and study.toml, the images or installed libraries "
            "have changed since; put them back, or begin a new study in another folder"
        )


@dataclass
class _Made:
    """What the manifest tells of, while it comes together."""

    models: dict[str, ModelProvenance] = field(default_factory=dict)
    replacements: list[Replacement] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    """One per model; the first has looked at every file."""
    arms: dict[str, ArmPack] = field(default_factory=dict)

    def add(self, name: str, sample: Sample) -> None:
        self.models[name] = _provenance(sample)
        self.replacements += sample.replacements
        self.recordings.append(sample.recording)


def _provenance(sample: Sample) -> ModelProvenance:
    model = sample.model
    return ModelProvenance(source=model.source, weights_sha256=model.weights_sha256, input_size=model.input_size)


def _warn(study: Study, first: Recording) -> None:
    for name in first.unreadable:
        log.warning("%s: this image can't be read and is left out", study.images / name)
    for name in first.duplicates:
        log.warning("%s: this image looks exactly like an earlier one and is left out", study.images / name)


def _manifest(study: Study, made: _Made, writer: PackWriter) -> Manifest:
    first = made.recordings[0]
    return Manifest(
        study=study.file.study.name,
        seed=study.file.study.seed,
        image_size=study.file.panels.image_size,
        image_count=len(first.names),
        image_set_sha256=first.image_set_sha256,
        licence=study.file.images.licence,
        provenance=study.file.images.provenance,
        unreadable=first.unreadable,
        replacements=tuple(made.replacements),
        models=made.models,
        versions={"python": platform.python_version(), **{name: version(name) for name in MADE_WITH}},
        sources=dict(sorted(writer.sources.items())),
        arms=tuple(made.arms[arm.id] for arm in study.file.arms),
    )
