"""Lists of people as spreadsheets write them."""

import csv
import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowd_imi.errors import InvitationError
from crowd_imi.platforms.invitations import COLUMNS, read_people, with_links
from crowd_imi.platforms.link import Invitation, Standing
from crowd_imi.records import Money


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "people.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def invitations(count: int) -> tuple[Invitation, ...]:
    return tuple(Invitation(f"i{number}", f"https://pages.example.org/join?invitation=t{number}") for number in range(count))


def problems(path: Path, column: str | None = None) -> list[str]:
    with pytest.raises(InvitationError) as failure:
        read_people(path, column)
    lines = str(failure.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


@pytest.mark.parametrize(
    ("content", "column", "expected"),
    [
        ("name,Email\nAnna,a@x.org\n", None, ("a@x.org",)),
        ("email,ID\na@x.org,7\n", None, ("7",)),
        ("nickname;group\r\nanna;1\r\nben;2\r\n", None, ("anna", "ben")),
        ("nickname\tgroup\nanna\t1\n", "GROUP", ("1",)),
        ("id\n  anna \n\n\nben", None, ("anna", "ben")),
        ('id,note\n"a, b","two\nlines"\n', None, ("a, b",)),
        (b"\xef\xbb\xbfid,x\nanna,1\n", None, ("anna",)),
    ],
)
def test_the_column_that_says_who_somebody_is_is_found(tmp_path: Path, content: str | bytes, column: str | None, expected):
    assert read_people(write(tmp_path, content), column).ids == expected


def test_each_mistake_is_one_line(tmp_path: Path):
    content = "id,group\nanna,1\n,2\nben\nanna,3\n caf\u00e9,4\ncafe\u0301,5\n"
    assert problems(write(tmp_path, content)) == [
        "line 3 has nothing in the column 'id'",
        "line 4 has 1 columns, but the first line has 2",
        "lines 2 and 5 are the same person, 'anna'; each person is invited once",
        "lines 6 and 7 are the same person, 'caf\u00e9'; each person is invited once",
    ]


@pytest.mark.parametrize(
    ("content", "column", "said"),
    [
        ("", None, "the file is empty"),
        ("\n\n", None, "the file is empty"),
        ("id\n", None, "nobody is on the list"),
        ("id,x\na,1\n", "email", "there is no column 'email' (there: 'id', 'x')"),
        ("id,x,ID\na,1,2\n", None, "2 columns are called 'id'; rename all but one"),
        ("anna@x.org\nben@x.org\n", None, "the first line has to name the columns, but it begins with 'anna@x.org'"),
        ("17\n18\n", None, "the first line has to name the columns"),
        ('id\n"anna\n', None, "this isn't a table of comma-separated values"),
        ("id\nM\u00fcller\n".encode("latin-1"), None, "this isn't UTF-8"),
        ("id\nanna\n".encode("utf-16"), None, "this isn't UTF-8"),
        ("id,link\na,mine\n", None, "we write columns of our own called link; rename yours"),
    ],
)
def test_what_is_no_list_is_said_in_one_line(tmp_path: Path, content: str | bytes, column: str | None, said: str):
    [line] = problems(write(tmp_path, content), column)
    assert line.startswith(said)


def test_a_thousand_mistakes_are_ten_lines_and_a_count(tmp_path: Path):
    lines = problems(write(tmp_path, "id\n" + "anna\n" * 1001))
    assert len(lines) == 11
    assert lines[-1] == "and 990 more lines like these"


def test_a_table_keeps_its_columns_and_gets_ours(tmp_path: Path):
    people = read_people(write(tmp_path, "\ufeffname;id\r\nAnna;1\r\nBen;2\r\nCem;3\r\n"))
    standings = {
        "i0": Standing("approved", Money(amount=225, currency="USD")),
        "i1": Standing("awaiting_review", Money(amount=0, currency="USD")),
    }
    written = with_links(people, invitations(3), standings)
    assert written.decode() == (
        "\ufeffname;id;invitation;link;taken_part;to_pay\r\n"
        "Anna;1;i0;https://pages.example.org/join?invitation=t0;approved;2.25 USD\r\n"
        "Ben;2;i1;https://pages.example.org/join?invitation=t1;handed in;\r\n"
        "Cem;3;i2;https://pages.example.org/join?invitation=t2;;\r\n"
    )
    # The table that we wrote is a list as well: our columns are made anew.
    again = read_people(write(tmp_path, written))
    assert (again.header, again.rows, again.ids) == (people.header, people.rows, people.ids)


ODD = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.lists(ODD.filter(str.strip), min_size=1, unique_by=lambda text: unicodedata.normalize("NFC", text.strip())), st.data())
def test_whatever_ids_look_like_each_keeps_its_row_and_its_link(tmp_path_factory, ids: list[str], data):
    notes = data.draw(st.lists(ODD, min_size=len(ids), max_size=len(ids)))
    table = io.StringIO(newline="")
    csv.writer(table).writerows([("note", "id"), *zip(notes, ids, strict=True)])
    path = write(tmp_path_factory.mktemp("people"), table.getvalue())
    people = read_people(path)
    assert people.ids == tuple(unicodedata.normalize("NFC", text.strip()) for text in ids)
    written = with_links(people, invitations(len(ids)), {})
    rows = list(csv.reader(io.StringIO(written.decode(), newline="")))
    assert rows[0] == ["note", "id", *COLUMNS]
    assert [row[:2] for row in rows[1:]] == [list(pair) for pair in zip(notes, ids, strict=True)]
    assert [row[2] for row in rows[1:]] == [f"i{number}" for number in range(len(ids))]
