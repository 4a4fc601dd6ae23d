"""``ledger``, ``pay`` and ``reject``: money by hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder, Yes
from crowd_imi.records import Money, Record

if TYPE_CHECKING:
    from crowd_imi.harvester.both_books import Entry, Ledger
    from crowd_imi.platforms.base import Platform
    from crowd_imi.store import Store
    from crowd_imi.study import Study

Visit = Annotated[str | None, typer.Option(metavar="ID", help="The visit, as `crowd-imi export` names it.")]
Stray = Annotated[str | None, typer.Option(metavar="NAME", help="Somebody who handed in without a visit here; see `ledger`.")]
THANKS = "Thank you for taking part."
Reason = Annotated[str, typer.Option(metavar="TEXT", help="What the participant reads.")]


class Paid(Record):
    """What ``pay --json`` prints."""

    visit: str
    money: Money
    outcome: str


class ListPaid(Record):
    """What ``pay --from --json`` prints."""

    bonuses: int
    """Paid now."""
    paid_before: int
    money: Money
    fees: Money


class Decided(Record):
    """What ``pay --arrived`` and ``reject`` print with ``--json``."""

    subject: str
    state: str
    unfair: tuple[str, ...] = ()
    """What spoke against a rejection."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(ledger)
    app.command()(pay)
    app.command()(reject)


def ledger(folder: StudyFolder, as_json: Json = False) -> None:
    """The books: what was paid and promised, next to what the platform says, with differences marked."""
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.harvester.both_books import ledger as read
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    books = read(study, *open_run(study, None))
    _show(output, books)
    output.result(books)


def pay(  # noqa: PLR0913, PLR0917 (one per option)
    folder: StudyFolder,
    visit: Visit = None,
    from_list: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="CSV", help="A list of bonuses, with the columns visit (or submission), amount (1.50) and reason."
        ),
    ] = None,
    stray: Stray = None,
    amount: Annotated[
        int | None, typer.Option(min=1, metavar="CENTS", help="In minor units; the reward where not given.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What for: a visit gets one bonus of a name, however often it is run; compensation where not given."),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help=f"What the participant reads; “{THANKS}” where not given.")
    ] = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="The reward of a --visit that was handed in there without being finished here.")
    ] = False,
    arrived: Annotated[str | None, typer.Option(metavar="INTENT", help="An open bonus arrived, as the platform shows.")] = None,
    not_arrived: Annotated[str | None, typer.Option(metavar="INTENT", help="An open bonus did not arrive.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Pay a bonus or a list of them, or compensate somebody who couldn't hand in; never twice.

    With --visit: one bonus, or with --approve the reward of somebody who handed in without finishing here. With --from: all
    bonuses of a list, each line once, however often the list is given. With --stray: the reward of somebody who handed in on
    the platform without a visit here. With --arrived or --not-arrived: what became of an open bonus, and of all that were sent
    with it.
    """
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.ledger import decide, lease
    from crowd_imi.publisher.lock import hold_to_lock
    from crowd_imi.store.money import COMPENSATION
    from crowd_imi.study import load_study

    if sum(option is not None for option in (visit, from_list, stray, arrived, not_arrived)) != 1:
        raise typer.BadParameter("give one of --visit, --from, --stray, --arrived and --not-arrived")
    if approve and (visit is None or any(option is not None for option in (amount, name, reason))):
        raise typer.BadParameter("--approve goes with --visit alone: it pays the reward")
    if visit is None and any(option is not None for option in (amount, name, reason)):
        raise typer.BadParameter("--amount, --name and --reason go with --visit: a list has them in its lines, the rest has none")
    output = Output(as_json)
    study = load_study(folder)
    hold_to_lock(study)
    store, platform = open_run(study, None)
    if from_list is not None:
        _pay_list(output, study, store, platform, from_list, yes)
    elif stray is not None:
        _pay_stray(output, study, store, platform, stray, yes)
    elif visit is not None and approve:
        _approve(output, study, store, platform, visit, yes)
    elif visit is not None:
        money = Money(amount=study.file.pay.reward if amount is None else amount, currency=study.file.pay.currency)
        _pay_visit(output, study, store, platform, yes, visit, money, name or COMPENSATION, reason or THANKS)
    else:
        with lease(store, "pay", study.file.pay.cap_money) as held:
            decided = decide(held, arrived or not_arrived or "", arrived=arrived is not None)
        output.say(f"{decided.operation} {decided.subject}: {decided.outcome}")
        output.result(Decided(subject=decided.subject, state=decided.state))


def _pay_visit(  # noqa: PLR0913, PLR0917 (who, and what)
    output: Output,
    study: "Study",
    store: "Store",
    platform: "Platform",
    yes: bool,
    visit: str,
    money: Money,
    name: str,
    reason: str,
) -> None:
    from crowd_imi.harvester.money import Compensation
    from crowd_imi.harvester.money import pay as pay_once

    _ask(output, yes, f"Pay {money} and the fee to visit {visit} on {platform.name}?")
    outcome = pay_once(study, store, platform, Compensation(visit, money, name, reason))
    output.say(f"{money} to visit {visit}: {outcome}")
    output.result(Paid(visit=visit, money=money, outcome=outcome))


def _approve(  # noqa: PLR0913, PLR0917 (whose, and what)
    output: Output, study: "Study", store: "Store", platform: "Platform", visit: str, yes: bool
) -> None:
    from crowd_imi.harvester.money import pay_reward

    money = study.file.pay.reward_money
    _ask(output, yes, f"Pay the reward of {money} and the fee to visit {visit}, which wasn't finished here, on {platform.name}?")
    outcome = pay_reward(study, store, platform, visit)
    output.say(f"{money} to visit {visit}: {outcome}")
    output.result(Paid(visit=visit, money=money, outcome=outcome))


def _pay_list(  # noqa: PLR0913, PLR0917 (whose, and what)
    output: Output, study: "Study", store: "Store", platform: "Platform", path: Path, yes: bool
) -> None:
    from crowd_imi.harvester.bonus_list import counted, pay_out, plan_payout

    payout = plan_payout(study, store, platform, path)
    before = f" ({payout.paid_before} more of the list are paid already)" if payout.paid_before else ""
    if payout.bonuses:
        total = Money(amount=payout.money.amount + payout.fees.amount, currency=payout.money.currency)
        output.say(f"{counted(len(payout.bonuses))}: {payout.money} and fees of {payout.fees}, together {total}{before}")
        _ask(output, yes, f"Pay on {platform.name}?")
        pay_out(study, store, platform, payout, output.track)
        output.say(f"paid {counted(len(payout.bonuses))}")
    else:
        output.say(f"{path}: paid already ({counted(payout.paid_before)})")
    output.result(ListPaid(bonuses=len(payout.bonuses), paid_before=payout.paid_before, money=payout.money, fees=payout.fees))


def _pay_stray(  # noqa: PLR0913, PLR0917 (whose, and what)
    output: Output, study: "Study", store: "Store", platform: "Platform", stray: str, yes: bool
) -> None:
    from crowd_imi.harvester.strays import pay_stray

    money = study.file.pay.reward_money
    _ask(output, yes, f"Pay the reward of {money} and the fee to {stray}, who has no visit here, on {platform.name}?")
    outcome = pay_stray(study, store, platform, stray)
    output.say(f"{money} to {stray}: {outcome}")
    output.result(Paid(visit=stray, money=money, outcome=outcome))


def reject(  # noqa: PLR0913, PLR0917 (one per option)
    folder: StudyFolder,
    reason: Reason,
    visit: Visit = None,
    stray: Stray = None,
    category: Annotated[str | None, typer.Option(metavar="WORD", help="Prolific's, as TOO_QUICKLY or BAD_CODE.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Refuse one participant's reward. Who fails the criteria is excluded and paid; this is for fraud alone.

    It says what makes the rejection unfair, as far as that can be told, before it asks.
    """
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.harvester.rejections import reject as refuse
    from crowd_imi.harvester.rejections import unfairness
    from crowd_imi.harvester.strays import reject_stray
    from crowd_imi.publisher.lock import hold_to_lock
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    hold_to_lock(study)
    store, platform = open_run(study, None)
    whom = visit or stray
    if whom is None or (visit and stray):
        raise typer.BadParameter("give one of --visit and --stray")
    unfair = () if visit is None else unfairness(store, visit)
    for sentence in unfair:
        output.say(f"unfair: {sentence}")
    question = f"Reject {whom} on {platform.name}? It isn't paid, and counts against the person."
    _ask(output, yes, question, "a rejection harms a person")
    if visit is not None:
        refuse(study, store, platform, visit, reason, category)
    else:
        reject_stray(study, store, platform, whom, reason, category)
    output.say(f"{'visit ' if visit else ''}{whom} is rejected")
    output.result(Decided(subject=whom, state="rejected", unfair=unfair))


def _ask(output: Output, yes: bool, question: str, why: str = "this spends money") -> None:
    from crowd_imi.errors import HarvestError

    if yes:
        return
    if output.as_json:
        raise HarvestError(f"{why}: say --yes together with --json")
    typer.confirm(question, abort=True, err=True)


def _show(output: Output, books: "Ledger") -> None:
    from rich.table import Table

    table = Table("", "what", "for", "amount", "here", "there", box=None, pad_edge=False)
    for entry in books.entries:
        table.add_row(
            "≠" if entry.differs else "", entry.operation, entry.subject, str(entry.amount), _here(entry), entry.there or ""
        )
    if books.entries:
        output.say(table)
    output.say(f"spent {books.spent}, not known {books.unknown}, held {books.held}, cap {books.cap}")
    if books.balance is not None:
        output.say(f"balance on {books.platform}: {books.balance}")
    output.say(f"{books.differences} differences to {books.platform}" if books.differences else f"the same on {books.platform}")


def _here(entry: "Entry") -> str:
    return f"{entry.state} ({entry.outcome})" if entry.state != "done" and entry.outcome else entry.state
