"""Which run a command works on: the study's own, or a rehearsal's."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crowd_imi.errors import StoreError

if TYPE_CHECKING:
    from crowd_imi.platforms.base import Platform
    from crowd_imi.store import Store
    from crowd_imi.study import Study

Rehearsal = Annotated[str | None, typer.Option(metavar="NAME", help="Work on this rehearsal instead of the study itself.")]


def run_folder(study: "Study", rehearsal: str | None) -> Path:
    """Where the run's databases lie.

    Raises:
        StoreError: there is no rehearsal of this name.
    """
    if rehearsal is None:
        return study.folder
    folder = study.rehearsal(rehearsal)
    if not folder.is_dir():
        known = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        raise StoreError(f"{folder}: there is no such rehearsal (there: {', '.join(known) or 'none'})")
    return folder


def open_run(study: "Study", rehearsal: str | None) -> "tuple[Store, Platform]":
    """The run's store and the platform that it is on."""
    from crowd_imi.platforms.opening import choice_of, open_platform, require_books
    from crowd_imi.store import Store
    from crowd_imi.store.engine import database_urls

    folder = run_folder(study, rehearsal)
    store = Store.open(*database_urls(folder))
    choice = choice_of(store)
    require_books(store, folder, choice)
    return store, open_platform(study, folder, choice)
