"""``crowd-imi publish``."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder, Yes
from crowd_imi.errors import command
from crowd_imi.files import LOCK
from crowd_imi.records import Money, Record

if TYPE_CHECKING:
    from pathlib import Path

    from crowd_imi.plan import Plan
    from crowd_imi.platforms.base import Platform
    from crowd_imi.platforms.opening import Choice, PlatformName
    from crowd_imi.publisher.launch import Offer
    from crowd_imi.store import Store
    from crowd_imi.store.tables import Posting
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
Pilot = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Post N places of a pilot before the study: its answers are in no analysis."),
]
AcceptLowPay = Annotated[bool, typer.Option("--accept-low-pay", help="Publish although the pay is under 8 USD (6 GBP) an hour.")]


class Published(Record):
    """What ``publish --json`` prints."""

    platform: str
    label: str
    """main, or pilot."""
    posting: str
    """The platform's id."""
    places: int
    reward: Money
    fee: Money
    """The platform's, on each reward."""
    total: Money
    """Fees included."""
    cap: Money
    pay_per_hour: Money
    minutes: float
    """That a task takes: what the pilot took, else what study.toml expects."""
    minutes_of_pilot: int
    """Participants of the pilot whose median this is; 0 where it is what study.toml expects."""
    lock: str | None
    concerns: tuple[str, ...]
    """What didn't keep the study from being published, and deserves a thought."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(publish)


def publish(  # noqa: PLR0913, PLR0917 (one per option)
    folder: StudyFolder,
    on: On = "local",
    pilot: Pilot = None,
    pages_url: PagesUrl = None,
    endpoint_url: EndpointUrl = None,
    sandbox: Sandbox = False,
    accept_low_pay: AcceptLowPay = False,
    no_reach: NoReach = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Freeze the study and post its tasks on a platform. Says what it costs and asks before it spends."""
    from crowd_imi.publisher.launch import launch

    output = Output(as_json)
    looked = _look(output, folder, Wish(on, pilot, pages_url, endpoint_url, sandbox, accept_low_pay))
    if not looked.posted:
        _ask(output, pilot, yes)
    store = _prepare(output, looked, no_reach=no_reach)
    posting = launch(looked.study, store, looked.platform, looked.choice, looked.label)
    output.say(f"what people do is kept in {store.url}")
    asked = _asks_the_pages(looked, no_reach=no_reach)
    _say_what_next(output, looked, posting.platform_id or "", served=asked)
    output.result(_published(looked, posting))


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    on: "PlatformName"
    pilot: int | None
    pages_url: str | None
    endpoint_url: str | None
    sandbox: bool
    accept_low_pay: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found before anything is written."""

    study: "Study"
    plan: "Plan"
    store: "Store | None"
    label: str
    pilot: int | None
    choice: "Choice"
    platform: "Platform"
    offer: "Offer"
    posted: bool
    concerns: tuple[str, ...]


def _look(output: Output, folder: "Path", wish: Wish) -> Looked:
    """Check everything, say what it costs, and refuse what can't be posted; nothing is written yet."""
    from crowd_imi.design.begun import current_plan
    from crowd_imi.errors import PublishError
    from crowd_imi.platforms.opening import Choice, choice_of, open_platform, require_books
    from crowd_imi.publisher.checks import concerns, posting_problems, require_ready
    from crowd_imi.publisher.launch import is_posted, offer_of, promised
    from crowd_imi.store import Store
    from crowd_imi.store.engine import database_urls
    from crowd_imi.store.server import require_where_it_began
    from crowd_imi.study import load_study

    study = load_study(folder)
    require_where_it_began(study.folder)
    plan = current_plan(study)
    require_ready(study, plan)
    store = Store.open(*database_urls(study.folder)) if study.database.exists() else None
    label, places = _wanted(study, len(plan.tasks), store, wish.pilot)
    posted = store is not None and is_posted(store, label)
    choice = _choose(Choice() if store is None else choice_of(store), wish)
    _say_what_closed(output, choice)
    if store is not None:
        require_books(store, study.folder, choice_of(store))
    platform = open_platform(_without_the_pilots(study, store), study.folder, choice)
    already = 0 if posted or store is None else promised(study, store, platform)
    offer = offer_of(study, places, platform, promised=already)
    _say_cost(output, study, choice, offer, wish.pilot)
    if not posted:
        problems = list(posting_problems(study, platform, choice, offer, accept_low_pay=wish.accept_low_pay))
        if problems:
            raise PublishError("\n".join(problems))
    minded = tuple(concerns(study))
    for concern in minded:
        output.say(f"  mind: {concern}")
    return Looked(study, plan, store, label, wish.pilot, choice, platform, offer, posted, minded)


def _wanted(study: "Study", tasks: int, store: "Store | None", pilot: int | None) -> tuple[str, int]:
    """Which posting is meant, and its places."""
    from crowd_imi.design.amended import pilot_tasks
    from crowd_imi.errors import PublishError
    from crowd_imi.publisher.launch import is_posted, pilot_of

    if pilot is None:
        return "main", tasks
    pilot_tasks(study.file, pilot)
    before = () if store is None else pilot_of(store)
    if before and len(before) != pilot:
        raise PublishError(f"this study's pilot has {len(before)} places; say --pilot {len(before)}, or publish the study itself")
    if store is not None and is_posted(store) and not is_posted(store, "pilot"):  # a pilot that was only begun comes too late
        raise PublishError("the study itself is published already, and a pilot comes before it")
    return "pilot", pilot


def _without_the_pilots(study: "Study", store: "Store | None") -> "Study":
    """The study as Prolific is told of it: who was in the pilot isn't shown the study at all."""
    from crowd_imi.store.postings import PILOT, postings

    if store is None:
        return study
    with store.read() as session:
        pilots = tuple(posting.platform_id for posting in postings(session, PILOT) if posting.platform_id is not None)
    section = study.file.prolific.model_copy(update={"not_in_studies": (*study.file.prolific.not_in_studies, *pilots)})
    return replace(study, file=study.file.model_copy(update={"prolific": section}))


def _ask(output: Output, pilot: int | None, yes: bool) -> None:
    from crowd_imi.errors import PublishError

    if yes:
        return
    if output.as_json:
        raise PublishError("publishing spends money: say --yes together with --json")
    what = "Publish?" if pilot is None else f"Publish a pilot of {pilot}?"
    typer.confirm(f"{what} The study is frozen from then on.", abort=True, err=True)


def _prepare(output: Output, looked: Looked, *, no_reach: bool) -> "Store":
    """The store with its tasks, and pages that answer; nothing is posted yet."""
    from crowd_imi.errors import PublishError
    from crowd_imi.publisher.launch import create_store, note_platform
    from crowd_imi.publisher.reach import reach_problems
    from crowd_imi.store import StoreKind

    study, choice = looked.study, looked.choice
    store = looked.store or create_store(study, looked.plan, study.folder, StoreKind.STUDY)
    if looked.pilot is not None:
        _lay_out_pilot(output, study, store, looked.pilot)
    note_platform(store, choice, looked.offer, looked.label)  # so that the pages can be served before anybody is invited
    if _asks_the_pages(looked, no_reach=no_reach):
        problems = list(reach_problems(study, looked.plan, choice))
        if problems:
            raise PublishError("\n".join((*problems, "nothing is posted yet")))
    return store


def _asks_the_pages(looked: Looked, *, no_reach: bool) -> bool:
    """Whether it is seen to that the pages run, before anybody is invited."""
    return looked.choice.name != "local" and not (looked.posted or no_reach)


def _lay_out_pilot(output: Output, study: "Study", store: "Store", pilot: int) -> None:
    from datetime import UTC, datetime

    from crowd_imi.cli.hosting import host_sprites_of
    from crowd_imi.design.amended import pilot_tasks, prepare
    from crowd_imi.plan import Amendment
    from crowd_imi.publisher.launch import add_pilot, pilot_of

    if pilot_of(store):
        return
    at = datetime.fromtimestamp(store.now() / 1000, UTC)
    wanted = Amendment(name="pilot", kind="pilot", at=at, tasks=pilot_tasks(study.file, pilot))
    amendment, tasks = prepare(study, (), wanted, output.track)
    host_sprites_of(output, study, tasks)
    add_pilot(store, amendment, tasks, study.file.study.seed)


def _published(looked: Looked, posting: "Posting") -> Published:
    from crowd_imi.publisher.pay import duration, pay_per_hour

    offer, taken = looked.offer, duration(looked.study)
    return Published(
        platform=looked.choice.name,
        label=looked.label,
        posting=posting.platform_id or "",
        places=posting.places,
        reward=offer.reward,
        fee=offer.fee,
        total=offer.total,
        cap=offer.cap,
        pay_per_hour=pay_per_hour(looked.study),
        minutes=taken.minutes,
        minutes_of_pilot=taken.pilot,
        lock=str(looked.study.folder / LOCK),
        concerns=looked.concerns,
    )


def _choose(noted: "Choice", wish: Wish) -> "Choice":
    """What was asked for; the rest as it was noted by an earlier try on the same platform."""
    on = wish.on
    before = noted if noted.name == on else type(noted)(name=on)
    return before.model_copy(
        update={
            "pages_url": wish.pages_url or before.pages_url,
            "endpoint_url": None if on == "local" else wish.endpoint_url or before.endpoint_url,
            "sandbox": wish.sandbox or before.sandbox,
        }
    )


def _say_what_closed(output: Output, choice: "Choice") -> None:
    if choice.name != "mturk":
        return
    from crowd_imi.platforms.mturk import closed_notice

    notice = closed_notice(choice.endpoint_url, choice.sandbox)
    if notice is not None:
        output.say(notice)


def _say_cost(output: Output, study: "Study", choice: "Choice", offer: "Offer", pilot: int | None) -> None:
    from crowd_imi.publisher.pay import duration, pay_per_hour

    each = f"({offer.reward} + {offer.fee} fee)" if offer.fee.amount else str(offer.reward)
    what = study.file.study.title if pilot is None else f"A pilot of {pilot}: {study.file.study.title}"
    output.say(f"{what} on {choice.name}, pages at {choice.pages_url}")
    bonuses = f" (and up to {offer.bonuses} in bonuses)" if offer.bonuses.amount else ""
    others = f"replacements up to {offer.cap} in all" if pilot is None else "only who leaves is replaced"
    output.say(f"  {offer.places} places × {each} = {offer.total}{bonuses}; {others}")
    output.say(f"  {pay_per_hour(study)} per hour at {duration(study)}")


def _say_what_next(output: Output, looked: Looked, posting: str, *, served: bool) -> None:
    """Which commands come next; pages that were asked just now run already."""
    from crowd_imi.platforms.link import OPEN_LINK_WARNING

    study, choice = looked.study, looked.choice
    steps = [] if served else [command("serve", study.folder)]
    if choice.name == "link" and study.file.link.open:
        output.say(f"mind: {OPEN_LINK_WARNING}")
        steps.insert(0, command("invitations", study.folder))
    elif choice.name == "link":
        steps.insert(0, command("invitations", study.folder, "people.csv", "--out", "links.csv"))
    pilot = looked.pilot is not None
    what = f"the pilot of {looked.pilot} is posted as {posting}" if pilot else f"posted as {posting}"
    harvest = command("harvest", study.folder, "--watch")
    then = f"{', '.join(steps)}, and beside it: {harvest}" if steps else harvest
    output.say(f"{what}; next: {then}{' (leave the pages running)' if served else ''}")
    if pilot:
        output.say(
            f"Its answers are in no analysis: {command('status', study.folder)} shows how it went. After it, "
            f"{command('publish', study.folder, '--on', choice.name)} posts the study itself."
        )
