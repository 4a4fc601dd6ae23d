"""``plan``: lay out the tasks and mint the sprites."""

from typing import TYPE_CHECKING

import typer

from crowd_imi.cli.output import Json, Output, StudyFolder

if TYPE_CHECKING:
    from crowd_imi.design.summary import PlanSummary
    from crowd_imi.study import Study


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def plan(study: StudyFolder, json: Json = False) -> None:
        """Lay out the tasks and mint the sprites; says what they ask for in people, bytes and money."""
        from crowd_imi.design.plan import make_plan
        from crowd_imi.design.summary import summarise
        from crowd_imi.study import load_study

        output = Output(json)
        loaded = load_study(study)
        made = make_plan(loaded, output.track)
        summary = summarise(loaded, made)
        _show(output, loaded, summary)
        output.result(summary)


def _show(output: Output, study: "Study", summary: "PlanSummary") -> None:
    from rich.table import Table

    from crowd_imi.publisher.pay import duration, pay_per_hour
    from crowd_imi.scoring.power import of_arms

    table = Table("arm", "units", "null", "responses", "tasks", "95 % of a unit", box=None, pad_edge=False)
    for arm in summary.arms:
        counts = (arm.units, arm.null_units, arm.responses, arm.tasks)
        table.add_row(arm.arm, *map(str, counts), f"± {arm.half_width:.2f} at most")
    output.say(table)
    output.say(
        f"tasks:   {summary.tasks} of {summary.trials_per_task} main and {summary.catch_per_task} catch trials, "
        f"after {summary.practice_trials} practice trials"
    )
    output.say(
        f"sprites: {summary.sprites}, {summary.sprite_bytes / 1e6:.1f} MB; a visit loads {summary.bytes_per_visit / 1e6:.2f} MB"
    )
    where: dict[str, list[str]] = {}
    for platform, cost in summary.costs.items():
        where.setdefault(str(cost), []).append(platform)
    costs = ", ".join(f"{cost} on {' and '.join(platforms)}" for cost, platforms in where.items())
    output.say(f"pay:     {pay_per_hour(study)} per hour at {duration(study)}")
    output.say(f"cost:    {costs}; when nobody is replaced ({summary.reward} each, and the platform's fee)")
    for sentence in of_arms(study.file):
        output.say(f"expect:  {sentence}")
    room, there = summary.replacements_within_cap, _dearest(summary)
    if room is None:
        return
    if room >= 0:
        output.say(f"cap:     {summary.cap}, which leaves room for {room} replacements{there}")
    else:
        output.say(f"cap:     {summary.cap}, which is too low to pay every task once{there}; raise pay.cap")


def _dearest(summary: "PlanSummary") -> str:
    """Where the cap was looked at, if that makes a difference."""
    return f" on {summary.dearest}, where people cost most" if len(set(summary.costs.values())) > 1 else ""
