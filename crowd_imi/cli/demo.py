"""``demo``: the chain on the embedded example."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from crowd_imi.cli.output import Json, Output
from crowd_imi.errors import RehearsalError

if TYPE_CHECKING:
    from crowd_imi.rehearsal.demo.run import Demo, DemoGroup


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where the demo's study goes.")] = Path("demo"),
        seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 1,
        json: Json = False,
    ) -> None:
        """Run the whole chain on real photographs, a small network and simulated participants."""
        from crowd_imi.rehearsal.demo.run import NOTE, run_demo

        output = Output(json)
        done = run_demo(folder, seed, output.say, output.track)
        if not json:
            output.console.print(_table(done))
        output.say(NOTE)
        output.say(f"report:  {done.report}")
        output.say(f"gallery: {done.gallery}")
        output.say(f"tables:  {done.units_csv}, {done.models_csv}")
        output.say(f"{done.participants} simulated participants, {done.seconds:.0f} s in all")
        output.result(done)
        if done.mismatches:
            raise RehearsalError("\n".join(done.mismatches))


def _table(done: "Demo") -> Table:
    table = Table(title="Proportion correct: mean of unit means, 95 % bootstrap interval over units")
    for heading in ("units of", "references", "queries"):
        table.add_column(heading)
    for heading in ("units", "valid", "excluded", "mean", "95 % interval"):
        table.add_column(heading, justify="right")
    for group in done.groups:
        table.add_row(
            group.model,
            group.condition,
            group.difficulty.replace("_", " "),
            str(group.units),
            str(group.valid),
            str(group.excluded),
            *_figures(group),
        )
    return table


def _figures(group: "DemoGroup") -> tuple[str, str]:
    mean = "–" if group.mean is None else f"{group.mean:.3f}"
    interval = "–" if group.low is None or group.high is None else f"{group.low:.3f} to {group.high:.3f}"
    return mean, interval
