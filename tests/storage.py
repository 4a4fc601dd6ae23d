"""S3 on this machine: moto's server on a real port, and before it what moto leaves out — strangers who may not list."""

import base64
import hashlib
import io
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from moto.iam.access_control import PermissionResult
from moto.moto_server import threaded_moto_server, werkzeug_app
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.s3.models import s3_backends

ACCOUNT = "123456789012"
KEY, SECRET = "AKIATESTS00000000000", "a-secret-that-nobody-may-read"

StartResponse = Callable[..., Any]


@dataclass
class Storage:
    """The server, and what it is to refuse."""

    url: str
    client: Any
    """Of the buckets' owner."""
    asked: Counter[str] = field(default_factory=Counter)
    """Method → requests so far."""
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    """What a request's method and address contain (``PUT /lab/a.avif``) → status and S3's code of the refusal."""

    region: str | None = None
    """What answers say of where the buckets are."""
    delay: float = 0.0
    """Seconds that every answer takes longer."""

    def begin(self, environment: pytest.MonkeyPatch) -> None:
        """One empty bucket, and credentials in the environment that the server takes."""
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_ACCESS_KEY_ID", KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            environment.setenv(name, os.devnull)
        s3_backends.reset()
        self.asked.clear()
        self.refuse.clear()
        self.delay, self.region = 0.0, None
        self.client = boto3.Session().client("s3", endpoint_url=self.url, region_name="us-east-1")
        self.bucket()

    def bucket(self, name: str = "lab") -> str:
        self.client.create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str = "lab") -> set[str]:
        return {entry["Key"] for entry in self.client.list_objects_v2(Bucket=bucket).get("Contents", ())}


class _Gate:
    """Before moto: refuses what a test wants, and strangers who list or write."""

    def __init__(self, app: Any, storage: Storage) -> None:
        self._app = app
        self._storage = storage

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        asked = f"{environ['REQUEST_METHOD']} {path}{'?' if query else ''}{query}"
        if not path.startswith("/moto-api"):
            self._storage.asked[environ["REQUEST_METHOD"]] += 1
        for part, (status, code) in self._storage.refuse.items():
            if part in asked:
                return _refusal(environ, start_response, status, code)
        if "HTTP_AUTHORIZATION" not in environ and not path.startswith("/moto-api") and not self._stranger_may(environ):
            return _refusal(environ, start_response, 403, "AccessDenied")
        if not _arrived_whole(environ):
            return _refusal(environ, start_response, 400, "BadDigest")
        time.sleep(self._storage.delay)

        def answer(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            region = self._storage.region
            return start_response(status, [*headers, *([("x-amz-bucket-region", region)] if region else [])], *more)

        response: Iterable[bytes] = self._app(environ, answer)
        return response

    def _stranger_may(self, environ: dict[str, Any]) -> bool:
        name, _, key = environ["PATH_INFO"].strip("/").partition("/")
        if key:
            return environ["REQUEST_METHOD"] == "GET"  # moto asks the object's ACL and the policy
        bucket = s3_backends[ACCOUNT]["aws"].buckets.get(name)
        permitted = bucket and bucket.get_permission("s3:ListBucket", f"arn:aws:s3:::{name}")
        return bool(permitted == PermissionResult.PERMITTED)


def _arrived_whole(environ: dict[str, Any]) -> bool:
    """Whether the content is what its checksum says, which moto doesn't look at."""
    said = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256")
    if said is None or environ["REQUEST_METHOD"] != "PUT":
        return True
    content = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    environ["wsgi.input"] = io.BytesIO(content)
    return base64.b64encode(hashlib.sha256(content).digest()).decode() == said


def _refusal(environ: dict[str, Any], start_response: StartResponse, status: int, code: str) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>refused by the test</Message></Error>".encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    start_response(f"{status} No", headers)
    return [body]


@contextmanager
def storage() -> Iterator[Storage]:
    """S3 on 127.0.0.1; empty it with ``begin`` for each test, as starting and stopping takes longer than most."""
    made = Storage("", None)
    plain = threaded_moto_server.DomainDispatcherApplication
    with pytest.MonkeyPatch.context() as patched:
        # moto lets scripts of every page read everything; S3 doesn't.
        patched.setattr(werkzeug_app, "DISABLE_GLOBAL_CORS", True)
        patched.setattr(threaded_moto_server, "DomainDispatcherApplication", lambda make: _Gate(plain(make), made))
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        made.url = f"http://{host}:{port}"
        try:
            yield made
        finally:
            server.stop()
