"""Talking to Mechanical Turk: credentials, addresses, bounded retries, and its errors in one clear line each."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
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
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from crowd_imi.errors import PlatformError, Unreachable

REGION = "us-east-1"
LIVE = f"https://mturk-requester.{REGION}.amazonaws.com"
SANDBOX = f"https://mturk-requester-sandbox.{REGION}.amazonaws.com"
LIVE_SITE, SANDBOX_SITE = "https://www.mturk.com", "https://workersandbox.mturk.com"
WORKER_SITE = "https://worker.mturk.com"
"""Where workers of the live service work, with the pages in a frame."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ATTEMPTS = 10
"""Under 30 % throttles and 10 % server errors a call fails for good once in 10,000."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.05, 4.0
READ_SECONDS, LONGEST_SECONDS = 20, 40
"""After so long an answer isn't waited for any more, and no try is begun any more."""
PAGE = 100
"""Results of a page: the most that MTurk gives."""

_PASSING = frozenset({"ThrottlingException", "Throttling", "TooManyRequestsException", "ServiceFault", "RequestTimeout"})
_SERVER_ERROR = 500
_EXPLANATIONS = {
    "UnrecognizedClientException": "it doesn't know the AWS access key; check AWS_ACCESS_KEY_ID or the profile",
    "InvalidClientTokenId": "it doesn't know the AWS access key; check AWS_ACCESS_KEY_ID or the profile",
    "InvalidSignatureException": "the AWS secret key doesn't belong to the access key, or the endpoint is of another region "
    f"than {REGION}, which is the only one that Mechanical Turk has",
    "SignatureDoesNotMatch": "the AWS secret key doesn't belong to the access key; check AWS_SECRET_ACCESS_KEY or the profile",
    "MissingAuthenticationTokenException": "the request wasn't signed; check the AWS credentials",
    "IncompleteSignatureException": "the request wasn't signed as AWS wants it; check the AWS credentials",
    "ExpiredTokenException": "the AWS session has expired; log in again",
    "AccessDeniedException": "these AWS credentials lack the permission; allow mechanicalturk:* in IAM",
}


class TurkRefusal(PlatformError):
    """MTurk said no to a request that it understood; ``code`` is its TurkErrorCode without the prefix.

    It may be left out, as with every PlatformError: who reports a refusal says the same without the platform's ids.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def closed_notice(endpoint_url: str | None, sandbox: bool = False) -> str | None:
    """What to say before anything is posted to AWS's own Mechanical Turk; None for another endpoint."""
    host = urlsplit(endpoint_url or (SANDBOX if sandbox else LIVE)).hostname or ""
    if not host.endswith(".amazonaws.com"):
        return None
    return (
        "Amazon Mechanical Turk closed on 30 September 2026: AWS takes no more HITs. Recruit on Prolific (--on prolific) or "
        "invite people yourself (--on link); give --endpoint-url for another service that speaks MTurk's protocol"
    )


class TurkClient:
    """boto3's client, with retries of our own and errors of ours.

    botocore's standard retries wait half a second on average after the first failure, which makes publishing under throttling
    fifteen times slower; these begin at 0.05 s. Every call made here may be repeated: MTurk's request tokens, or the caller's
    reading back, see to that.

    Args:
        profile: of the AWS configuration; None for the environment's.
        endpoint_url: whom to talk to; None for AWS itself.
        sandbox: AWS's sandbox instead of the live service, where no endpoint is given.
        attempts: of each call, the first included.

    Raises:
        PlatformError: no usable credentials, or an address that they must not be sent to.
    """

    def __init__(self, profile: str | None, endpoint_url: str | None, sandbox: bool, attempts: int = ATTEMPTS) -> None:
        self.endpoint = (endpoint_url or (SANDBOX if sandbox else LIVE)).rstrip("/")
        self._attempts = attempts
        check_address(self.endpoint)
        self._client = _client(profile, self.endpoint)

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401 (as the API has them)
        """One operation, by boto3's name of it.

        Raises:
            TurkRefusal: MTurk said no.
            Unreachable: no answer, throttled or out of order in a bounded number of tries.
            PlatformError: the credentials don't do.
        """
        retrying = Retrying(
            retry=retry_if_exception(_passes),
            stop=stop_after_attempt(self._attempts) | stop_after_delay(LONGEST_SECONDS),
            wait=wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS),
            reraise=True,
        )
        try:
            answer: dict[str, Any] = retrying(getattr(self._client, operation), **parameters)
        except ClientError as error:
            raise self._said_no(error, parameters.get("WorkerId")) from None
        except (NoCredentialsError, PartialCredentialsError):
            raise _no_credentials() from None
        except (HTTPClientError, NoConnection) as error:
            raise Unreachable(
                f"{self._where}: no answer to {operation} in {retrying.statistics['attempt_number']} tries: {_kind(error)}"
            ) from None
        except BotoCoreError as error:
            raise PlatformError(f"{self._where}: {operation} can't be asked: {_one_line(str(error))}") from None
        return answer

    def listing(self, operation: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
        """All results of an operation that answers in pages."""
        token: dict[str, str] = {}
        while True:
            page = self.call(operation, MaxResults=PAGE, **parameters, **token)
            yield from page.get(key, ())
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}

    @property
    def _where(self) -> str:
        return f"Mechanical Turk at {urlsplit(self.endpoint).netloc}"

    def _said_no(self, error: ClientError, worker: str | None) -> PlatformError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if _passes(error):
            return Unreachable(f"{self._where}: {error.operation_name} was put off too often ({code}); try again later")
        if code in _EXPLANATIONS:
            return PlatformError(f"{self._where}: {error.operation_name} was refused: {_EXPLANATIONS[code]}")
        turk_code = str(error.response.get("TurkErrorCode", "")).removeprefix("AWS.MechanicalTurk.")
        said = _one_line(str(error.response.get("Error", {}).get("Message", "")))
        said = said.replace(worker, "the worker") if worker else said
        return TurkRefusal(f"{self._where} refused {error.operation_name}: {said} ({turk_code or code})", turk_code or code)


def _client(profile: str | None, endpoint: str) -> BaseClient:
    # One try each: the retries are ours.
    config = Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=5, read_timeout=READ_SECONDS)
    try:
        session = boto3.Session(profile_name=profile, region_name=REGION)
        if session.get_credentials() is None:
            raise _no_credentials()
        return session.client("mturk", endpoint_url=endpoint, config=config)
    except ProfileNotFound:
        raise PlatformError(
            f"there is no AWS profile {profile!r}; add it to ~/.aws/credentials or change mturk.profile"
        ) from None
    except PartialCredentialsError:
        raise _no_credentials() from None
    except (BotoCoreError, ValueError) as error:
        raise PlatformError(f"Mechanical Turk can't be asked: {_one_line(str(error))}") from None


def check_address(endpoint: str) -> None:
    """Refuse an address that AWS credentials must not be sent to.

    Raises:
        PlatformError: it is no address, neither HTTPS nor on this machine, or MTurk in a region where there is none.
    """
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if not host or parts.scheme not in ("http", "https"):
        raise PlatformError(f"{endpoint} is no address of a service; give one that begins with https://")
    if parts.username or parts.password:
        raise PlatformError("the endpoint's address holds a password; AWS's credentials come from the environment or a profile")
    if parts.scheme != "https" and host not in LOOPBACK:
        raise PlatformError(f"{endpoint}: AWS credentials are sent over HTTPS only, or to this machine; give an https:// address")
    if host.startswith("mturk-requester") and host.endswith(".amazonaws.com") and f".{REGION}." not in host:
        raise PlatformError(f"{host}: Mechanical Turk is in the region {REGION} only; leave the endpoint out, or name it there")


def _passes(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error.response.get("Error", {}).get("Code") in _PASSING or status >= _SERVER_ERROR
    return isinstance(error, (HTTPClientError, NoConnection))


def _no_credentials() -> PlatformError:
    return PlatformError(
        "there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in mturk.profile"
    )


def _kind(error: Exception) -> str:
    """What went wrong on the way, without addresses' parameters."""
    return type(error).__name__.removesuffix("Error")


def _one_line(text: str) -> str:
    return " ".join(text.split())
