"""``crowd-imi publish``."""

from typing import Annotated, Literal

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder, Yes
from crowd_imi.records import Money, Record

PagesUrl = Annotated[str, typer.Option(metavar="URL", help="Where participants reach the task pages (`crowd-imi serve`).")]
On = Annotated[Literal["local"], typer.Option(help="The platform.")]


class Published(Record):
    """What ``publish --json`` prints."""

    platform: str
    posting: str
    """The platform's id."""
    places: int
    reward: Money
    total: Money
    cap: Money
    lock: str | None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(publish)


def publish(
    folder: StudyFolder,
    on: On = "local",
    pages_url: PagesUrl = "http://127.0.0.1:8000",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Freeze the study and post its tasks on a platform. Says what it costs and asks before it spends."""
    from crowd_imi.errors import PublishError
    from crowd_imi.plan import load_plan
    from crowd_imi.platforms.local import LocalPlatform
    from crowd_imi.publisher.launch import create_store, launch, offer_of, require_pack_of
    from crowd_imi.publisher.lock import load_lock
    from crowd_imi.store import Store, StoreKind
    from crowd_imi.store.engine import database_urls
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    plan = load_plan(study.plan)
    require_pack_of(study, plan)
    offer = offer_of(study, len(plan.tasks))
    output.say(f"{study.file.study.title} on {on}, pages at {pages_url}")
    output.say(f"  {offer.places} places × {offer.reward} = {offer.total}; replacements up to {offer.cap} in all")
    if not yes and load_lock(study) is None:
        if as_json:
            raise PublishError("publishing spends money: say --yes together with --json")
        typer.confirm("Publish? The study is frozen from then on.", abort=True, err=True)
    if study.database.exists():
        store = Store.open(*database_urls(study.folder))
    else:
        store = create_store(study, plan, study.folder, StoreKind.STUDY)
    posting = launch(study, store, LocalPlatform(study.folder / "local.db"), f"{pages_url.rstrip('/')}/arrive")
    output.say(
        f"posted as {posting.platform_id}; next: crowd-imi serve {folder}, and beside it: crowd-imi harvest {folder} --watch"
    )
    output.result(
        Published(
            platform=on,
            posting=posting.platform_id or "",
            places=posting.places,
            reward=offer.reward,
            total=offer.total,
            cap=offer.cap,
            lock=str(study.folder / "study.lock"),
        )
    )
