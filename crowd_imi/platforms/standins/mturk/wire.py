"""JSON 1.1 as AWS speaks it: signatures, requests checked against botocore's own model, errors as botocore parses them."""

import functools
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from typing import Any

import botocore.session
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.validate import ParamValidator
from flask import Request

PREFIX = "MTurkRequesterServiceV20170117"
REGION, SERVICE = "us-east-1", "mturk-requester"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, *"
    r"SignedHeaders=(?P<headers>[^,]+), *Signature=(?P<signature>[0-9a-f]{64})"
)

Params = dict[str, Any]


class WireError(Exception):
    """An error as AWS answers it.

    Args:
        kind: AWS's name of the error, e.g. ``RequestError``, ``ThrottlingException``.
        message: for a person.
        code: MTurk's own, e.g. ``HitAlreadyExists``; its prefix is added.
        status: of HTTP.
    """

    def __init__(self, kind: str, message: str, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.kind, self.message, self.code, self.status = kind, message, code, status

    def body(self) -> dict[str, str]:
        named = {"TurkErrorCode": f"AWS.MechanicalTurk.{self.code}"} if self.code else {}
        return {"__type": self.kind, "Message": self.message, **named}


def turk_error(code: str, message: str) -> WireError:
    """What the caller did wrong, in MTurk's way."""
    return WireError("RequestError", message, code)


@functools.cache
def service_model() -> ServiceModel:
    """What botocore knows of Mechanical Turk."""
    return botocore.session.get_session().get_service_model("mturk")


def operation_of(target: str) -> OperationModel:
    """The operation that a request's ``X-Amz-Target`` names.

    Raises:
        WireError: MTurk has no such operation.
    """
    prefix, _, name = target.partition(".")
    if prefix != PREFIX or name not in service_model().operation_names:
        raise WireError("UnknownOperationException", f"There is no operation {target or 'without X-Amz-Target'}.", status=404)
    return service_model().operation_model(name)


def parameters(operation: OperationModel, body: bytes) -> Params:
    """A request's body, checked against botocore's model with the limits that botocore leaves to the server.

    Raises:
        WireError: it isn't JSON, or it breaks the model.
    """
    try:
        params = json.loads(body or b"{}")
    except ValueError:
        raise WireError("SerializationException", "The request's body is no JSON.") from None
    if not isinstance(params, dict):
        raise WireError("SerializationException", "The request's body is no JSON object.")
    report = ParamValidator().validate(params, operation.input_shape)
    if report.has_errors():
        raise WireError("ValidationException", " ".join(report.generate_report().split()))
    broken = list(_limits(params, operation.input_shape, ""))
    if broken:
        raise WireError("ValidationException", f"{len(broken)} validation errors detected: {'; '.join(broken)}")
    return params


def _limits(value: object, shape: Shape, where: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name in value:
            yield from _limits(value[name], shape.members[name], f"{where}{name}.")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _limits(item, shape.member, f"{where}{number}.")
    else:
        yield from _broken(value, shape, where.rstrip("."))


def _broken(value: object, shape: Shape, where: str) -> Iterator[str]:
    pattern, most = shape.metadata.get("pattern"), shape.metadata.get("max")
    size = len(value) if isinstance(value, str) else value if isinstance(value, (int, float)) else 0
    if pattern and not re.fullmatch(pattern, str(value)):
        yield f"Value '{value}' at '{where}' failed to satisfy constraint: it must match {pattern}"
    if most is not None and size > most:
        yield f"Value at '{where}' failed to satisfy constraint: at most {most}"
    if getattr(shape, "enum", None) and value not in shape.enum:
        yield f"Value '{value}' at '{where}' failed to satisfy constraint: one of {', '.join(shape.enum)}"


def require_signature(request: Request, access_key: str | None, secret_key: str | None) -> None:
    """Check who asks, as AWS does (SigV4); None lets any key, or any secret, pass.

    Raises:
        WireError: no signature, an unknown key, another region or a signature that doesn't match.
    """
    header = request.headers.get("Authorization", "")
    if not header:
        raise WireError("MissingAuthenticationTokenException", "Missing Authentication Token")
    parts = _AUTHORIZATION.fullmatch(header)
    if parts is None:
        raise WireError("IncompleteSignatureException", "The Authorization header is no AWS4-HMAC-SHA256 signature.")
    if access_key is not None and parts["key"] != access_key:
        raise WireError("UnrecognizedClientException", "The security token included in the request is invalid.")
    if parts["region"] != REGION or parts["service"] != SERVICE:
        named = f"region, not '{parts['region']}'" if parts["region"] != REGION else f"service, not '{parts['service']}'"
        raise WireError("InvalidSignatureException", f"Credential should be scoped to a valid {named}.")
    if secret_key is not None and not hmac.compare_digest(
        _signature(request, parts["headers"].split(";"), secret_key), parts["signature"]
    ):
        raise WireError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method.",
        )


def _signature(request: Request, signed: list[str], secret_key: str) -> str:
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signed)
    body = hashlib.sha256(request.get_data()).hexdigest()
    canonical = "\n".join((request.method, request.path, request.query_string.decode(), headers, ";".join(signed), body))
    stamp = request.headers.get("X-Amz-Date", "")
    scope = (stamp[:8], REGION, SERVICE, "aws4_request")
    to_sign = "\n".join(("AWS4-HMAC-SHA256", stamp, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret_key}".encode()
    for part in (*scope, to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()
