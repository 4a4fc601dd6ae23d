"""``init`` and ``check``: writing a study down, and finding out whether it can work."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.cli.publisher import EndpointUrl, PagesUrl
from crowd_imi.errors import StudyError, command
from crowd_imi.files import write_atomically
from crowd_imi.records import Record
from crowd_imi.study_templates import TemplateName, template

if TYPE_CHECKING:
    from crowd_imi.readiness import Readiness

GITIGNORE = """\
# What crowd-imi makes here. Keys, participants' ids and answers don't belong into a repository;
# packs, plans and sprites are made anew from study.toml.
*.key
*.db
*.db-shm
*.db-wal
/pack/
/recordings/
/embeddings/
/plan.json
/sprites/
/network/
/rehearsals/
/report/
/export/
/serving.json
/hosted.json
"""


CheckedPlatform = Annotated[
    Literal["local", "link", "prolific", "mturk"] | None,
    typer.Option(
        "--on", help="Look at this platform too: credentials, balance, pay, and whether the pages answer.", show_default=False
    ),
]


class Begun(Record):
    """What ``init --json`` prints."""

    study_toml: Path
    template: str | None
    """None when study.toml was there already."""
    pages: tuple[Path, ...] = ()
    """Files of the participants' pages that were copied."""


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def init(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new study's folder; made when missing.")],
        template: Annotated[TemplateName, typer.Option(help="Which file to start from.")] = TemplateName.DEFAULT,
        with_templates: Annotated[
            bool,
            typer.Option(
                "--with-templates",
                help="Also copy the pages that participants see, with their texts and styles, to edit them; "
                "a study that is there already only gets the copy.",
            ),
        ] = False,
        json: Json = False,
    ) -> None:
        """Write a commented study.toml to start from."""
        output = Output(json)
        if with_templates and (folder / "study.toml").exists():
            output.result(Begun(study_toml=folder / "study.toml", template=None, pages=_copy_pages(folder, output)))
            return
        toml = begin(folder, template)
        pages = _copy_pages(folder, output) if with_templates else ()
        output.say(f"wrote {toml}; edit it, then run: {command('check', folder)}")
        output.result(Begun(study_toml=toml, template=template.value, pages=pages))

    @app.command()
    def check(
        study: StudyFolder,
        on: CheckedPlatform = None,
        pages_url: PagesUrl = None,
        endpoint_url: EndpointUrl = None,
        json: Json = False,
    ) -> None:
        """Look for every problem at once: file, images, models, pack, plan and money; with --on, the platform and pages too."""
        from crowd_imi.platforms.opening import DEFAULT_PAGES_URL, Choice
        from crowd_imi.readiness import look_at, with_platform
        from crowd_imi.study import load_study

        output = Output(json)
        loaded = load_study(study)
        found = look_at(loaded, output.track)
        if on is not None:
            found = with_platform(
                loaded, found, Choice(name=on, pages_url=pages_url or DEFAULT_PAGES_URL, endpoint_url=endpoint_url)
            )
        _tell(output, found)
        output.result(found)
        if found.problems:
            raise StudyError(*found.problems)


def begin(folder: Path, name: TemplateName) -> Path:
    """Write study.toml and a .gitignore into ``folder``; nothing that is there is overwritten.

    Raises:
        StudyError: there is a study already.
    """
    toml = folder / "study.toml"
    if toml.exists():
        raise StudyError(f"{toml}: there is a study here already; edit it, or choose another folder")
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder}: this is a file; name a folder")
    write_atomically(toml, template(name).encode())
    ignore = folder / ".gitignore"
    if not ignore.exists():
        write_atomically(ignore, GITIGNORE.encode())
    return toml


def _copy_pages(folder: Path, output: Output) -> tuple[Path, ...]:
    """The study's own copy of the pages; files that are there already are left as they are."""
    from crowd_imi.hit_templates import copy_template, own_folder
    from crowd_imi.study import load_study

    study = load_study(folder)
    written = copy_template(study)
    output.say(f"{own_folder(study)}: {len(written)} files copied; a file that you delete again is the one that ships")
    return written


def _tell(output: Output, found: "Readiness") -> None:
    output.say(f"study:  {found.study}, {found.tasks} tasks")
    output.say(f"images: {found.images}, {found.images_needed} are needed")
    output.say(f"cost:   {found.cost}, at the very most {found.most}; fees of a platform not counted")
    output.say(f"pay:    {found.pay_per_hour} per hour")
    for remark in found.remarks:
        output.say(f"remark: {remark}")
    if not found.problems:
        output.say("no problem found")
