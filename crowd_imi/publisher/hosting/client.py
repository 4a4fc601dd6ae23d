"""Talking to S3: credentials, addresses, and its errors in one clear line each."""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import boto3
from botocore import UNSIGNED
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.exceptions import (
    ConnectionError as NoConnection,
)

from crowd_imi.errors import PublishError
from crowd_imi.study import HostingSection

ATTEMPTS = 5
"""Of each request."""
CONNECTIONS = 32
"""At once, of one client."""
_FIRST_REGION = "us-east-1"
"""Where the bucket is asked for when nobody says a region; AWS answers with the right one."""
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")

_OUT_OF_ORDER = (500, 502, 503, 504)
"""After botocore has tried again; 501 is an operation that a storage doesn't have."""

_WRONG_KEY = "it doesn't know the access key; check AWS_ACCESS_KEY_ID or hosting.profile"
_WRONG_SECRET = "the secret key doesn't belong to the access key; check AWS_SECRET_ACCESS_KEY or hosting.profile"
_EXPIRED = "the AWS session has expired; log in again"
_WRONG_REGION = "the bucket is in another region; correct hosting.region"
_EXPLANATIONS = {
    "InvalidAccessKeyId": _WRONG_KEY,
    "InvalidClientTokenId": _WRONG_KEY,
    "SignatureDoesNotMatch": _WRONG_SECRET,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "IllegalLocationConstraintException": _WRONG_REGION,
    "PermanentRedirect": _WRONG_REGION,
    "301": _WRONG_REGION,
    "NoSuchBucket": "there is no such bucket; create it, or correct hosting.bucket",
    "AccessDenied": "these credentials lack the permission",
    "403": "these credentials lack the permission",
    "AccessControlListNotSupported": 'the bucket takes no ACLs; set hosting.readable_by = "policy"',
}


class Refusal(PublishError):
    """The storage said no to a request that it understood."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, and who talks to it."""

    name: str
    prefix: str
    """Before every key: empty, or ends with a slash."""
    region: str
    endpoint_url: str | None
    """None for AWS."""
    client: BaseClient
    stranger: BaseClient
    """Asks without credentials, as anybody can."""

    @property
    def where(self) -> str:
        return _where(self.client, self.name)

    @property
    def public_url(self) -> str:
        """Of the prefix, where no other address was given."""
        plain: str = self.stranger.generate_presigned_url("get_object", Params={"Bucket": self.name, "Key": "k"})
        return plain.partition("?")[0].removesuffix("k") + self.prefix


def open_bucket(section: HostingSection) -> Bucket:
    """The bucket that study.toml names; it is asked for, so that whatever is wrong shows here.

    Raises:
        PublishError: no usable credentials, an address that they must not be sent to, no such bucket, no permission,
            another region, or nobody answers.
    """
    if section.bucket is None:
        raise PublishError("hosting.bucket is missing; name the bucket for the sprites in study.toml, below [hosting]")
    session = _session(section)
    region = section.region or session.region_name or _FIRST_REGION
    client = _client(session, section, region)
    found = _region_of(client, section.bucket)
    at_aws = (urlsplit(client.meta.endpoint_url).hostname or "").endswith(_AWS_HOSTS)
    if at_aws and found not in (None, region):
        if section.region is not None:
            raise PublishError(f"{_where(client, section.bucket)} is in {found}; hosting.region = {section.region!r} is wrong")
        region = str(found)
        client = _client(session, section, region)
    return Bucket(
        name=section.bucket,
        prefix=section.key_prefix,
        region=region,
        endpoint_url=None if at_aws else client.meta.endpoint_url,
        client=client,
        stranger=_client(session, section, region, UNSIGNED),
    )


@contextmanager
def asking(client: BaseClient, bucket: str) -> Iterator[None]:
    """Whatever botocore raises in here becomes one line.

    Raises:
        Refusal: the storage said no.
        PublishError: it couldn't be asked.
    """
    where = _where(client, bucket)
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        said = _one_line(str(error.response.get("Error", {}).get("Message", "")))
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in _OUT_OF_ORDER:
            raise PublishError(f"{where} is out of order or overloaded ({code}); try again later") from None
        why = _EXPLANATIONS.get(code) or f"{said} ({code})"
        if "BlockPublic" in said:
            why = "Block Public Access is on; switch it off for this bucket, or put a CDN in front"
        raise Refusal(f"{where} refused {error.operation_name}: {why}", code) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise _no_credentials() from None
    except (HTTPClientError, NoConnection) as error:
        raise PublishError(f"{where} gives no answer ({type(error).__name__}); check the endpoint and the network") from None
    except (BotoCoreError, ValueError) as error:
        raise PublishError(f"{where} can't be asked: {_one_line(str(error))}") from None


def is_private(address: str) -> bool:
    """Whether nobody on the way can read what is sent there: HTTPS, or this machine itself."""
    parts = urlsplit(address)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _session(section: HostingSection) -> boto3.Session:
    try:
        session = boto3.Session(profile_name=section.profile, region_name=section.region)
        credentials = session.get_credentials()
    except ProfileNotFound as error:
        raise PublishError(f"{_one_line(str(error))}; add it to ~/.aws/credentials, or change hosting.profile") from None
    except PartialCredentialsError:
        raise _no_credentials() from None
    except BotoCoreError as error:
        raise PublishError(f"the AWS credentials can't be read: {_one_line(str(error))}") from None
    if credentials is None:
        raise _no_credentials()
    return session


def _client(session: boto3.Session, section: HostingSection, region: str, signature: object = None) -> BaseClient:
    config = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=CONNECTIONS,
        signature_version=signature,
        # We send a checksum of our own; those that botocore adds by itself aren't understood by every storage.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    if section.endpoint_url is None:
        # Addresses with the region in them: others are redirected for a day after a bucket was made.
        config = config.merge(Config(s3={"addressing_style": "virtual"}))
    try:
        client = session.client("s3", region_name=region, endpoint_url=section.endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise PublishError(f"hosting: {_one_line(str(error))}") from None
    endpoint = urlsplit(client.meta.endpoint_url)  # the environment or a profile may name one, too
    if endpoint.username or endpoint.password:
        raise PublishError("hosting.endpoint_url holds a password; credentials come from the environment or a profile")
    if not is_private(client.meta.endpoint_url):
        raise PublishError(
            f"hosting.endpoint_url = {client.meta.endpoint_url!r}: credentials are sent over HTTPS only, or to this machine; "
            "give an https:// address"
        )
    return client


def _region_of(client: BaseClient, bucket: str) -> str | None:
    """Ask for the bucket; where it is, as far as the storage says so."""
    with asking(client, bucket):
        answer = client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    region: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    return region


def _where(client: BaseClient, bucket: str) -> str:
    return f"bucket {bucket} at {urlsplit(client.meta.endpoint_url).netloc.rpartition('@')[2]}"


def _no_credentials() -> PublishError:
    return PublishError(
        "there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in hosting.profile"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
