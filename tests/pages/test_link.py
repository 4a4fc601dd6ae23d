"""Who was invited by a link: the first page, the visit, and the last page with the code."""

import html
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser
from sqlalchemy import select
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from crowd_imi.keys import study_key
from crowd_imi.pages.app import create_app
from crowd_imi.platforms.link import LinkPlatform
from crowd_imi.platforms.opening import Choice
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import StoreKind
from crowd_imi.store.tables import Person, Visit
from tests.pages.conftest import Run
from tests.pages.test_arrival import refusal
from tests.pages.visitor import Visitor
from tests.tiny import STUDY_TOML, fake_plan, write_study

PAGES = "http://127.0.0.1:8000"


class Invited:
    """A study that people are invited to, and its pages."""

    def __init__(self, folder: Path, toml: str, pages_url: str = PAGES) -> None:
        self.study = write_study(folder, toml)
        self.store = create_store(self.study, fake_plan(self.study), folder, StoreKind.STUDY)
        self.platform = LinkPlatform(folder / "link.db", study_key(self.study.key), self.study.file.link, pages_url)
        posting = launch(self.study, self.store, self.platform, Choice(name="link", pages_url=pages_url)).platform_id
        assert posting is not None
        self.posting = posting
        self.app = create_app(self.study, self.store, self.platform, run_folder=folder)

    def url(self, person: str) -> str:
        [invitation] = self.platform.invite(self.posting, [person])
        return invitation.url

    def visits(self) -> list[Visit]:
        with self.store.read() as session:
            return list(session.scalars(select(Visit)))

    def statuses(self) -> list[str]:
        return [submission.status for submission in self.platform.submissions(self.posting)]

    def close(self) -> None:
        self.store.close()
        self.platform.close()


class Guest(Visitor):
    """Follows links as they are."""

    def get(self, path: str, **parameters: str) -> TestResponse:
        return self.client.get(path, query_string=parameters or None, headers=self._headers(), buffered=True)


Invite = Callable[..., Invited]


@pytest.fixture
def invite(tmp_path: Path) -> Iterator[Invite]:
    made: list[Invited] = []

    def make(more: str = "", toml: str = STUDY_TOML, **arguments: str) -> Invited:
        made.append(Invited(tmp_path / "study", toml + more, **arguments))
        return made[-1]

    yield make
    for invited in made:
        invited.close()


def path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def press(page: str) -> str:
    """Where the first page's button leads."""
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)">', page)
    assert fields and '<form action="/arrive" method="get">' in page
    return "/arrive?" + "&".join(f"{name}={html.unescape(value)}" for name, value in fields)


def come(visitor: Guest, url: str) -> None:
    """Follow a link, and press the button."""
    reply = visitor.get(press(visitor.get(path(url)).text))
    assert reply.status_code == 303, reply.text
    visitor.token = reply.headers["Location"].partition("#")[2]


def finish(visitor: Guest) -> str:
    """Take part; returns where the browser is sent."""
    visitor.answer_all()
    return str(visitor.post("/api/submit", {"feedback": ""}).json["completion"]["url"])


def test_an_invited_person_takes_part_and_reads_the_code(invite: Invite):
    study = invite()
    visitor = Guest(study.app)
    come(visitor, study.url("anna@example.org"))
    assert study.statuses() == ["active"]
    url = finish(visitor)
    assert url.startswith(f"{PAGES}/finished?token=")
    assert study.statuses() == ["awaiting_review"]
    reply = visitor.get(path(url))
    [submission] = study.platform.submissions(study.posting)
    assert reply.status_code == 200
    assert submission.participant in reply.text
    code = re.search(r'id="code">([0-9A-F]{10})<', reply.text)
    assert code is not None
    # The visit's id is the random one; the platform's are in people.db alone, and say nothing of Anna.
    with study.store.people() as people:
        [person] = people.scalars(select(Person))
    assert (person.platform, person.platform_participant) == ("link", submission.participant)


def test_following_the_link_without_pressing_the_button_takes_no_place(invite: Invite):
    study = invite()
    url = study.url("anna")
    for _ in range(3):
        reply = Guest(study.app).get(path(url))  # as scanners of mail programs do
        assert reply.status_code == 200 and "A tiny study" in reply.text
        assert reply.headers["Cache-Control"] == "no-store"
        assert Guest(study.app).client.head(path(url)).status_code == 200
    assert study.statuses() == [] and study.visits() == []


def test_both_pages_run_no_script_and_send_forms_to_us_alone(invite: Invite):
    study = invite()
    visitor = Guest(study.app)
    url = study.url("anna")
    come(visitor, url)
    for page in (visitor.get(path(url)), visitor.get(path(finish(visitor)))):
        assert page.status_code == 200
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "form-action 'self'" in policy and "script-src" not in policy
        assert "<script" not in page.text and "style=" not in page.text
        assert page.headers["Referrer-Policy"] == "no-referrer"


def test_what_a_researcher_writes_is_text_and_not_markup(invite: Invite):
    evil = '<script>alert(1)</script> & "friends"'
    toml = STUDY_TOML.replace('"A tiny study"', f"'{evil}'").replace('"lab@example.org"', f"'{evil}'")
    study = invite(toml=toml)
    visitor = Guest(study.app)
    url = study.url("anna")
    start = visitor.get(path(url))
    come(visitor, url)
    last = visitor.get(path(finish(visitor)))
    for page in (start, last):
        assert "<script" not in page.text
        assert html.escape(evil, quote=False).replace('"', "&#34;") in page.text


def test_the_same_link_in_another_browser_goes_on_with_the_visit(invite: Invite):
    study = invite()
    first, second = Guest(study.app), Guest(study.app)
    url = study.url("anna")
    come(first, url)
    first.consent()
    come(second, url)
    assert second.view()["step"] == "instructions"
    assert first.get("/api/visit").status_code == 401
    assert len(study.visits()) == 1 and study.statuses() == ["active"]


def test_who_has_handed_in_finds_the_code_again_by_the_link(invite: Invite):
    study = invite()
    visitor = Guest(study.app)
    url = study.url("anna")
    come(visitor, url)
    button = press(visitor.get(path(url)).text)
    last = finish(visitor)
    again = Guest(study.app).get(path(url))
    assert (again.status_code, again.headers["Location"]) == (303, last)
    assert refusal(Guest(study.app).get(button)) == (403, "already-took-part")


def test_a_return_url_is_where_people_are_sent(invite: Invite):
    study = invite('\n[link]\nreturn_url = "https://pool.example.org/credit?experiment=7"\n')
    visitor = Guest(study.app)
    url = study.url("anna")
    come(visitor, url)
    sent = finish(visitor)
    [submission] = study.platform.submissions(study.posting)
    query = dict(parse_qsl(urlsplit(sent).query))
    assert sent.startswith("https://pool.example.org/credit?experiment=7&")
    assert query.keys() == {"experiment", "code", "participant"} and query["participant"] == submission.participant


@pytest.mark.parametrize(
    ("query", "refused"),
    [
        ("", (404, "bad-link")),
        ("?invitation=", (404, "bad-link")),
        ("?visitor=0123456789abcdef", (404, "bad-link")),
        ("?invitation=forged", (403, "not-ours")),
        ("?open=forged&visitor=0123456789abcdef", (403, "not-ours")),
        ("?invitation=a%00b", (404, "malformed-link")),
        ("?invitation=%C3%A9", (404, "malformed-link")),
    ],
)
def test_links_that_arent_ours_are_refused(invite: Invite, query: str, refused: tuple[int, str]):
    study = invite()
    for address in ("/join", "/arrive", "/finished"):
        # What no link of ours can hold is malformed; the last page reads nothing but its token, which isn't there.
        expected = (404, "bad-link") if address == "/finished" else refused
        assert refusal(Guest(study.app).get(f"{address}{query}")) == expected
    assert study.statuses() == []


def test_a_link_that_is_whole_and_that_nobody_here_signed_isnt_called_incomplete(invite: Invite):
    study = invite("\n[link]\nopen = true\n")
    visitor = Guest(study.app)
    come(visitor, study.url("anna"))
    opened = study.platform.open_link(study.posting)
    assert opened is not None
    whole = {
        study.url("ben"): ("/join", "/arrive"),
        opened: ("/join",),
        f"{opened}&visitor={'0' * 16}": ("/join", "/arrive"),
        finish(visitor): ("/finished",),
    }
    for url, addresses in whole.items():
        signed, *more = parse_qsl(urlsplit(url).query)
        changed = urlencode([(signed[0], f"x{signed[1]}"), *more])
        for address in addresses:
            reply = Guest(study.app).get(f"{address}?{changed}")
            assert refusal(reply) == (403, "not-ours")
            assert "nobody here made it" in reply.text and study.study.file.pages.contact in reply.text
    assert study.statuses() == ["awaiting_review"]


def test_an_open_link_that_was_cut_off_behind_the_button_is_called_incomplete(invite: Invite):
    study = invite("\n[link]\nopen = true\n")
    opened = study.platform.open_link(study.posting)
    assert opened is not None
    assert refusal(Guest(study.app).get(f"/arrive?{urlsplit(opened).query}")) == (404, "bad-link")


def test_studies_on_other_platforms_have_neither_page(run: Run):
    for address in ("/join?invitation=x", "/finished?token=x"):
        assert refusal(Guest(run.app).get(address)) == (404, "bad-link")


def test_who_comes_when_every_place_is_taken_may_come_again(invite: Invite):
    study = invite()
    urls = [study.url(f"person {number}") for number in range(7)]  # to 4 + 2 tasks
    buttons = [press(Guest(study.app).get(path(url)).text) for url in urls]
    for button in buttons[:6]:
        assert Guest(study.app).get(button).status_code == 303
    for late in (buttons[6], path(urls[6])):
        reply = Guest(study.app).get(late)
        assert refusal(reply) == (409, "study-full")
        assert "look again later with the same link" in reply.text
    assert len(study.statuses()) == 6
    first = next(iter(study.platform.submissions(study.posting)))
    study.platform.give_back(first.id)
    assert press(Guest(study.app).get(path(urls[6])).text) == buttons[6]


def test_who_finds_no_task_keeps_the_invitation(invite: Invite):
    study = invite()
    study.platform.set_places(study.posting, 7)
    for number in range(6):
        come(Guest(study.app), study.url(f"person {number}"))
    late, url = Guest(study.app), study.url("late")
    reply = late.get(press(late.get(path(url)).text))
    assert refusal(reply) == (409, "study-full")
    assert sorted(study.statuses()) == ["active"] * 6 + ["timed_out"]
    # The place was given back, so the next try takes it again, under the same submission.
    assert refusal(late.get(press(late.get(path(url)).text))) == (409, "study-full")
    assert len(study.statuses()) == 7


def test_nobody_new_comes_while_the_study_is_paused(invite: Invite):
    study = invite()
    url = study.url("anna")
    study.platform.pause(study.posting)
    assert refusal(Guest(study.app).get(path(url))) == (409, "paused")
    study.platform.resume(study.posting)
    visitor = Guest(study.app)
    come(visitor, url)
    study.platform.stop(study.posting)
    come(visitor, url)
    assert visitor.view()["step"] == "consent"


def test_an_open_link_gives_each_visitor_a_visit_that_survives_a_reload(invite: Invite):
    study = invite("\n[link]\nopen = true\n")
    url = study.platform.open_link(study.posting)
    assert url is not None
    buttons = [press(Guest(study.app).get(path(url)).text) for _ in range(2)]
    for button in (*buttons, *buttons):
        assert Guest(study.app).get(button).status_code == 303
    assert len(study.visits()) == 2 and study.statuses() == ["active", "active"]


@pytest.fixture
def served(invite: Invite) -> Iterator[Invited]:
    """On a port of its own; links lead there."""
    listener = make_server("127.0.0.1", 0, lambda *_: [], threaded=True)
    study = invite(pages_url=f"http://127.0.0.1:{listener.server_port}")
    listener.app = study.app
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    yield study
    listener.shutdown()
    thread.join()
    listener.server_close()


def test_a_browser_shows_both_pages_and_complains_of_nothing(served: Invited, browser: Browser):
    context = browser.new_context(viewport={"width": 940, "height": 600})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    url = served.url("anna")
    page.goto(url)
    assert served.statuses() == []
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url("**/visit")
    page.get_by_role("button", name="I agree and take part").wait_for()
    assert served.statuses() == ["active"]
    [submission] = served.platform.submissions(served.posting)
    page.goto(served.platform.finish_url(submission.id))
    assert page.locator("#reference").inner_text() == submission.participant
    assert page.locator("h1").inner_text() == "Thank you for taking part!"
    context.close()
    assert complaints == []
