"""Sprites in a bucket: what lies there, who may read it, going on after a kill, taking it back, and what goes wrong."""

import base64
import hashlib
import io
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import requests
from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.exceptions import ClientError

from crowd_imi.cli import main
from crowd_imi.errors import PublishError
from crowd_imi.hosted import Hosted, hosted_path, load_hosted, origin_of
from crowd_imi.plan import Plan
from crowd_imi.publisher.hosting import access, client, host, objects, unhost
from crowd_imi.publisher.hosting.client import open_bucket
from crowd_imi.publisher.lock import hold_to_lock, keep_lock, make_lock
from crowd_imi.study import Study
from tests.storage import KEY, SECRET, Storage, storage
from tests.tiny import STUDY_TOML, fake_plan, write_study

PAGES = "https://study.example.org"
OTHERS = [{"ID": "theirs", "AllowedOrigins": ["https://theirs.example.org"], "AllowedMethods": ["PUT"]}]


@pytest.fixture(scope="module")
def server() -> Iterator[Storage]:
    with storage() as made:
        yield made


@pytest.fixture
def s3(server: Storage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setattr(access, "WAITS", (0.0,))
    server.begin(monkeypatch)
    yield server
    server.client.close()


@pytest.fixture
def study(tmp_path: Path, s3: Storage) -> Study:
    return hosting(tmp_path / "study", f'bucket = "lab"\nendpoint_url = "{s3.url}"\nprefix = "tiny"')


@pytest.fixture
def plan(study: Study) -> Plan:
    return fake_plan(study)


def hosting(folder: Path, section: str) -> Study:
    """One arm with two tasks."""
    toml = STUDY_TOML.replace('[[arms]]\nmodel = "toy"\ncondition = "natural"\nunits = 6\nnull = 2\nresponses = 3\n', "")
    return write_study(folder, f"{toml}\n[hosting]\n{section}\n")


def stranger(url: str, origin: str | None = PAGES) -> requests.Response:
    return requests.get(url, headers={} if origin is None else {"Origin": origin}, timeout=10)


def addresses(hosted: Hosted) -> list[str]:
    return [f"{hosted.public_url}{name}" for name in hosted.names]


def said(study: Study, plan: Plan) -> str:
    """The error's message, which is one line and tells no secret."""
    with pytest.raises(PublishError) as failure:
        host(study, plan, PAGES)
    message = str(failure.value)
    assert len(message.splitlines()) == 1
    assert SECRET not in message and KEY not in message
    return message


def test_strangers_open_every_sprite_with_the_pages_headers_and_nothing_else(study: Study, plan: Plan, s3: Storage):
    done = host(study, plan, PAGES)
    # 2 tasks of 8 trials and 5 of practice.
    assert (done.uploaded, done.unchanged, done.removed) == (21, 0, 0)
    assert s3.keys() == {f"tiny/{name}" for name in plan.sprites}
    for address in addresses(done.hosted):
        reply = stranger(address)
        assert reply.status_code == 200
        assert reply.content == (study.sprites / address.rpartition("/")[2]).read_bytes()
        assert reply.headers["Content-Type"] == "image/avif"
        assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert reply.headers["Access-Control-Allow-Origin"] == PAGES
    assert "Access-Control-Allow-Origin" not in stranger(addresses(done.hosted)[0], "https://elsewhere.example.org").headers
    s3.client.put_object(Bucket="lab", Key="tiny/plan.json", Body=b"{}")
    assert stranger(f"{done.hosted.public_url}plan.json").status_code == 403


def test_nobody_but_us_can_list_the_bucket(study: Study, plan: Plan, s3: Storage):
    host(study, plan, PAGES)
    nobody = boto3.Session().client("s3", endpoint_url=s3.url, region_name="us-east-1", config=Config(signature_version=UNSIGNED))
    with pytest.raises(ClientError, match="AccessDenied"):
        nobody.list_objects_v2(Bucket="lab")
    assert "s3:ListBucket" not in s3.client.get_bucket_policy(Bucket="lab")["Policy"]
    nobody.close()


def test_a_bucket_that_everybody_can_list_is_refused_before_anything_is_sent(study: Study, plan: Plan, s3: Storage):
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::lab"}
    s3.client.put_bucket_policy(Bucket="lab", Policy=json.dumps({"Version": "2012-10-17", "Statement": [everybody]}))
    assert "everybody can list what is in it" in said(study, plan)
    assert s3.keys() == set()


def test_again_sends_only_what_is_missing_or_was_changed(study: Study, plan: Plan, s3: Storage):
    host(study, plan, PAGES)
    assert (host(study, plan, PAGES).uploaded, s3.asked["PUT"]) == (0, 21 + 1 + 1 + 1)  # and a bucket, a rule, a policy
    gone, bent, *_ = sorted(s3.keys())
    s3.client.delete_object(Bucket="lab", Key=gone)
    s3.client.put_object(Bucket="lab", Key=bent, Body=b"x" * 32)  # as long as a sprite of the fake plan
    before = s3.asked["PUT"]
    done = host(study, plan, PAGES)
    assert (done.uploaded, done.unchanged, s3.asked["PUT"] - before) == (2, 19, 2)
    assert all(stranger(address).status_code == 200 for address in addresses(done.hosted))


def test_where_etags_are_no_md5_the_storages_own_checksum_decides(study: Study, plan: Plan, s3: Storage):
    host(study, plan, PAGES)
    # moto's ETag of an object in parts is no MD5 of the whole, like that of any object in a bucket encrypted by KMS.
    key = min(s3.keys())
    content = (study.sprites / key.rpartition("/")[2]).read_bytes()
    for body in (content, b"y" * len(content)):
        whole = base64.b64encode(hashlib.sha256(body).digest()).decode()
        upload = s3.client.create_multipart_upload(Bucket="lab", Key=key, ChecksumAlgorithm="SHA256")["UploadId"]
        given = {"Bucket": "lab", "Key": key, "UploadId": upload}
        part = s3.client.upload_part(**given, PartNumber=1, Body=body, ChecksumSHA256=whole)
        parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": whole}]
        s3.client.complete_multipart_upload(**given, MultipartUpload={"Parts": parts})
        heads = s3.asked["HEAD"]
        host(study, plan, PAGES)
        assert s3.asked["HEAD"] > heads
    assert s3.client.get_object(Bucket="lab", Key=key)["Body"].read() == content


def test_a_sprite_that_is_bent_on_its_way_is_refused_by_the_storage(study: Study, plan: Plan, s3: Storage):
    def bend(request: AWSPreparedRequest, **_: object) -> None:
        request.body = io.BytesIO(b"x" * len(request.body.read()))

    sender = open_bucket(study.file.hosting).client
    sender.meta.events.register("before-send.s3.PutObject", bend)
    file = objects.File("a.avif", study.sprites / min(plan.sprites))
    with pytest.raises(PublishError, match=r"refused PutObject: refused by the test \(BadDigest\)"):
        objects.upload(sender, "lab", [file], 1)
    assert s3.keys() == set()


def test_what_was_killed_half_way_goes_on(study: Study, plan: Plan, s3: Storage, monkeypatch: pytest.MonkeyPatch):
    names = sorted(plan.sprites)
    s3.refuse[names[12]] = (400, "Broken")
    assert "refused PutObject: refused by the test (Broken)" in said(study, plan)
    there = s3.keys()
    assert 0 < len(there) < 21
    noted = load_hosted(study)
    assert noted is not None and not noted.complete and set(noted.names) == plan.sprites
    s3.refuse.clear()
    assert host(study, plan, PAGES).uploaded == 21 - len(there)
    assert load_hosted(study).complete


def test_a_process_that_was_killed_is_gone_on_with_by_the_next(study: Study, plan: Plan, s3: Storage):
    s3.delay = 0.1
    code = "from crowd_imi.cli import main; main()"
    running = subprocess.Popen([sys.executable, "-c", code, "host", str(study.folder), "--pages-url", PAGES])
    while len(s3.keys()) < 3:
        assert running.poll() is None
    running.kill()
    assert running.wait(10) == -signal.SIGKILL
    s3.delay = 0.0
    noted, there = load_hosted(study), len(s3.keys())
    assert noted is not None and not noted.complete
    done = host(study, plan, PAGES)
    # A request that was on its way when the process ended may have arrived after we counted.
    assert done.uploaded <= 21 - there and done.uploaded + done.unchanged == 21
    assert s3.keys() == {f"tiny/{name}" for name in plan.sprites}


def test_sprites_of_an_earlier_plan_go_and_what_others_put_there_stays(study: Study, plan: Plan, s3: Storage):
    s3.client.put_object(Bucket="lab", Key="tiny/theirs.avif", Body=b"theirs")
    host(study, plan, PAGES)
    fewer = plan.model_copy(update={"tasks": plan.tasks[:-1]})
    done = host(study, fewer, PAGES)
    # 8 trials of the last task; tasks of this plan share no sprite.
    assert (done.uploaded, done.removed) == (0, 8)
    assert s3.keys() == {f"tiny/{name}" for name in fewer.sprites} | {"tiny/theirs.avif"}


def test_removing_takes_what_was_uploaded_our_rule_and_our_statement_and_leaves_the_rest(study: Study, plan: Plan, s3: Storage):
    s3.client.put_bucket_cors(Bucket="lab", CORSConfiguration={"CORSRules": OTHERS})
    theirs = {
        "Sid": "Theirs",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::lab/open/*",
    }
    s3.client.put_bucket_policy(Bucket="lab", Policy=json.dumps({"Version": "2012-10-17", "Statement": [theirs]}))
    s3.client.put_object(Bucket="lab", Key="tiny/theirs.avif", Body=b"theirs")
    host(study, plan, PAGES)
    assert len(s3.client.get_bucket_cors(Bucket="lab")["CORSRules"]) == 2
    assert len(json.loads(s3.client.get_bucket_policy(Bucket="lab")["Policy"])["Statement"]) == 2
    assert unhost(study, plan).removed == 21
    assert s3.keys() == {"tiny/theirs.avif"}
    assert [rule["ID"] for rule in s3.client.get_bucket_cors(Bucket="lab")["CORSRules"]] == ["theirs"]
    assert json.loads(s3.client.get_bucket_policy(Bucket="lab")["Policy"])["Statement"] == [theirs]
    assert not hosted_path(study).exists()


def test_a_removal_that_was_killed_goes_on_and_pages_dont_send_anybody_there_meanwhile(study: Study, plan: Plan, s3: Storage):
    host(study, plan, PAGES)
    s3.refuse[f"DELETE /lab/tiny/{sorted(plan.sprites)[12]}"] = (403, "AccessDenied")
    with pytest.raises(PublishError, match="refused DeleteObject: these credentials lack the permission"):
        unhost(study, plan)
    assert not load_hosted(study).complete and s3.keys()
    s3.refuse.clear()
    unhost(study, plan)
    assert s3.keys() == set() and load_hosted(study) is None


def test_where_the_note_is_lost_the_plan_says_what_is_ours(study: Study, plan: Plan, s3: Storage):
    host(study, plan, PAGES)
    hosted_path(study).unlink()
    s3.client.put_object(Bucket="lab", Key="tiny/theirs.avif", Body=b"theirs")
    assert unhost(study, plan).removed == 21
    assert s3.keys() == {"tiny/theirs.avif"}


def test_two_studies_share_a_bucket(study: Study, plan: Plan, s3: Storage, tmp_path: Path):
    other = hosting(tmp_path / "other", f'bucket = "lab"\nendpoint_url = "{s3.url}"\nprefix = "other"')
    host(study, plan, PAGES)
    ours = host(other, fake_plan(other), "https://other.example.org").hosted
    unhost(study, plan)
    assert s3.keys() == {f"other/{name}" for name in ours.names}
    reply = stranger(addresses(ours)[0], "https://other.example.org")
    assert (reply.status_code, reply.headers["Access-Control-Allow-Origin"]) == (200, "https://other.example.org")


def test_by_acl_and_without_a_prefix(tmp_path: Path, s3: Storage):
    study = hosting(tmp_path / "study", f'bucket = "lab"\nendpoint_url = "{s3.url}/"\nreadable_by = "acl"')
    hosted = host(study, fake_plan(study), PAGES).hosted
    assert hosted.public_url == f"{s3.url}/lab/"
    assert all(stranger(address).status_code == 200 for address in addresses(hosted))
    with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
        s3.client.get_bucket_policy(Bucket="lab")


def test_moving_elsewhere_asks_to_remove_first(study: Study, plan: Plan, s3: Storage):
    host(study, plan, PAGES)
    s3.bucket("another")
    moved = hosting(study.folder, f'bucket = "another"\nendpoint_url = "{s3.url}"')
    assert f"the sprites are in bucket lab at {s3.url} below tiny/" in said(moved, plan)
    assert s3.keys("another") == set()
    unhost(moved, plan)
    assert s3.keys() == set()
    assert host(moved, plan, PAGES).uploaded == 21


def test_what_the_owner_must_set_up_is_said_after_one_sprite(study: Study, plan: Plan, s3: Storage):
    s3.refuse = {"PUT /lab?policy": (403, "AccessDenied"), "PUT /lab?cors": (501, "NotImplemented")}
    message = said(study, plan)
    assert "answers 403 when a browser asks for a sprite" in message
    assert "refused PutBucketPolicy: these credentials lack the permission" in message
    assert len(s3.keys()) == 1
    del s3.refuse["PUT /lab?policy"]
    message = said(study, plan)
    assert f"doesn't let scripts of {PAGES} read sprites (CORS)" in message and "refused PutBucketCors" in message
    # The owner does it by hand: then a refusal doesn't matter.
    s3.refuse.clear()
    rule = {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}
    s3.client.put_bucket_cors(Bucket="lab", CORSConfiguration={"CORSRules": [rule]})
    s3.refuse = {"PUT /lab?": (403, "AccessDenied")}
    assert host(study, plan, PAGES).hosted.complete


def test_a_public_address_that_leads_elsewhere_is_found_out(tmp_path: Path, s3: Storage):
    s3.bucket("wrong")
    section = f'bucket = "lab"\nendpoint_url = "{s3.url}"\npublic_url = "{s3.url}/wrong"'
    study = hosting(tmp_path / "study", section)
    assert f"{s3.url}/wrong/ answers 40" in said(study, fake_plan(study))


def test_aws_says_where_a_bucket_is(tmp_path: Path, s3: Storage, monkeypatch: pytest.MonkeyPatch):
    # The server stands in for AWS, whose answers name the bucket's region.
    monkeypatch.setattr(client, "_AWS_HOSTS", ("127.0.0.1",))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    s3.region = "eu-central-1"
    wrong = hosting(tmp_path / "study", 'bucket = "lab"\nregion = "us-west-2"')
    plan = fake_plan(wrong)
    assert "is in eu-central-1; hosting.region = 'us-west-2' is wrong" in said(wrong, plan)
    unsaid = hosting(tmp_path / "study", 'bucket = "lab"')
    assert host(unsaid, plan, PAGES).hosted.region == "eu-central-1"
    assert unhost(unsaid, plan).removed == 21


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("", "hosting.bucket is missing"),
        ('bucket = "nowhere"\nendpoint_url = "{url}"', "refused ListObjectsV2: there is no such bucket; create it"),
        (
            'bucket = "lab"\nendpoint_url = "{url}"\nprofile = "nobody"',
            "nobody) could not be found; add it to ~/.aws/credentials",
        ),
        ('bucket = "lab"\nendpoint_url = "http://s3.example.org"', "credentials are sent over HTTPS only, or to this machine"),
        ('bucket = "lab"\nendpoint_url = "https://ann:pass@s3.example.org"', "hosting.endpoint_url holds a password"),
        ('bucket = "lab"\nendpoint_url = "http://127.0.0.1:{free}"', "gives no answer (EndpointConnectionError)"),
        ('bucket = "lab"\nendpoint_url = "{url}"\npublic_url = "http://cdn.example.org"', "begins with https://"),
    ],
)
def test_each_wrong_setting_is_one_clear_line(tmp_path: Path, s3: Storage, section: str, expected: str):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        free = unused.getsockname()[1]
    study = hosting(tmp_path / "study", section.format(url=s3.url, free=free))
    message = said(study, fake_plan(study))
    assert expected in message and "pass@" not in message
    assert s3.keys() == set() and not hosted_path(study).exists()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", "these credentials lack the permission"),
        (403, "InvalidAccessKeyId", "it doesn't know the access key"),
        (403, "SignatureDoesNotMatch", "the secret key doesn't belong to the access key"),
        (400, "ExpiredToken", "the AWS session has expired"),
        (400, "AuthorizationHeaderMalformed", "the bucket is in another region; correct hosting.region"),
        (403, "RequestTimeTooSkewed", "this machine's clock is wrong"),
    ],
)
def test_each_refusal_is_one_clear_line(study: Study, plan: Plan, s3: Storage, status: int, code: str, expected: str):
    s3.refuse["GET /lab"] = (status, code)
    assert f"refused ListObjectsV2: {expected}" in said(study, plan)


def test_a_storage_out_of_order_is_given_up_after_a_few_tries(
    study: Study, plan: Plan, s3: Storage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    s3.refuse["GET /lab"] = (503, "SlowDown")
    before = s3.asked["GET"]
    assert "is out of order or overloaded (SlowDown); try again later" in said(study, plan)
    assert s3.asked["GET"] - before == 2


def test_without_credentials(study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "there are no AWS credentials" in said(study, plan)


def test_an_endpoint_of_the_environment_gets_no_credentials_in_the_clear_either(
    tmp_path: Path, s3: Storage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.org")
    study = hosting(tmp_path / "study", 'bucket = "lab"')
    assert "credentials are sent over HTTPS only" in said(study, fake_plan(study))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    assert host(study, fake_plan(study), PAGES).hosted.endpoint_url == s3.url


def test_a_missing_sprite_says_how_to_make_it(study: Study, plan: Plan):
    (study.sprites / min(plan.sprites)).unlink()
    assert "1 of 21 sprites are missing; run `crowd-imi plan" in said(study, plan)


def test_several_uploads_are_under_way_at_once(tmp_path: Path):
    together = threading.Barrier(4, timeout=10)  # breaks where fewer arrive

    class Slow:
        class meta:
            endpoint_url = "http://127.0.0.1"

        def put_object(self, **_: object) -> None:
            together.wait()

    files = []
    for number in range(8):
        path = tmp_path / f"{number}.avif"
        path.write_bytes(b"x")
        files.append(objects.File(path.name, path))
    objects.upload(Slow(), "lab", files, workers=4)
    assert not together.broken


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Pages.Example.org/imi/", "https://pages.example.org"),
        ("https://pages.example.org:443", "https://pages.example.org"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/x", "http://[::1]:8000"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url: str, origin: str):
    assert origin_of(url) == origin


def test_where_the_same_pictures_come_from_may_change_after_publishing(study: Study, plan: Plan):
    keep_lock(study, make_lock(study, plan_sha256=plan.sha256, pack_sha256=plan.pack_sha256, now=0))
    hold_to_lock(hosting(study.folder, 'bucket = "another"'))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["crowd-imi", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_commands_answer_people_and_scripts(
    study: Study, plan: Plan, s3: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = str(study.folder)
    assert run(monkeypatch, "host", folder, "--pages-url", PAGES) == 0
    assert "21 sprites uploaded, 0 were there" in capsys.readouterr().out
    assert run(monkeypatch, "host", folder, "--pages-url", PAGES, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "public_url": f"{s3.url}/lab/tiny/",
        "origin": PAGES,
        "uploaded": 0,
        "unchanged": 21,
        "removed": 0,
    }
    assert run(monkeypatch, "unhost", folder, "--json") == 1
    assert "say --yes" in capsys.readouterr().err
    monkeypatch.setattr("typer.confirm", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(monkeypatch, "unhost", folder) == 1
    assert len(s3.keys()) == 21
    capsys.readouterr()
    assert run(monkeypatch, "unhost", folder, "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"bucket": "lab", "removed": 21, "left": []}
    assert s3.keys() == set()
    assert run(monkeypatch, "unhost", folder, "--yes") == 0  # the plan says which would be ours; none is there
