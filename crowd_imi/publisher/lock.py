"""``study.lock``: what was published, frozen. It says what a preregistration states."""

import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from crowd_imi.errors import PublishError
from crowd_imi.files import LOCK, write_atomically
from crowd_imi.hit_templates import edited_files, frozen_files
from crowd_imi.ledger import IntentState
from crowd_imi.plan import Amendment
from crowd_imi.records import Record
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.store.money import intents_in
from crowd_imi.store.postings import postings
from crowd_imi.store.tasks import amendments
from crowd_imi.study import ExclusionSection, Study, StudyFile

CHANGEABLE = ("pay.cap", "exclusion", "pages", "study.title", "hosting")
"""Keys of study.toml that may be edited after publishing: the cap, thresholds and texts of future visits, and where browsers
get the same pictures from."""

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
    templates: dict[str, str] = Field(default_factory=dict)
    """Name → SHA-256 of the files of the study's own copy of the pages; texts may be edited for future visits."""
    versions: dict[str, str]
    amendments: tuple[Amendment, ...] = ()
    """What came since: a pilot before the study itself, and what was changed post hoc."""


def make_lock(study: Study, *, plan_sha256: str, pack_sha256: str, now: int) -> Lock:
    """What is published now; ``now`` in milliseconds since 1970."""
    return Lock(
        study=study.file.study.name,
        published_at=datetime.fromtimestamp(now / 1000, UTC),
        study_toml_sha256=sha256(study.toml.read_bytes()).hexdigest(),
        pack_sha256=pack_sha256,
        plan_sha256=plan_sha256,
        exclusion=study.file.exclusion,
        frozen=_frozen(study.file),
        templates=frozen_files(study),
        versions=_versions(),
    )


def lock_path(study: Study) -> Path:
    """Where the lock lies."""
    return study.folder / LOCK


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
        _write(study, lock)
        return
    _refuse(study, earlier, [*edited_keys(study, earlier), *_made_anew(earlier, lock)])


def keep_amendments(study: Study, store: Store) -> None:
    """Write into the lock what was amended since, also where a crash came between the store and the lock."""
    lock = load_lock(study)
    with store.read() as session:
        found = amendments(session)
    if lock is not None and lock.amendments != found:
        _write(study, lock.model_copy(update={"amendments": found}))


def hold_to_lock(study: Study) -> None:
    """Make sure that study.toml still says what was published: who serves or pays by it would do something else.

    Raises:
        PublishError: a frozen key was edited; names every one.
    """
    earlier = load_lock(study)
    if earlier is None:
        if study.database.exists():
            store = Store.open(*database_urls(study.folder))
            try:
                require_lock(study, store)
            finally:
                store.close()
    elif not never_published(study):
        _refuse(study, earlier, edited_keys(study, earlier))
        if study.database.exists():
            store = Store.open(*database_urls(study.folder))
            try:
                keep_amendments(study, store)
            finally:
                store.close()


def require_lock(study: Study, store: Store) -> None:
    """Make sure that a posted study still has its lock: a new one would say that edits since then were planned.

    Raises:
        PublishError: it is missing.
    """
    with store.read() as session:
        posted = any(posting.platform_id is not None for posting in postings(session))
    if posted and not lock_path(study).exists():
        raise PublishError(f"{lock_path(study)}: says what was published, and is missing; restore it from a backup")


def edited_keys(study: Study, lock: Lock) -> list[str]:
    """One line for every frozen key of study.toml, and every file of the pages, that isn't any more what was published."""
    keys = _changed_keys(_completed(lock.frozen, study.file), _frozen(study.file))
    return [*keys, *edited_files(study, lock.templates)]


def never_published(study: Study) -> bool:
    """Whether a study has a lock that binds nobody, as the platform refused the posting."""
    if not study.database.exists():
        return False
    store = Store.open(*database_urls(study.folder))
    try:
        return was_refused(store)
    finally:
        store.close()


def was_refused(store: Store) -> bool:
    """Whether the platform refused every posting: then the study was never published, and its lock binds nobody."""
    with store.read() as session:
        posted = any(posting.platform_id is not None for posting in postings(session))
        return not posted and bool(intents_in(session, IntentState.REFUSED, "post"))


def _write(study: Study, lock: Lock) -> None:
    write_atomically(lock_path(study), lock.model_dump_json(indent=2).encode() + b"\n")


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


def _made_anew(earlier: Lock, now: Lock) -> Iterator[str]:
    if earlier.pack_sha256 != now.pack_sha256:
        yield "the pack was rendered anew"
    if earlier.plan_sha256 != now.plan_sha256:
        yield "the tasks were planned anew"


def _completed(frozen: Mapping[str, Any], now: StudyFile) -> Mapping[str, Any]:
    """What was published, with the defaults of keys that were unknown then: a later version of crowd-imi isn't an edit."""
    content = _merged(now.model_dump(mode="json", by_alias=True, include=_tree(CHANGEABLE)), frozen)
    try:
        return _frozen(StudyFile.model_validate(content))
    except ValidationError:
        return frozen


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; where both have a value, the other's."""
    shared = [key for key in one.keys() & other.keys() if isinstance(one[key], Mapping) and isinstance(other[key], Mapping)]
    return {**one, **other, **{key: _merged(one[key], other[key]) for key in shared}}


def _tree(keys: Iterable[str]) -> dict[str, Any]:
    """Keys as pydantic's ``include`` takes them: ``{"pay": {"cap": True}, "pages": True}``."""
    tree: dict[str, Any] = {}
    for key in keys:
        section, _, leaf = key.partition(".")
        tree[section] = {**tree.get(section, {}), leaf: True} if leaf else True
    return tree


def _frozen(file: StudyFile) -> dict[str, Any]:
    content: dict[str, Any] = file.model_dump(mode="json", by_alias=True)
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
