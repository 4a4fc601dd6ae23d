"""``invitations``: a link for each person of a list."""

import csv
import json
import shutil
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from typer.testing import CliRunner, Result

from crowd_imi.cli.app import app
from crowd_imi.keys import study_key
from crowd_imi.platforms.link import OPEN_LINK_WARNING, LinkPlatform
from crowd_imi.platforms.opening import Choice, open_platform
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.store.postings import postings
from crowd_imi.study import Study, load_study
from tests.tiny import STUDY_TOML, fake_plan, write_study

PEOPLE = "email,group\nanna@example.org,1\nben@example.org,2\n"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["invitations", *map(str, arguments)])


def publish(folder: Path, toml: str = STUDY_TOML, **choice: str) -> Study:
    study = write_study(folder, toml)
    store = create_store(study, fake_plan(study), folder, StoreKind.STUDY)
    chosen = Choice.model_validate({"name": "link", "pages_url": "https://pages.example.org", **choice})
    launch(study, store, open_platform(study, folder, chosen), chosen)
    store.close()
    return study


def books(study: Study) -> LinkPlatform:
    return LinkPlatform(study.folder / "link.db", study_key(study.key), study.file.link, "https://pages.example.org")


@pytest.fixture(scope="module")
def posted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("posted") / "study").folder


@pytest.fixture
def study(posted: Path, tmp_path: Path) -> Study:
    shutil.copytree(posted, tmp_path / "study")
    return load_study(tmp_path / "study")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(PEOPLE)
    return path


@pytest.fixture
def links(tmp_path: Path) -> Path:
    return tmp_path / "links.csv"


def rows(links: Path) -> list[dict[str, str]]:
    with links.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_person_gets_a_link_that_lets_them_in(study: Study, people: Path, links: Path):
    done = run(study.folder, people, "--out", links)
    assert done.exit_code == 0, done.stderr
    assert f"{links}: links for 2 people, told apart by the column 'email'; 6 places are offered" in done.stdout
    anna, ben = rows(links)
    assert (anna["email"], anna["group"], anna["taken_part"], anna["to_pay"]) == ("anna@example.org", "1", "", "")
    assert anna["link"].startswith("https://pages.example.org/join?invitation=") and anna["link"] != ben["link"]
    assert links.stat().st_mode & 0o777 == 0o600
    submission = books(study).arrive(dict(parse_qsl(urlsplit(anna["link"]).query)))
    assert (submission.participant, submission.status) == (anna["invitation"], "active")


def test_run_again_it_says_who_took_part_and_whom_to_pay(study: Study, people: Path, links: Path):
    run(study.folder, people, "--out", links)
    before = rows(links)
    platform = books(study)
    submission = platform.arrive(dict(parse_qsl(urlsplit(before[1]["link"]).query))).id
    platform.finish_url(submission)
    platform.approve(submission)
    people.write_text(f"{PEOPLE}cem@example.org,2\n")
    done = run(study.folder, people, "--out", links, "--force", "--json")
    assert json.loads(done.stdout) == {
        "posting": platform.postings()[0],
        "places": 6,
        "open_link": None,
        "out": str(links),
        "people": 3,
        "came": 1,
        "to_pay": {"amount": 150, "currency": "USD"},
    }
    assert "1 of them have come; 1.50 USD to pay" in done.stderr
    after = rows(links)
    assert [row["link"] for row in after[:2]] == [row["link"] for row in before]
    assert [(row["taken_part"], row["to_pay"]) for row in after] == [("", ""), ("approved", "1.50 USD"), ("", "")]


def test_who_was_in_the_pilot_keeps_that_link_and_is_owed_that_money(tmp_path: Path, people: Path, links: Path):
    # Posted twice: what was posted first is the pilot.
    study = publish(tmp_path / "study")
    platform = books(study)
    run(study.folder, people, "--out", links)
    came, left = (dict(parse_qsl(urlsplit(row["link"]).query)) for row in rows(links))
    pilot = rows(links)
    submission = platform.arrive(came).id
    platform.finish_url(submission)
    platform.approve(submission)
    platform.give_back(platform.arrive(left).id)
    store = Store.open(*database_urls(study.folder))
    with store.write() as session:
        postings(session)[0].label = "pilot"
    chosen = Choice(name="link", pages_url="https://pages.example.org")
    launch(study, store, platform, chosen)
    store.close()
    done = run(study.folder, people, "--out", links, "--force")
    assert "2 of them have come; 1.50 USD to pay" in done.stdout
    anna, ben = rows(links)
    assert (anna["link"], anna["taken_part"], anna["to_pay"]) == (pilot[0]["link"], "approved", "1.50 USD")
    assert (ben["taken_part"], ben["to_pay"]) == ("left", "") and ben["link"] != pilot[1]["link"]
    assert {anna["invitation"], ben["invitation"]} == {row["invitation"] for row in pilot}


def test_nothing_is_written_over_by_mistake(study: Study, people: Path, links: Path):
    links.write_text("mine")
    done = run(study.folder, people, "--out", links)
    assert (done.exit_code, done.stderr) == (
        1,
        f"error: {links}: there is a file here already; choose another, or replace it with --force\n",
    )
    assert links.read_text() == "mine"
    done = run(study.folder, people, "--out", people, "--force")
    assert (done.exit_code, done.stderr) == (1, f"error: {people}: this is the list itself; write the links to another file\n")
    assert people.read_text() == PEOPLE


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "people.csv: no such file or directory"),
        (b"", "the file is empty"),
        (b"email\n\xe4\n", "this isn't UTF-8"),
        (b"email\nanna\nanna\n", "lines 2 and 3 are the same person"),
    ],
)
def test_a_list_that_cant_be_used_ends_in_one_line(study: Study, people: Path, links: Path, content: bytes | None, said: str):
    people.unlink()
    if content is not None:
        people.write_bytes(content)
    done = run(study.folder, people, "--out", links)
    assert done.exit_code == 1
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not links.exists()


def test_a_column_can_be_named(study: Study, people: Path, links: Path):
    people.write_text("name,code\nAnna,7\nAnna,8\n")
    assert run(study.folder, people, "--out", links, "--column", "name").exit_code == 1
    assert run(study.folder, people, "--out", links, "--column", "code").exit_code == 0
    assert [row["name"] for row in rows(links)] == ["Anna", "Anna"]


def test_the_list_and_the_file_to_write_belong_together(study: Study, people: Path, links: Path):
    for arguments in ((people,), ("--out", links)):
        assert run(study.folder, *arguments).exit_code == 2
    done = run(study.folder)
    assert done.exit_code == 1
    assert (
        "link.open isn't set" in done.stderr and f"crowd-imi invitations {study.folder} people.csv --out links.csv" in done.stderr
    )


def test_an_open_link_is_shown_with_what_it_cant_do(tmp_path: Path):
    study = publish(tmp_path / "study", STUDY_TOML + "\n[link]\nopen = true\n")
    done = run(study.folder)
    assert done.exit_code == 0, done.stderr
    assert "open link: https://pages.example.org/join?open=" in done.stdout and OPEN_LINK_WARNING in done.stdout
    assert json.loads(run(study.folder, "--json").stdout)["open_link"].startswith("https://pages.example.org/join?open=")


def test_links_that_lead_nowhere_else_are_said_to(tmp_path: Path, people: Path, links: Path):
    study = publish(tmp_path / "study", pages_url="http://127.0.0.1:8000")
    assert "work on this machine alone" in run(study.folder, people, "--out", links).stdout


def test_a_study_that_isnt_published_by_link_says_how(tmp_path: Path, people: Path, links: Path):
    folder = tmp_path / "study"
    study = write_study(folder)
    done = run(folder, people, "--out", links)
    assert done.exit_code == 1 and "crowd-imi publish" in done.stderr
    store = create_store(study, fake_plan(study), folder, StoreKind.STUDY)
    launch(study, store, open_platform(study, folder, Choice()), Choice())
    done = run(folder, people, "--out", links)
    assert done.exit_code == 1
    assert f"this study is on local; people are invited to one published by `crowd-imi publish {folder} --on link`" in done.stderr
    assert not links.exists() and not (folder / "link.db").exists()
