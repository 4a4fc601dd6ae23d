"""``ledger``, ``pay`` and ``reject``: money by hand."""

from typing import TYPE_CHECKING, Annotated

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder, Yes
from crowd_imi.records import Money, Record

if TYPE_CHECKING:
    from crowd_imi.harvester.money import Entry, Ledger

Visit = Annotated[str, typer.Option(metavar="ID", help="The visit, as `crowd-imi export` names it.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="What the participant reads.")]


class Paid(Record):
    """What ``pay --json`` prints."""

    visit: str
    money: Money
    outcome: str


class Decided(Record):
    """What ``pay --arrived`` and ``reject`` print with ``--json``."""

    subject: str
    state: str


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(ledger)
    app.command()(pay)
    app.command()(reject)


def ledger(folder: StudyFolder, as_json: Json = False) -> None:
    """The books: what was paid and promised, next to what the platform says, with differences marked."""
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.harvester.money import ledger as read
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    books = read(study, *open_run(study, None))
    _show(output, books)
    output.result(books)


def pay(  # noqa: PLR0913, PLR0917 (one per option)
    folder: StudyFolder,
    visit: Annotated[str | None, typer.Option(metavar="ID", help="The visit, as `crowd-imi export` names it.")] = None,
    amount: Annotated[
        int | None, typer.Option(min=1, metavar="CENTS", help="In minor units; the reward where not given.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="What for: a visit gets one bonus of a name, however often it is run.")
    ] = "compensation",
    reason: Reason = "Thank you for taking part.",
    arrived: Annotated[str | None, typer.Option(metavar="INTENT", help="An open bonus arrived, as the platform shows.")] = None,
    not_arrived: Annotated[str | None, typer.Option(metavar="INTENT", help="An open bonus did not arrive.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Pay a bonus, or compensate somebody who couldn't hand in; never twice."""
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.errors import HarvestError
    from crowd_imi.harvester.money import Compensation
    from crowd_imi.harvester.money import pay as pay_once
    from crowd_imi.ledger import decide, lease
    from crowd_imi.publisher.lock import hold_to_lock
    from crowd_imi.study import load_study

    if sum(option is not None for option in (visit, arrived, not_arrived)) != 1:
        raise typer.BadParameter("give one of --visit, --arrived and --not-arrived")
    output = Output(as_json)
    study = load_study(folder)
    hold_to_lock(study)
    store, platform = open_run(study, None)
    if visit is None:
        with lease(store, "pay", study.file.pay.cap_money) as held:
            decided = decide(held, arrived or not_arrived or "", arrived=arrived is not None)
        output.say(f"{decided.operation} {decided.subject}: {decided.outcome}")
        output.result(Decided(subject=decided.subject, state=decided.state))
        return
    money = Money(amount=study.file.pay.reward if amount is None else amount, currency=study.file.pay.currency)
    if not yes:
        if as_json:
            raise HarvestError("this spends money: say --yes together with --json")
        typer.confirm(f"Pay {money} and the fee to visit {visit} on {platform.name}?", abort=True, err=True)
    outcome = pay_once(study, store, platform, Compensation(visit, money, name, reason))
    output.say(f"{money} to visit {visit}: {outcome}")
    output.result(Paid(visit=visit, money=money, outcome=outcome))


def reject(folder: StudyFolder, visit: Visit, reason: Reason, yes: Yes = False, as_json: Json = False) -> None:
    """Refuse one participant's reward. Who fails the criteria is excluded and paid; this is for fraud alone."""
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.errors import HarvestError
    from crowd_imi.harvester.money import reject as refuse
    from crowd_imi.publisher.lock import hold_to_lock
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    hold_to_lock(study)
    store, platform = open_run(study, None)
    if not yes:
        if as_json:
            raise HarvestError("a rejection harms a person: say --yes together with --json")
        typer.confirm(
            f"Reject visit {visit} on {platform.name}? It isn't paid, and counts against the person.", abort=True, err=True
        )
    refuse(study, store, platform, visit, reason)
    output.say(f"visit {visit} is rejected")
    output.result(Decided(subject=visit, state="rejected"))


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
