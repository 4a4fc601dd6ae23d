"""``host`` and ``unhost``: sprites in S3, or in a storage that speaks its protocol."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder, Yes
from crowd_imi.records import Record

if TYPE_CHECKING:
    from crowd_imi.plan import PlannedTask
    from crowd_imi.study import Study

PagesUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where participants will reach the task pages; a published study says so itself.  [default: http://127.0.0.1:8000]",
    ),
]


class SpritesHosted(Record):
    """What ``host --json`` prints."""

    public_url: str
    """A sprite's name behind this is its address."""
    origin: str
    """Of the pages that may read them."""
    uploaded: int
    unchanged: int
    removed: int
    """Of an earlier plan."""


class SpritesRemoved(Record):
    """What ``unhost --json`` prints."""

    bucket: str
    removed: int
    left: tuple[str, ...]
    """Settings of the bucket that couldn't be taken back."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(host)
    app.command()(unhost)


def host(folder: StudyFolder, pages_url: PagesUrl = None, as_json: Json = False) -> None:
    """Upload the sprites to S3, or a storage that speaks its protocol (`[hosting]`), for browsers to get them from there.

    Only what is missing there or has changed is sent.
    """
    from crowd_imi.design.begun import added_names, current_plan
    from crowd_imi.publisher.hosting import host as host_sprites
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    plan = current_plan(study)
    pages_url = _pages_url(study, pages_url)
    if study.file.images.restricted:
        output.say(
            f"  mind: images.restricted = true: by their licence ({study.file.images.licence}) these images may not be shown to "
            "the public, and whoever knows a sprite's address will be able to open it"
        )
    change = host_sprites(study, plan, pages_url, output.track, added=added_names(study, plan))
    hosted = change.hosted
    output.say(f"{change.uploaded} sprites uploaded, {change.unchanged} were there, {change.removed} of an earlier plan removed")
    output.say(f"  browsers get them at {hosted.public_url}, for pages at {hosted.origin}")
    if _is_serving(study):
        output.say("  stop `serve` and start it again: it looks where sprites are when it begins")
    output.result(
        SpritesHosted(
            public_url=hosted.public_url,
            origin=hosted.origin,
            uploaded=change.uploaded,
            unchanged=change.unchanged,
            removed=change.removed,
        )
    )


def unhost(folder: StudyFolder, yes: Yes = False, as_json: Json = False) -> None:
    """Remove the sprites that `host` uploaded, and nothing else; the pages serve them again."""
    from crowd_imi.design.begun import added_names
    from crowd_imi.errors import PublishError
    from crowd_imi.plan import load_plan
    from crowd_imi.publisher.hosting import unhost as remove_sprites
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    if not yes:
        if as_json:
            raise PublishError("this removes objects from a bucket: say --yes together with --json")
        typer.confirm("Remove the study's sprites from the bucket?", abort=True, err=True)
    plan = load_plan(study.plan) if study.plan.exists() else None
    added = frozenset[str]() if plan is None else added_names(study, plan)
    change = remove_sprites(study, plan, output.track, added=added)
    output.say(f"{change.removed} sprites removed from bucket {change.hosted.bucket}")
    for left in change.left:
        output.say(f"  left as it was: {left}")
    if _is_serving(study):
        output.say("  stop `serve` and start it again: until then it sends browsers to the bucket first")
    output.result(SpritesRemoved(bucket=change.hosted.bucket, removed=change.removed, left=change.left))


def host_sprites_of(output: Output, study: "Study", tasks: "Sequence[PlannedTask]") -> None:
    """Upload the sprites of tasks that are about to come, where the study's are hosted."""
    from crowd_imi.publisher.hosting import host_more

    uploaded = host_more(study, [trial.sprite for task in tasks for trial in task.trials], output.track)
    if uploaded:
        output.say(f"{uploaded} sprites uploaded to where the others are")


def _pages_url(study: "Study", said: str | None) -> str:
    """Where participants are, or will be, sent."""
    from crowd_imi.errors import PublishError
    from crowd_imi.platforms.opening import Choice, choice_of
    from crowd_imi.publisher.checks import url_problems
    from crowd_imi.store import Store
    from crowd_imi.store.engine import database_urls

    if not study.database.exists():
        choice = Choice() if said is None else Choice(pages_url=said)
        for problem in url_problems(choice):
            raise PublishError(problem)
        return choice.pages_url
    store = Store.open(*database_urls(study.folder))
    try:
        published = choice_of(store).pages_url
    finally:
        store.close()
    if said is not None and said.rstrip("/") != published.rstrip("/"):
        raise PublishError(f"--pages-url {said}: this study's participants are sent to {published}; leave --pages-url out")
    return published


def _is_serving(study: "Study") -> bool:
    return (study.folder / "serving.json").exists()
