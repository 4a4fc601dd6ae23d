"""``study.lock``: what was published, frozen. It says what a preregistration states."""

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from crowd_imi.errors import PublishError
from crowd_imi.files import write_atomically
from crowd_imi.records import Record
from crowd_imi.study import ExclusionSection, Study

CHANGEABLE = ("pay.cap", "exclusion", "pages", "study.title")
"""Keys of study.toml that may be edited after publishing: the cap, thresholds and texts of future visits."""

_LIBRARIES = ("crowd-imi", "numpy", "pillow", "sqlalchemy", "timm", "torch", "torch-lucent")


class Lock(Record):
    """``study.lock``."""

    schema_version: Literal[1] = 1
    study: str
    published_at: datetime
    study_toml_sha256: str
    """Of the file as it was published, comments included."""
    pack_sha256: str
    plan_sha256: str
    exclusion: ExclusionSection
    """The exclusion criteria; whatever is changed later is post hoc."""
    frozen: dict[str, Any]
    """What study.toml said, without the keys that may be edited."""
    versions: dict[str, str]


def make_lock(study: Study, *, plan_sha256: str, pack_sha256: str, now: int) -> Lock:
    """What is published now; ``now`` in milliseconds since 1970."""
    return Lock(
        study=study.file.study.name,
        published_at=datetime.fromtimestamp(now / 1000, UTC),
        study_toml_sha256=sha256(study.toml.read_bytes()).hexdigest(),
        pack_sha256=pack_sha256,
        plan_sha256=plan_sha256,
        exclusion=study.file.exclusion,
        frozen=_frozen(study),
        versions=_versions(),
    )


def lock_path(study: Study) -> Path:
    """Where the lock lies."""
    return study.folder / "study.lock"


def load_lock(study: Study) -> Lock | None:
    """The lock of a published study; None when it wasn't published.

    Raises:
        PublishError: the file is damaged.
    """
    path = lock_path(study)
    try:
        return Lock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise PublishError(f"{path}: {error.errors()[0]['msg']}; restore it from a backup, it says what was published") from None


def keep_lock(study: Study, lock: Lock, *, anew: bool = False) -> None:
    """Write the lock, or make sure that the one there says the same.

    Args:
        study: whose folder.
        lock: what would be published now.
        anew: write it whatever there is.

    Raises:
        PublishError: the study was published with something else; names every difference.
    """
    earlier = load_lock(study)
    if earlier is None or anew:
        write_atomically(lock_path(study), lock.model_dump_json(indent=2).encode() + b"\n")
        return
    _refuse(study, earlier, list(_differences(earlier, lock)))


def hold_to_lock(study: Study) -> None:
    """Make sure that study.toml still says what was published: who serves or pays by it would do something else.

    Raises:
        PublishError: a frozen key was edited; names every one.
    """
    earlier = load_lock(study)
    if earlier is not None:
        _refuse(study, earlier, list(_changed_keys(earlier.frozen, _frozen(study))))


def _refuse(study: Study, earlier: Lock, problems: list[str]) -> None:
    if problems:
        raise PublishError(
            f"{lock_path(study)}: this study was published on {earlier.published_at:%Y-%m-%d} and is frozen since, but "
            f"{'; '.join(problems)}. Put it back as it was, or copy the folder without study.lock and study.db to a new study"
        )


def _changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    was, now = dict(_leaves(before)), dict(_leaves(after))
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            yield f"study.toml: {key} was {was.get(key)!r} and is {now.get(key)!r}"


def _differences(earlier: Lock, now: Lock) -> Iterator[str]:
    yield from _changed_keys(earlier.frozen, now.frozen)
    if earlier.pack_sha256 != now.pack_sha256:
        yield "the pack was rendered anew"
    if earlier.plan_sha256 != now.plan_sha256:
        yield "the tasks were planned anew"


def _frozen(study: Study) -> dict[str, Any]:
    content: dict[str, Any] = study.file.model_dump(mode="json", by_alias=True)
    for key in CHANGEABLE:
        *parents, leaf = key.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        del section[leaf]
    return content


def _leaves(content: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _leaves(value, f"{prefix}.{index}")
    else:
        yield prefix, content


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
