"""``hosted.json``: where browsers get the sprites when it isn't from the pages. ``host`` writes it, ``serve`` reads it."""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import ValidationError

from crowd_imi.errors import PublishError, command
from crowd_imi.files import write_atomically
from crowd_imi.records import Record
from crowd_imi.study import ReadableBy, Study

_USUAL_PORTS = {"http": 80, "https": 443}


class Hosted(Record):
    """``hosted.json``."""

    schema_version: Literal[1] = 1
    bucket: str
    endpoint_url: str | None
    """None for AWS."""
    region: str
    prefix: str
    """Before every key: empty, or ends with a slash."""
    readable_by: ReadableBy
    public_url: str
    """A sprite's name follows it; ends with a slash."""
    origin: str
    """Of the pages: whose scripts may read the sprites."""
    names: tuple[str, ...]
    """Of every sprite that was uploaded and may still be there."""
    complete: bool
    """Whether browsers are sent there: not while an upload or a removal is under way."""


def hosted_path(study: Study) -> Path:
    """Where the note lies."""
    return study.folder / "hosted.json"


def load_hosted(study: Study) -> Hosted | None:
    """The note; None when nothing was ever uploaded, or all of it was removed.

    Raises:
        PublishError: it is damaged.
    """
    path = hosted_path(study)
    try:
        return Hosted.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise PublishError(
            f"{path}: it is damaged ({error.errors()[0]['msg']}); delete it and run `{command('host', study.folder)}` again"
        ) from None


def keep_hosted(study: Study, hosted: Hosted) -> None:
    """Write the note; for its owner alone, as it lists what nobody can list."""
    write_atomically(hosted_path(study), hosted.model_dump_json(indent=1).encode() + b"\n", mode=0o600)


def origin_of(url: str) -> str:
    """Scheme, host and port of an address, as browsers write them: the usual port is left out."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _USUAL_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
