"""Every address of every app that people reach, under what hypothesis makes up: all that the app's own map of addresses holds.

Never a 5xx, never a stack trace, nothing of a request in a page; and whoever is refused reads one clear sentence.
"""

import json
import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crowd_imi.keys import completion_code
from crowd_imi.pages import places
from crowd_imi.pages.app import create_app
from crowd_imi.pages.dashboard import create_app as create_dashboard
from crowd_imi.pages.pace import Pace
from crowd_imi.pages.tokens import Tokens
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.platforms.prolific_hooks import SECRET_VARIABLE
from crowd_imi.store import StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.store.read_only import ReadOnlyStore
from crowd_imi.study import ProlificSection
from tests.pages.test_arrival import first_posting
from tests.pages.test_link import Guest, Invited, come, finish
from tests.tiny import STUDY_TOML

EXAMPLES = 12
"""For each address of each app."""
SOAK_EXAMPLES = 1200

EVIL = '<script>"evil"</script>'
ODD = ["", "0", "null", "é", "日本", "\x00", "a\r\nb", "../../etc/passwd", EVIL, "{{7*7}}", "%s%n", "x" * 5000]
METHODS = ["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"]
TYPES = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "", "é" * 3000]
BODIES = [b"", b"[" * 15_000, b"[]", b"x" * 70_000, b"--x\r\n", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n']
HEADERS = {
    "HTTP_ACCEPT": ["text/html", "application/json", "*/*", "", "text/html;q=x, */*", "é"],
    "HTTP_RANGE": ["bytes=0-", "bytes=9999999-", "bytes=5-2", "x"],
    "HTTP_IF_MODIFIED_SINCE": ["Thu, 01 Jan 2099 00:00:00 GMT", "x"],
    "HTTP_HOST": ["127.0.0.1", "127.0.0.1:8000", "localhost", "evil.example", "a b", "[::1", "é"],
    "HTTP_ORIGIN": ["null", "http://localhost", "x"],
    "HTTP_X_REHEARSAL_CLOCK": ["1750000000000", "x"],
    "HTTP_X_VISIT_TOKEN": ["x", "x" * 5000],
}

texts = st.one_of(st.sampled_from(ODD), st.text(max_size=40))
documents = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), texts), lambda inner: st.lists(inner, max_size=3))


def task_pages(request):
    """The local platform's: one person is at the trials, one has a place."""
    run = request.getfixturevalue("run")
    visitor = run.visitor("ann")
    sprite = visitor.begin_trials()["main"][0]["sprite"].rpartition("/")[2]
    good = {"participant": "ben", "submission": run.take("ben"), "posting": run.posting}
    yield run.app, [good], ["visit.js", "jspsych.js", sprite], visitor.token


def task_pages_by_link(request):
    """The link platform's: one person has handed in, one is invited, and there is an open link."""
    study = Invited(request.getfixturevalue("tmp_path") / "study", STUDY_TOML + "\n[link]\nopen = true\n")
    visitor = Guest(study.app)
    come(visitor, study.url("anna"))
    urls = (study.url("ben"), study.platform.open_link(study.posting), finish(visitor))
    yield study.app, [{**dict(parse_qsl(urlsplit(url).query)), "visitor": "0" * 16} for url in urls], [], visitor.token
    study.close()


def task_pages_of_a_preview(request):
    run = request.getfixturevalue("make_run")(kind=StoreKind.PREVIEW)
    yield run.app, [{"token": Tokens(run.study.key.read_bytes()).for_preview("tiny")}], [], ""


def task_pages_on_prolific(request):
    run = request.getfixturevalue("run")
    request.getfixturevalue("monkeypatch").setenv(SECRET_VARIABLE, "a secret that Prolific knows")
    platform = ProlificPlatform("a-token", ProlificSection())  # it is asked about postings of ours alone, and there is none
    good = {"PROLIFIC_PID": "0" * 24, "STUDY_ID": "1" * 24, "SESSION_ID": "2" * 24}
    yield create_app(run.study, run.store, platform, run_folder=run.study.folder), [good], [], ""


def list_of_places(request):
    run = request.getfixturevalue("run")
    submission = run.take("ben")
    code = completion_code(run.study.key.read_bytes(), first_posting(run))
    good = [
        {"posting": run.posting, "participant": "ben"},
        {"submission": submission},
        {"submission": submission, "code": code},
    ]
    yield places.create_app(run.platform), good, [], ""


def dashboard(request):
    run = request.getfixturevalue("run")
    run.visitor("ann")
    store = ReadOnlyStore.look(database_urls(run.study.folder)[0])
    yield create_dashboard(run.study, store, None), [{}], ["dashboard.js"], ""
    store.close()


APPS = {
    task_pages: {"/arrive", "/visit", "/static/<name>", "/static/vendor/<name>", "/sprites/<name>", "/health", "/ready"},
    task_pages_by_link: {"/join", "/arrive", "/finished", "/visit"},
    task_pages_of_a_preview: {"/preview", "/visit"},
    task_pages_on_prolific: {"/visit"},
    list_of_places: {"/", "/take", "/continue", "/complete", "/style.css", "/health"},
    dashboard: {"/", "/<any('dashboard.js', 'style.css'):name>", "/progress.json", "/health"},
}
"""Which app, and the addresses that let in whoever brings what is good there: they are fuzzed behind the door as well."""


def filled(rule, part):
    return re.sub("<.*?>", lambda _: quote(part, safe="", errors="replace"), rule.rule)


def good_requests(rule, good, files, token):
    """One request for each set of parameters, file and method."""
    return [
        {
            "path": filled(rule, file),
            "query": urlencode(items),
            "method": method,
            "body": urlencode(items).encode(),
            "type": TYPES[1],
            "headers": {"HTTP_X_VISIT_TOKEN": token},
        }
        for items in good
        for file in files or ["x"]
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"})
    ]


def made_up_requests(rule, good, files, token):
    """Requests of which hardly anything is good."""
    known = [item for items in good for item in items.items()]
    value = st.one_of(st.sampled_from([*(value for _, value in known), *ODD]), texts)
    name = st.one_of(st.sampled_from([*(name for name, _ in known), "token", "challenge"]), texts)
    pairs = st.lists(st.tuples(name, value), max_size=5)
    right = st.sampled_from(good).map(lambda items: list(items.items()))
    mixed = st.tuples(pairs, right, pairs).map(lambda parts: [item for part in parts for item in part])
    written = st.one_of(right, pairs, mixed).map(lambda items: urlencode(items, errors="replace"))
    headers = st.fixed_dictionaries({}, optional={name: st.sampled_from(odd) for name, odd in HEADERS.items()})
    return st.fixed_dictionaries(
        {
            "path": st.one_of(st.sampled_from(["x", *files]), texts).map(lambda part: filled(rule, part)),
            "query": st.one_of(written, st.text(st.characters(max_codepoint=255), max_size=200), st.just("a=b&" * 3000)),
            "method": st.sampled_from([*METHODS, *sorted(rule.methods) * 3]),
            "body": st.one_of(
                written.map(str.encode),
                st.one_of(st.sampled_from(good), documents).map(lambda document: json.dumps(document).encode()),
                st.sampled_from(BODIES),
                st.binary(max_size=200),
            ),
            "type": st.sampled_from(TYPES),
            "headers": headers.map(lambda given: {"HTTP_X_VISIT_TOKEN": token, **given}),
        }
    )


def sentence(reply):
    """What somebody reads who is refused."""
    if reply.mimetype == "application/json":
        return reply.json.get("error") or reply.json.get("message")
    if reply.mimetype == "text/plain":
        return reply.text.strip()
    heading, said = re.search("<h1>(.+?)</h1>.*?<p>(.+?)</p>", reply.text, re.DOTALL).groups()
    assert heading and "\n" not in heading
    return said


def fuzz(app, good, files, token, examples):
    """Ask every address; returns those that ever let somebody in."""
    client = app.test_client(use_cookies=False)
    return {rule.rule for rule in app.url_map.iter_rules() if lets_in(client, (rule, good, files, token), examples)}


def lets_in(client, address, examples):
    """Ask one address again and again; returns whether it ever let somebody in."""
    statuses = [send(client, asked) for asked in good_requests(*address)]

    @given(asked=made_up_requests(*address))
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(asked):
        send(client, asked)

    ask()
    return min(statuses) < 400


def send(client, asked):
    said = {"QUERY_STRING": asked["query"], "REQUEST_METHOD": asked["method"], **asked["headers"]}
    said = {name: value.encode().decode("latin-1") for name, value in said.items()}  # as servers hand bytes on
    reply = client.open(asked["path"], data=asked["body"], content_type=asked["type"], environ_overrides=said, buffered=True)
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400 and asked["method"] != "HEAD":
        words = sentence(reply)
        assert words.endswith(".") and not words.endswith("..") and "\n" not in words and 10 < len(words) < 400, words
    if reply.mimetype in ("text/html", "text/plain"):
        assert "Traceback" not in reply.text and EVIL not in reply.text
    return reply.status_code


@pytest.fixture(params=APPS, ids=lambda app: app.__name__)
def opened(request, monkeypatch):
    # What the pace refuses would never be looked at.
    monkeypatch.setattr(Pace, "take", lambda *_: None)
    parts = request.param(request)
    yield next(parts), APPS[request.param]
    next(parts, None)


def test_nothing_made_up_breaks_an_address(opened):
    app, welcome = opened
    assert welcome <= fuzz(*app, EXAMPLES)


@pytest.mark.soak
def test_nothing_made_up_breaks_an_address_in_full(opened):
    app, welcome = opened
    assert welcome <= fuzz(*app, SOAK_EXAMPLES)
