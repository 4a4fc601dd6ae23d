"""``invitations``: a link for each person of a list, or the open link."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.cli.run_folder import Rehearsal, run_folder
from crowd_imi.errors import InvitationError, command
from crowd_imi.records import Money, Record

if TYPE_CHECKING:
    from crowd_imi.platforms.invitations import People
    from crowd_imi.platforms.link import LinkPlatform, Standing
    from crowd_imi.platforms.opening import Choice
    from crowd_imi.study import Study

ThePeople = Annotated[
    Path | None,
    typer.Argument(
        metavar="PEOPLE.CSV", help="A table with a line per person; its first line names the columns.", show_default=False
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where to write the same table with a link for each person.", show_default=False),
]
Column = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The column that says who somebody is. Default: id, participant or email, or the first.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file that --out names.")]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Invited(Record):
    """What ``invitations --json`` prints; nobody's id is in it."""

    posting: str
    """The platform's id."""
    places: int
    open_link: str | None
    """For everybody, where ``link.open`` is set."""
    out: Path | None
    people: int
    """On the list."""
    came: int
    """Of them."""
    to_pay: Money
    """What was approved for them, bonuses included."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(invitations)


def invitations(  # noqa: PLR0913, PLR0917 (one per option)
    study: StudyFolder,
    people: ThePeople = None,
    out: Out = None,
    column: Column = None,
    force: Force = False,
    rehearsal: Rehearsal = None,
    json: Json = False,
) -> None:
    """A personal link for each person on a list, for a study that is published `--on link`. Nothing is sent to anybody.

    The same person always gets the same link: run it again (with --force) for a longer list, or to see who has taken part
    and what each is to be paid.
    """
    from crowd_imi.platforms.invitations import read_people
    from crowd_imi.platforms.link import OPEN_LINK_WARNING
    from crowd_imi.study import load_study

    if (people is None) != (out is None):
        raise typer.BadParameter("name the list and where to write the links: PEOPLE.CSV --out FILE")
    loaded = load_study(study)
    platform, posted, choice = _published(loaded, rehearsal)
    posting = posted[-1]
    link = platform.open_link(posting)
    if people is None and link is None:
        raise InvitationError(
            f"{loaded.toml}: link.open isn't set, so each person is invited by name: "
            f"run `{command('invitations', study, 'people.csv', '--out', 'links.csv')}`"
        )
    output = Output(json)
    number, places = 0, platform.places(posting)
    came: tuple[Standing, ...] = ()
    if people is not None and out is not None:
        _require_free(out, people, force)
        listed = read_people(people, column)
        number, came = len(listed.ids), _write(platform, posted, listed, out)
        output.say(f"{out}: links for {number} people, told apart by the column {listed.column!r}; {places} places are offered")
    to_pay = Money(amount=sum(standing.to_pay.amount for standing in came), currency=loaded.file.pay.currency)
    if came:
        output.say(f"  {len(came)} of them have come; {to_pay} to pay")
    if link is not None:
        output.say(f"open link: {link}\n  mind: {OPEN_LINK_WARNING}")
    if urlsplit(choice.pages_url).hostname in LOOPBACK:
        output.say(f"  mind: links to {choice.pages_url} work on this machine alone")
    output.result(
        Invited(
            posting=posting,
            places=places,
            open_link=link,
            out=out,
            people=number,
            came=len(came),
            to_pay=to_pay,
        )
    )


def _published(study: "Study", rehearsal: str | None) -> "tuple[LinkPlatform, list[str], Choice]":
    """The link platform of the study, and its postings: people are invited to the newest, which is the last."""
    from crowd_imi.platforms.link import LinkPlatform
    from crowd_imi.platforms.opening import choice_of, open_platform
    from crowd_imi.store import Store
    from crowd_imi.store.engine import database_urls
    from crowd_imi.store.postings import postings

    folder = run_folder(study, rehearsal)
    store = Store.open(*database_urls(folder))
    choice = choice_of(store)
    with store.read() as session:
        posted = [posting.platform_id for posting in postings(session) if posting.platform_id is not None]
    platform = open_platform(study, folder, choice) if choice.name == "link" else None
    again = command("publish", study.folder, "--on", "link")
    if not isinstance(platform, LinkPlatform):
        raise InvitationError(f"{study.folder}: this study is on {choice.name}; people are invited to one published by `{again}`")
    if not posted:
        raise InvitationError(f"{study.folder}: this study isn't posted yet; run `{again}`")
    return platform, posted, choice


def _require_free(out: Path, people: Path, force: bool) -> None:
    """Write over nothing that somebody may want to keep."""
    if out.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise InvitationError(f"{out}: the list of links is a CSV file; give it a name that ends in .csv")
    if not out.exists():
        return
    if people.exists() and out.samefile(people):
        raise InvitationError(f"{out}: this is the list itself; write the links to another file")
    if not force:
        raise InvitationError(f"{out}: there is a file here already; choose another, or replace it with --force")


def _write(platform: "LinkPlatform", posted: list[str], people: "People", out: Path) -> "tuple[Standing, ...]":
    """Write the list with links; returns where those stand who have come."""
    from crowd_imi.files import write_atomically
    from crowd_imi.platforms.invitations import invite, with_links

    made, standings = invite(platform, posted, people.ids)
    write_atomically(out, with_links(people, made, standings), mode=0o600)
    return tuple(standings[invitation.id] for invitation in made if invitation.id in standings)
