"""``rehearse``: the whole study with simulated participants, before anybody is paid."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder
from crowd_imi.errors import RehearsalError
from crowd_imi.rehearsal.records import LeakName

if TYPE_CHECKING:
    from crowd_imi.rehearsal.records import Rehearsal

FOUND = 0.001
"""Cheaters' p value below which something leaks."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def rehearse(  # noqa: PLR0913, PLR0917 (one option each)
        study: StudyFolder,
        name: Annotated[str, typer.Option(help="Of the folder below rehearsals/; an earlier one is replaced.")] = "rehearsal",
        on: Annotated[
            Literal["local", "link", "prolific", "mturk"],
            typer.Option(help="The platform; Prolific and MTurk by their stand-ins."),
        ] = "local",
        seed: Annotated[int, typer.Option(min=0, help="Of the participants; the same seed gives the same answers.")] = 1,
        participants: Annotated[
            int | None,
            typer.Option(min=1, help="At most so many; unless given, three per task and one per troublemaker and cheater."),
        ] = None,
        cheaters: Annotated[
            int | None,
            typer.Option(
                min=0, help="How many try to do without the pictures; 2 unless given. Not with --leak.", show_default=False
            ),
        ] = None,
        leak: Annotated[LeakName | None, typer.Option(help="Plant a leak; everybody cheats and must find it.")] = None,
        json: Json = False,
    ) -> None:
        """Run the whole study with simulated participants who take part through the real pages."""
        from crowd_imi.rehearsal import run
        from crowd_imi.rehearsal.records import Cast
        from crowd_imi.study import load_study

        output = Output(json)
        if leak is not None and cheaters is not None:
            raise RehearsalError(
                f"--cheaters {cheaters}: with --leak everybody cheats; leave it out, and give their number as --participants"
            )
        if leak is not None:
            cast = Cast(troublemakers=(), at_most=participants, only_cheaters=True)
        else:
            cast = Cast(at_most=participants) if cheaters is None else Cast(cheaters=cheaters, at_most=participants)
        done = run.rehearse(load_study(study), name, on=on, participants=cast, seed=seed, leak=leak, track=output.track)
        for line in _summary(done):
            output.say(line)
        output.result(done)
        _judge(done)


def _summary(done: "Rehearsal") -> list[str]:
    states = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in done.by_state.items())
    lines = [
        f"{done.participants} participants, {done.visits} visits: {states}",
        f"{done.acknowledged} answers acknowledged, {done.lost} lost; {done.requests} requests in {done.seconds:.0f} s "
        f"({done.simulated_hours:.1f} simulated hours); ended: {done.ended.replace('_', ' ')}",
    ]
    if done.cheaters is not None:
        worst = done.cheaters.worst
        lines.append(
            f"cheaters were right in {worst.right} of {worst.bets} bets on {worst.channel}, the channel that told most; "
            f"p = {done.cheaters.p_value:.3g} over all channels"
        )
    return lines


def _judge(done: "Rehearsal") -> None:
    """Fail when somebody didn't end as expected, or when cheaters found what wasn't planted (or not what was)."""
    if done.mismatches:
        raise RehearsalError("\n".join(done.mismatches))
    if done.cheaters is not None:
        found = done.cheaters.p_value < FOUND
        if found and done.leak is None:
            raise RehearsalError(
                f"something other than the pictures gives answers away ({done.cheaters.worst.channel}, "
                f"p = {done.cheaters.p_value:.2g}): don't publish before it is found"
            )
        if done.leak is not None and not found:
            raise RehearsalError(
                f"the leak in {done.leak} wasn't found (p = {done.cheaters.p_value:.2g}); more trials may be needed"
            )
