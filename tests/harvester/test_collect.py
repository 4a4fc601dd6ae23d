"""Events say where to look: a round reads only those submissions, and repeats, gaps and other orders change nothing."""

import json
import time
from pathlib import Path

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from crowd_imi.harvester import harvest
from crowd_imi.harvester.collect import Inbox, Known
from crowd_imi.keys import study_key
from crowd_imi.pages.app import create_app
from crowd_imi.platforms.mturk.notifications import NoticeQueue
from crowd_imi.platforms.opening import Choice
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.platforms.standins.prolific.desk import Account
from crowd_imi.platforms.standins.prolific.events import signature
from crowd_imi.publisher.launch import create_store, launch
from crowd_imi.store import StoreKind
from crowd_imi.store.notices import note, untaken
from crowd_imi.store.tables import Notice
from crowd_imi.study import ProlificSection
from tests.contract.prolific import TOKEN, served
from tests.harvester.crowd import Crowd
from tests.tiny import STUDY_TOML, fake_plan, write_study


class CountingPlatform:
    """The local platform, and what it was asked."""

    def __init__(self, platform):
        self._platform, self.asked = platform, []

    def __getattr__(self, name):
        found = getattr(self._platform, name)
        if not callable(found):
            return found

        def call(*arguments):
            self.asked.append(name)
            return found(*arguments)

        return call


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    return Crowd.posted(tmp_path)


def key(crowd: Crowd) -> bytes:
    return study_key(crowd.study.key)


def test_a_round_that_was_told_reads_only_what_it_was_told_about(crowd: Crowd):
    platform, known = CountingPlatform(crowd.platform), Known()
    harvest(crowd.study, crowd.store, platform, known)
    assert platform.asked.count("submissions") == 1
    crowd.take_part("anna")
    crowd.take_part("ben", good=False)
    platform.asked.clear()
    done = harvest(crowd.study, crowd.store, platform, known, {crowd.submission_of("anna")})
    assert "submissions" not in platform.asked and platform.asked.count("submission") == 1
    # Both are judged, as they submitted here; Ben is paid by the next round that reads everything.
    assert (done.valid, done.excluded, done.paid) == (1, 1, 1)
    assert harvest(crowd.study, crowd.store, platform, known).paid == 1


def test_a_look_at_one_submission_asks_for_it_and_pays_it_and_asks_nothing_else(crowd: Crowd):
    platform, known = CountingPlatform(crowd.platform), Known()
    harvest(crowd.study, crowd.store, platform, known)
    crowd.take_part("anna")
    platform.asked.clear()
    assert harvest(crowd.study, crowd.store, platform, known, {crowd.submission_of("anna")}).paid == 1
    assert [name for name in platform.asked if name != "fee"] == ["submission", "approve"]


def test_a_look_offers_places_on_top_of_those_that_the_platform_says_there_are(crowd: Crowd):
    platform, known = CountingPlatform(crowd.platform), Known()
    assert harvest(crowd.study, crowd.store, platform, known).places == 4
    crowd.take_part("ben", good=False)
    crowd.platform.set_places(crowd.posting.platform_id, 7)  # by a person, since
    platform.asked.clear()
    done = harvest(crowd.study, crowd.store, platform, known, {crowd.submission_of("ben")})
    # Five are needed, Ben's and one for each task; seven are there, and only a round that reads everything takes any back.
    assert done.places == 7 and "set_places" not in platform.asked
    assert harvest(crowd.study, crowd.store, platform, known).places == 5


def test_a_new_process_begins_by_reading_everything(crowd: Crowd):
    crowd.take_part("anna")
    assert harvest(crowd.study, crowd.store, crowd.platform, Known(), frozenset()).paid == 1


def test_a_place_given_back_is_followed_when_it_is_told(crowd: Crowd):
    known = Known()
    visit = crowd.arrive("anna")
    harvest(crowd.study, crowd.store, crowd.platform, known)
    submission = crowd.submission_of("anna")
    crowd.platform.give_back(submission)
    assert harvest(crowd.study, crowd.store, crowd.platform, known, frozenset()).returned == 0
    assert harvest(crowd.study, crowd.store, crowd.platform, known, {submission}).returned == 1
    assert crowd.state(visit)[0] == "returned"


def test_an_event_about_a_submission_that_the_platform_does_not_show_is_left_alone(crowd: Crowd):
    known = Known()
    harvest(crowd.study, crowd.store, crowd.platform, known)
    assert harvest(crowd.study, crowd.store, crowd.platform, known, {"unheard-of"}).quiet


def test_a_repeat_is_no_news_and_ids_stay_out_of_the_study(crowd: Crowd):
    crowd.arrive("anna")
    submission = crowd.submission_of("anna")
    assert note(crowd.store, key(crowd), "event-1", submission)
    assert not note(crowd.store, key(crowd), "event-1", submission)
    inbox = Inbox(crowd.study, crowd.store, crowd.platform)
    assert inbox.news() == {submission}
    assert inbox.news() == {submission}  # nobody has looked yet
    inbox.looked()
    assert inbox.news() == frozenset()
    assert not note(crowd.store, key(crowd), "event-1", submission)
    with crowd.store.read() as session:
        [row] = session.query(Notice).all()
    assert submission not in (row.id, row.submission) and "event-1" not in row.id


def test_an_event_about_somebody_without_a_visit_waits_for_no_round(crowd: Crowd):
    submission = crowd.take("anna")
    note(crowd.store, key(crowd), "event-1", submission)
    assert Inbox(crowd.study, crowd.store, crowd.platform).news() == frozenset()
    with crowd.store.read() as session:
        assert not untaken(session).ids


def test_an_event_about_what_was_just_paid_here_is_no_news(crowd: Crowd):
    crowd.take_part("anna")
    assert harvest(crowd.study, crowd.store, crowd.platform).paid == 1
    note(crowd.store, key(crowd), "approved", crowd.submission_of("anna"))
    assert Inbox(crowd.study, crowd.store, crowd.platform).news() == frozenset()
    with crowd.store.read() as session:
        assert not untaken(session).ids


def test_what_is_told_while_a_round_runs_is_news_for_the_next(crowd: Crowd):
    crowd.arrive("anna")
    crowd.arrive("ben")
    inbox = Inbox(crowd.study, crowd.store, crowd.platform)
    note(crowd.store, key(crowd), "event-1", crowd.submission_of("anna"))
    inbox.news()
    note(crowd.store, key(crowd), "event-2", crowd.submission_of("ben"))
    inbox.looked()
    assert inbox.news() == {crowd.submission_of("ben")}


def test_whatever_is_told_the_end_is_the_same(tmp_path: Path):
    """Events doubled, missing and in any order; a round that reads everything at the end."""
    crowd = Crowd.posted(tmp_path)
    crowd.take_part("anna")
    crowd.take_part("ben", good=False)
    crowd.fail_practice(crowd.arrive("carl"))
    crowd.arrive("dora")
    crowd.platform.give_back(crowd.submission_of("dora"))
    ids = [crowd.submission_of(name) for name in ("anna", "ben", "carl", "dora")]
    start = crowd.save()
    harvest(crowd.study, crowd.store, crowd.platform)
    end = crowd.outline()

    @settings(max_examples=15, deadline=None, database=None, derandomize=True)
    @given(st.lists(st.lists(st.sampled_from(ids), max_size=3), max_size=4))
    def check(told: list[list[str]]) -> None:
        crowd.restore(start)
        known = Known({crowd.posting.platform_id: {}})  # a process that read before anybody came
        for about in told:
            assert harvest(crowd.study, crowd.store, crowd.platform, known, about).refused == ()
        harvest(crowd.study, crowd.store, crowd.platform, known)
        assert crowd.outline() == end

    check()


def test_events_of_prolific_come_from_its_server_to_the_harvest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Signed requests to the pages' endpoint, as the stand-in signs them: stored once, and only when they are signed."""
    monkeypatch.setenv("PROLIFIC_HOOK_SECRET", "a secret")
    with served(tmp_path / "standin", Account(tokens=(TOKEN,), settle_seconds=0)) as url:
        study = write_study(tmp_path / "study", STUDY_TOML)
        store = create_store(study, fake_plan(study), study.folder, StoreKind.STUDY)
        platform = ProlificPlatform(TOKEN, ProlificSection(), url, first_wait=0.01)
        launch(study, store, platform, Choice(name="prolific", endpoint_url=url))
        pages = create_app(study, store, platform, run_folder=study.folder).test_client()

        def post(body: bytes, event: str, secret: str = "a secret") -> int:
            at = str(int(time.time()))
            headers = {
                "X-Event-ID": event,
                "X-Prolific-Request-Timestamp": at,
                "X-Prolific-Request-Signature": signature(secret, at, body),
            }
            return pages.post("/events/prolific", data=body, headers=headers).status_code

        def event(submission: str) -> bytes:
            return json.dumps({"event_type": "submission.status.change", "resource_id": submission}).encode()

        assert [post(event("abc"), "e1"), post(event("abc"), "e1"), post(event("def"), "e2")] == [204, 204, 204]
        assert post(event("ghi"), "e3", secret="guessed") == 403
        assert post(b"{" * 20_000, "e4") == 413
        with store.read() as session:
            assert len(untaken(session).ids) == 2
        monkeypatch.delenv("PROLIFIC_HOOK_SECRET")
        assert post(event("jkl"), "e5") == 404
        store.close()


def test_notices_of_mechanical_turk_come_from_its_queue(crowd: Crowd, monkeypatch: pytest.MonkeyPatch):
    """SQS on a real port (moto): two notices and a repeat, and a message that isn't MTurk's."""
    for name, value in (("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_EC2_METADATA_DISABLED", "true")):
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        sqs = boto3.client("sqs", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        url = sqs.create_queue(QueueName="events")["QueueUrl"]
        for name in ("anna", "ben"):
            crowd.arrive(name)
        ids = {name: crowd.submission_of(name) for name in ("anna", "ben")}

        def send(document: str, submission: str) -> None:
            event = {"EventType": "AssignmentSubmitted", "HITId": "H", "AssignmentId": submission}
            sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"EventDocId": document, "Events": [event]}))

        send("d1", ids["anna"])
        send("d1", ids["anna"])
        send("d2", ids["ben"])
        sqs.send_message(QueueUrl=url, MessageBody="something else")
        inbox = Inbox(crowd.study, crowd.store, crowd.platform, NoticeQueue(url, endpoint_url=f"http://{host}:{port}"))
        assert inbox.news() == set(ids.values())
        with crowd.store.read() as session:
            assert len(untaken(session).ids) == 2
        inbox.looked()
        assert inbox.news() == frozenset()
    finally:
        server.stop()
