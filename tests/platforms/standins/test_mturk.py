"""The stand-in by itself: what boto3 is told, what time does, what survives a kill."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from werkzeug.test import Client

from crowd_imi.platforms.standins.mturk import events
from crowd_imi.platforms.standins.mturk.app import OPERATIONS, create_app
from crowd_imi.platforms.standins.mturk.books import fee_of
from crowd_imi.platforms.standins.mturk.wire import PREFIX, service_model
from crowd_imi.store.clock import SimulatedClock
from tests.contract.mturk import MturkRig, StandinProcess, mturk

QUESTION = (
    '<ExternalQuestion xmlns="http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2006-07-14/ExternalQuestion.xsd">'
    "<ExternalURL>https://pages.example.org/arrive?a=1&amp;b=2</ExternalURL><FrameHeight>0</FrameHeight></ExternalQuestion>"
)
KIND = {"Title": "Look", "Description": "Look at pictures.", "Reward": "0.50", "AssignmentDurationInSeconds": 600}
HIT = {**KIND, "LifetimeInSeconds": 3600, "Question": QUESTION}
START = 1_700_000_000_000
HOUR = 3_600_000


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[MturkRig]:
    with mturk(tmp_path) as made:
        yield made


@pytest.fixture
def client(rig: MturkRig) -> Any:
    """boto3 as it comes, but for what it checks itself: the stand-in must check that as well."""
    config = Config(parameter_validation=False, retries={"total_max_attempts": 1})
    return boto3.Session().client("mturk", endpoint_url=rig.standin.url, region_name="us-east-1", config=config)


def error(call: Any, **parameters: Any) -> tuple[str, str]:
    """(code, message) of what the stand-in answers."""
    with pytest.raises(ClientError) as failure:
        call(**parameters)
    answer = failure.value.response
    return str(answer.get("TurkErrorCode", answer["Error"]["Code"])).removeprefix("AWS.MechanicalTurk."), answer["Error"][
        "Message"
    ]


def make(client: Any, **more: Any) -> str:
    return str(client.create_hit(**{**HIT, **more})["HIT"]["HITId"])


Offline = tuple[SimulatedClock, Callable[..., Any]]


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Offline]:
    """The stand-in in this process, with a clock that is set by hand."""
    clock = SimulatedClock(START)
    app = create_app(tmp_path, clock=clock)
    client = Client(app)
    scope = "Credential=K/20260101/us-east-1/mturk-requester/aws4_request, SignedHeaders=host, Signature="

    def call(name: str, method: str = "post", **parameters: Any) -> Any:
        if name.startswith("/"):
            reply = client.open(name, method=method, **{"data" if name.startswith("/mturk") else "json": parameters})
            assert reply.status_code < 400, reply.text
            return reply.json if reply.is_json else reply.text
        headers = {"X-Amz-Target": f"{PREFIX}.{name}", "Authorization": f"AWS4-HMAC-SHA256 {scope}{'0' * 64}"}
        return json.loads(client.post("/", json=parameters, headers=headers).data)

    yield clock, call
    app.close()


def test_every_operation_is_one_that_botocore_knows():
    assert set(OPERATIONS) <= set(service_model().operation_names)


# The wire.


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"Title": 5}, "Invalid type for parameter Title"),
        ({"Reward": "a dollar"}, "must match"),
        ({"Reward": "0.505"}, "must match"),
        ({"QualificationRequirements": [{"QualificationTypeId": "3A", "Comparator": "Roughly"}]}, "one of LessThan"),
    ],
)
def test_requests_are_checked_against_botocores_model(client: Any, broken: dict[str, Any], words: str):
    code, message = error(client.create_hit, **{**HIT, **broken})
    assert code == "ValidationException" and words in message


def test_a_missing_parameter_is_named(client: Any):
    code, message = error(client.create_hit_type, Title="Look")
    assert code == "ValidationException" and 'Missing required parameter in input: "Reward"' in message


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ({"Title": "x" * 129}, "ParameterOutOfRange"),
        ({"Description": "x" * 2001}, "ParameterOutOfRange"),
        ({"AssignmentDurationInSeconds": 29}, "ParameterOutOfRange"),
        ({"LifetimeInSeconds": 29}, "ParameterOutOfRange"),
        ({"AutoApprovalDelayInSeconds": 2_592_001}, "ParameterOutOfRange"),
        ({"RequesterAnnotation": "x" * 256}, "ParameterOutOfRange"),
        ({"Question": "<Nothing/>"}, "XMLParseError"),
        ({"Question": QUESTION.replace("https:", "http:")}, "XMLParseError"),
        ({"Question": "x" * 65_536}, "QuestionTooLong"),
        ({"QualificationRequirements": [{"QualificationTypeId": "3A", "Comparator": "Exists"}]}, "QualificationTypeDoesNotExist"),
        (
            {"QualificationRequirements": [{"QualificationTypeId": "00000000000000000071", "Comparator": "In"}]},
            "InvalidQualificationRequirement",
        ),
        (
            {
                "QualificationRequirements": [{"QualificationTypeId": "2F1QJWKUDD8XADTFD2Q0G6UTO95ALH", "Comparator": "Exists"}]
                * 11
            },
            "ParameterOutOfRange",
        ),
    ],
)
def test_limits_are_mechanical_turks(client: Any, broken: dict[str, Any], code: str):
    assert error(client.create_hit, **{**HIT, **broken})[0] == code


def test_an_operation_that_there_is_not_is_refused(rig: MturkRig):
    reply = requests.post(rig.standin.url, headers={"X-Amz-Target": f"{PREFIX}.Nothing"}, timeout=30)
    assert reply.json()["__type"] == "MissingAuthenticationTokenException"


def test_another_region_is_refused_in_awss_words(rig: MturkRig):
    elsewhere = boto3.Session().client("mturk", endpoint_url=rig.standin.url, region_name="eu-west-1")
    code, message = error(elsewhere.get_account_balance)
    assert code == "InvalidSignatureException" and "not 'eu-west-1'" in message


def test_throttling_and_faults_are_what_boto3_calls_them(rig: MturkRig, client: Any):
    rig.fail("throttle", "error")
    assert error(client.get_account_balance)[0] == "ThrottlingException"
    with pytest.raises(client.exceptions.ServiceFault):
        client.get_account_balance()
    assert client.get_account_balance()["AvailableBalance"] == "10000.00"


# HITs.


def test_the_same_hit_type_is_made_once(client: Any):
    first, again = client.create_hit_type(**KIND), client.create_hit_type(**KIND)
    assert first["HITTypeId"] == again["HITTypeId"] != client.create_hit_type(**{**KIND, "Reward": "0.51"})["HITTypeId"]


def test_a_token_makes_one_hit_and_names_it_afterwards(client: Any):
    hit = make(client, UniqueRequestToken="once")
    code, message = error(client.create_hit, **HIT, UniqueRequestToken="once")
    assert code == "HitAlreadyExists" and hit in message
    assert len(client.list_hits()["HITs"]) == 1


def test_a_token_of_yesterday_is_forgotten(offline: Offline):
    clock, call = offline
    call("CreateHIT", **HIT, UniqueRequestToken="once")
    clock.set(START + 24 * HOUR)
    call("CreateHIT", **HIT, UniqueRequestToken="once")
    assert call("ListHITs")["NumResults"] == 2


def test_assignments_are_added_below_ten_or_above_and_never_across(client: Any):
    small, large = make(client, MaxAssignments=5), make(client, MaxAssignments=10)
    add = client.create_additional_assignments_for_hit
    add(HITId=small, NumberOfAdditionalAssignments=4, UniqueRequestToken="four")
    assert error(add, HITId=small, NumberOfAdditionalAssignments=4, UniqueRequestToken="four")[0] == "DuplicateRequest"
    assert error(add, HITId=small, NumberOfAdditionalAssignments=1)[0] == "InvalidMaximumAssignmentsIncrease"
    add(HITId=large, NumberOfAdditionalAssignments=10)
    assert [client.get_hit(HITId=hit)["HIT"]["MaxAssignments"] for hit in (small, large)] == [9, 20]


@pytest.mark.parametrize(
    ("reward", "places", "masters", "fee"),
    # 20 % of 2.00; twice that from ten assignments on; 5 % more for Masters; at least a cent each.
    [(200, 9, False, 40), (200, 10, False, 80), (200, 10, True, 90), (1, 10, True, 3)],
)
def test_fees_step_up_at_ten_assignments(reward: int, places: int, masters: bool, fee: int):
    assert fee_of(reward, places, masters) == fee


def test_pages_hold_what_was_asked_for_and_each_hit_once(client: Any):
    made = [make(client) for _ in range(7)]
    page = client.list_hits(MaxResults=3)
    assert [hit["HITId"] for hit in page["HITs"]] == made[:3:-1] and page["NumResults"] == 3
    make(client)  # comes in front, and shifts nothing
    pages = client.get_paginator("list_hits").paginate(PaginationConfig={"PageSize": 2})
    assert len({hit["HITId"] for page in pages for hit in page["HITs"]}) == 8
    following = client.list_hits(MaxResults=100, NextToken=page["NextToken"])
    assert [hit["HITId"] for hit in following["HITs"]] == made[3::-1] and "NextToken" not in following
    assert error(client.list_hits, MaxResults=101)[0] == "ValidationException"
    assert error(client.list_hits, NextToken="nonsense")[0] == "InvalidPaginationToken"


def test_a_hit_is_deleted_when_it_is_over_and_all_are_decided(rig: MturkRig, client: Any):
    hit = make(client)
    assert error(client.delete_hit, HITId=hit)[0] == "InvalidHITState"
    query = rig.take(hit, "anna")
    client.update_expiration_for_hit(HITId=hit, ExpireAt=datetime(2015, 1, 1, tzinfo=UTC))
    assert client.get_hit(HITId=hit)["HIT"]["HITStatus"] == "Unassignable"
    hand_in(rig, query["assignmentId"], code="1")
    assert client.get_hit(HITId=hit)["HIT"]["HITStatus"] == "Reviewable"
    assert [one["HITId"] for one in client.list_reviewable_hits()["HITs"]] == [hit]
    assert error(client.delete_hit, HITId=hit)[0] == "InvalidHITState"
    client.approve_assignment(AssignmentId=query["assignmentId"])
    client.delete_hit(HITId=hit)
    assert error(client.get_hit, HITId=hit)[0] == "HITDoesNotExist"
    assert client.list_hits()["HITs"] == []


# Assignments and money.


def hand_in(rig: MturkRig, assignment: str, **fields: str) -> requests.Response:
    return requests.post(f"{rig.standin.url}/mturk/externalSubmit", data={"assignmentId": assignment, **fields}, timeout=30)


def test_a_form_needs_a_field_beside_the_assignment(rig: MturkRig, client: Any):
    hit = make(client)
    assignment = rig.take(hit, "anna")["assignmentId"]
    assert hand_in(rig, assignment).status_code == 409
    assert error(client.get_assignment, AssignmentId=assignment)[0] == "AssignmentDoesNotExist"
    assert hand_in(rig, assignment, code="<C0DE>").ok
    assert hand_in(rig, assignment, code="<C0DE>").ok  # a second click
    [shown] = client.list_assignments_for_hit(HITId=hit)["Assignments"]
    assert shown["AssignmentStatus"] == "Submitted" and shown["SubmitTime"] >= shown["AcceptTime"]
    assert "<QuestionIdentifier>code</QuestionIdentifier><FreeText>&lt;C0DE&gt;</FreeText>" in shown["Answer"]


def test_the_frame_gets_all_ids_beside_the_pages_own_parameters(rig: MturkRig, client: Any):
    query = rig.take(make(client), "anna")
    assert query.keys() == {"a", "b", "assignmentId", "hitId", "workerId", "turkSubmitTo"}
    assert query["turkSubmitTo"] == rig.standin.url


def test_workers_come_by_the_site_too(rig: MturkRig, client: Any):
    hit = make(client)
    session = requests.Session()
    page = session.post(f"{rig.standin.url}/mturk/accept", data={"posting": hit, "workerId": "ANNA"}, timeout=30)
    assert "<iframe" in page.text and "workerId=ANNA" in page.text
    assignment = dict(part.split("=") for part in page.url.partition("?")[2].split("&"))["assignmentId"]
    assert session.post(f"{rig.standin.url}/mturk/return", data={"assignmentId": assignment}, timeout=30).ok
    assert client.get_hit(HITId=hit)["HIT"]["NumberOfAssignmentsAvailable"] == 1


def test_approving_and_rejecting_follow_mechanical_turks_rules(rig: MturkRig, client: Any):
    hit = make(client, MaxAssignments=2)
    anna, ben = (rig.take(hit, name)["assignmentId"] for name in ("anna", "ben"))
    for assignment in (anna, ben):
        hand_in(rig, assignment, code="1")
    client.approve_assignment(AssignmentId=anna)
    assert error(client.approve_assignment, AssignmentId=anna)[0] == "InvalidAssignmentState"
    assert error(client.reject_assignment, AssignmentId=ben)[0] == "ValidationException"
    client.reject_assignment(AssignmentId=ben, RequesterFeedback="Too fast.")
    assert error(client.approve_assignment, AssignmentId=ben)[0] == "InvalidAssignmentState"
    client.approve_assignment(AssignmentId=ben, OverrideRejection=True)
    assert rig.rewards() == {anna: 50, ben: 50}
    # 10,000.00 − 2 × (0.50 + 0.10)
    assert client.get_account_balance()["AvailableBalance"] == "9998.80"


def test_a_bonus_token_pays_once(rig: MturkRig, client: Any):
    query = rig.take(make(client), "anna")
    bonus = {"WorkerId": query["workerId"], "AssignmentId": query["assignmentId"], "BonusAmount": "1.25", "Reason": "Thank you."}
    assert error(client.send_bonus, **bonus)[0] == "AssignmentDoesNotExist"
    hand_in(rig, query["assignmentId"], code="1")
    assert error(client.send_bonus, **{**bonus, "WorkerId": "AELSE"})[0] == "InvalidWorker"
    client.send_bonus(**bonus, UniqueRequestToken="once")
    assert error(client.send_bonus, **bonus, UniqueRequestToken="once")[0] == "DuplicateRequest"
    [paid] = client.list_bonus_payments(HITId=query["hitId"])["BonusPayments"]
    assert (paid["BonusAmount"], paid["Reason"]) == ("1.25", "Thank you.")
    assert error(client.list_bonus_payments)[0] == "InvalidParameterValue"
    rig.standin.ask("PUT", "balance", json={"balance": 0})
    assert error(client.send_bonus, **bonus)[0] == "InsufficientFunds"
    assert error(client.create_hit, **HIT)[0] == "InsufficientFunds"


# Qualifications.


def test_a_qualifications_name_is_there_once(client: Any):
    make_type = client.create_qualification_type
    values = {"Name": "took part", "Description": "Took part.", "QualificationTypeStatus": "Active"}
    made = make_type(**values)["QualificationType"]["QualificationTypeId"]
    assert error(make_type, **values)[0] == "QualificationTypeAlreadyExists"
    found = client.list_qualification_types(Query="took", MustBeRequestable=False, MustBeOwnedByCaller=True)
    assert [one["QualificationTypeId"] for one in found["QualificationTypes"]] == [made]
    client.associate_qualification_with_worker(QualificationTypeId=made, WorkerId="ANNA", SendNotification=False)
    assert client.get_qualification_score(QualificationTypeId=made, WorkerId="ANNA")["Qualification"]["Status"] == "Granted"
    client.disassociate_qualification_from_worker(QualificationTypeId=made, WorkerId="ANNA")
    assert client.list_workers_with_qualification_type(QualificationTypeId=made)["Qualifications"] == []
    assert error(client.get_qualification_score, QualificationTypeId=made, WorkerId="ABEN")[0] == "QualificationDoesNotExist"


# Notifications.


@pytest.fixture
def moto() -> Iterator[str]:
    """SQS and SNS on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=30)
    yield f"http://{host}:{port}"
    server.stop()


def received(sqs: Any, queue: str, wanted: int) -> list[dict[str, Any]]:
    """The bodies of so many messages."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + 30
    while len(found) < wanted and time.monotonic() < deadline:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", ()):
            found.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        time.sleep(0.05)
    return found


def test_what_happens_to_an_assignment_is_told_to_a_queue_at_least_once(rig: MturkRig, client: Any, moto: str):
    sqs = boto3.Session().client("sqs", endpoint_url=moto, region_name="us-east-1")
    queue = sqs.create_queue(QueueName="turk")["QueueUrl"]
    kind = client.create_hit_type(**KIND)["HITTypeId"]
    events = ["AssignmentAccepted", "AssignmentReturned", "AssignmentSubmitted", "AssignmentApproved", "HITReviewable"]
    wanted = {"Destination": queue, "Transport": "SQS", "Version": "2014-08-15", "EventTypes": events}
    client.update_notification_settings(HITTypeId=kind, Notification=wanted, Active=True)
    hit = client.create_hit_with_hit_type(HITTypeId=kind, LifetimeInSeconds=3600, Question=QUESTION)["HIT"]["HITId"]
    rig.leave(rig.take(hit, "anna"))
    assert len(received(sqs, queue, 2)) == 2  # accepted, returned
    rig.fail("duplicate")
    assignment = rig.take(hit, "ben")["assignmentId"]
    hand_in(rig, assignment, code="1")
    client.approve_assignment(AssignmentId=assignment)
    # Accepted (told twice), submitted, reviewable, approved.
    documents = received(sqs, queue, 5)
    told = {document["EventDocId"]: document["Events"][0] for document in documents}.values()
    assert len(documents) == 5
    assert sorted(one["EventType"] for one in told) == sorted(set(events) - {"AssignmentReturned"})
    assert {one["HITId"] for one in told} == {hit} and {one["HITTypeId"] for one in told} == {kind}
    assert {one["AssignmentId"] for one in told if one["EventType"] == "AssignmentApproved"} == {assignment}


def test_a_test_notification_arrives_and_nothing_goes_to_another_machine(client: Any, moto: str):
    sqs = boto3.Session().client("sqs", endpoint_url=moto, region_name="us-east-1")
    queue = sqs.create_queue(QueueName="turk")["QueueUrl"]
    wanted = {"Destination": queue, "Transport": "SQS", "Version": "2014-08-15", "EventTypes": ["Ping"]}
    client.send_test_event_notification(Notification=wanted, TestEventType="Ping")
    [document] = received(sqs, queue, 1)
    assert document["Events"][0]["EventType"] == "Ping"
    elsewhere = {**wanted, "Destination": "https://sqs.us-east-1.amazonaws.com/1/turk"}
    assert error(client.send_test_event_notification, Notification=elsewhere, TestEventType="Ping")[0] == "InvalidParameterValue"


@pytest.mark.parametrize("at_once", [True, False])
def test_books_that_are_emptied_while_a_notice_is_sent_lose_no_later_one(
    offline: Offline, monkeypatch: pytest.MonkeyPatch, at_once: bool
):
    _, call = offline
    wanted = {"Destination": "http://127.0.0.1:1/queue", "Transport": "SQS", "Version": "2014-08-15", "EventTypes": ["Ping"]}
    begun, emptied, sent = threading.Event(), threading.Event(), []

    class Queue:
        def send_message(self, **message: str) -> None:
            sent.append(message["MessageBody"])
            begun.set()
            emptied.wait(30)

    def ping() -> None:
        call("SendTestEventNotification", Notification=wanted, TestEventType="Ping")

    monkeypatch.setattr(events, "_client", lambda *_: Queue())
    ping()
    assert begun.wait(30)
    call("/standin/books", method="delete")
    if at_once:
        ping()
    emptied.set()
    if not at_once:
        ping()
    deadline = time.monotonic() + 30
    while len(sent) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(set(sent)) == len(sent) == 2


# Time and death.


def test_what_nobody_hands_in_in_time_is_free_again(offline: Offline):
    clock, call = offline
    hit = call("CreateHIT", **HIT)["HIT"]["HITId"]
    call("/standin/take", posting=hit, participant="anna")
    assert call("GetHIT", HITId=hit)["HIT"]["NumberOfAssignmentsAvailable"] == 0
    clock.set(START + 600_000)
    shown = call("GetHIT", HITId=hit)["HIT"]
    assert (shown["NumberOfAssignmentsAvailable"], shown["NumberOfAssignmentsPending"]) == (1, 0)
    clock.set(START + HOUR)
    assert call("GetHIT", HITId=hit)["HIT"]["HITStatus"] == "Reviewable"


def test_what_nobody_decides_is_approved_in_the_end(offline: Offline):
    clock, call = offline
    hit = call("CreateHIT", **HIT, AutoApprovalDelayInSeconds=60)["HIT"]["HITId"]
    assignment = call("/standin/take", posting=hit, participant="anna")["submission"]
    call("/mturk/externalSubmit", assignmentId=assignment, code="1")
    clock.set(START + 59_000)
    assert call("GetAssignment", AssignmentId=assignment)["Assignment"]["AssignmentStatus"] == "Submitted"
    clock.set(START + 60_000)
    assert call("GetAssignment", AssignmentId=assignment)["Assignment"]["AssignmentStatus"] == "Approved"
    assert call("GetAccountBalance")["AvailableBalance"] == "9999.40"


def test_a_rejection_can_be_overridden_for_thirty_days(offline: Offline):
    clock, call = offline
    hit = call("CreateHIT", **HIT)["HIT"]["HITId"]
    assignment = call("/standin/take", posting=hit, participant="anna")["submission"]
    call("/mturk/externalSubmit", assignmentId=assignment, code="1")
    call("RejectAssignment", AssignmentId=assignment, RequesterFeedback="Too fast.")
    clock.set(START + 31 * 24 * HOUR)
    answer = call("ApproveAssignment", AssignmentId=assignment, OverrideRejection=True)
    assert answer["TurkErrorCode"] == "AWS.MechanicalTurk.InvalidAssignmentState"


def test_a_rehearsal_brings_its_own_time(rig: MturkRig, client: Any):
    hit = make(client)
    rig.take(hit, "anna")
    assert rig.standin.ask("GET", "places")["places"][0]["free"] == 0
    at = rig.standin.ask("GET", "clock")["now"] + 600_000  # what KIND gives a worker
    later = rig.standin.ask("GET", "places", headers={"X-Rehearsal-Clock": str(at)})
    assert [(place["posting"], place["free"]) for place in later["places"]] == [(client.list_hits()["HITs"][0]["HITTypeId"], 1)]
    reply = requests.get(f"{rig.standin.url}/standin/places", headers={"X-Rehearsal-Clock": "soon"}, timeout=30)
    assert reply.status_code == 400


def test_another_site_can_not_act_for_workers_but_its_form_may_hand_in(rig: MturkRig, client: Any):
    hit = make(client)
    foreign = {"Origin": "https://pages.example.org", "Sec-Fetch-Site": "cross-site"}
    taking = {"posting": hit, "workerId": "ANNA"}
    assert requests.post(f"{rig.standin.url}/mturk/accept", data=taking, headers=foreign, timeout=30).status_code == 403
    fields = {"assignmentId": rig.take(hit, "anna")["assignmentId"], "code": "1"}
    reply = requests.post(f"{rig.standin.url}/mturk/externalSubmit", data=fields, headers=foreign, timeout=30)
    assert reply.ok and "frame-ancestors 'self'" in reply.headers["Content-Security-Policy"]


def test_unknown_parameters_are_named(offline: Offline):
    _, call = offline
    assert 'Unknown parameter in input: "Unheard"' in call("CreateHIT", **HIT, Unheard=1)["Message"]


def test_what_was_answered_survives_a_kill(tmp_path: Path):
    with mturk(tmp_path):
        standin = StandinProcess(tmp_path / "own")
        rig = MturkRig(standin)
        client = boto3.Session().client("mturk", endpoint_url=standin.url, region_name="us-east-1")
        hit = make(client, MaxAssignments=2, UniqueRequestToken="once")
        assignment = rig.take(hit, "anna")["assignmentId"]
        standin.kill()
        standin.start()
        assert hand_in(rig, assignment, code="1").ok
        client.approve_assignment(AssignmentId=assignment)
        before = rig.books()
        standin.kill()
        standin.start()
        assert rig.books() == before
        assert error(client.create_hit, **HIT, UniqueRequestToken="once")[0] == "HitAlreadyExists"
        standin.kill()
