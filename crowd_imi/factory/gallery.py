"""``pack/gallery.html``: every unit's panels on one page, to be looked through before anybody is paid."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crowd_imi.files import write_atomically
from crowd_imi.pack import Pack, image_path
from crowd_imi.study import Study


def write_gallery(study: Study) -> Path:
    """Write the page beside the manifest; it names the pack's images by relative paths.

    Returns:
        The page's path.

    Raises:
        PackError: there is no pack yet.
    """
    pack = Pack(study.pack)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["path"] = lambda digest: image_path(Path(), digest).as_posix()
    page = environment.get_template("gallery.html.j2").render(
        title=study.file.study.title, manifest=pack.manifest, sources=pack.manifest.sources
    )
    path = study.pack / "gallery.html"
    write_atomically(path, page.encode())
    return path
