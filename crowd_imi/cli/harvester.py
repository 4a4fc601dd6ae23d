"""``crowd-imi harvest`` and ``crowd-imi status``."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.cli.run_folder import Rehearsal

if TYPE_CHECKING:
    from crowd_imi.harvester import Harvest

Watch = Annotated[
    bool, typer.Option("--watch", help="Go on until every task has its valid response or is short, and nothing was refused.")
]
Every = Annotated[float, typer.Option(metavar="SECONDS", min=1, help="With --watch: how often.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(harvest)
    app.command()(status)


def harvest(
    folder: StudyFolder, watch: Watch = False, every: Every = 30.0, rehearsal: Rehearsal = None, as_json: Json = False
) -> None:
    """Collect what was submitted, check it, pay it, and offer again what doesn't count."""
    from crowd_imi import harvester
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.errors import PlatformError, command
    from crowd_imi.publisher.lock import hold_to_lock
    from crowd_imi.store.lab import require_lab_key
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    store, platform = open_run(study, rehearsal)
    require_lab_key(store)
    told: set[str] = set()
    while True:
        study = load_study(folder)  # the cap and the thresholds may be edited while this runs
        if rehearsal is None:
            hold_to_lock(study)
        try:
            done = harvester.harvest(study, store, platform)
        except PlatformError as error:
            if not watch:
                raise
            output.say(f"{time.strftime('%H:%M:%S')}  the platform failed, next try in {every:g} s: {error}")
        else:
            if not (watch and done.quiet and not done.refused and not done.complete):
                output.say(f"{time.strftime('%H:%M:%S')}  {_sentence(done)}")
            for refusal in done.refused:
                output.say(f"          refused: {refusal}")
            for visit in set(done.to_compensate) - told:
                again = command("pay", folder, "--visit", visit)
                output.say(f"          visit {visit} finished here and gave the place back there; pay it with: {again}")
            told.update(done.to_compensate)
            if not watch or (done.complete and not done.refused):
                output.result(done)
                return
        time.sleep(every)


def status(folder: StudyFolder, rehearsal: Rehearsal = None, as_json: Json = False) -> None:
    """Where everything stands, in one screen."""
    from crowd_imi import harvester
    from crowd_imi.cli.run_folder import open_run
    from crowd_imi.cli.status_screen import screen
    from crowd_imi.study import load_study

    output = Output(as_json)
    study = load_study(folder)
    now = harvester.status(study, *open_run(study, rehearsal))
    if not as_json:
        output.console.print(screen(now, rehearsal), soft_wrap=False)
    output.result(now)


def _sentence(done: "Harvest") -> str:
    counts = {
        "valid": done.valid,
        "excluded": done.excluded,
        "surplus": done.surplus,
        "paid": done.paid,
        "offered again": done.replaced,
        "returned": done.returned,
        "timed out": done.timed_out,
        "places taken back": done.released,
        "held by the cap": done.held,
    }
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    if done.paid:
        parts.append(f"{done.paid_money} spent")
    if done.short:
        parts.append(f"short: {', '.join(done.short)}")
    text = ", ".join(parts) or "nothing new"
    return f"{text} — complete" if done.complete else text
