"""Secrets: the study's own key (tokens) and the lab's key (participants' hashes across studies).

The study's key lies in the study's folder, the lab's in the user's configuration folder or the environment variable
``CROWD_IMI_LAB_KEY``. Both are made when first needed and readable by their owner alone.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from crowd_imi.errors import StoreError
from crowd_imi.files import begun_by, write_once

_SHORTEST = 32
"""Bytes of a key file: 64 hexadecimal digits as we write it, half of that at least in one that somebody brought."""


def study_key(path: Path) -> bytes:
    """The key at ``path``, made there when missing.

    Raises:
        StoreError: it is missing in a study that has begun: with a new one no link, token or completion code would fit.
    """
    if not path.exists() and begun_by(path.parent).exists():
        raise StoreError(
            f"{path}: the study's key is missing; restore it from a backup. A new one would make every link, token and "
            "completion code invalid that participants have"
        )
    return _key(path)


def lab_key() -> bytes:
    """The lab's key: participants are told apart by it in every study of the lab."""
    from_environment = os.environ.get("CROWD_IMI_LAB_KEY")
    if from_environment:
        return from_environment.encode()
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return _key(home / "crowd_imi" / "lab.key")


def _key(path: Path) -> bytes:
    key = (path.read_bytes() if path.exists() else write_once(path, secrets.token_hex(32).encode(), mode=0o600)).strip()
    if len(key) < _SHORTEST:
        raise StoreError(
            f"{path}: this is no key (it has {len(key)} bytes); put the right one back. A new one would give new tokens and "
            "take returning participants for new ones"
        )
    return key


def keyed_hash(key: bytes, *parts: str) -> str:
    """HMAC-SHA256 of the parts as 64 hexadecimal digits; parts can't run into one another."""
    message = b"".join(f"{len(part.encode())}:{part}".encode() for part in parts)
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def participant_hash(key: bytes, platform: str, participant: str) -> str:
    """What stands for a platform's participant id everywhere but in people.db."""
    return keyed_hash(key, "participant", platform, participant)


def health_answer(key: bytes, challenge: str, kind: str, platform: str) -> str:
    """By what the task pages show whose they are, and for whom, to somebody who has the study's key too.

    Args:
        key: the study's.
        challenge: what was asked with.
        kind: of the store that answers go to: ``study``, ``rehearsal`` or ``preview``.
        platform: whose participants are let in; empty where nobody's are.
    """
    return keyed_hash(key, "health", challenge, kind, platform)


def completion_code(key: bytes, posting: str, ending: str = "completed") -> str:
    """The code by which a posting's participants show their platform how their part ended; ``posting`` is our intent id."""
    parts = (posting,) if ending == "completed" else (posting, ending)
    return keyed_hash(key, "completion", *parts)[:10].upper()
