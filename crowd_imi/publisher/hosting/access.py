"""Who may read a bucket: the pages' scripts and everybody who knows a sprite's address, and nobody may list it."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

from crowd_imi.errors import PublishError
from crowd_imi.hosted import Hosted
from crowd_imi.publisher.hosting.client import Bucket, Refusal, asking
from crowd_imi.study import ReadableBy

WAITS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each try to open a sprite: a policy takes a moment until it holds everywhere."""
TIMEOUT_SECONDS = (10, 30)

Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a bucket's settings say for one study, and nothing about anybody else's."""

    bucket: Bucket
    mark: str
    """Names our rule and our statement among those of others; letters and digits."""

    def give(self, origin: str, readable_by: ReadableBy) -> list[str]:
        """Let the pages' scripts read, and everybody who knows an address; returns what the storage refused.

        A refusal is no failure yet: the bucket's owner, or a CDN in front of it, may have seen to it.
        """
        refused = [self._try(lambda: self._change_rules(self._rule(origin)))]
        if readable_by == "policy":
            refused.append(self._try(lambda: self._change_policy(self._statement())))
        return [refusal for refusal in refused if refusal is not None]

    def take_back(self) -> list[str]:
        """Take out what ``give`` put in; returns what the storage refused."""
        refused = [self._try(lambda: self._change_rules(None)), self._try(lambda: self._change_policy(None))]
        return [refusal for refusal in refused if refusal is not None]

    def _try(self, change: Callable[[], None]) -> str | None:
        try:
            with asking(self.bucket.client, self.bucket.name):
                change()
        except Refusal as refusal:
            return str(refusal)
        return None

    def _rule(self, origin: str) -> Rule:
        rule = {"AllowedOrigins": [origin], "AllowedMethods": ["GET"], "MaxAgeSeconds": 3600}
        return {"ID": f"crowd-imi-{self.mark}", **rule}

    def _statement(self) -> Rule:
        partition = self.bucket.client.meta.partition
        return {
            "Sid": f"CrowdImi{self.mark}",
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:{partition}:s3:::{self.bucket.name}/{self.bucket.prefix}*.avif",
        }

    def _change_rules(self, ours: Rule | None) -> None:
        client, name = self.bucket.client, self.bucket.name
        before = self._read(lambda: client.get_bucket_cors(Bucket=name)["CORSRules"], "NoSuchCORSConfiguration", [])
        after = _replaced(before, "ID", f"crowd-imi-{self.mark}", ours)
        if after == before:
            return
        if after:
            client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": after})
        else:
            client.delete_bucket_cors(Bucket=name)

    def _change_policy(self, ours: Rule | None) -> None:
        client, name = self.bucket.client, self.bucket.name
        text = self._read(lambda: client.get_bucket_policy(Bucket=name)["Policy"], "NoSuchBucketPolicy", "{}")
        policy = {"Version": "2012-10-17", **json.loads(text)}
        before = policy.get("Statement", [])
        before = before if isinstance(before, list) else [before]
        after = _replaced(before, "Sid", f"CrowdImi{self.mark}", ours)
        if after == before:
            return
        if after:
            client.put_bucket_policy(Bucket=name, Policy=json.dumps({**policy, "Statement": after}))
        else:
            client.delete_bucket_policy(Bucket=name)

    def _read(self, ask: Callable[[], Any], none_yet: str, nothing: Any) -> Any:  # noqa: ANN401 (as the API has it)
        try:
            with asking(self.bucket.client, self.bucket.name):
                return ask()
        except Refusal as refusal:
            if refusal.code != none_yet:
                raise
            return nothing


def require_unlisted(bucket: Bucket) -> None:
    """Make sure that strangers can't list the bucket: names that nobody can guess are all that keeps sprites apart.

    Raises:
        PublishError: they can.
    """
    try:
        with asking(bucket.stranger, bucket.name):
            bucket.stranger.list_objects_v2(Bucket=bucket.name, Prefix=bucket.prefix, MaxKeys=1)
    except Refusal:
        return
    raise PublishError(
        f"{bucket.where}: everybody can list what is in it, and so could a participant's script; take s3:ListBucket for "
        "everybody (or the ACL public-read) off the bucket"
    )


def public_problem(hosted: Hosted, name: str, content: bytes) -> str | None:
    """What keeps a participant's browser from getting a sprite; None when nothing does. No credentials are needed.

    Args:
        hosted: where the sprites are.
        name: of one of them.
        content: what it holds.
    """
    problem = None
    for wait in WAITS:
        time.sleep(wait)
        try:
            problem = _opening_problem(hosted, name, content)
            if problem is None:
                return _listing_problem(hosted, name)
        except requests.RequestException as error:
            problem = f"{hosted.public_url} can't be reached ({type(error).__name__}); check hosting.public_url"
    return problem


def _opening_problem(hosted: Hosted, name: str, content: bytes) -> str | None:
    url = f"{hosted.public_url}{name}"
    reply = _get(url, hosted.origin)
    allowed = reply.headers.get("Access-Control-Allow-Origin")
    kind = reply.headers.get("Content-Type")
    if reply.status_code != 200:
        return f"{hosted.public_url} answers {reply.status_code} when a browser asks for a sprite"
    if reply.content != content:
        return f"{hosted.public_url} answers with something else than the sprite; check hosting.public_url"
    if allowed not in (hosted.origin, "*"):
        return f"{hosted.public_url} doesn't let scripts of {hosted.origin} read sprites (CORS); allow GET from there"
    if kind != "image/avif":
        return f"{hosted.public_url} says that a sprite is {kind}, where it should say image/avif"
    return None


def _listing_problem(hosted: Hosted, name: str) -> str | None:
    """Some CDNs and servers show an index."""
    reply = _get(hosted.public_url, hosted.origin)
    if name.encode() in reply.content:
        return f"{hosted.public_url} lists the sprites; switch the index off"
    return None


def _get(url: str, origin: str) -> requests.Response:
    """As a browser asks: no credentials (requests would take some from ~/.netrc), and no way to another origin."""
    headers = {"Origin": origin, "Accept": "image/avif,*/*"}
    return requests.get(url, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False, auth=lambda asked: asked)


def _replaced(rules: list[Rule], key: str, name: str, ours: Rule | None) -> list[Rule]:
    """Everybody else's rules, and ours instead of the one that was there by its name."""
    others = [rule for rule in rules if rule.get(key) != name]
    if ours is None:
        return others
    return rules if ours in rules else [*others, ours]
