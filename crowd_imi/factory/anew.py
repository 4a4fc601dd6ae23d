"""Panels made anew after publishing, in the place of bad ones: by the recorded ranks, without what was vetoed."""

import hashlib
from collections.abc import Sequence

from crowd_imi.errors import FactoryError
from crowd_imi.factory.crops import CropReader
from crowd_imi.factory.images import study_images
from crowd_imi.factory.judge import Judge
from crowd_imi.factory.methods import NO_OTHERS, Methods, named, real
from crowd_imi.factory.network import load_network
from crowd_imi.factory.pack import PackWriter
from crowd_imi.factory.panels import PanelMaker
from crowd_imi.factory.record import Recorder, Recording
from crowd_imi.factory.render import DEFAULTS, KEPT
from crowd_imi.factory.running import alone
from crowd_imi.factory.sample import draw_sample
from crowd_imi.files import write_atomically
from crowd_imi.pack import ArmPack, MadeAnew, Pack, UnitPanels, revision_path
from crowd_imi.plan import Amendment, VoidedUnit
from crowd_imi.progress import Track, silent
from crowd_imi.records import Unit
from crowd_imi.study import Study
from crowd_imi.vetoes import load_vetoes


def make_anew(study: Study, amendment: Amendment, track: Track = silent, methods: Methods = NO_OTHERS) -> Amendment:
    """Make the panels of an amendment's units anew and keep them beside the pack, whose manifest stays as it was.

    Each unit's images are drawn into its panels with another seed; what is in vetoes.toml is left out, and the next ranks
    take its place. Visualisations stay. Run again, it comes to the same.

    Args:
        study: with its images and models, and the recordings or the time to record again.
        amendment: names the units and their revisions.
        track: shows progress.
        methods: as the pack was rendered with.

    Returns:
        The amendment with the digest of what was written.

    Raises:
        FactoryError: images, models or methods aren't what they were when the pack was rendered.
        VisionError: a model can't be used.
        PackError: there is no pack.
    """
    if not amendment.units:
        return amendment
    by_model: dict[str, list[VoidedUnit]] = {}
    for one in amendment.units:
        by_model.setdefault(Unit.from_key(one.unit).model, []).append(one)
    writer, made = PackWriter(study.pack), dict[str, list[UnitPanels]]()
    with alone(study.recordings / ".lock"):
        for model, voided in by_model.items():
            maker = _maker(study, model, writer, methods, track)
            for one in track(voided, f"making panels of {model} anew"):
                unit = maker.anew(study.file.arm(one.arm), Unit.from_key(one.unit), one.revision)
                made.setdefault(one.arm, []).append(unit)
    arms = {arm: tuple(units) for arm, units in made.items()}
    content = MadeAnew(arms=arms, sources=dict(sorted(writer.sources.items()))).model_dump_json(indent=1).encode() + b"\n"
    write_atomically(revision_path(study.pack, amendment.name), content)
    return amendment.model_copy(update={"panels_sha256": hashlib.sha256(content).hexdigest()})


def _maker(study: Study, model: str, writer: PackWriter, methods: Methods, track: Track) -> PanelMaker:
    """Of the units that are in the pack, whatever was vetoed since."""
    manifest = Pack(study.pack).manifest
    recorder = Recorder(
        folder=study.recordings,
        crops=CropReader(study_images(study), study.file.panels.image_size, DEFAULTS.crop_cache, DEFAULTS.workers),
        settings=study.file.recording,
        seed=study.file.study.seed,
        k=KEPT * study.file.panels.batches,
    )
    of_model = [arm for arm in manifest.arms if arm.model == model]
    _hold_to_method(of_model, methods)
    sampled = {entry.unit for arm in of_model for entry in arm.units if not entry.unit.null}

    def in_pack(unit: Unit, _recording: Recording) -> str | None:
        return None if unit in sampled else "it isn't in the pack"

    wanted = max(max(arm.units, arm.null) for arm in study.file.arms if arm.model == model)
    network = load_network(study, model)
    sample = draw_sample(study, network, recorder, in_pack, track, more=max(0, len(sampled) - wanted))
    if sample.recording.image_set_sha256 != manifest.image_set_sha256:
        raise FactoryError(f"{study.images}: images have changed since the pack was rendered; put them back to make panels anew")
    looks = Judge(study.file, model, load_vetoes(study)).looks(sample.recording)
    maker = PanelMaker(study, sample, writer, looks, methods=methods)
    maker.visualise_only(_visualised(of_model))
    return maker


def _hold_to_method(arms: Sequence[ArmPack], methods: Methods) -> None:
    """Units of one arm are explained in one way, whatever the one who asks has forgotten."""
    for arm in arms:
        given = named(methods, arm.condition)
        if given != arm.method:
            was, now = (method or "the condition's own method" for method in (arm.method, given))
            raise FactoryError(
                f"{arm.arm}: its images were made by {was} and not by {now}; make panels anew from Python, by `make_anew` with "
                "the `methods` that `render` was given"
            )


def _visualised(arms: Sequence[ArmPack]) -> Sequence[Unit]:
    """Units of synthetic arms, in the order in which they were visualised: groups follow from it.

    Arms, and null units too, begin with the same ones, so that the longest list has them all.
    """
    lists: list[list[Unit]] = [
        [real(entry.unit) for entry in arm.units if entry.unit.null == null]
        for arm in arms
        if arm.condition == "synthetic"
        for null in (False, True)
    ]
    return max(lists, key=len, default=[])
