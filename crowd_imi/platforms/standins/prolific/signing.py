"""Signed arrival links: a JWT (RS256), as Prolific's, and the public key that proves it.

RSA is written out here, so that a stand-in needs no cryptography library: its key is worth nothing, as it vouches for nobody
but simulated participants on this machine.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from functools import cache
from urllib.parse import parse_qsl, urlsplit

from crowd_imi.platforms.standins.prolific.desk import Desk
from crowd_imi.platforms.standins.prolific.tables import Setting
from crowd_imi.records import Record

VALID_SECONDS = 120
KEY_BITS = 2048
EXPONENT = 65537
ROUNDS = 24
"""Of the Miller–Rabin test, each of which a composite number passes with a probability below 1/4."""
SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")
"""The head of a SHA-256 digest in PKCS #1 v1.5 (RFC 8017, section 9.2)."""


class SigningKey(Record):
    """An RSA key: modulus and private exponent, in hexadecimal."""

    kid: str
    modulus: str
    private: str


def arrival_token(desk: Desk, url: str) -> str:
    """The token of one arrival: whose domain it is for, until when, and the parameters that the link carries."""
    key = signing_key(desk)
    target = urlsplit(url)
    seconds = desk.now // 1000
    claims = {
        "iss": "https://www.prolific.com",
        "aud": f"{target.scheme}://{target.netloc}",
        "iat": seconds,
        "exp": seconds + VALID_SECONDS,
        "jti": secrets.token_hex(8),
        "prolific": {"workspace_id": desk.setting("workspace"), **dict(parse_qsl(target.query))},
    }
    head = {"alg": "RS256", "kid": key.kid, "typ": "JWT"}
    signed = f"{_part(head)}.{_part(claims)}"
    return f"{signed}.{_encoded(_sign(key, signed.encode()))}"


def jwks(desk: Desk) -> dict[str, object]:
    """``/.well-known/study/jwks.json``."""
    key = signing_key(desk)
    public = {
        "kty": "RSA",
        "kid": key.kid,
        "alg": "RS256",
        "use": "sig",
        "key_ops": ["verify"],
        "n": _encoded(bytes.fromhex(key.modulus)),
        "e": _encoded(EXPONENT.to_bytes(3, "big")),
    }
    return {"keys": [public]}


def signing_key(desk: Desk) -> SigningKey:
    """The stand-in's key, made when it is first needed."""
    kept = desk.session.get(Setting, "signing_key")
    if kept is None:
        kept = Setting(name="signing_key", value=_make_key().model_dump_json())
        desk.session.add(kept)
    return _read_key(kept.value)


@cache
def _read_key(text: str) -> SigningKey:
    return SigningKey.model_validate_json(text)


def _make_key() -> SigningKey:
    while True:
        p, q = _prime(KEY_BITS // 2), _prime(KEY_BITS // 2)
        if p == q or (p - 1) % EXPONENT == 0 or (q - 1) % EXPONENT == 0:
            continue
        private = pow(EXPONENT, -1, (p - 1) * (q - 1))
        return SigningKey(kid=secrets.token_hex(10), modulus=f"{p * q:0{KEY_BITS // 4}x}", private=f"{private:x}")


def _prime(bits: int) -> int:
    while True:
        # The two highest bits are set, so that the product of two has all its bits.
        candidate = secrets.randbits(bits) | (0b11 << (bits - 2)) | 1
        if all(candidate % small for small in _small_primes()) and _passes(candidate):
            return candidate


def _passes(candidate: int) -> bool:
    """The Miller–Rabin test."""
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(ROUNDS):
        value = pow(secrets.randbelow(candidate - 3) + 2, odd, candidate)
        if value in (1, candidate - 1):
            continue
        for _ in range(twos - 1):
            value = value * value % candidate
            if value == candidate - 1:
                break
        else:
            return False
    return True


@cache
def _small_primes() -> tuple[int, ...]:
    return tuple(number for number in range(3, 2000, 2) if all(number % each for each in range(3, int(number**0.5) + 1, 2)))


def _sign(key: SigningKey, content: bytes) -> bytes:
    length = KEY_BITS // 8
    digest = SHA256_PREFIX + hashlib.sha256(content).digest()
    padded = b"\x00\x01" + b"\xff" * (length - len(digest) - 3) + b"\x00" + digest
    signature = pow(int.from_bytes(padded, "big"), int(key.private, 16), int(key.modulus, 16))
    return signature.to_bytes(length, "big")


def _part(document: Mapping[str, object]) -> str:
    return _encoded(json.dumps(document, separators=(",", ":")).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
