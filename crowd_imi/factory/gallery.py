"""``pack/gallery.html``: every unit's panels on one page, to be looked through, and vetoed from, before anybody is paid."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crowd_imi.errors import FactoryError, command
from crowd_imi.factory.methods import KEPT_KIND, WANTED_KIND, KeptVisualisations, Wanted, wanted_key
from crowd_imi.factory.pack import Kept
from crowd_imi.files import write_atomically
from crowd_imi.pack import GALLERY, MANIFEST, Manifest, Pack, image_path
from crowd_imi.study import Study
from crowd_imi.vetoes import PREFIX, load_vetoes, vetoed_but_shown

_SHORT = 12
"""Characters of an image's SHA-256 that the page names it by, or more where two images would share them."""


def write_gallery(study: Study) -> Path:
    """Write the page beside the manifest; it names the pack's images by relative paths.

    While a first pack is still being made, the page shows the visualisations that are finished, by the settings that study.toml
    has now.

    Returns:
        The page's path.

    Raises:
        PackError: there is no pack yet.
        FactoryError: vetoes.toml is damaged.
    """
    path = study.pack / GALLERY
    finished = () if (study.pack / MANIFEST).exists() else finished_so_far(study)
    page = page_so_far(study, finished) if finished else gallery_page(study, Pack(study.pack))
    write_atomically(path, page.encode())
    return path


def finished_so_far(study: Study) -> tuple[KeptVisualisations, ...]:
    """Units whose visualisations by the study's present settings are there, in the order in which they were finished."""
    file = study.file
    wanted = Kept(study.pack, WANTED_KIND)
    keys: set[str] = set()
    for name in {arm.model for arm in file.arms if arm.condition == "synthetic"}:
        of_model = wanted.get(wanted_key(name, file.models[name], file.visualisation, file.study.seed), Wanted)
        keys.update(() if of_model is None else of_model.visualisations)
    return tuple(Kept(study.pack, KEPT_KIND).those(keys, KeptVisualisations))


def page_so_far(study: Study, finished: Sequence[KeptVisualisations]) -> str:
    """The HTML of a page of visualisations without a pack."""
    return _environment().get_template("gallery_so_far.html.j2").render(title=study.file.study.title, units=finished)


def require_looked_at(study: Study, pack: Pack) -> Path:
    """Make sure that the page on the disk shows this pack, undamaged, and nothing that was vetoed.

    Returns:
        The page's path.

    Raises:
        FactoryError: it doesn't.
        PackError: an image is missing or changed.
    """
    path = study.pack / GALLERY
    vetoed = vetoed_but_shown(study, pack)
    if vetoed is not None:
        raise FactoryError(vetoed)
    if not path.is_file() or path.read_bytes() != gallery_page(study, pack).encode():
        raise FactoryError(
            f"{path}: there is no page of this pack yet; run `{command('gallery', study.folder)}` and look at it first"
        )
    damage = next(pack.damage(), None)
    if damage is not None:
        raise FactoryError(f"{damage}; run `{command('render', study.folder)}` and look again")
    return path


def gallery_page(study: Study, pack: Pack) -> str:
    """The page's HTML."""
    environment = _environment()
    manifest, vetoes = pack.manifest, load_vetoes(study)
    short = _short(manifest)
    environment.filters["short"] = lambda digest: digest[:short]
    return environment.get_template("gallery.html.j2").render(
        title=study.file.study.title,
        manifest=manifest,
        sources=manifest.sources,
        skipped=_skipped(manifest),
        vetoed_images=vetoes.images_shown(manifest),
        vetoed_units=vetoes.units,
        still_shown=len(vetoes.still_shown(manifest)),
        command=shlex.join(["crowd-imi", "gallery", str(study.folder.resolve())]),
        render=command("render", study.folder.resolve()),
        # Nothing in it may end the script that holds it.
        settings=json.dumps({"pack": pack.digest}).replace("<", "\\u003c"),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["path"] = lambda digest: image_path(Path(), digest).as_posix()
    return environment


def _short(manifest: Manifest) -> int:
    length = max(_SHORT, PREFIX)
    while len({digest[:length] for digest in manifest.sources}) < len(manifest.sources):
        length += 1
    return length


def _skipped(manifest: Manifest) -> dict[str, str]:
    """Unit → how many images its panels passed over, in words."""
    counts: dict[str, Counter[str]] = {}
    for model in manifest.models.values():
        for skip in model.skips:
            counts.setdefault(skip.unit, Counter())[skip.reason] += 1
    return {
        unit: ", ".join(f"{number} {_WORDS[reason][number > 1]}" for reason, number in sorted(of_unit.items()))
        for unit, of_unit in counts.items()
    }


_WORDS = {"near-duplicate": ("near-duplicate", "near-duplicates"), "veto": ("vetoed image", "vetoed images")}
