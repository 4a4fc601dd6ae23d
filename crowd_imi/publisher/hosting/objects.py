"""Sprites as objects in a bucket: what is there, what isn't as it should be, putting and removing them in parallel."""

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from botocore.client import BaseClient

from crowd_imi.progress import Track, silent
from crowd_imi.publisher.hosting.client import Bucket, Refusal, asking

WORKERS = 16
"""Requests under way at once: nearly all of their time is waiting."""

HEADERS = {"ContentType": "image/avif", "CacheControl": "public, max-age=31536000, immutable"}
"""Of every sprite, as the pages send them."""
EVERYBODY_READS = {"ACL": "public-read"}

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class File:
    """A sprite, and the key that it gets."""

    key: str
    path: Path


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as a listing shows it."""

    size: int
    etag: str
    """MD5 of the content, but in some buckets (encrypted by KMS) something else."""


def upload(  # noqa: PLR0913 (what, where to, how)
    client: BaseClient,
    bucket: str,
    files: Sequence[File],
    workers: int = WORKERS,
    track: Track = silent,
    *,
    public_acl: bool = False,
) -> None:
    """Put sprites into a bucket, several at once; the storage refuses one whose content doesn't match its checksum.

    Args:
        client: boto3's for S3, with as many connections as there are workers.
        bucket: its name.
        files: which.
        workers: requests under way at once.
        track: shows how many are done.
        public_acl: let everybody read them by ACL.

    Raises:
        PublishError: the storage said no, or gives no answer in a bounded number of tries.
    """
    more = EVERYBODY_READS if public_acl else {}

    def put(file: File) -> None:
        content = file.path.read_bytes()
        with asking(client, bucket):
            client.put_object(Bucket=bucket, Key=file.key, Body=content, ChecksumSHA256=_sha256(content), **HEADERS, **more)

    _each(put, files, workers, track, "uploading sprites")


def listing(bucket: Bucket) -> dict[str, Stored]:
    """Key → what is there directly below the prefix, whoever put it there."""
    pages = bucket.client.get_paginator("list_objects_v2")
    with asking(bucket.client, bucket.name):
        return {
            entry["Key"]: Stored(entry["Size"], entry["ETag"].strip('"'))
            for page in pages.paginate(Bucket=bucket.name, Prefix=bucket.prefix, Delimiter="/")
            for entry in page.get("Contents", ())
        }


def outdated(bucket: Bucket, files: Sequence[File], workers: int = WORKERS, track: Track = silent) -> list[File]:
    """The sprites that are missing in the bucket or have another content, in order.

    The bucket is believed, not our notes: somebody may have changed it.
    """
    there = listing(bucket)

    def is_outdated(file: File) -> tuple[File, bool]:
        stored = there.get(file.key)
        if stored is None:
            return file, True
        content = file.path.read_bytes()
        if stored.size != len(content):
            return file, True
        if stored.etag == hashlib.md5(content, usedforsecurity=False).hexdigest():
            return file, False
        return file, _stored_checksum(bucket, file.key) != _sha256(content)

    found = dict(_each(is_outdated, files, workers, track, "comparing sprites"))
    return [file for file in files if found[file]]


def remove(bucket: Bucket, keys: Iterable[str], workers: int = WORKERS, track: Track = silent) -> int:
    """Remove those of the keys that are there; returns how many."""
    there = sorted(set(keys) & listing(bucket).keys())

    def delete(key: str) -> None:
        with asking(bucket.client, bucket.name):
            bucket.client.delete_object(Bucket=bucket.name, Key=key)

    # One by one: not every storage can remove many at once.
    _each(delete, there, workers, track, "removing sprites")
    return len(there)


def _stored_checksum(bucket: Bucket, key: str) -> str | None:
    """The SHA-256 that the storage keeps of an object; None where it keeps none."""
    try:
        with asking(bucket.client, bucket.name):
            answer = bucket.client.head_object(Bucket=bucket.name, Key=key, ChecksumMode="ENABLED")
    except Refusal as refusal:
        if refusal.code in ("404", "NoSuchKey"):  # removed since it was listed
            return None
        raise
    checksum: str | None = answer.get("ChecksumSHA256")
    return checksum


def _each(do: Callable[[T], R], these: Sequence[T], workers: int, track: Track, what: str) -> list[R]:
    """Several at once; the first failure ends it, and what hasn't begun by then isn't tried."""
    pool = ThreadPoolExecutor(workers)
    try:
        futures = [pool.submit(do, this) for this in these]
        return [future.result() for future in track(as_completed(futures), what, len(futures))]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _sha256(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
