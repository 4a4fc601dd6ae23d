"""``publish --on prolific``, ``check``, ``pause``, ``stop`` and ``ledger`` as a user types them, against the stand-in."""

import json
import re
import shlex
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask import Flask
from typer.testing import CliRunner, Result
from werkzeug.serving import make_server

from crowd_imi.cli.app import app
from crowd_imi.errors import PlatformError
from crowd_imi.pages.app import create_app
from crowd_imi.plan import load_plan
from crowd_imi.platforms.base import PlatformSubmission
from crowd_imi.platforms.opening import Choice, choice_of, open_platform
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.platforms.standins.prolific.desk import Account
from crowd_imi.publisher.launch import create_store
from crowd_imi.publisher.reach import reach_problems
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls
from crowd_imi.study import Study, load_study
from tests.acceptance.rehearsals import planned_study
from tests.contract.prolific import TOKEN, ProlificRig, served
from tests.tiny import STUDY_TOML, approve

TOML = (
    STUDY_TOML.replace('[[arms]]\nmodel = "toy"\ncondition = "synthetic"\nunits = 6\nresponses = 2\n', "")
    .replace("units = 6\nnull = 2\nresponses = 3", "units = 6\nresponses = 2")
    .replace("cap = 5000", "cap = 1000")
)
"""Two tasks at 1.50 and a fee of .50."""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = planned_study(tmp_path_factory.mktemp("prolific") / "study", TOML)
    approve(study)
    return study


@pytest.fixture
def study(planned: Study, tmp_path: Path) -> Study:
    import shutil

    shutil.copytree(planned.folder, tmp_path / "study")
    return load_study(tmp_path / "study")


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProlificRig]:
    monkeypatch.setenv("PROLIFIC_API_TOKEN", TOKEN)
    account = Account(tokens=(TOKEN,), settle_seconds=0, fee=0.333, vat=0.0)
    with served(tmp_path / "standin", account) as url:
        rig = ProlificRig(url)
        yield rig
        rig.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow one another at once."""
    monkeypatch.setattr("crowd_imi.platforms.prolific_api.time", SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic))


@contextmanager
def pages(study: Study, port: int = 0) -> Iterator[str]:
    """The task pages of a study that has a store, in a thread."""
    store = Store.open(*database_urls(study.folder))
    platform = open_platform(study, study.folder, choice_of(store))
    with in_thread(create_app(study, store, platform, run_folder=study.folder), port) as address:
        yield address
    store.close()


@contextmanager
def in_thread(served_app: Flask, port: int = 0) -> Iterator[str]:
    """The address of an app, on a port of its own."""
    server = make_server("127.0.0.1", port, served_app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_nothing_is_posted_before_the_pages_answer_and_then_everything_once(study: Study, rig: ProlificRig):
    options = ["--on", "prolific", "--endpoint-url", rig.url, "--yes"]
    early = run("publish", study.folder, *options, "--pages-url", "http://127.0.0.1:9")
    assert early.exit_code == 1 and "can't be reached" in early.output and "nothing is posted yet" in early.output
    assert rig.postings() == []
    with pages(study) as address:
        for next_step in (f"crowd-imi harvest {study.folder} --watch (leave the pages", f"crowd-imi serve {study.folder}, and"):
            done = run("publish", study.folder, *options, "--pages-url", address, "--json")
            assert done.exit_code == 0 and next_step in done.output, done.output  # the second time nobody asked the pages
        posted = json.loads(done.stdout)
        assert (posted["places"], posted["reward"]["amount"], posted["fee"]["amount"]) == (2, 150, 50)
        assert posted["total"]["amount"] == 400 and rig.postings() == [posted["posting"]]
        (there,) = rig.books()["studies"]
        assert there["external_study_url"].startswith(f"{address}/arrive?PROLIFIC_PID=")
        assert there["reward"] == 150 and there["total_available_places"] == 2
        assert TOKEN not in early.output + done.output

        elsewhere = run("publish", study.folder, "--on", "link", "--yes", "--pages-url", address)
        assert elsewhere.exit_code == 1 and "on prolific already" in elsewhere.output

        for command, state in (("pause", "PAUSED"), ("resume", "ACTIVE"), ("stop", "COMPLETED")):
            assert run(command, study.folder, *(["--yes"] if command == "stop" else [])).exit_code == 0
            assert rig.books()["studies"][0]["status"] == state
        books = run("ledger", study.folder, "--json")
        assert books.exit_code == 0, books.output
        assert json.loads(books.stdout)["differences"] == 0


def test_the_pages_of_another_study_are_noticed(study: Study, planned: Study, rig: ProlificRig, tmp_path: Path):
    other = planned_study(tmp_path / "other", TOML, key="b")
    approve(other)
    options = ["--on", "prolific", "--endpoint-url", rig.url, "--yes"]
    run("publish", other.folder, *options, "--pages-url", "http://127.0.0.1:9")
    with pages(other) as address:
        done = run("publish", study.folder, *options, "--pages-url", address)
    assert done.exit_code == 1 and "pages of another study" in done.output
    assert rig.postings() == []


def test_pages_that_were_started_for_another_platform_are_noticed(study: Study, rig: ProlificRig):
    run("publish", study.folder, "--on", "link", "--yes", "--pages-url", "http://127.0.0.1:9")
    options = ["--on", "prolific", "--endpoint-url", rig.url, "--yes"]
    with pages(study) as address:
        done = run("publish", study.folder, *options, "--pages-url", address)
        assert done.exit_code == 1 and "before this study was for prolific" in done.output, done.output
    assert rig.postings() == []


@pytest.mark.parametrize("kind", [StoreKind.PREVIEW, StoreKind.REHEARSAL])
def test_the_pages_of_a_preview_or_a_rehearsal_are_noticed(study: Study, rig: ProlificRig, kind: StoreKind):
    plan, folder = load_plan(study.plan), study.rehearsal("another")
    create_store(study, plan, study.folder, StoreKind.STUDY).close()
    platform = open_platform(study, folder, Choice(name="prolific", endpoint_url=rig.url)) if kind == "rehearsal" else None
    store = create_store(study, plan, folder, kind)
    with in_thread(create_app(study, store, platform, run_folder=folder)) as address:
        [problem] = reach_problems(study, plan, Choice(name="prolific", pages_url=address))
    store.close()
    assert "of a rehearsal or a preview" in problem


@pytest.mark.parametrize(
    ("edit", "options", "said"),
    [
        ({}, {"--endpoint-url": "http://192.0.2.1:80"}, "only sent to an https:// address"),
        ({}, {"--pages-url": "https://pages.example.org/x?y=1"}, "behind ? or #"),
        ({}, {"--pages-url": "https://me:secret@pages.example.org"}, "--pages-url: this address holds a user name or a password"),
        ({}, {"--endpoint-url": "https://me:secret@api.example.org"}, "--endpoint-url: this address holds a user name or"),
        ({}, {"--pages-url": "https://a b"}, "--pages-url 'https://a b': an address has no spaces"),
        ({}, {"--pages-url": "https://["}, "--pages-url https://[: this is no address"),
        ({}, {"--endpoint-url": "http://[::1"}, "--endpoint-url http://[::1: this is no address"),
        ({"cap = 1000": "cap = 399"}, {}, "raise pay.cap to at least 400"),
        (
            {"[pay]": "[prolific]\nfee_percent = 20.0\n\n[pay]"},
            {},
            "2 places cost 4.00 USD by prolific's own calculation, and 3.60 USD by prolific.fee_percent = 20",
        ),
        (
            {"reward = 150": "reward = 60"},
            {},
            "6.00 USD per hour, less than 8.00 USD; 0.80 USD would be enough; raise",
        ),
        ({"cap = 1000": 'cap = 1000\ncurrency = "EUR"'}, {}, "'EUR': this account on prolific pays in USD"),
    ],
)
def test_what_is_wrong_is_one_clear_line_and_nothing_is_posted(study: Study, rig: ProlificRig, edit, options, said: str):
    toml = study.toml.read_text()
    for old, new in edit.items():
        assert old in toml
        toml = toml.replace(old, new)
    study.toml.write_text(toml)
    given = {"--on": "prolific", "--endpoint-url": rig.url, **options}
    done = run("publish", study.folder, "--yes", "--no-reach", *(part for pair in given.items() for part in pair))
    assert done.exit_code == 1 and said in done.output, done.output
    assert "secret" not in done.output
    assert rig.postings() == [] and not (study.folder / "study.lock").exists()


def test_too_little_balance_and_a_wrong_token_are_told_before_anything_is_posted(
    study: Study, rig: ProlificRig, monkeypatch: pytest.MonkeyPatch
):
    command = ["publish", study.folder, "--on", "prolific", "--endpoint-url", rig.url, "--yes", "--no-reach"]
    rig.standin("PUT", "balance", {"total": 300})
    poor = run(*command)
    assert poor.exit_code == 1 and "balance on prolific is 3.00 USD, and the study costs 4.00 USD" in poor.output
    monkeypatch.setenv("PROLIFIC_API_TOKEN", "another-token")
    wrong = run(*command)
    assert wrong.exit_code == 1 and "doesn't know the token" in wrong.output and "another-token" not in wrong.output
    monkeypatch.delenv("PROLIFIC_API_TOKEN")
    none = run(*command)
    assert none.exit_code == 1 and "set PROLIFIC_API_TOKEN" in none.output
    assert rig.postings() == []


def test_check_names_every_problem_at_once(study: Study, rig: ProlificRig):
    rig.standin("PUT", "balance", {"total": 0})
    study.toml.write_text(study.toml.read_text().replace("reward = 150", "reward = 60"))
    found = run(
        "check", study.folder, "--on", "prolific", "--endpoint-url", rig.url, "--pages-url", "http://127.0.0.1:9", "--json"
    )
    assert found.exit_code == 1
    problems = json.loads(found.stdout)["problems"]
    assert any("balance" in problem for problem in problems)
    assert any("less than 8.00 USD" in problem and "--accept-low-pay" in problem for problem in problems)


def test_check_before_the_first_publish_asks_for_nothing_that_cannot_be_done_yet(study: Study, rig: ProlificRig):
    where = ["--on", "prolific", "--endpoint-url", rig.url, "--pages-url", "http://127.0.0.1:9"]

    def checked() -> dict[str, list[str]]:
        return json.loads(run("check", study.folder, *where, "--json").stdout)

    before = checked()
    assert not any("serve" in problem for problem in before["problems"])
    remark = before["remarks"][-1]
    said = re.findall("`([^`]+)`", remark)
    assert said[0] == f"crowd-imi publish {study.folder} {' '.join(where[:2] + where[4:] + where[2:4])}"
    assert said[1] == f"crowd-imi serve {study.folder}"
    # What it says, as it says it: publish makes what serve needs, and stops.
    tried = run(*shlex.split(said[0])[1:], "--yes")
    assert tried.exit_code == 1 and "nothing is posted yet" in tried.output and rig.postings() == []
    begun = checked()
    assert f"start them with `crowd-imi serve {study.folder}`" in begun["problems"][-1]
    assert remark not in begun["remarks"]


def test_a_draft_that_prolific_refused_is_published_as_it_is_meant_later(study: Study, rig: ProlificRig):
    command = ["publish", study.folder, "--on", "prolific", "--endpoint-url", rig.url, "--yes", "--no-reach"]
    rig.standin("PUT", "faults", {"next": ["error"] * 20, "path": "transition"})
    first = run(*command, "--pages-url", "http://127.0.0.1:9", "--accept-low-pay")
    assert first.exit_code == 1
    assert [there["status"] for there in rig.books()["studies"]] == ["UNPUBLISHED"]
    rig.standin("PUT", "faults", {})
    done = run(*command, "--pages-url", "http://127.0.0.1:10")
    assert done.exit_code == 0, done.output
    (there,) = rig.books()["studies"]
    assert there["status"] == "ACTIVE" and there["external_study_url"].startswith("http://127.0.0.1:10/arrive")


def test_every_check_is_made_until_it_is_posted(study: Study, rig: ProlificRig):
    where = ["--on", "prolific", "--endpoint-url", rig.url, "--no-reach"]
    rig.standin("PUT", "faults", {"next": ["error"] * 20, "path": "transition"})
    assert run("publish", study.folder, *where, "--yes").exit_code == 1
    assert (study.folder / "study.lock").exists()
    rig.standin("PUT", "faults", {})
    rig.standin("PUT", "balance", {"total": 0})
    poor = run("publish", study.folder, *where, "--yes")
    assert poor.exit_code == 1 and "balance on prolific" in poor.output
    rig.standin("PUT", "balance", {"total": 100_000})
    asked = run("publish", study.folder, *where)  # nobody answers the question
    assert asked.exit_code == 1 and "Publish?" in asked.output
    assert [there["status"] for there in rig.books()["studies"]] == ["UNPUBLISHED"]


def test_who_gives_the_place_back_after_the_last_answer_is_told_of_once_and_compensated(study: Study, rig: ProlificRig):
    from crowd_imi.allocation import Arrival, arrive, hand_in
    from crowd_imi.harvester import harvest
    from crowd_imi.harvester.money import Compensation, pay
    from crowd_imi.lifecycle import VisitState, move
    from crowd_imi.records import Money
    from crowd_imi.store.postings import postings
    from crowd_imi.store.tables import Visit

    where = ["--on", "prolific", "--endpoint-url", rig.url, "--no-reach", "--yes"]
    assert run("publish", study.folder, *where).exit_code == 0
    store = Store.open(*database_urls(study.folder))
    with store.read() as session:
        (posting,) = postings(session)
    query = rig.take(str(posting.platform_id), "anna")
    visit = arrive(store, study, Arrival("prolific", "anna", query["SESSION_ID"], posting.id, store.now()))
    with store.write() as session:
        row = session.get_one(Visit, visit.id)
        for state in (VisitState.CONSENTED, VisitState.PRACTISING, VisitState.ANSWERING):
            move(row, state, store.now())
        hand_in(session, row, store.now())
    rig.leave(query)
    done = harvest(study, store, rig.platform)
    assert (done.to_compensate, done.refused, done.paid) == ((visit.id,), (), 0)
    money = Money(amount=150, currency="USD")
    pay(study, store, rig.platform, Compensation(visit.id, money, "compensation", "Thank you."))
    assert harvest(study, store, rig.platform).to_compensate == ()
    assert rig.bonuses() == [(query["SESSION_ID"], 150)] and rig.rewards() == {}
    store.close()


def test_a_token_with_a_line_break_is_never_printed(study: Study, rig: ProlificRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROLIFIC_API_TOKEN", "secret\nsecret")
    done = run("publish", study.folder, "--on", "prolific", "--endpoint-url", rig.url, "--yes", "--no-reach")
    assert done.exit_code == 1 and "can't be a token" in done.output and "secret" not in done.output


def test_what_publishing_made_is_never_made_anew(study: Study, rig: ProlificRig):
    where = ["--on", "prolific", "--endpoint-url", rig.url, "--no-reach", "--yes"]
    assert run("publish", study.folder, *where).exit_code == 0
    for name, said in (("study.key", "study's key is missing"), ("study.lock", "says what was published, and is missing")):
        away = (study.folder / name).rename(study.folder / "away")
        for command in (["publish", study.folder, *where], ["harvest", study.folder]):
            done = run(*command)
            assert done.exit_code == 1 and said in done.output, done.output
        assert not (study.folder / name).exists()
        away.rename(study.folder / name)
    assert run("harvest", study.folder).exit_code == 0


def test_a_harvest_that_one_posting_broke_off_says_what_it_did_and_fails(
    study: Study, rig: ProlificRig, monkeypatch: pytest.MonkeyPatch
):
    where = ["--on", "prolific", "--endpoint-url", rig.url, "--no-reach", "--yes"]
    assert run("publish", study.folder, "--pilot", "1", *where).exit_code == 0
    assert run("publish", study.folder, *where).exit_code == 0
    read = ProlificPlatform.submissions

    def fail(platform: ProlificPlatform, posting: str) -> Iterable[PlatformSubmission]:
        if posting == rig.postings()[0]:
            raise PlatformError("it was deleted there")
        return read(platform, posting)

    monkeypatch.setattr(ProlificPlatform, "submissions", fail)
    done = run("harvest", study.folder, "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["broken_off"] == ["pilot"], done.output
    assert "refused: harvest of the pilot posting: it was deleted there" in done.stderr


def test_people_who_only_hand_in_raise_no_places_beyond_the_cap(study: Study, rig: ProlificRig):
    # 10.00 pay five places of 2.00, whoever takes them.
    where = ["--on", "prolific", "--endpoint-url", rig.url, "--no-reach", "--yes"]
    assert run("publish", study.folder, *where).exit_code == 0
    (posting,) = rig.postings()
    code = rig.books()["studies"][0]["completion_codes"][0]["code"]
    for number in range(8):
        if rig.books()["studies"][0]["total_available_places"] > number:
            query = rig.take(posting, f"stray-{number}")
            rig.complete(query, code)
        assert run("harvest", study.folder).exit_code == 0
    assert rig.books()["studies"][0]["total_available_places"] == 5


def test_a_list_of_bonuses_is_shown_asked_for_and_paid_once(study: Study, rig: ProlificRig):
    from crowd_imi.allocation import Arrival, arrive
    from crowd_imi.store.postings import postings

    where = ["--on", "prolific", "--endpoint-url", rig.url, "--no-reach", "--yes"]
    assert run("publish", study.folder, *where).exit_code == 0
    store = Store.open(*database_urls(study.folder))
    with store.read() as session:
        (posting,) = postings(session)
    query = rig.take(str(posting.platform_id), "anna")
    visit = arrive(store, study, Arrival("prolific", "anna", query["SESSION_ID"], posting.id, store.now()))
    store.close()
    path = study.folder / "bonuses.csv"
    path.write_text(f"visit,amount,reason\n{visit.id},0.30,Thanks\nnobody,0.30,Thanks\n{visit.id},3,Thanks\n")
    wrong = run("pay", study.folder, "--from", path, "--yes")
    assert wrong.exit_code == 1 and "bonuses.csv:4: '3' is no amount" in wrong.output and "nothing was paid" in wrong.output
    path.write_text(f"visit,amount,reason\n{visit.id},0.30,Thanks\n")
    asked = run("pay", study.folder, "--from", path)  # nobody answers the question
    assert asked.exit_code == 1 and "1 bonus: 0.30 USD and fees of 0.10 USD, together 0.40 USD" in asked.output
    assert rig.bonuses() == []
    for paid, before in ((1, 0), (0, 1)):
        done = run("pay", study.folder, "--from", path, "--yes", "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert (told["bonuses"], told["paid_before"]) == (paid, before)
    assert rig.bonuses() == [(query["SESSION_ID"], 30)]
    assert run("pay", study.folder, "--from", path, "--visit", visit.id).exit_code == 2
    books = json.loads(run("ledger", study.folder, "--json").stdout)
    assert (books["differences"], books["spent"]["amount"]) == (0, 40)


def test_who_handed_in_without_finishing_is_paid_or_rejected_as_a_user_types_it(study: Study, rig: ProlificRig):
    from crowd_imi.allocation import Arrival, arrive
    from crowd_imi.store.postings import postings

    assert run("publish", study.folder, "--on", "prolific", "--endpoint-url", rig.url, "--no-reach", "--yes").exit_code == 0
    store = Store.open(*database_urls(study.folder))
    with store.read() as session:
        (posting,) = postings(session)
    (study_there,) = rig.books()["studies"]
    visits = {}
    for name in ("anna", "ben"):
        query = rig.take(str(posting.platform_id), name)
        visits[name] = arrive(store, study, Arrival("prolific", name, query["SESSION_ID"], posting.id, store.now())).id
        rig.complete(query, study_there["completion_codes"][0]["code"])
    store.close()
    compensated = run("pay", study.folder, "--visit", visits["anna"], "--yes")
    assert compensated.exit_code == 1 and f"pay --visit {visits['anna']} --approve" in " ".join(compensated.output.split())
    assert run("pay", study.folder, "--visit", visits["anna"], "--approve", "--amount", "3", "--yes").exit_code == 2
    assert run("pay", study.folder, "--visit", visits["anna"], "--approve", "--yes").exit_code == 0
    reason = (
        "You handed in after two minutes, and none of the forty-five questions that the study consists of was answered by you."
    )
    refused = run(
        "reject", study.folder, "--visit", visits["ben"], "--category", "NO_DATA", "--reason", reason, "--yes", "--json"
    )
    assert refused.exit_code == 0, refused.output
    assert json.loads(refused.stdout)["unfair"] == ["no harvest has judged it yet"] and "unfair: no harvest" in refused.stderr
    assert run("harvest", study.folder).exit_code == 0
    books = json.loads(run("ledger", study.folder, "--json").stdout)
    assert (len(rig.rewards()), books["differences"]) == (1, 0)
