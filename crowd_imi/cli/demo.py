"""``demo``: the chain on the embedded example."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crowd_imi.cli.output import Json, Output
from crowd_imi.errors import RehearsalError

if TYPE_CHECKING:
    from crowd_imi.rehearsal.demo.records import Demo


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where the demo's study goes.")] = Path("demo"),
        seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 1,
        json: Json = False,
    ) -> None:
        """Run the whole chain on real photographs, a small network and simulated participants."""
        from crowd_imi.rehearsal.demo.run import run_demo

        output = Output(json)
        tell(output, run_demo(folder, seed, output.say, output.track))


def tell(output: Output, done: "Demo") -> None:
    """Say what came out and where it lies.

    Raises:
        RehearsalError: a troublemaker didn't end as it should.
    """
    from crowd_imi.cli.group_table import group_table, machine_table
    from crowd_imi.rehearsal.demo.records import NOTE

    output.say(group_table(done.groups))
    output.say("")
    output.say(machine_table(done.predicted, "The demo's trained network in place of participants"))
    output.say("")
    output.say(NOTE)
    output.say(f"report:  {done.report}")
    output.say(f"gallery: {done.gallery}")
    output.say(f"tables:  {done.units_csv}, {done.models_csv}")
    output.say(f"{done.participants} simulated participants, {done.seconds:.0f} s in all")
    output.result(done)
    if done.mismatches:
        raise RehearsalError("\n".join(done.mismatches))
