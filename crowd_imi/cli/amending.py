"""``extend`` and ``void``: a published study gets more tasks, or others in the place of bad ones."""

from typing import TYPE_CHECKING, Annotated

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder, Yes
from crowd_imi.records import Money, Record

if TYPE_CHECKING:
    from pathlib import Path

    from crowd_imi.plan import Amendment
    from crowd_imi.platforms.base import Platform
    from crowd_imi.publisher.launch import Offer
    from crowd_imi.store import Store
    from crowd_imi.store.tables import Posting
    from crowd_imi.study import Study

Responses = Annotated[
    int, typer.Option(min=1, metavar="N", help="Valid responses per unit in all; saying the same number again changes nothing.")
]
Arms = Annotated[list[str] | None, typer.Option("--arm", metavar="ARM", help="Only this arm; may be repeated.")]
Units = Annotated[
    list[str] | None,
    typer.Option("--unit", metavar="UNIT", help="Make this unit's panels anew (model/layer/channel); may be repeated."),
]
TheTask = Annotated[str | None, typer.Option("--task", metavar="TASK", help="Lay this task out anew (arm/number).")]
Veto = Annotated[
    list[str] | None,
    typer.Option(metavar="SHA256", help="Veto this image first: the new panels don't show it; at least 8 characters."),
]
Reason = Annotated[str, typer.Option(help="Why: stands in study.lock, the preregistration and the report.")]
AcceptLowPay = Annotated[bool, typer.Option("--accept-low-pay", help="Although the pay is under 8 USD (6 GBP) an hour.")]


class Amended(Record):
    """What ``extend`` and ``void`` print with ``--json``."""

    study: str
    amendment: str | None
    """Its name in study.lock; None where there was nothing to do."""
    tasks: int
    """That were added."""
    replaced: tuple[str, ...]
    """Tasks whose place others took, as ``arm/number``."""
    places: int
    """Offered on the platform in all."""
    cost: Money
    """At most, fees included."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(extend)
    app.command()(void)


def extend(  # noqa: PLR0913, PLR0917 (one per option)
    folder: StudyFolder,
    responses: Responses,
    arms: Arms = None,
    accept_low_pay: AcceptLowPay = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Ask for more valid responses per unit, under the same lock. Says what it costs and asks before it spends."""
    from crowd_imi.publisher.amending import extension

    output = Output(as_json)
    study, store, platform = _open(folder)
    amendment = extension(study, store, platform, responses, arms or [])
    _carry_out(output, (study, store, platform), amendment, f"units have {responses} responses in the plan", yes, accept_low_pay)


def void(  # noqa: PLR0913, PLR0917 (one per option)
    folder: StudyFolder,
    units: Units = None,
    task: TheTask = None,
    veto: Veto = None,
    reason: Reason = "",
    accept_low_pay: AcceptLowPay = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Set answers to a bad panel, or to a bad task, aside, and put others in its place.

    Answers so far are paid, kept and left out of the analysis; whole tasks are replaced. Who is at one goes on with it.
    """
    from crowd_imi.publisher.amending import voiding

    if bool(units) == (task is not None):
        raise typer.BadParameter("give --unit or --task")
    if veto and not units:
        raise typer.BadParameter("--veto goes with --unit: name the units whose panels show the image")
    output = Output(as_json)
    study, store, platform = _open(folder)
    amendment = voiding(study, store, platform, units=units or (), task=task, reason=reason)
    if veto:
        _veto(study, veto, units or [], reason)
    _carry_out(output, (study, store, platform), amendment, "nothing shows it any more", yes, accept_low_pay)


def _open(folder: "Path") -> "tuple[Study, Store, Platform]":
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.errors import PublishError, command
    from crowd_imi.publisher.amending import finish
    from crowd_imi.publisher.lock import hold_to_lock
    from crowd_imi.study import load_study

    study = load_study(folder)
    if not study.database.exists():
        raise PublishError(
            f"{study.folder}: the study isn't published yet; edit study.toml, or run `{command('publish', folder)}`"
        )
    hold_to_lock(study)
    store, platform = open_run(study, None)
    finish(study, store, platform)
    return study, store, platform


def _veto(study: "Study", images: list[str], units: list[str], reason: str) -> None:
    """Veto images, and make sure that nothing but what is made anew shows them."""
    from crowd_imi.errors import PublishError
    from crowd_imi.pack import Pack
    from crowd_imi.publisher.checks import panels_made_anew
    from crowd_imi.vetoes import change_vetoes

    vetoes = change_vetoes(study, images=images, reason=reason, voiding=True)
    manifest = Pack(study.pack).shown(panels_made_anew(study))
    vetoed = vetoes.images_shown(manifest)
    others = sorted({entry.unit.key for arm in manifest.arms for entry in arm.units if entry.images & vetoed} - set(units))
    if others:
        raise PublishError(f"what was vetoed is also shown for {', '.join(others)}; name them too, with --unit")


def _carry_out(  # noqa: PLR0913, PLR0917 (what, where, and what was said)
    output: Output,
    run: "tuple[Study, Store, Platform]",
    amendment: "Amendment | None",
    already: str,
    yes: bool,
    accept_low_pay: bool,
) -> None:
    from crowd_imi.cli.hosting import host_sprites_of
    from crowd_imi.design.amended import prepare
    from crowd_imi.errors import PublishError
    from crowd_imi.platforms.opening import choice_of
    from crowd_imi.publisher.amending import carry_out, finish, offer_for
    from crowd_imi.publisher.checks import money_problems
    from crowd_imi.store.tasks import amendments

    study, store, platform = run
    if amendment is None:
        output.say(f"{already} already")
        output.result(_amended(study, None, finish(study, store, platform), Money(amount=0, currency=study.file.pay.currency)))
        return
    offer = offer_for(study, store, platform, amendment)
    _say(output, study, amendment, offer)
    if offer.places:
        problems = list(money_problems(study, platform, choice_of(store), offer, accept_low_pay=accept_low_pay))
        if problems:
            raise PublishError("\n".join(problems))
    if not yes:
        if output.as_json:
            raise PublishError("this is for good: say --yes together with --json")
        typer.confirm("Do it? It is written to study.lock, and reports say so.", abort=True, err=True)
    if amendment.units:
        from crowd_imi.factory.anew import make_anew

        amendment = make_anew(study, amendment, output.track)
    with store.read() as session:
        earlier = amendments(session)
    amendment, tasks = prepare(study, earlier, amendment, output.track)
    host_sprites_of(output, study, tasks)
    posting = carry_out(study, store, platform, amendment, tasks, offer)
    output.say(f"{amendment}\n{posting.places} places are offered now; `crowd-imi harvest` goes on as before")
    output.result(_amended(study, amendment, posting, offer.total))


def _say(output: Output, study: "Study", amendment: "Amendment", offer: "Offer") -> None:
    from crowd_imi.publisher.pay import duration, pay_per_hour

    count = sum(amendment.tasks.values())
    output.say(f"{amendment.name}: {count} tasks more, {len(amendment.replaced)} of them in the place of others")
    bonuses = f" (and up to {offer.bonuses} in bonuses)" if offer.bonuses.amount else ""
    output.say(f"  {offer.places} places × {offer.reward} (+ {offer.fee} fee) = {offer.total}{bonuses}; the cap is {offer.cap}")
    output.say(f"  {pay_per_hour(study)} per hour at {duration(study)}")


def _amended(study: "Study", amendment: "Amendment | None", posting: "Posting", cost: Money) -> Amended:
    replaced = () if amendment is None else amendment.replaced
    return Amended(
        study=study.file.study.name,
        amendment=None if amendment is None else amendment.name,
        tasks=0 if amendment is None else sum(amendment.tasks.values()),
        replaced=tuple(f"{one.arm}/{one.number}" for one in replaced),
        places=posting.places,
        cost=cost,
    )
