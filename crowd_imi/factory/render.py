"""From a study's models and images to its pack."""

import hashlib
import logging
import os
import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import torch

from crowd_imi.errors import FactoryError, PackError, command
from crowd_imi.factory.cluster.bench import Place
from crowd_imi.factory.cluster.crew import Crew
from crowd_imi.factory.cluster.processes import Processes
from crowd_imi.factory.crops import CropReader
from crowd_imi.factory.images import study_images
from crowd_imi.factory.judge import Judge
from crowd_imi.factory.methods import NO_OTHERS, Methods
from crowd_imi.factory.network import Network, load_network
from crowd_imi.factory.pack import PackWriter, sealed
from crowd_imi.factory.panels import PanelMaker
from crowd_imi.factory.record import Recorder, Recording, hold_together
from crowd_imi.factory.running import alone
from crowd_imi.factory.sample import Sample, draw_sample
from crowd_imi.image_sets import image_set
from crowd_imi.pack import ArmPack, Manifest, ModelProvenance, Pack, Recorded, Replacement, Skip, manifest_bytes
from crowd_imi.progress import Track, silent
from crowd_imi.records import Unit
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.store.tasks import amendments
from crowd_imi.study import Study
from crowd_imi.vetoes import Vetoes, load_vetoes

KEPT = 12
"""Lowest and highest activations that are kept of every unit, per batch of panels: those that easy panels show, and some more."""

MADE_WITH = ("crowd-imi", "kornia", "numpy", "pillow", "pyarrow", "scipy", "timm", "torch", "torch-lucent", "torchvision")
"""Whose versions the manifest states."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What depends on the machine and not on the study."""

    crop_cache: Path | None = None
    """A folder where crops are kept for later passes, N · size² · 3 bytes."""
    workers: int | None = None
    """Threads that decode images; as many as there are cores, by default."""
    devices: tuple[str, ...] = ()
    """``cpu`` or ``cuda:N``, all of one kind; of several, each has a process. The first GPU, if there is one, by default."""
    cluster: str | None = None
    """The address of a Ray cluster that does the work."""


DEFAULTS = Options()


def render(study: Study, track: Track = silent, options: Options = DEFAULTS, methods: Methods = NO_OTHERS) -> Manifest:
    """Sample units, record activations, choose exemplars, visualise features and write the pack.

    Running it again gives the same pack: a recording goes on where it was killed, and no visualisation that an earlier run has
    finished is made anew.

    Args:
        study: with its images and models.
        track: shows progress.
        options: of this machine.
        methods: of explanation, for the conditions in which neither natural exemplars nor feature visualisations are to be shown;
            panels made anew later need the same ones.

    Raises:
        VisionError: a model, its weights or its layers can't be used.
        FactoryError: images or usable units are too few, the study has begun with another pack, another render is at work, or
            no worker is left.
    """
    study = replace(study, folder=study.folder.resolve())
    with alone(study.recordings / ".lock"), hired(study, options) as crew:
        return _render(study, track, options, crew, methods)


def hired(study: Study, options: Options) -> AbstractContextManager[Crew | None]:
    """Who does the work; None is this process."""
    if options.cluster is not None:
        try:
            from crowd_imi.factory.cluster.on_ray import OnRay
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise FactoryError(
                "--cluster: Ray isn't installed here; install it with `pip install 'crowd-imi[cluster]'`"
            ) from error
        return OnRay(options.cluster, Place(study, "cpu", torch.get_num_threads(), options.workers, options.crop_cache))
    count = torch.cuda.device_count()
    for device in options.devices:
        if device != "cpu" and int(device.partition(":")[2]) >= count:
            raise FactoryError(f"--devices {','.join(options.devices)}: this machine has {count} GPUs, and so no {device}")
    if len(options.devices) < 2:
        return nullcontext()
    decoders = options.workers or max(1, (os.cpu_count() or 1) // len(options.devices))
    places = [Place(study, device, torch.get_num_threads(), decoders, options.crop_cache) for device in options.devices]
    return Processes(places)


def _render(study: Study, track: Track, options: Options, crew: Crew | None, methods: Methods) -> Manifest:
    images = study_images(study)
    file = study.file
    recorder = Recorder(
        folder=study.recordings,
        crops=CropReader(images, file.panels.image_size, options.crop_cache, options.workers),
        settings=file.recording,
        seed=file.study.seed,
        k=KEPT * file.panels.batches,
        crew=crew,
    )
    writer = _writer(study)
    made = _Made()
    vetoes = load_vetoes(study)
    for model_name in dict.fromkeys(arm.model for arm in file.arms):
        network = load_network(study, model_name, options.devices[0] if options.devices else None)
        maker, sample, moved_up = _maker(study, network, recorder, vetoes, writer, methods, track)
        made.hold_together(sample.recording)
        _warn_of_strange_vetoes(vetoes, model_name, sample)
        for arm in file.arms:
            if arm.model == model_name:
                made.arms[arm.id] = maker.arm_pack(arm, track)
        made.add(model_name, sample, maker.skips, moved_up)
    manifest = sealed(_manifest(study, made, writer))
    _hold_to_begun(study, manifest)
    writer.finish(manifest)
    recorder.forget_all_but(made.folders)
    _warn_of_change(study, recorder.crops)
    return manifest


def _maker(  # noqa: PLR0913, PLR0917 (what a render holds)
    study: Study, network: Network, recorder: Recorder, vetoes: Vetoes, writer: PackWriter, methods: Methods, track: Track
) -> tuple[PanelMaker, Sample, tuple[Replacement, ...]]:
    """Of one model's panels, once its visualisations are as the study wants them, and what synthetic arms pass over."""
    policy = study.file.visualisation.unbeaten
    synthetic = any(arm.model == network.name and arm.condition == "synthetic" for arm in study.file.arms)
    visualised = synthetic and "synthetic" not in methods
    refused: dict[Unit, str] = {}
    while True:
        judge = Judge(study.file, network.name, vetoes, refused if policy == "replace" else None)
        more = len(refused) if policy == "leave_out" else 0
        sample = draw_sample(study, network, recorder, judge, track, more=more)
        maker = PanelMaker(study, sample, writer, judge.looks(sample.recording), recorder.crew, methods)
        if policy == "leave_out":
            maker.leave_out(refused)
        found: dict[Unit, str] = {}
        if visualised and policy == "keep":
            maker.visualisation.make_all(track)
        elif visualised:
            found = maker.visualisation.unbeaten(track)
        if not found:
            return maker, sample, _passed_over(refused, maker) if more else ()
        refused |= found


def _passed_over(refused: Mapping[Unit, str], maker: PanelMaker) -> tuple[Replacement, ...]:
    """Units that synthetic arms pass over; the last of those that they ask about came in their places."""
    return tuple(
        Replacement(unit=unit.key, reason=f"left out of synthetic arms: {reason}", replaced_by=other.key)
        for (unit, reason), other in zip(refused.items(), maker.visualisation.units[-len(refused) :], strict=False)
    )


def _warn_of_change(study: Study, crops: CropReader) -> None:
    """What came or went while images were recorded isn't in the pack; nobody would notice before the next render."""
    try:
        now = image_set(study)
    except FactoryError as error:
        log.warning("%s: images changed while they were recorded: %s", study.images, error)
        return
    if now.digest() != crops.digest:
        before, after = set(crops.images.names), set(now.names)
        log.warning(
            "%s: images changed while they were recorded (%d more, %d fewer, or others written anew), and the pack shows those "
            "that were there at the beginning; run `%s` to take the change in",
            *(study.images, len(after - before), len(before - after), command("render", study.folder)),
        )


def _warn_of_strange_vetoes(vetoes: Vetoes, model: str, sample: Sample) -> None:
    """A slip of the pen in vetoes.toml must not show somebody what was meant to be kept away."""
    layers = sample.network.by_name
    for key in vetoes.units:
        unit = Unit.from_key(key)
        layer = layers.get(unit.layer)
        if unit.model == model and (layer is None or unit.channel >= layer.channels or unit.key != key):
            log.warning("vetoes.toml: %s has no unit %s among its layers; correct it if you meant another", model, key)


def _writer(study: Study) -> PackWriter:
    """Of a study that has begun, one that stores nothing that isn't in the pack already."""
    if not study.database.exists():
        return PackWriter(study.pack)
    try:
        there = frozenset(Pack(study.pack).manifest.sources)
    except PackError:
        return PackWriter(study.pack)  # damaged or gone: it may be made again as it was
    return PackWriter(study.pack, only=there, otherwise=_begun(study))


def _hold_to_begun(study: Study, manifest: Manifest) -> None:
    """Answers are about the pack's panels: once there is a store, the pack stays the one that it names."""
    if not study.database.exists():
        return
    store = Store.open(*database_urls(study.folder))
    try:
        if store.about("pack_sha256") != hashlib.sha256(manifest_bytes(manifest)).hexdigest():
            raise FactoryError(_begun(study))
    finally:
        store.close()


def _begun(study: Study) -> str:
    said = (
        f"{study.pack}: this study has begun ({study.database.name} is there), and study.toml, the vetoes, the images or "
        "installed libraries have changed since; put them back, or begin a new study in another folder"
    )
    store = Store.open(*database_urls(study.folder))
    try:
        with store.read() as session:
            voided = [amendment.name for amendment in amendments(session) if amendment.panels_sha256 is not None]
    finally:
        store.close()
    if voided:
        said += (
            f". Panels were made anew meanwhile ({', '.join(voided)}): no render brings back a pack from before what was vetoed "
            "for it; if it is lost, restore it from a backup"
        )
    return said


@dataclass
class _Made:
    """What the manifest tells of, while it comes together."""

    models: dict[str, ModelProvenance] = field(default_factory=dict)
    replacements: list[Replacement] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    """The first model's alone: all saw the same images, and one knows hundreds of megabytes about a large set."""
    folders: set[Path] = field(default_factory=set)
    """Of the recordings that the pack was made from."""
    arms: dict[str, ArmPack] = field(default_factory=dict)

    def add(self, name: str, sample: Sample, skips: tuple[Skip, ...], passed_over: tuple[Replacement, ...]) -> None:
        self.models[name] = _provenance(sample, skips)
        self.replacements += [*sample.replacements, *passed_over]
        self.folders |= {recording.folder for recording in sample.recordings.values()}

    def hold_together(self, recording: Recording) -> None:
        if not self.recordings:
            self.recordings.append(recording)
        hold_together(self.recordings[0], recording)


def _provenance(sample: Sample, skips: tuple[Skip, ...]) -> ModelProvenance:
    model, computed, layers = sample.network.model, sample.recording.computed, sample.network.by_name
    readouts = {name: layer.readout.sha256 for name, layer in layers.items() if layer.readout is not None}
    return ModelProvenance(
        source=model.source,
        weights_sha256=model.weights_sha256,
        input_size=model.input_size,
        layers=tuple(layers),
        constant={name: count for name in layers if (count := sample.recording.constant(name))},
        readouts=readouts,
        skips=skips,
        recorded=Recorded(device=computed.device, precision=computed.precision, batch=computed.batch, threads=computed.threads),
    )


def _manifest(study: Study, made: _Made, writer: PackWriter) -> Manifest:
    first = made.recordings[0]
    return Manifest(
        study=study.file.study.name,
        seed=study.file.study.seed,
        image_size=study.file.panels.image_size,
        image_count=len(first.usable),
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
