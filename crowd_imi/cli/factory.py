"""``render``, ``gallery`` and ``pack verify``: from models and images to a pack that can be looked through."""

from pathlib import Path

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.errors import PackError
from crowd_imi.records import Record
from crowd_imi.study import load_study


class Rendered(Record):
    """What ``render --json`` prints."""

    manifest: Path
    images: int
    """Usable natural images."""
    unreadable: tuple[str, ...]
    replaced_units: tuple[str, ...]
    units: dict[str, int]
    """Per arm, null units included."""


class GalleryMade(Record):
    """What ``gallery --json`` prints."""

    gallery: Path


class Verified(Record):
    """What ``pack verify --json`` prints."""

    images: int
    """Stored images, all of them whole."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    pack = typer.Typer(help="The pack of rendered stimuli.", no_args_is_help=True)
    app.command()(render)
    app.command()(gallery)
    pack.command()(verify)
    app.add_typer(pack, name="pack")


def render(study: StudyFolder, as_json: Json = False) -> None:
    """Sample units, record activations, choose exemplars, visualise features, write the pack."""
    from crowd_imi.factory.render import render as make

    output = Output(as_json)
    loaded = load_study(study)
    manifest = make(loaded, output.track)
    for name in manifest.unreadable:
        output.say(f"left out, as it can't be read: {loaded.images / name}")
    for replaced in manifest.replacements:
        output.say(f"{replaced.unit} was replaced by {replaced.replaced_by}: {replaced.reason}")
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
            units=units,
        )
    )


def gallery(study: StudyFolder, as_json: Json = False) -> None:
    """Make a page with every unit's panels, for a person to look through before anybody is paid."""
    from crowd_imi.factory.gallery import write_gallery

    output = Output(as_json)
    path = write_gallery(load_study(study))
    output.say(f"open {path} in a browser")
    output.result(GalleryMade(gallery=path))


def verify(study: StudyFolder, as_json: Json = False) -> None:
    """Check that every image of the pack is there and unchanged."""
    from crowd_imi.pack import Pack

    output = Output(as_json)
    pack = Pack(load_study(study).pack)
    damage = list(pack.damage())
    if damage:
        raise PackError(
            "\n".join([*damage, f"{len(damage)} of {len(pack.manifest.sources)} images; run `crowd-imi render {study}`"])
        )
    output.say(f"{len(pack.manifest.sources)} images, all whole")
    output.result(Verified(images=len(pack.manifest.sources)))
