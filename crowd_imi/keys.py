"""Secrets: the study's own key (tokens) and the lab's key (participants' hashes across studies).

The study's key lies in the study's folder, the lab's in the user's configuration folder or the environment variable
``CROWD_IMI_LAB_KEY``. Both are made when first needed and readable by their owner alone.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from crowd_imi.files import write_atomically


def study_key(path: Path) -> bytes:
    """The key at ``path``, made there when missing."""
    return _key(path)


def lab_key() -> bytes:
    """The lab's key: participants are told apart by it in every study of the lab."""
    from_environment = os.environ.get("CROWD_IMI_LAB_KEY")
    if from_environment:
        return from_environment.encode()
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return _key(home / "crowd_imi" / "lab.key")


def _key(path: Path) -> bytes:
    if not path.exists():
        write_atomically(path, secrets.token_hex(32).encode(), mode=0o600)
    return path.read_bytes().strip()


def keyed_hash(key: bytes, *parts: str) -> str:
    """HMAC-SHA256 of the parts as 64 hexadecimal digits; parts can't run into one another."""
    message = b"".join(f"{len(part.encode())}:{part}".encode() for part in parts)
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def participant_hash(key: bytes, platform: str, participant: str) -> str:
    """What stands for a platform's participant id everywhere but in people.db."""
    return keyed_hash(key, "participant", platform, participant)
