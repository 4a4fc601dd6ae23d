"""The tables that ``score``, ``predict`` and ``demo`` print: a row per group of units."""

from collections.abc import Iterable

from rich.table import Table

from crowd_imi.scoring import Group
from crowd_imi.scoring.imi_scores import TableGroup
from crowd_imi.scoring.machine import PredictedGroup
from crowd_imi.scoring.wording import interval, model_name, share, signed, signed_interval


def group_table(groups: Iterable[Group]) -> Table:
    """Units, submissions and mean proportion correct of each group."""
    title = "Mean of unit means [95 % bootstrap interval over units], chance is .5; all: nobody excluded"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("model", "references", "difficulty"):
        table.add_column(column, overflow="fold")
    for column in ("units", "valid", "excluded", "mean", "all"):
        table.add_column(column, justify="right", overflow="fold")
    for group in groups:
        table.add_row(*_cells(group))
    return table


def _cells(group: Group) -> tuple[str, ...]:
    return (
        model_name(group.model),
        group.condition,
        group.difficulty.replace("_", " "),
        str(group.units),
        str(group.valid),
        str(group.excluded),
        _estimated(group.mean, group.low, group.high),
        share(group.mean_all),
    )


def _estimated(value: float | None, low: float | None, high: float | None) -> str:
    return f"{share(value)} {interval(low, high)}".replace(" ", "\N{NO-BREAK SPACE}")


def table_of_file(groups: Iterable[TableGroup]) -> Table:
    """Units, responses and mean proportion correct of each group of a table in the published format."""
    title = "Mean of unit means [95 % bootstrap interval over units], chance is .5"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("model", "mode", "difficulty"):
        table.add_column(column, overflow="fold")
    for column in ("units", "responses", "participants", "mean"):
        table.add_column(column, justify="right", overflow="fold")
    for group in groups:
        counts = (group.units, group.responses, group.participants)
        mean = _estimated(group.mean, group.low, group.high)
        table.add_row(group.model, group.mode, (group.difficulty or "").replace("_", " "), *map(str, counts), mean)
    return table


def machine_table(groups: Iterable[PredictedGroup], similarity: str) -> Table:
    """What a similarity makes of each group's panels."""
    title = f"{similarity}: mean over units [95 % bootstrap interval over units]; chance: half of panels with Δ > 0, mean Δ 0"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))  # so 80 columns hold it
    for column in ("model", "references", "difficulty"):
        table.add_column(column, overflow="fold")
    for column in ("units", "Δ > 0", "mean Δ"):
        table.add_column(column, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(
            model_name(group.model),
            group.condition,
            group.difficulty.replace("_", " "),
            str(group.units),
            _estimated(group.share, group.share_low, group.share_high),
            f"{signed(group.delta)} {signed_interval(group.delta_low, group.delta_high)}".replace(" ", "\N{NO-BREAK SPACE}"),
        )
    return table


def crossed_table(groups: Iterable[Group | TableGroup]) -> Table | None:
    """What the crossed model says of each group; None where it wasn't fitted."""
    title = "Crossed model: probability of a right answer [95 %], and spreads in logits"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("model", "references", "difficulty"):
        table.add_column(column, overflow="fold")
    for column in ("probability", "units", "participants", "panels"):
        table.add_column(column, justify="right", overflow="fold")
    for group in groups:
        if group.crossed is not None:
            mode = group.condition if isinstance(group, Group) else group.mode
            spreads = (f"{spread:.2f}" for spread in (group.unit_sd, group.participant_sd, group.panel_sd))
            probability = _estimated(group.crossed, group.crossed_low, group.crossed_high)
            table.add_row(model_name(group.model), mode, (group.difficulty or "").replace("_", " "), probability, *spreads)
    return table if table.row_count else None
