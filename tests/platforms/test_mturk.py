"""What the contract leaves out: HITs of nine, previews, the qualification, faults in every place, bad credentials."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from crowd_imi.errors import BadLink, ForgedLink, MalformedLink, PlatformError, PreviewOnly, UnknownSubmission, Unreachable
from crowd_imi.platforms.base import BonusOrder, PostingRequest, PostingState
from crowd_imi.platforms.mturk import MturkPlatform, Notice, NoticeQueue, closed_notice
from crowd_imi.platforms.mturk.hits import Batch, steps_to
from crowd_imi.platforms.mturk.notifications import notices_in
from crowd_imi.records import Money
from crowd_imi.study import MturkSection
from tests.contract.mturk import KEY, SECRET, MturkRig, mturk
from tests.contract.rigs import ARRIVAL, REWARD, request

FAULTS = ("throttle", "error", "cut-before", "cut-after")
OPERATIONS = (
    "ListQualificationTypes",
    "GetAccountBalance",
    "CreateQualificationType",
    "CreateHITType",
    "CreateHITWithHITType",
    "UpdateQualificationType",
)
"""What posting asks for."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[MturkRig]:
    with mturk(tmp_path) as made:
        yield made


def sizes(rig: MturkRig) -> list[int]:
    """Assignments of each HIT, in the order of their numbers."""
    hits = sorted(rig.books()["hits"], key=lambda hit: int(hit["annotation"].rpartition("/")[2]))
    return [hit["places"] for hit in hits]


def fail_at(rig: MturkRig, operation: str, *faults: str) -> None:
    rig.standin.ask("PUT", "faults", json={"next": faults, "path": f"^{operation}$"})


def refused(rig: MturkRig, posting: str, participant: str) -> bool:
    reply = requests.post(f"{rig.standin.url}/standin/take", json={"posting": posting, "participant": participant}, timeout=30)
    return reply.status_code == 409


def bonus(submission: str, key: str) -> BonusOrder:
    return BonusOrder(submission=submission, money=Money(amount=75, currency="USD"), key=key, reason="Thank you.")


def said(call: Any, *arguments: Any) -> str:
    """The error's message, which is one line and tells no secret."""
    with pytest.raises(PlatformError) as failure:
        call(*arguments)
    message = str(failure.value)
    assert len(message.splitlines()) == 1
    assert SECRET not in message and KEY not in message
    return message


# Postings.


def test_places_come_in_hits_of_nine_so_that_the_fee_stays_low(rig: MturkRig):
    posting = rig.platform.post(request(places=20))
    assert sizes(rig) == [9, 9, 2]
    rig.platform.set_places(posting, 31)
    assert sizes(rig) == [9, 9, 9, 4]  # the third HIT was filled up first
    assert rig.platform.places(posting) == 31


def test_the_same_number_of_places_is_laid_out_in_one_way():
    assert [(step.number, step.places) for step in steps_to([], 20)] == [(0, 9), (1, 9), (2, 2)]
    assert steps_to([], 0) == []


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_however_places_grow_hits_stay_full_and_below_the_fee_step(targets: list[int]):
    there: dict[int, int] = {}
    for places in sorted(targets):
        batches = [batch(number, size) for number, size in there.items()]
        for step in steps_to(batches, places):
            assert step.places > (step.existing.places if step.existing else 0)
            there[step.number] = step.places
        assert sum(there.values()) == places
        assert sorted(there.values())[1:] == [9] * (len(there) - 1) and max(there.values()) <= 9


def batch(number: int, places: int) -> Batch:
    return Batch(number, f"3HIT{number}", "3KIND", "", places, 0, datetime(2026, 1, 1, tzinfo=UTC))


def test_more_hits_than_a_page_has_are_counted(rig: MturkRig):
    # 910 places are 101 HITs of nine and one of one, MTurk lists 100 at a time.
    rig.standin.ask("PUT", "balance", json={"balance": 910 * 180})
    posting = rig.platform.post(request(places=910))
    assert rig.platform.places(posting) == 910
    assert len(rig.books()["hits"]) == 102


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_anywhere_in_posting_leaves_exactly_the_wanted_hits(rig: MturkRig, operation: str, fault: str):
    fail_at(rig, operation, fault)
    posting = rig.platform.post(request(places=20))
    assert sizes(rig) == [9, 9, 2]
    assert rig.platform.find("intent-1") == posting
    assert rig.standin.ask("GET", "faults")["hit"] == {fault: 1}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", ["error", "cut-after"])
def test_posting_that_was_given_up_goes_on_where_it_stopped(rig: MturkRig, operation: str, fault: str):
    impatient = MturkPlatform(MturkSection(), endpoint_url=rig.standin.url, attempts=1)
    fail_at(rig, operation, *[fault] * 2)
    with pytest.raises(Unreachable):
        impatient.post(request(places=20))
    rig.fail()
    if operation != "UpdateQualificationType":  # its answer may be lost when everything is done
        assert rig.again().find("intent-1") is None
    posting = rig.again().post(request(places=20))
    assert sizes(rig) == [9, 9, 2]
    assert rig.again().find("intent-1") == posting


def test_a_hit_that_was_made_smaller_by_a_lost_request_grows_to_what_is_wanted(rig: MturkRig):
    impatient = MturkPlatform(MturkSection(), endpoint_url=rig.standin.url, attempts=1)
    fail_at(rig, "UpdateQualificationType", "error")
    with pytest.raises(Unreachable):
        impatient.post(request(places=4))
    posting = rig.again().post(request(places=12))
    assert sizes(rig) == [9, 3]
    assert rig.platform.places(posting) == 12


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", ["CreateAdditionalAssignmentsForHIT", "CreateHITWithHITType"])
def test_a_fault_while_places_are_added_adds_them_once(rig: MturkRig, operation: str, fault: str):
    posting = rig.platform.post(request(places=5))
    fail_at(rig, operation, fault)
    rig.platform.set_places(posting, 12)
    assert sizes(rig) == [9, 3]


def test_two_who_post_at_once_make_one_posting(rig: MturkRig):
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda platform: platform.post(request(places=40)), (rig.again(), rig.again()))
    assert first == second
    assert sizes(rig) == [9, 9, 9, 9, 4]


def test_posting_ends_complete_under_many_throttles_and_errors(rig: MturkRig):
    rig.standin.ask("PUT", "faults", json={"share": {"throttle": 0.3, "error": 0.1}, "seed": 4})
    patient = MturkPlatform(MturkSection(), endpoint_url=rig.standin.url)
    posting = patient.post(request(places=200))
    rig.fail()
    assert patient.places(posting) == 200 == sum(sizes(rig))


def test_other_hits_of_the_account_are_nobodys_posting(rig: MturkRig):
    ours = rig.platform.post(request(places=3))
    client = boto3.Session().client("mturk", endpoint_url=rig.standin.url, region_name="us-east-1")
    absent = [{"QualificationTypeId": ours, "Comparator": "DoesNotExist"}]
    kind = client.create_hit_type(
        Title="Another", Description="By other means.", Reward="0.50", AssignmentDurationInSeconds=600,
        QualificationRequirements=absent,
    )  # fmt: skip
    question = client.list_hits()["HITs"][0]["Question"]
    other = client.create_hit_with_hit_type(
        HITTypeId=kind["HITTypeId"], LifetimeInSeconds=600, Question=question, RequesterAnnotation="theirs/0"
    )["HIT"]["HITId"]
    assert rig.platform.places(ours) == 3
    with pytest.raises(PlatformError, match="none that crowd-imi made"):
        rig.platform.arrive(rig.take(other, "anna"))
    rig.platform.stop(ours)
    assert {hit["hit"]: hit["status"] for hit in rig.books()["hits"]}[other] == "Unassignable"  # taken by anna, not closed


# Pausing.


def test_a_paused_posting_lets_nobody_in_and_new_places_wait_as_well(rig: MturkRig):
    posting = rig.platform.post(request(places=9))
    rig.platform.pause(posting)
    rig.again().set_places(posting, 12)
    assert rig.again().state(posting) is PostingState.PAUSED
    assert refused(rig, posting, "anna")
    assert sizes(rig) == [9, 3]
    rig.again().resume(posting)
    assert {hit["status"] for hit in rig.books()["hits"]} == {"Assignable"}
    assert rig.platform.arrive(rig.take(posting, "anna")).status == "active"


@pytest.mark.parametrize("fault", FAULTS)
def test_pausing_through_a_fault_closes_every_hit(rig: MturkRig, fault: str):
    posting = rig.platform.post(request(places=20))
    fail_at(rig, "UpdateExpirationForHIT", fault)
    rig.platform.pause(posting)
    assert {hit["status"] for hit in rig.books()["hits"]} == {"Reviewable"}


def test_stopping_is_for_good_and_who_is_at_it_may_finish(rig: MturkRig):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    assignment = rig.platform.arrive(query).id
    rig.platform.stop(posting)
    rig.hand_in(query)
    assert [one.id for one in rig.platform.submissions(posting)] == [assignment]
    for again in (rig.platform.resume, rig.platform.pause):
        assert "for good" in said(again, posting)
    assert "for good" in said(rig.platform.set_places, posting, 40)
    assert rig.platform.state(posting) is PostingState.STOPPED


# Arriving.


def test_made_up_ids_are_nobodys(rig: MturkRig):
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    with pytest.raises(UnknownSubmission, match="does not exist"):
        rig.platform.arrive({**query, "hitId": query["hitId"][::-1]})
    for broken in ({"workerId": "anna"}, {"assignmentId": "1; DROP"}, {"hitId": "3" * 65}):
        with pytest.raises(MalformedLink):
            rig.platform.arrive({**query, **broken})
    for missing in query:
        with pytest.raises(BadLink) as refusal:
            rig.platform.arrive({**query, missing: ""})
        assert refusal.type is BadLink
    rig.hand_in(query)
    with pytest.raises(PlatformError, match="somebody else's"):
        rig.platform.arrive({**query, "workerId": "AOTHER"})


def test_an_assignment_that_nobody_has_is_believed_and_never_shows_up(rig: MturkRig):
    # MTurk shows no assignment before it is handed in: design.md, "answers count once the assignment shows up".
    posting = rig.platform.post(request())
    query = rig.take(posting, "anna")
    made_up = rig.platform.arrive({**query, "assignmentId": "3MADEUP", "workerId": "AMADEUP"})
    assert made_up.status == "active"
    assert list(rig.platform.submissions(posting)) == []
    assert "shows an assignment once it is handed in" in said(rig.platform.submission, made_up.id)
    assert "does not exist" in said(rig.platform.approve, made_up.id)


@pytest.mark.parametrize("site", ["https://evil.example.org", "http://www.mturk.com", "https://www.mturk.com.evil.org", "x"])
def test_the_browser_is_never_sent_to_another_site(rig: MturkRig, site: str):
    query = rig.take(rig.platform.post(request()), "anna")
    with pytest.raises(ForgedLink, match="another site"):
        rig.platform.arrive({**query, "turkSubmitTo": site})


@pytest.mark.parametrize("site", ["https://www.mturk.com", "https://workersandbox.mturk.com/"])
def test_mechanical_turks_own_sites_are_let_through(rig: MturkRig, site: str):
    query = rig.take(rig.platform.post(request()), "anna")
    assert rig.platform.arrive({**query, "turkSubmitTo": site}).status == "active"


def test_who_only_looks_is_told_to_accept_first(rig: MturkRig):
    posting = rig.platform.post(request())
    page = requests.get(f"{rig.standin.url}/mturk/preview", params={"groupId": posting}, timeout=30).text
    assert "ASSIGNMENT_ID_NOT_AVAILABLE" in page and ARRIVAL in page
    with pytest.raises(PreviewOnly):
        rig.platform.arrive({"assignmentId": "ASSIGNMENT_ID_NOT_AVAILABLE", "hitId": "3ANY"})


def test_who_has_arrived_can_not_take_part_again(rig: MturkRig):
    posting = rig.platform.post(request(places=20))
    query = rig.take(posting, "anna")
    rig.platform.arrive(query)
    rig.hand_in(query)
    assert refused(rig, posting, "anna")
    assert not refused(rig, posting, "ben")
    other = rig.platform.post(request("intent-2"))
    assert not refused(rig, other, "anna")  # it is another study's qualification


def test_nobody_is_told_of_the_qualification(rig: MturkRig):
    posting = rig.platform.post(request())
    rig.platform.arrive(rig.take(posting, "anna"))
    [hit] = rig.books()["hits"]
    client = boto3.Session().client("mturk", endpoint_url=rig.standin.url, region_name="us-east-1")
    [granted] = client.list_workers_with_qualification_type(QualificationTypeId=posting)["Qualifications"]
    assert granted["WorkerId"].startswith("A")
    wanted = client.get_hit(HITId=hit["hit"])["HIT"]["QualificationRequirements"][0]
    assert wanted == {
        "QualificationTypeId": posting, "Comparator": "DoesNotExist", "ActionsGuarded": "DiscoverPreviewAndAccept"
    }  # fmt: skip


def test_who_gives_the_hit_back_is_never_seen_and_frees_the_place(rig: MturkRig):
    posting = rig.platform.post(request(places=1))
    query = rig.take(posting, "anna")
    rig.platform.arrive(query)
    assert refused(rig, posting, "ben")
    rig.leave(query)
    assert list(rig.platform.submissions(posting)) == []
    assert rig.platform.arrive(rig.take(posting, "ben")).status == "active"
    assert "runs out by itself" in said(rig.platform.release, query["assignmentId"])


def test_people_are_let_in_by_country_approvals_and_earlier_studies(tmp_path: Path):
    with mturk(tmp_path) as first:
        earlier = first.platform.post(request("earlier"))
        first.platform.arrive(first.take(earlier, "emma"))
        section = MturkSection(countries=("DE", "AT"), masters=True, not_qualifications=(earlier,))
        posting = MturkPlatform(section, endpoint_url=first.standin.url).post(request())
        people = {
            "good": {"country": "AT"},
            "elsewhere": {"country": "US"},
            "often rejected": {"country": "DE", "percent_approved": 97},
            "new": {"country": "DE", "number_approved": 99},
            "no master": {"country": "DE", "masters": False},
            "emma": {"country": "DE"},
        }
        for participant, traits in people.items():
            first.standin.ask("PUT", "worker", json={"participant": participant, **traits})
        assert [person for person in people if not refused(first, posting, person)] == ["good"]


# Money.


@pytest.mark.parametrize(
    ("reward", "masters", "fee"),
    # 20 % of 1.50 is 0.30; of 0.01 at least a cent; 20 % of 0.99 is 0.198, rounded up; 5 % of 1.50 is 0.075, rounded up.
    [(150, False, 30), (1, False, 1), (99, False, 20), (150, True, 38), (1, True, 2)],
)
def test_the_fee_is_what_is_taken(tmp_path: Path, reward: int, masters: bool, fee: int):
    with mturk(tmp_path, masters=masters) as rig:
        assert rig.platform.fee(Money(amount=reward, currency="USD")).amount == fee
        posting = rig.platform.post(request().model_copy(update={"reward": Money(amount=reward, currency="USD")}))
        query = rig.take(posting, "anna")
        rig.hand_in(query)
        rig.platform.approve(query["assignmentId"])
        [paid] = rig.books()["rewards"]
        assert (paid["amount"], paid["fee"]) == (reward, fee)


def test_the_balance_is_what_open_places_leave(rig: MturkRig):
    rig.standin.ask("PUT", "balance", json={"balance": 1000})
    rig.platform.post(request(places=3))
    # Three places at 1.50 and 0.30 of fee are 5.40.
    assert rig.platform.account().balance == Money(amount=460, currency="USD")


def test_a_balance_that_is_too_small_posts_nothing(rig: MturkRig):
    # 20 places at 1.80 cost 36.00.
    rig.standin.ask("PUT", "balance", json={"balance": 3599})
    assert "20 places cost 36.00 USD with fees" in said(rig.platform.post, request(places=20))
    assert rig.books()["hits"] == []
    rig.standin.ask("PUT", "balance", json={"balance": 3600})
    posting = rig.platform.post(request(places=20))
    assert "balance is 0.00 USD" in said(rig.platform.set_places, posting, 21)
    assert rig.platform.places(posting) == 20


def test_a_rejection_is_taken_back_by_approving(rig: MturkRig):
    query = rig.take(rig.platform.post(request()), "anna")
    rig.hand_in(query)
    rig.platform.reject(query["assignmentId"], "Too fast.")
    rig.platform.approve(query["assignmentId"])
    assert rig.rewards() == {query["assignmentId"]: REWARD}
    assert "status of: Submitted" in said(rig.platform.reject, query["assignmentId"], "Too fast.")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bonus_through_a_fault_is_paid_once_and_read_back_by_its_key(rig: MturkRig, fault: str):
    query = rig.take(rig.platform.post(request()), "anna")
    rig.hand_in(query)
    submission = query["assignmentId"]
    fail_at(rig, "SendBonus", fault)
    rig.platform.send_bonuses([bonus(submission, "key-1")], lambda note: None)
    rig.again().send_bonuses([bonus(submission, "key-1")], lambda note: None)
    rig.again().send_bonuses([bonus(submission, "key-2")], lambda note: None)
    assert rig.bonuses() == [(submission, 75), (submission, 75)]
    assert [(paid.amount.amount, paid.key) for paid in rig.platform.bonuses(submission)] == [(75, "key-1"), (75, "key-2")]


# What can't be posted.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reward": Money(amount=150, currency="EUR")}, "in USD only"),
        ({"reward": Money(amount=0, currency="USD")}, "at least 0.01 USD"),
        ({"title": "x" * 129}, "longer than 128"),
        ({"description": "x" * 2001}, "longer than 2000"),
        ({"arrival_url": "http://pages.example.org/arrive"}, "HTTPS"),
        ({"arrival_url": f"https://pages.example.org/{'x' * 66_000}"}, "too long"),
        ({"places": 0}, "at least one"),
    ],
)
def test_what_mechanical_turk_would_not_take_is_refused_before_it_is_asked(rig: MturkRig, change: dict[str, Any], words: str):
    rig.fail(*["error"] * 9)
    assert words in said(rig.platform.post, PostingRequest.model_validate({**request().model_dump(), **change}))
    assert len(rig.standin.ask("GET", "faults")["left"]) == 9  # nothing was asked


# Notifications.


@pytest.mark.parametrize(
    "body",
    [
        "none of MTurk's",
        "[]",
        '{"Events": 3}',
        '{"Events": [7, {}]}',
        '{"Events": [{"EventType": ["x"], "HITId": "H", "AssignmentId": "A"}]}',
        '{"Events": [{"EventType": "AssignmentSubmitted", "HITId": "H", "AssignmentId": null}]}',
        "[" * 100_000,
    ],
    ids=lambda body: body[:40],
)
def test_a_message_that_is_none_of_mturks_tells_nothing(body: str):
    assert notices_in(body) == ()


def test_beside_an_event_that_says_nothing_the_others_count():
    good = {"EventType": "AssignmentSubmitted", "HITId": "H", "AssignmentId": "A"}
    body = json.dumps({"EventDocId": "D", "Events": [{**good, "EventType": {}}, {**good, "AssignmentId": "\ud800"}, good]})
    assert notices_in(body) == (Notice("D", "AssignmentSubmitted", "H", "A"),)


def test_what_people_do_is_told_by_a_queue_once_for_each_repeat(rig: MturkRig):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        sqs = boto3.Session().client("sqs", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        url = sqs.create_queue(QueueName="notices", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
        posting = rig.platform.post(request(places=20))
        rig.platform.notify(posting, url)
        query = rig.take(posting, "anna")
        rig.hand_in(query)
        queue = NoticeQueue(url, endpoint_url=f"http://{host}:{port}")
        found: set[Notice] = set()
        deadline = time.monotonic() + 30
        with pytest.raises(ZeroDivisionError), queue.taken() as lost:  # cut off before it was noted: it comes again
            assert lost
            raise ZeroDivisionError
        while len(found) < 2 and time.monotonic() < deadline:
            with queue.taken() as notices:
                found |= set(notices)
        sqs.send_message(QueueUrl=url, MessageBody="none of MTurk's")
        assert {(one.event, one.hit, one.submission) for one in found} == {
            (event, query["hitId"], query["assignmentId"]) for event in ("AssignmentAccepted", "AssignmentSubmitted")
        }
        with queue.taken() as nothing:
            assert nothing == ()
    finally:
        server.stop()
    with pytest.raises(Unreachable), queue.taken():
        pass


# Credentials and addresses.


def platform(rig: MturkRig) -> MturkPlatform:
    return MturkPlatform(MturkSection(), endpoint_url=rig.standin.url, attempts=2)


def test_a_wrong_access_key_is_one_clear_line(rig: MturkRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSE0000")
    assert "doesn't know the AWS access key" in said(platform(rig).account)


def test_a_wrong_secret_key_is_one_clear_line(rig: MturkRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    message = said(platform(rig).account)
    assert "secret key doesn't belong" in message and "not-the-secret" not in message


def test_missing_credentials_are_one_clear_line(rig: MturkRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials" in said(platform, rig)


def test_half_of_the_credentials_are_one_clear_line(rig: MturkRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials" in said(platform, rig)


def test_a_profile_that_is_not_there_is_one_clear_line(rig: MturkRig):
    assert "no AWS profile 'lab'" in said(lambda: MturkPlatform(MturkSection(profile="lab"), endpoint_url=rig.standin.url))


def test_the_profile_is_used(rig: MturkRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "credentials").write_text(f"[lab]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    assert MturkPlatform(MturkSection(profile="lab"), endpoint_url=rig.standin.url).account().balance is not None


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://turk.example.org", "over HTTPS only"),
        ("http://127.0.0.1.example.org", "over HTTPS only"),
        ("ftp://127.0.0.1", "no address"),
        ("turk.example.org", "no address"),
        ("https://mturk-requester.eu-west-1.amazonaws.com", "us-east-1 only"),
        ("https://user:pass@turk.example.org", "holds a password"),
    ],
)
def test_credentials_go_to_no_wrong_address(rig: MturkRig, endpoint: str, words: str):
    message = said(lambda: MturkPlatform(MturkSection(), endpoint_url=endpoint))
    assert words in message and "pass@" not in message


def test_nobody_at_the_address_is_told_after_a_bounded_number_of_tries(rig: MturkRig):
    nobody = MturkPlatform(MturkSection(), endpoint_url="http://127.0.0.1:1", attempts=3)
    with pytest.raises(Unreachable, match="in 3 tries"):
        nobody.account()


def test_publishing_on_aws_says_that_it_has_closed():
    for endpoint in (None, "https://mturk-requester.us-east-1.amazonaws.com"):
        notice = closed_notice(endpoint, sandbox=False)
        assert notice is not None and "30 September 2026" in notice and "prolific" in notice and "link" in notice
    assert closed_notice(None, sandbox=True) is not None
    assert closed_notice("http://127.0.0.1:4567", sandbox=False) is None
    assert closed_notice("https://turk.example.org", sandbox=False) is None


def test_the_browser_goes_where_the_service_is(rig: MturkRig):
    live, sandbox = MturkPlatform(MturkSection()), MturkPlatform(MturkSection(), sandbox=True)
    assert live.finish("3A", "CODE").url == "https://www.mturk.com/mturk/externalSubmit"
    assert sandbox.finish("3A", "CODE").url == "https://workersandbox.mturk.com/mturk/externalSubmit"
    assert rig.platform.finish("3A", "CODE").form == {"assignmentId": "3A", "code": "CODE"}
