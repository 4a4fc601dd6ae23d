"""The pages that participants see: a study's own copy where it has one, else what ships.

``STUDY/hit_templates/TYPE/`` lies over ``hit_templates/TYPE/``: a file that is in both is the study's, so a copy may hold as
little as one more language. A folder of its own is what a researcher may edit; nothing of it is Python.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from crowd_imi.errors import StudyError
from crowd_imi.files import write_atomically
from crowd_imi.resources import resource
from crowd_imi.study import Study

FOLDER = "hit_templates"
TEXTS = "texts"
PAGE = "visit.html"
"""What a folder of hit_templates/ must hold to be a task's template."""


def template_folders(study: Study) -> tuple[Path, ...]:
    """Where pages are looked for, in this order.

    Raises:
        StudyError: ``pages.template`` is the name of no template.
    """
    name = study.file.pages.template
    shipped = {page.parent.name: page.parent for page in resource(FOLDER).glob(f"*/{PAGE}")}
    if name not in shipped:
        there = ", ".join(sorted(shipped))
        raise StudyError(f"pages.template = {name!r}: there is no such template; right would be one of: {there}")
    own = own_folder(study)
    return (own, shipped[name]) if own.is_dir() else (shipped[name],)


def own_folder(study: Study) -> Path:
    """Where a study's own copy lies, if it has one."""
    return study.folder / FOLDER / study.file.pages.template


def template_file(study: Study, *parts: str) -> Path | None:
    """A file of the template; None when there is none of this name."""
    found = (folder.joinpath(*parts) for folder in template_folders(study))
    return next((path for path in found if path.is_file()), None)


def languages(study: Study) -> tuple[str, ...]:
    """Languages that there are texts in."""
    return tuple(sorted({path.stem for folder in template_folders(study) for path in (folder / TEXTS).glob("*.toml")}))


def copy_template(study: Study) -> tuple[Path, ...]:
    """Give a study its own copy; files that it has already are left as they are.

    Returns:
        The files that were written.

    Raises:
        StudyError: ``pages.template`` is the name of no template.
    """
    shipped, own = template_folders(study)[-1], own_folder(study)
    written = []
    for name, path in _files(shipped):
        target = own / name
        if not target.exists():
            write_atomically(target, path.read_bytes())
            written.append(target)
    return tuple(written)


def frozen_files(study: Study) -> dict[str, str]:
    """Name → SHA-256 of every file of a study's own copy that publishing freezes: all but texts, which may be edited."""
    own = own_folder(study)
    return {name: _digest(path) for name, path in _files(own) if not name.startswith(f"{TEXTS}/")}


def edited_files(study: Study, published: Mapping[str, str]) -> Iterator[str]:
    """One line for each file of the template that isn't what it was at publishing.

    A copy that was made since and holds what ships changes nothing, and neither does another version of crowd-imi.

    Args:
        study: as it is now.
        published: ``frozen_files`` of it as it was published.
    """
    shipped = dict(_files(template_folders(study)[-1]))
    now = frozen_files(study)
    for name in sorted(published.keys() | now.keys()):
        as_shipped = _digest(shipped[name]) if name in shipped else None
        if published.get(name, as_shipped) != now.get(name, as_shipped):
            what = "was added" if as_shipped is None and name not in published else "was edited" if name in now else "is missing"
            yield f"{own_folder(study) / name} {what}"


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            yield path.relative_to(folder).as_posix(), path


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
