"""Hosting a study's sprites, and taking them back. Killed and run again, either goes on."""

from collections.abc import Iterable
from dataclasses import dataclass

from crowd_imi.errors import PublishError, command
from crowd_imi.hosted import Hosted, hosted_path, keep_hosted, load_hosted, origin_of
from crowd_imi.keys import keyed_hash, study_key
from crowd_imi.plan import Plan, missing_sprites
from crowd_imi.progress import Track, silent
from crowd_imi.publisher.hosting.access import Grant, public_problem, require_unlisted
from crowd_imi.publisher.hosting.client import Bucket, is_private, open_bucket
from crowd_imi.publisher.hosting.objects import WORKERS, File, outdated, remove, upload
from crowd_imi.study import HostingSection, Study

_MARK_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a bucket."""

    hosted: Hosted
    uploaded: int
    unchanged: int
    removed: int
    """Sprites of an earlier plan, or all of them."""
    left: tuple[str, ...] = ()
    """What the storage didn't let us take back."""


def host(  # noqa: PLR0913 (what, for whom, how)
    study: Study,
    plan: Plan,
    pages_url: str,
    track: Track = silent,
    workers: int = WORKERS,
    *,
    added: frozenset[str] = frozenset(),
) -> Change:
    """Upload what is missing or changed, open it to browsers, make sure that it opens, and note it for the pages.

    Args:
        study: its ``[hosting]`` says where to.
        plan: whose sprites, practice included.
        pages_url: where participants reach the pages, whose scripts read the sprites.
        track: shows how far it is.
        workers: requests under way at once.
        added: sprites of tasks that came after the plan.

    Raises:
        PublishError: the storage can't be used or said no, browsers couldn't open a sprite, anybody could list them, or they
            are hosted somewhere else.
    """
    sprites = plan.sprites | added
    files_missing = missing_sprites(sprites, study.sprites)
    if files_missing:
        raise PublishError(
            f"{study.sprites}: {len(files_missing)} of {len(sprites)} sprites are missing; run "
            f"`{command('plan', study.folder)}` again, which makes the same ones"
        )
    bucket = open_bucket(study.file.hosting)
    earlier = load_hosted(study)
    hosted = _note(study, bucket, origin_of(pages_url), {*sprites, *(earlier.names if earlier else ())})
    _require_same_place(study, earlier, hosted)
    refused = Grant(bucket, _mark(study)).give(hosted.origin, hosted.readable_by)
    require_unlisted(bucket)
    keep_hosted(study, hosted)
    files = [File(f"{bucket.prefix}{name}", study.sprites / name) for name in sorted(sprites)]
    missing = outdated(bucket, files, workers, track)
    _upload_first_and_open_it(hosted, bucket, files[0], missing, refused)
    _upload(study, hosted, bucket, [file for file in missing if file != files[0]], track, workers)
    removed = remove(bucket, _keys(bucket, set(hosted.names) - sprites), workers, track)
    hosted = hosted.model_copy(update={"names": tuple(sorted(sprites)), "complete": True})
    keep_hosted(study, hosted)
    return Change(hosted, uploaded=len(missing), unchanged=len(files) - len(missing), removed=removed)


def host_more(study: Study, names: Iterable[str], track: Track = silent, workers: int = WORKERS) -> int:
    """Upload sprites of tasks that come after the plan, before the tasks are there; browsers are sent to the others meanwhile.

    Args:
        study: whose sprites may be hosted.
        names: of the new sprites.
        track: shows how far it is.
        workers: requests under way at once.

    Returns:
        How many were uploaded; 0 where the study's sprites come from the pages.

    Raises:
        PublishError: an earlier upload was left half done, or the storage can't be used or said no.
    """
    hosted = load_hosted(study)
    if hosted is None:
        return 0
    if not hosted.complete:
        raise PublishError(
            f"{hosted_path(study)}: an upload or a removal was left half done; run `{command('host', study.folder)}` or "
            f"`{command('unhost', study.folder)}` again first"
        )
    bucket = open_bucket(_where_noted(study, hosted))
    keep_hosted(study, hosted.model_copy(update={"names": tuple(sorted({*hosted.names, *names}))}))
    missing = outdated(bucket, [File(f"{bucket.prefix}{name}", study.sprites / name) for name in sorted(names)], workers, track)
    _upload(study, hosted, bucket, missing, track, workers)
    return len(missing)


def unhost(
    study: Study, plan: Plan | None, track: Track = silent, workers: int = WORKERS, *, added: frozenset[str] = frozenset()
) -> Change:
    """Remove every sprite that ``host`` uploaded, our rule and our statement; what others put there stays.

    Args:
        study: hosted by its note, or, where that is lost, by its ``[hosting]``.
        plan: names the sprites where the note is lost.
        track: shows how far it is.
        workers: requests under way at once.
        added: sprites of tasks that came after the plan.

    Raises:
        PublishError: nothing is hosted, or the storage can't be used or said no.
    """
    noted = load_hosted(study)
    section = study.file.hosting
    if noted is not None:
        section = _where_noted(study, noted)
    elif section.bucket is None or plan is None:
        raise PublishError(f"{hosted_path(study)} isn't there: the sprites of {study.folder} aren't hosted")
    bucket = open_bucket(section)
    names = {*(noted.names if noted else ()), *(plan.sprites if plan else ()), *added}
    hosted = noted or _note(study, bucket, "", names)
    keep_hosted(study, hosted.model_copy(update={"complete": False}))
    removed = remove(bucket, _keys(bucket, names), workers, track)
    left = Grant(bucket, _mark(study)).take_back()
    hosted_path(study).unlink()
    return Change(hosted, uploaded=0, unchanged=0, removed=removed, left=tuple(left))


def _upload_first_and_open_it(hosted: Hosted, bucket: Bucket, first: File, missing: list[File], refused: list[str]) -> None:
    """Find out with one sprite, rather than with thousands, that browsers can't get them."""
    if first in missing:
        upload(bucket.client, bucket.name, [first], 1, public_acl=hosted.readable_by == "acl")
    problem = public_problem(hosted, first.path.name, first.path.read_bytes())
    if problem is not None:
        raise PublishError("; ".join([problem, *refused]))


def _upload(  # noqa: PLR0913, PLR0917 (what, where to, and how)
    study: Study, hosted: Hosted, bucket: Bucket, missing: list[File], track: Track, workers: int
) -> None:
    """Send sprites, and make sure that they are there as they were sent."""
    upload(bucket.client, bucket.name, missing, workers, track, public_acl=hosted.readable_by == "acl")
    wrong = outdated(bucket, missing, workers, track) if missing else []
    if wrong:
        raise PublishError(
            f"{bucket.where}: {len(wrong)} of {len(missing)} sprites aren't there as they were sent; does somebody else change "
            f"them? Run `{command('host', study.folder)}` again"
        )


def _where_noted(study: Study, hosted: Hosted) -> HostingSection:
    """``[hosting]`` with the place where the sprites are, whatever was edited since."""
    place = {name: getattr(hosted, name) for name in ("bucket", "endpoint_url", "region", "prefix")}
    return study.file.hosting.model_copy(update=place)


def _note(study: Study, bucket: Bucket, origin: str, names: Iterable[str]) -> Hosted:
    section = study.file.hosting
    public = bucket.public_url if section.public_url is None else f"{section.public_url.rstrip('/')}/{bucket.prefix}"
    if not is_private(public):
        raise PublishError(f"hosting.public_url = {section.public_url!r}: give an address that begins with https://")
    return Hosted(
        bucket=bucket.name,
        endpoint_url=bucket.endpoint_url,
        region=bucket.region,
        prefix=bucket.prefix,
        readable_by=section.readable_by,
        public_url=public,
        origin=origin,
        names=tuple(sorted(names)),
        complete=False,
    )


def _require_same_place(study: Study, earlier: Hosted | None, now: Hosted) -> None:
    """Sprites in two places would be forgotten in one of them."""
    if earlier is None:
        return
    places = [(one.bucket, one.endpoint_url, one.prefix, one.readable_by) for one in (earlier, now)]
    if places[0] != places[1]:
        at = f" at {earlier.endpoint_url}" if earlier.endpoint_url else ""
        raise PublishError(
            f"{study.toml}: [hosting] was edited, but the sprites are in bucket {earlier.bucket}{at} below "
            f"{earlier.prefix or '/'}, readable by {earlier.readable_by}; run `{command('unhost', study.folder)}` first"
        )


def _mark(study: Study) -> str:
    return keyed_hash(study_key(study.key), "hosting")[:_MARK_DIGITS]


def _keys(bucket: Bucket, names: Iterable[str]) -> list[str]:
    return [f"{bucket.prefix}{name}" for name in names]
