"""``crowd-imi publish``."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder, Yes
from crowd_imi.errors import command
from crowd_imi.records import Money, Record

if TYPE_CHECKING:
    from crowd_imi.platforms.opening import Choice, PlatformName
    from crowd_imi.publisher.launch import Offer
    from crowd_imi.study import Study

PagesUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where participants reach the task pages (`crowd-imi serve`); as given before, else http://127.0.0.1:8000.",
        show_default=False,
    ),
]
On = Annotated[Literal["local", "link", "prolific", "mturk"], typer.Option(help="The platform.")]
EndpointUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="CROWD_IMI_ENDPOINT_URL",
        help="Instead of the platform's own address, e.g. that of `crowd-imi standin`.",
    ),
]
Sandbox = Annotated[bool, typer.Option("--sandbox", help="MTurk's sandbox.")]
NoReach = Annotated[
    bool, typer.Option("--no-reach", help="Don't fetch the pages first, where this machine can't see its own public address.")
]
AcceptLowPay = Annotated[bool, typer.Option("--accept-low-pay", help="Publish although the pay is under 8 USD (6 GBP) an hour.")]


class Published(Record):
    """What ``publish --json`` prints."""

    platform: str
    posting: str
    """The platform's id."""
    places: int
    reward: Money
    fee: Money
    """The platform's, on each reward."""
    total: Money
    """Fees included."""
    cap: Money
    lock: str | None
    concerns: tuple[str, ...]
    """What didn't keep the study from being published, and deserves a thought."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(publish)


def publish(  # noqa: PLR0913, PLR0917 (one per option)
    folder: StudyFolder,
    on: On = "local",
    pages_url: PagesUrl = None,
    endpoint_url: EndpointUrl = None,
    sandbox: Sandbox = False,
    accept_low_pay: AcceptLowPay = False,
    no_reach: NoReach = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Freeze the study and post its tasks on a platform. Says what it costs and asks before it spends."""
    from crowd_imi.design.begun import current_plan
    from crowd_imi.errors import PublishError
    from crowd_imi.platforms.opening import Choice, choice_of, open_platform, require_books
    from crowd_imi.publisher.checks import concerns, posting_problems, require_ready
    from crowd_imi.publisher.launch import create_store, is_posted, launch, note_platform, offer_of
    from crowd_imi.publisher.reach import reach_problems
    from crowd_imi.store import Store, StoreKind
    from crowd_imi.store.engine import database_urls
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    plan = current_plan(study)
    require_ready(study, plan)
    store = Store.open(*database_urls(study.folder)) if study.database.exists() else None
    posted = store is not None and is_posted(store)
    choice = _choose(Choice() if store is None else choice_of(store), on, pages_url, endpoint_url, sandbox)
    _say_what_closed(output, choice)
    if store is not None:
        require_books(store, study.folder, choice_of(store))
    platform = open_platform(study, study.folder, choice)
    offer = offer_of(study, len(plan.tasks), platform)
    _say_cost(output, study, choice, offer)
    if not posted:
        problems = list(posting_problems(study, platform, choice, offer, accept_low_pay=accept_low_pay))
        if problems:
            raise PublishError("\n".join(problems))
    minded = tuple(concerns(study))
    for concern in minded:
        output.say(f"  mind: {concern}")
    if not yes and not posted:
        if as_json:
            raise PublishError("publishing spends money: say --yes together with --json")
        typer.confirm("Publish? The study is frozen from then on.", abort=True, err=True)
    store = store or create_store(study, plan, study.folder, StoreKind.STUDY)
    note_platform(store, choice, offer)  # so that the pages can be served before anybody is invited
    if choice.name != "local" and not (posted or no_reach):
        problems = list(reach_problems(study, plan, choice))
        if problems:
            raise PublishError("\n".join((*problems, "nothing is posted yet")))
    posting = launch(study, store, platform, choice)
    _say_what_next(output, study, choice, posting.platform_id or "")
    output.result(
        Published(
            platform=on,
            posting=posting.platform_id or "",
            places=posting.places,
            reward=offer.reward,
            fee=offer.fee,
            total=offer.total,
            cap=offer.cap,
            lock=str(study.folder / "study.lock"),
            concerns=minded,
        )
    )


def _choose(noted: "Choice", on: "PlatformName", pages_url: str | None, endpoint_url: str | None, sandbox: bool) -> "Choice":
    """What was asked for; the rest as it was noted by an earlier try on the same platform."""
    before = noted if noted.name == on else noted.model_copy(update={"name": on, "endpoint_url": None, "sandbox": False})
    return before.model_copy(
        update={
            "pages_url": pages_url or before.pages_url,
            "endpoint_url": None if on == "local" else endpoint_url or before.endpoint_url,
            "sandbox": sandbox or before.sandbox,
        }
    )


def _say_what_closed(output: Output, choice: "Choice") -> None:
    if choice.name != "mturk":
        return
    from crowd_imi.platforms.mturk import closed_notice

    notice = closed_notice(choice.endpoint_url, choice.sandbox)
    if notice is not None:
        output.say(notice)


def _say_cost(output: Output, study: "Study", choice: "Choice", offer: "Offer") -> None:
    from crowd_imi.publisher.pay import pay_per_hour

    each = f"({offer.reward} + {offer.fee} fee)" if offer.fee.amount else str(offer.reward)
    output.say(f"{study.file.study.title} on {choice.name}, pages at {choice.pages_url}")
    output.say(f"  {offer.places} places × {each} = {offer.total}; replacements up to {offer.cap} in all")
    output.say(f"  {pay_per_hour(study)} per hour at {study.file.pay.estimated_minutes:g} minutes a task")


def _say_what_next(output: Output, study: "Study", choice: "Choice", posting: str) -> None:
    from crowd_imi.platforms.link import OPEN_LINK_WARNING

    steps = [command("serve", study.folder)]
    if choice.name == "link" and study.file.link.open:
        output.say(f"mind: {OPEN_LINK_WARNING}")
        steps.insert(0, command("invitations", study.folder))
    elif choice.name == "link":
        steps.insert(0, command("invitations", study.folder, "people.csv", "--out", "links.csv"))
    output.say(f"posted as {posting}; next: {', '.join(steps)}, and beside it: {command('harvest', study.folder, '--watch')}")
