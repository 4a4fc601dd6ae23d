"""What arrives from a platform and fits nothing: each ends in a state that a person sees and can act on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from rich.console import Console

from crowd_imi.allocation import Arrival, arrive, hand_in
from crowd_imi.cli.status_screen import screen
from crowd_imi.errors import PlatformError
from crowd_imi.harvester import Difference, Status, harvest, status
from crowd_imi.harvester.collect import Inbox, Known
from crowd_imi.harvester.elsewhere import noticed
from crowd_imi.harvester.money import pay_reward
from crowd_imi.harvester.rejections import reject
from crowd_imi.keys import study_key
from crowd_imi.lifecycle import VisitState as S
from crowd_imi.lifecycle import move
from crowd_imi.pages.dashboard import take_snapshot
from crowd_imi.platforms.base import PostingRequest
from crowd_imi.platforms.mturk.notifications import Notice
from crowd_imi.platforms.opening import Choice
from crowd_imi.platforms.standins.prolific.desk import Account
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.records import Money
from crowd_imi.store import SimulatedClock, Store, StoreKind
from crowd_imi.store.notices import KEPT_MS, note
from crowd_imi.store.tables import Posting, Visit
from crowd_imi.study import Study
from tests.contract.mturk import mturk
from tests.contract.prolific import TOKEN, ProlificRig, served
from tests.harvester.crowd import SMALL, Crowd, answer_all, begin, practice
from tests.tiny import fake_plan, write_study

TWO_TASKS = SMALL.replace('[[arms]]\nmodel = "toy"\ncondition = "synthetic"\nunits = 6\nresponses = 2\n\n', "")


@dataclass
class There:
    """A study posted on a stand-in."""

    study: Study
    store: Store
    rig: Any
    posting: Posting
    clock: SimulatedClock
    name: str

    def take(self, person: str) -> dict[str, str]:
        return self.rig.take(self.posting.platform_id, person)

    def arrive(self, query: dict[str, str]) -> Visit:
        found = self.rig.platform.arrive(query)
        arrival = Arrival(self.name, found.participant, found.id, self.posting.id, self.clock.now())
        return arrive(self.store, self.study, arrival)

    def begin(self, visit: Visit) -> None:
        with self.store.write() as session:
            begin(session, session.get_one(Visit, visit.id), self.clock.now())

    def finish(self, visit: Visit) -> None:
        self.begin(visit)
        self.clock.set(self.clock.now() + 600_000)
        with self.store.write() as session:
            row = session.get_one(Visit, visit.id)
            answer_all(session, row, self.clock.now())
            hand_in(session, row, self.clock.now())

    def pass_hours(self) -> None:
        self.clock.set(self.clock.now() + 3 * 60 * 60_000)

    def problems(self) -> tuple[str, ...]:
        """What the dashboard says that a person should look at."""
        return take_snapshot(self.study, self.store, self.clock.now()).problems

    def go(self):
        return harvest(self.study, self.store, self.rig.platform)

    def status(self):
        return status(self.study, self.store, self.rig.platform)

    def state(self, visit: Visit) -> tuple[str, str]:
        with self.store.read() as session:
            now = session.get_one(Visit, visit.id)
            return now.state, now.payment


def differing(visit: Visit, *, here: str, there: str) -> Difference:
    return Difference(visits=1, which=(visit.id,), here=here, payment="unpaid", there=there)


def made_up(link: dict[str, str], number: int) -> dict[str, str]:
    """A link that looks like Mechanical Turk's, and that it never made."""
    return link | {"assignmentId": f"3MADEUP{number:023}", "workerId": f"AMADEUP{number:07}"}


def posted(folder: Path, rig: Any, name: str, toml: str = SMALL) -> There:
    study = write_study(folder, toml)
    clock = SimulatedClock(time.time_ns() // 1_000_000)
    store = create_store(study, fake_plan(study), folder, StoreKind.REHEARSAL, clock)
    posting = launch(
        study, store, rig.platform, Choice(name=name, pages_url="http://127.0.0.1:1", endpoint_url="http://127.0.0.1:1")
    )
    return There(study, store, rig, posting, clock, name)


@pytest.fixture
def turk(tmp_path: Path) -> Iterator[There]:
    with mturk(tmp_path, min_approved_percent=0, min_approved_number=0) as rig:
        there = posted(tmp_path / "study", rig, "mturk")
        yield there
        there.store.close()


@pytest.fixture
def prolific(tmp_path: Path) -> Iterator[There]:
    with served(tmp_path / "standin", Account(tokens=(TOKEN,), settle_seconds=0)) as url:
        rig = ProlificRig(url)
        there = posted(tmp_path / "study", rig, "prolific")
        yield there
        there.store.close()
        rig.close()


LAUGHS = "<!DOCTYPE l [" + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10)) + "]><l>&l9;</l>"
ANSWERS = {
    "empty": {"code": ""},
    "without the code": {"something": "else"},
    "of another namespace": {"code": '<QuestionFormAnswers xmlns="http://example.org/else"/>'},
    "billion laughs": {"code": LAUGHS},
    "huge": {"code": "x" * 900_000},
    "no characters": {"code": "\x00\x07\ud7ff"},
}


@pytest.mark.parametrize("form", ANSWERS.values(), ids=ANSWERS.keys())
def test_whatever_mechanical_turks_answer_says_ours_is_the_truth(turk: There, form: dict[str, str]):
    query = turk.take("anna")
    visit = turk.arrive(query)
    turk.finish(visit)
    url = turk.rig.platform.finish(query["assignmentId"], "C").url
    assert requests.post(url, data={"assignmentId": query["assignmentId"], **form}, timeout=30).ok
    done = turk.go()
    assert (done.valid, done.paid, done.refused) == (1, 1, ())
    assert turk.rig.rewards() == {query["assignmentId"]: 150}


XML = {
    "none": None,
    "empty": "",
    "no XML": "<QuestionFormAnswers><Answer>",
    "of another namespace": '<QuestionFormAnswers xmlns="http://example.org/else"><Answer/></QuestionFormAnswers>',
    "billion laughs": LAUGHS,
    "huge": f"<QuestionFormAnswers>{'<Answer/>' * 500_000}</QuestionFormAnswers>",
}


@pytest.mark.parametrize("xml", XML.values(), ids=XML.keys())
def test_whatever_xml_mechanical_turk_hands_on_as_the_answer_nobody_is_kept_waiting(turk: There, xml: str | None):
    """Another server that speaks the protocol may put anything there; a good submission beside it is paid as well."""
    queries = {name: turk.take(name) for name in ("anna", "ben")}
    visits = {name: turk.arrive(query) for name, query in queries.items()}
    for name, query in queries.items():
        turk.finish(visits[name])
        turk.rig.hand_in(query)
    turk.rig.standin.set_answer(queries["anna"]["assignmentId"], xml)
    done = turk.go()
    assert (done.valid, done.paid, done.refused) == (2, 2, ())
    assert turk.rig.rewards() == {query["assignmentId"]: 150 for query in queries.values()}
    now = turk.status()
    assert (now.strays, now.differences, now.surplus) == (0, (), ())


def test_who_hands_in_without_having_been_here_is_shown_and_not_paid(turk: There):
    query = turk.take("anna")
    turk.rig.hand_in(query)
    assert turk.go().paid == 0 and turk.rig.rewards() == {}
    assert turk.status().strays == 1


def test_who_hands_in_there_in_the_middle_of_the_trials_is_shown_until_a_person_decides(turk: There):
    query = turk.take("anna")
    visit = turk.arrive(query)
    turk.begin(visit)
    turk.rig.hand_in(query)
    assert turk.go().paid == 0
    assert turk.status().differences == (differing(visit, here="answering", there="awaiting_review"),)
    turk.clock.set(turk.clock.now() + 121 * 60_000)
    assert turk.go().paid == 0 and turk.state(visit) == ("timed_out", "unpaid")
    assert turk.status().differences == (differing(visit, here="timed_out", there="awaiting_review"),)
    assert pay_reward(turk.study, turk.store, turk.rig.platform, visit.id) == "approved"
    assert turk.go().refused == () and turk.state(visit) == ("timed_out", "paid") and turk.status().differences == ()


def test_who_finished_here_and_typed_a_wrong_code_there_is_paid(prolific: There):
    query = prolific.take("anna")
    visit = prolific.arrive(query)
    prolific.finish(visit)
    prolific.rig.complete(query, "GUESSED")
    done = prolific.go()
    assert (done.valid, done.paid, done.refused) == (1, 1, ())
    assert prolific.state(visit) == ("valid", "paid")


def test_a_wrong_code_of_somebody_who_did_not_finish_is_shown(prolific: There):
    query = prolific.take("anna")
    visit = prolific.arrive(query)
    prolific.begin(visit)
    prolific.rig.complete(query, "GUESSED")
    assert prolific.go().paid == 0
    assert prolific.status().differences == (differing(visit, here="answering", there="wrong_code"),)
    platform, reason = prolific.rig.platform, "The code that you typed was never shown to you, and no question was answered. " * 2
    with pytest.raises(PlatformError, match=r"no category WRONG_CODE; take one of .*BAD_CODE"):
        reject(prolific.study, prolific.store, platform, visit.id, reason, "WRONG_CODE")
    reject(prolific.study, prolific.store, platform, visit.id, reason, "BAD_CODE")
    assert prolific.go().paid == 0 and prolific.state(visit)[1] == "rejected" and prolific.rig.rewards() == {}


def test_the_right_code_of_somebody_who_was_never_here_is_shown_and_not_paid(prolific: There):
    query = prolific.take("anna")
    prolific.rig.complete(query, "GUESSED")
    assert prolific.go().paid == 0 and prolific.rig.rewards() == {}
    assert prolific.status().strays == 1


def another_posting(crowd: Crowd) -> str:
    request = PostingRequest(
        intent="other",
        title="Another",
        description="Another",
        arrival_url="http://127.0.0.1:1/arrive",
        reward=Money(amount=150, currency="USD"),
        places=3,
        minutes=6,
        completion_code="OTHER",
    )
    return crowd.platform.post(request)


def test_a_submission_for_another_posting_is_none_of_ours(tmp_path: Path):
    crowd = Crowd.posted(tmp_path)
    known = Known()
    harvest(crowd.study, crowd.store, crowd.platform, known)
    other = another_posting(crowd)
    stranger = crowd.platform.take(other, "stranger").id
    crowd.platform.complete(stranger, "OTHER")
    assert harvest(crowd.study, crowd.store, crowd.platform, known, {stranger}).quiet
    assert stranger not in known.listed[crowd.posting.platform_id]
    assert crowd.paid() == 0 and status(crowd.study, crowd.store, crowd.platform).strays == 0


def looks(now: Status) -> str:
    console = Console(width=400)
    with console.capture() as capture:
        console.print(screen(now, None))
    return capture.get().partition("Needs a look")[2]


def test_who_has_a_place_of_the_pilot_and_no_visit_here_is_shown_after_the_study_is_posted_too(tmp_path: Path):
    crowd = Crowd.posted(tmp_path)
    pilot = another_posting(crowd)
    about = {"places": 3, "state": "open", "created_at": crowd.clock.now()}
    with crowd.store.write() as session:
        session.add(Posting(id="pilot", label="pilot", platform="local", platform_id=pilot, **about))
    crowd.platform.complete(crowd.platform.take(pilot, "stranger").id, "OTHER")
    now = status(crowd.study, crowd.store, crowd.platform)
    assert (now.strays, now.strays_are) == (1, {"awaiting_review": 1})
    assert "1 handed in on local without a visit here: `crowd-imi ledger` names them" in looks(now)


def test_a_stray_is_shown_by_what_can_be_done_until_somebody_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    crowd = Crowd.posted(tmp_path)
    for name in ("at it", "paid", "odd"):
        crowd.take(name)
    crowd.platform.approve(crowd.submission_of("paid"))
    odd, listed = crowd.submission_of("odd"), crowd.platform.submissions
    monkeypatch.setattr(
        crowd.platform,
        "submissions",
        lambda posting: [s.model_copy(update={"status": "PROCESSING"}) if s.id == odd else s for s in listed(posting)],
    )
    now = status(crowd.study, crowd.store, crowd.platform)
    assert now.strays_are == {"PROCESSING": 1, "active": 1, "approved": 1}
    shown = [line for line in looks(now).splitlines() if "•" in line]
    assert len(shown) == 2 and "1 took a place on local without coming in here" in shown[0]
    assert "1 on local without a visit here: PROCESSING there, which nobody here knows" in shown[1]


def test_who_handed_in_without_finishing_is_named_with_what_can_be_done(tmp_path: Path):
    crowd = Crowd.posted(tmp_path)
    visit = crowd.arrive("anna")
    crowd.begin(visit)
    crowd.hand_in("anna")
    shown = looks(status(crowd.study, crowd.store, crowd.platform))
    assert f"`crowd-imi pay --visit ID --approve` or `crowd-imi reject --visit ID` ({visit.id})" in shown


class Queue:
    """What SQS brings, in the order in which it is asked."""

    def __init__(self, *notices: Notice) -> None:
        self.notices = notices

    @contextmanager
    def taken(self) -> Iterator[tuple[Notice, ...]]:
        yield self.notices


class Asked:
    """A platform that must not be asked anything."""

    def __init__(self, platform: Any) -> None:
        self.name, self.capabilities = platform.name, platform.capabilities


def beside_a_pilot(crowd: Crowd, *, first: bool) -> str:
    """The platform's id of a pilot that was posted before the study, or after it."""
    pilot = another_posting(crowd)
    about = {"places": 3, "state": "open", "created_at": crowd.posting.created_at + (-1 if first else 1)}
    with crowd.store.write() as session:
        session.add(Posting(id="pilot", label="pilot", platform="local", platform_id=pilot, **about))
    return pilot


@pytest.mark.parametrize("first", [True, False])
def test_a_posting_that_cannot_be_read_keeps_nobody_of_the_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
):
    crowd = Crowd.posted(tmp_path)
    pilot = beside_a_pilot(crowd, first=first)
    visit = crowd.take_part("anna")
    read, lost = crowd.platform.submissions, [pilot]

    def fail(posting: str) -> Any:
        if posting in lost:
            raise PlatformError("it was deleted there")
        return read(posting)

    monkeypatch.setattr(crowd.platform, "submissions", fail)
    done = harvest(crowd.study, crowd.store, crowd.platform)
    assert (done.valid, done.paid) == (1, 1) and crowd.state(visit)[:2] == ("valid", "paid")
    assert done.refused == ("harvest of the pilot posting: it was deleted there",) and not done.complete
    assert done.broken_off == ("pilot",)
    lost.append(str(crowd.posting.platform_id))
    with pytest.raises(PlatformError, match="deleted"):
        harvest(crowd.study, crowd.store, crowd.platform)


@pytest.mark.parametrize(("bonus", "cap"), [("", 360), ("bonus = 50\n", 480)])
def test_who_finished_here_and_never_handed_in_keeps_no_money_and_is_paid_after_all(tmp_path: Path, bonus: str, cap: int):
    with mturk(tmp_path, min_approved_percent=0, min_approved_number=0) as rig:
        there = posted(tmp_path / "study", rig, "mturk", TWO_TASKS.replace("cap = 5000", f"{bonus}cap = {cap}"))
        query = there.take("anna")
        visit = there.arrive(query)
        there.finish(visit)
        there.pass_hours()
        there.go()
        other = there.take("ben")
        there.finish(there.arrive(other))
        rig.hand_in(other)
        done = there.go()
        assert not done.complete and not done.short and done.places == 2
        now = there.status()
        assert [arm.open for arm in now.arms] == [1] and now.committed == now.spent
        assert f"(visits {visit.id}): their tasks are free and no money is kept" in looks(now)
        assert not any("pays" in step for step in now.next)
        assert [problem for problem in there.problems() if "disk" not in problem] == [
            "1 visits ended here and were never handed in on the platform; `crowd-imi status` says which"
        ]
        rig.hand_in(query)
        assert there.go().complete
        assert there.state(visit) == ("valid", "paid")
        assert there.status().remarks == () and not any("never handed in" in problem for problem in there.problems())
        there.store.close()


def test_however_many_never_hand_in_no_more_places_are_offered_than_there_is_money_for(tmp_path: Path):
    with mturk(tmp_path, min_approved_percent=0, min_approved_number=0) as rig:
        there = posted(tmp_path / "study", rig, "mturk", TWO_TASKS.replace("cap = 5000", "cap = 360"))
        link = there.take("anna")
        for number in range(4):
            there.finish(there.arrive(made_up(link, number)))
            there.pass_hours()
            done = there.go()
            assert done.places == 2 and not done.short
        assert len(looks(there.status()).partition("(visits ")[2].partition(")")[0].split(", ")) == 4
        there.store.close()


def test_who_fails_practice_and_never_hands_in_keeps_no_money_and_no_attempt_and_is_paid_after_all(tmp_path: Path):
    with mturk(tmp_path, min_approved_percent=0, min_approved_number=0) as rig:
        toml = TWO_TASKS.replace("cap = 5000", "cap = 540").replace("catch = 2", "catch = 2\nmax_attempts = 1")
        there = posted(tmp_path / "study", rig, "mturk", toml)
        query = there.take("anna")
        visit = there.arrive(query)
        with there.store.write() as session:
            row = session.get_one(Visit, visit.id)
            for state in (S.CONSENTED, S.PRACTISING, S.FAILED_PRACTICE):
                move(row, state, there.clock.now())
            row.consented_at = row.instructed_at = there.clock.now()
            session.add(practice(row, 1, there.clock.now(), correct=False))
        there.go()
        assert there.status().committed.amount == 180
        there.pass_hours()
        # Nobody gave them up yet: the attempt isn't lost, and the study not complete.
        assert any("judges 1" in step for step in there.status().next) and not there.status().complete
        # A look that is told of somebody else goes by what was listed before, so that nobody is given up by it.
        harvest(there.study, there.store, there.rig.platform, Known(), frozenset())
        assert there.status().remarks == ()
        done = there.go()
        now = there.status()
        assert now.committed.amount == 0 and not done.short and done.places == 2 and [arm.open for arm in now.arms] == [2]
        assert f"(visits {visit.id}): their tasks are free and no money is kept" in looks(now)
        assert {there.arrive(made_up(query, number)).task_id for number in range(2)} == {1, 2}
        rig.hand_in(query)
        there.go()
        assert there.state(visit) == ("excluded", "paid") and there.status().remarks == ()
        there.store.close()


def test_a_submission_of_prolifics_list_without_an_id_is_said(prolific: There, monkeypatch: pytest.MonkeyPatch):
    prolific.finish(prolific.arrive(prolific.take("anna")))
    monkeypatch.setattr(prolific.rig.platform._api, "pages", lambda *_, **__: iter([{"status": "ACTIVE", "participant_id": "x"}]))
    with pytest.raises(PlatformError, match="a submission without its id"):
        prolific.go()


def test_a_notice_of_another_studys_hit_is_counted_once_and_asks_nothing(turk: There):
    query = turk.take("anna")
    visit = turk.arrive(query)
    turk.finish(visit)
    told = [
        Notice("one", "AssignmentSubmitted", "ANOTHERHIT", "STRANGER"),
        Notice("two", "AssignmentAccepted", "HIT", "CAMEANDWENT"),  # nobody lists who only accepted: it may be ours
        Notice("three", "AssignmentReturned", "HIT", query["assignmentId"]),
    ]
    inbox = Inbox(turk.study, turk.store, Asked(turk.rig.platform), Queue(told[0]))
    for _ in range(2):
        assert inbox.news() == frozenset()
        inbox.looked()
    assert turk.status().events_elsewhere == 1
    inbox = Inbox(turk.study, turk.store, Asked(turk.rig.platform), Queue(*told))
    assert inbox.news() == {query["assignmentId"]}
    turk.rig.hand_in(query)
    assert turk.go().valid == 1
    now = turk.status()
    assert now.events_elsewhere == 1 and now.strays == 0


def test_a_webhooks_word_of_another_study_is_counted_and_asks_nothing(prolific: There):
    query, stray = prolific.take("anna"), prolific.take("ben")
    prolific.arrive(query)
    key = study_key(prolific.study.key)
    for event, submission in enumerate((query["SESSION_ID"], stray["SESSION_ID"], "another-studys", "another-studys")):
        note(prolific.store, key, f"event-{event}", submission)
    inbox = Inbox(prolific.study, prolific.store, Asked(prolific.rig.platform))
    assert inbox.news() == {query["SESSION_ID"]}
    now = prolific.status()
    assert (now.events_elsewhere, now.strays) == (2, 1)
    with prolific.store.read() as session:
        assert len(noticed(session, prolific.store.now())) == 4
        assert noticed(session, prolific.store.now() + KEPT_MS + 60_000) == ()
    console = Console(width=200)
    with console.capture() as capture:
        console.print(screen(now, None))
    assert "2 of the last days named no submission of this study and were passed over" in capture.get()
