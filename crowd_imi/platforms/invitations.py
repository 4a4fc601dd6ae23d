"""The list of people who are invited: read from the researcher's table, written again with a link for each.

The list stays with the researcher and is the only thing that says which invitation is whose.
"""

import csv
import io
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crowd_imi.errors import InvitationError
from crowd_imi.platforms.link import Invitation, LinkPlatform, Standing
from crowd_imi.records import Money

COLUMNS = ("invitation", "link", "taken_part", "to_pay")
"""What is written beside the list's own columns; a list that has all of them already gets them anew."""

USUAL = ("id", "participant", "email")
"""Columns that say who somebody is, where none is named."""

_IN_WORDS = {
    "active": "under way",
    "awaiting_review": "handed in",
    "approved": "approved",
    "rejected": "rejected",
    "returned": "left",
    "timed_out": "left",
}
_LEFT = ("returned", "timed_out")
_DELIMITERS = ",;\t"
_MOST_PROBLEMS = 10
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class People:
    """A table with a row per person."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """As they were, without the columns that are ours."""
    ids: tuple[str, ...]
    """Who each row is."""
    column: str
    """Where the ids were found."""
    delimiter: str
    has_bom: bool


def read_people(path: Path, column: str | None = None) -> People:
    """Read a table with a row per person.

    Args:
        path: a CSV file in UTF-8 whose first line names the columns; commas, semicolons or tabs between them.
        column: which one says who somebody is; else one called as in ``USUAL``, or the first.

    Raises:
        InvitationError: it isn't such a table, or somebody in it has no id or stands there twice; each problem is a line.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvitationError(f"{path}: this isn't UTF-8; save it as “CSV UTF-8” in the spreadsheet") from None
    first_line = text.lstrip().partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first_line.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, tuple(row)) for row in reader if any(row) or len(row) == 1]
    except csv.Error as error:
        raise InvitationError(f"{path}: this isn't a table of comma-separated values ({error})") from None
    if not lines:
        raise InvitationError(f"{path}: the file is empty; its first line names the columns, then comes a line per person")
    (_, header), *body = lines
    place = _find(path, header, column)
    problems = list(_problems(path, body, header, place))
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        raise InvitationError("\n".join(problems[:_MOST_PROBLEMS] + [f"{path}: and {more} more lines like these"] * (more > 0)))
    kept = _kept(path, header)
    return People(
        header=tuple(header[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for _, row in body),
        ids=tuple(_identity(row[place]) for _, row in body),
        column=header[place],
        delimiter=delimiter,
        has_bom=content.startswith(_BOM),
    )


def invite(
    platform: LinkPlatform, posted: Sequence[str], people: Sequence[str]
) -> tuple[tuple[Invitation, ...], dict[str, Standing]]:
    """A link for each person, and where those stand who have come, over all of a study's postings.

    Nobody takes part in the pilot and in the study: who is in the pilot, or was, keeps its link.

    Args:
        platform: that the study is on.
        posted: its postings there, the newest last; whoever is new is invited to that one.
        people: who is invited.

    Returns:
        An invitation for each person, in their order, and invitation → standing; what is owed is the sum over postings.
    """
    *earlier, newest = posted
    invitations = {one.id: one for one in platform.invite(newest, people)}
    standings = platform.standings(newest)
    for posting in reversed(earlier):
        theirs = platform.standings(posting)
        for one in platform.invite(posting, people):
            before, now = theirs.get(one.id), standings.get(one.id)
            if before is None:
                continue
            keeps = before.status not in _LEFT
            if keeps:
                invitations[one.id] = one
            owed = before.to_pay.amount + (0 if now is None else now.to_pay.amount)
            said = before if keeps or now is None else now
            standings[one.id] = replace(said, to_pay=Money(amount=owed, currency=before.to_pay.currency))
    return tuple(invitations.values()), standings


def with_links(people: People, invitations: tuple[Invitation, ...], standings: dict[str, Standing]) -> bytes:
    """The table as a CSV file, with our columns at its end."""
    out = io.StringIO(newline="")
    # \r\n as the separator of lines makes the writer quote both of its characters within values.
    writer = csv.writer(out, delimiter=people.delimiter, lineterminator="\r\n")
    writer.writerow((*people.header, *COLUMNS))
    for row, invitation in zip(people.rows, invitations, strict=True):
        standing = standings.get(invitation.id)
        came = "" if standing is None else _IN_WORDS.get(standing.status, standing.status)
        to_pay = str(standing.to_pay) if standing is not None and standing.to_pay.amount else ""
        writer.writerow((*row, invitation.id, invitation.url, came, to_pay))
    return (_BOM if people.has_bom else b"") + out.getvalue().encode()


def _find(path: Path, header: tuple[str, ...], column: str | None) -> int:
    """Which column says who somebody is."""
    names = [name.strip().casefold() for name in header]
    if column is not None:
        wanted = column.strip().casefold()
        if wanted not in names:
            raise InvitationError(f"{path}: there is no column {column!r} (there: {', '.join(map(repr, header))})")
    else:
        wanted = next((usual for usual in USUAL if usual in names), names[0])
        if wanted == names[0] and ("@" in wanted or wanted.isdigit()):
            raise InvitationError(f"{path}: the first line has to name the columns, but it begins with {header[0]!r}")
    if names.count(wanted) > 1:
        raise InvitationError(f"{path}: {names.count(wanted)} columns are called {wanted!r}; rename all but one")
    return names.index(wanted)


def _problems(path: Path, body: list[tuple[int, tuple[str, ...]]], header: tuple[str, ...], place: int) -> Iterator[str]:
    if not body:
        yield f"{path}: nobody is on the list; under the line with the names of columns comes a line per person"
    seen: dict[str, int] = {}
    for number, row in body:
        if len(row) != len(header):
            yield f"{path}: line {number} has {len(row)} columns, but the first line has {len(header)}"
            continue
        who = _identity(row[place])
        if not who:
            yield f"{path}: line {number} has nothing in the column {header[place]!r}"
        elif who in seen:
            yield f"{path}: lines {seen[who]} and {number} are the same person, {who!r}; each person is invited once"
        else:
            seen[who] = number


def _kept(path: Path, header: tuple[str, ...]) -> tuple[int, ...]:
    """The columns that aren't ours."""
    ours = set(COLUMNS) & set(header)
    if ours and ours != set(COLUMNS):
        names = ", ".join(sorted(ours))
        raise InvitationError(f"{path}: we write columns of our own called {names}; rename yours")
    return tuple(index for index, name in enumerate(header) if name not in ours)


def _identity(value: str) -> str:
    """The same person is written in the same way: letters with accents have two forms in Unicode."""
    return unicodedata.normalize("NFC", value.strip())
