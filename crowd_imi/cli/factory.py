"""``render``, ``gallery`` and ``pack verify``: from models and images to a pack that was looked through."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.errors import PackError, command
from crowd_imi.records import Record
from crowd_imi.study import Study, load_study

if TYPE_CHECKING:
    from crowd_imi.pack import Manifest


def _folder(written: str) -> Path:
    """A folder to write into; an empty text, as of a variable that isn't set, must not stand for the current one."""
    if not written.strip():
        raise typer.BadParameter("the folder's name is empty; name one")
    if Path(written).is_file():
        raise typer.BadParameter(f"{written} is a file; name a folder")
    return Path(written)


def _devices(written: str) -> str:
    devices = written.split(",")
    if not all(re.fullmatch(r"cpu|cuda:\d+", device) for device in devices):
        raise typer.BadParameter(f"{written!r}: write cpu or cuda:N, or several of them with commas between, as cuda:0,cuda:1")
    if len({device.partition(":")[0] for device in devices}) > 1:
        raise typer.BadParameter(f"{written!r}: take one kind; on another the last bits of what is computed differ")
    if len(set(devices)) < len(devices) and "cpu" not in devices:
        raise typer.BadParameter(f"{written!r}: name every GPU once")
    return written


CropCache = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", parser=_folder, help="Keep decoded crops here for the next model's pass: 150 KB per image at 224 px."
    ),
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Threads that decode images; as many as there are cores, by default.")
]
Devices = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        parser=_devices,
        help="Where to compute: cpu, cuda:1, or several of one kind, each with a process of its own: cuda:0,cuda:1. By default "
        "the first GPU, if there is one.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Let a Ray cluster do the work: HOST:PORT of its head, or auto for this machine's."),
]
Veto = Annotated[
    list[str] | None, typer.Option(metavar="IMAGE", help="Never show this image: its SHA-256 or the beginning of it. Repeatable.")
]
VetoUnit = Annotated[
    list[str] | None, typer.Option(metavar="UNIT", help="Never ask about this unit (model/layer/channel). Repeatable.")
]
Unveto = Annotated[
    list[str] | None, typer.Option(metavar="VETO", help="Lift the veto of an image (SHA-256 or name) or a unit. Repeatable.")
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept beside the vetoes.")]
Approve = Annotated[bool, typer.Option("--approve", help="Sign off what the gallery shows: `publish` asks for it.")]


class Rendered(Record):
    """What ``render --json`` prints."""

    manifest: Path
    images: int
    """Usable natural images."""
    unreadable: tuple[str, ...]
    replaced_units: tuple[str, ...]
    skipped: dict[str, int]
    """``veto`` and ``near-duplicate`` → how often an image wasn't taken for a unit because of it."""
    units: dict[str, int]
    """Per arm, null units included."""


class GalleryMade(Record):
    """What ``gallery --json`` prints."""

    gallery: Path
    vetoed_images: tuple[str, ...]
    """Names below the image folder."""
    vetoed_units: tuple[str, ...]
    signed_off: bool
    """Whether this very pack is."""


class Verified(Record):
    """What ``pack verify --json`` prints."""

    images: int
    """Stored images, all of them whole."""
    left_over: tuple[Path, ...]
    """Files that don't belong to the pack; no damage."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    pack = typer.Typer(help="The pack of rendered stimuli.", no_args_is_help=True)
    app.command()(render)
    app.command()(gallery)
    pack.command()(verify)
    app.add_typer(pack, name="pack")


def render(  # noqa: PLR0913, PLR0917 (a parameter per option)
    study: StudyFolder,
    devices: Devices = None,
    cluster: Cluster = None,
    crop_cache: CropCache = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Sample units, record activations, choose exemplars, visualise features, write the pack; a killed run goes on."""
    if devices and cluster:
        raise typer.BadParameter("--devices and --cluster can't be used together: the cluster's machines say what they have")
    from crowd_imi.factory.render import Options
    from crowd_imi.factory.render import render as make

    output = Output(as_json)
    loaded = load_study(study)
    manifest = make(loaded, output.track, Options(crop_cache, workers, tuple(devices.split(",")) if devices else (), cluster))
    for name in manifest.unreadable:
        output.say(f"left out, as it can't be read: {loaded.images / name}")
    for replaced in manifest.replacements:
        output.say(f"{replaced.unit} was replaced by {replaced.replaced_by}: {replaced.reason}")
    skipped = Counter(skip.reason for model in manifest.models.values() for skip in model.skips)
    for reason, number in sorted(skipped.items()):
        output.say(_skipped(reason, number, manifest))
    for name, model in manifest.models.items():
        for layer, count in model.constant.items():
            output.say(f"{name}/{layer}: {count} of its units never vary")
    units = {arm.arm: len(arm.units) for arm in manifest.arms}
    for arm, count in units.items():
        output.say(f"{arm}: {count} units")
    path = loaded.pack / "manifest.json"
    unreadable = f" ({len(manifest.unreadable)} can't be read)" if manifest.unreadable else ""
    output.say(f"{len(manifest.sources)} images from {manifest.image_count} usable ones{unreadable} in {path}")
    output.result(
        Rendered(
            manifest=path,
            images=manifest.image_count,
            unreadable=manifest.unreadable,
            replaced_units=tuple(replaced.unit for replaced in manifest.replacements),
            skipped=dict(sorted(skipped.items())),
            units=units,
        )
    )


def _skipped(reason: str, number: int, manifest: "Manifest") -> str:
    units = len({skip.unit for model in manifest.models.values() for skip in model.skips if skip.reason == reason})
    why = "a person vetoed it" if reason == "veto" else "it looks like another one of the same unit"
    times, of = "once" if number == 1 else f"{number} times", f"{units} {'unit' if units == 1 else 'units'}"
    return f"an image was passed over and the next rank taken, as {why}: {times}, in {of}; the manifest names each"


def gallery(  # noqa: PLR0913, PLR0917 (a parameter per option)
    study: StudyFolder,
    veto: Veto = None,
    veto_unit: VetoUnit = None,
    unveto: Unveto = None,
    reason: Reason = "",
    approve: Approve = False,
    as_json: Json = False,
) -> None:
    """Make a page with every unit's panels, to look through before anybody is paid; veto what shouldn't be shown, or sign off."""
    from crowd_imi.factory.gallery import write_gallery
    from crowd_imi.pack import Pack
    from crowd_imi.signoff import missing_sign_off
    from crowd_imi.vetoes import change_vetoes, load_vetoes

    output = Output(as_json)
    loaded = load_study(study)
    pack = Pack(loaded.pack)
    changes = bool(veto or veto_unit or unveto)
    if approve and changes:
        raise typer.BadParameter("veto first, render and look again, then approve", param_hint="--approve")
    contradicted = _contradicted(veto or (), veto_unit or (), unveto or ())
    if contradicted is not None:
        raise typer.BadParameter(f"{contradicted} is vetoed in the same call; take one out", param_hint="--unveto")
    if reason and not (veto or veto_unit):
        raise typer.BadParameter("give --veto or --veto-unit, too", param_hint="--reason")
    if changes:
        before = load_vetoes(loaded)
        after = change_vetoes(loaded, images=veto or (), units=veto_unit or (), lift=unveto or (), reason=reason)
        output.say(f"vetoed: {', '.join([*after.images, *after.units]) or 'nothing'}")
        if before != after:
            output.say(f"next: {command('render', study)}, then {command('gallery', study)} to look again")
    if approve:
        _approve(loaded, output)
    path = write_gallery(loaded)
    if not changes and not approve:
        output.say(f"open {path} in a browser")
    missing = missing_sign_off(loaded, pack)
    if missing is not None and not changes and not loaded.database.exists():
        output.say(missing)
    vetoes = load_vetoes(loaded)
    output.result(
        GalleryMade(
            gallery=path,
            vetoed_images=tuple(vetoes.images),
            vetoed_units=tuple(vetoes.units),
            signed_off=missing is None,
        )
    )


def _contradicted(images: Sequence[str], units: Sequence[str], lift: Sequence[str]) -> str | None:
    """What the same call vetoes and lifts; images may be named by beginnings of different lengths."""
    for lifted in lift:
        alike = (lifted.lower().startswith(image.lower()) or image.lower().startswith(lifted.lower()) for image in images)
        if lifted in units or any(alike):
            return lifted
    return None


def _approve(study: Study, output: Output) -> None:
    from crowd_imi.factory.gallery import require_looked_at
    from crowd_imi.pack import Pack
    from crowd_imi.signoff import sign_off, signoff_path

    pack = Pack(study.pack)
    signed = sign_off(study, pack, require_looked_at(study, pack), datetime.now(UTC))
    output.say(f"signed off: {len(pack.manifest.sources)} images, pack {signed.pack_sha256[:12]}, in {signoff_path(study)}")


def verify(study: StudyFolder, as_json: Json = False) -> None:
    """Check that the pack is whole: manifest, table, and every image there, unchanged and opening."""
    from crowd_imi.pack import Pack

    output = Output(as_json)
    pack = Pack(load_study(study).pack)
    files = len(pack.manifest.sources) + 1
    damage = list(pack.damage())
    left_over = tuple(pack.left_over())
    for path in left_over:
        output.say(f"left over, nobody reads it: {path}")
    if damage:
        raise PackError("\n".join([*damage, f"{len(damage)} of {files} files; run `{command('render', study)}`"]))
    output.say(f"{len(pack.manifest.sources)} images, all whole")
    output.result(Verified(images=len(pack.manifest.sources), left_over=left_over))
