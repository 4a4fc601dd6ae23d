"""``signoff.json``: a person has looked through the gallery of exactly this pack, and participants may see it."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from crowd_imi.errors import PublishError, command
from crowd_imi.files import write_atomically
from crowd_imi.pack import Pack
from crowd_imi.records import Record
from crowd_imi.study import Study
from crowd_imi.vetoes import vetoed_but_shown


class SignOff(Record):
    """``signoff.json``."""

    schema_version: Literal[1] = 1
    pack_sha256: str
    """Of the manifest; another pack isn't signed off by it."""
    gallery_sha256: str
    """Of the page that was looked at."""
    approved_at: datetime


def signoff_path(study: Study) -> Path:
    """Where the sign-off stands."""
    return study.folder / "signoff.json"


def sign_off(study: Study, pack: Pack, gallery: Path, now: datetime) -> SignOff:
    """Write down that a person approves of what the gallery shows."""
    signed = SignOff(pack_sha256=pack.digest, gallery_sha256=hashlib.sha256(gallery.read_bytes()).hexdigest(), approved_at=now)
    write_atomically(signoff_path(study), signed.model_dump_json(indent=1).encode() + b"\n")
    return signed


def missing_sign_off(study: Study, pack: Pack) -> str | None:
    """Why the pack doesn't count as looked through, and what to do; None when it does.

    Raises:
        FactoryError: vetoes.toml is damaged.
    """
    path = signoff_path(study)
    remedy = f"look through `{command('gallery', study.folder)}`, then run `{command('gallery', study.folder, '--approve')}`"
    try:
        signed = SignOff.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return f"{path}: nobody has signed the images off yet; {remedy}"
    except IsADirectoryError:
        return f"{path}: this is a folder; take it away, {remedy}"
    except ValidationError as error:
        return f"{path}: {error.errors()[0]['msg']}; {remedy}"
    if signed.pack_sha256 != pack.digest:
        return (
            f"{path}: the images were signed off on {signed.approved_at:%Y-%m-%d}, but the pack was rendered anew since; {remedy}"
        )
    # Whoever signs off can still change their mind, and the pack stays the same until the next render.
    return vetoed_but_shown(study, pack)


def require_sign_off(study: Study, pack: Pack) -> None:
    """Make sure that real participants see nothing that nobody looked at, unless they are warned.

    Raises:
        PublishError: the pack isn't signed off, and study.toml has no content warning.
    """
    missing = missing_sign_off(study, pack)
    if missing is not None and not study.file.pages.content_warning.strip():
        raise PublishError(f"{missing}. Or warn participants: pages.content_warning in {study.toml}")
