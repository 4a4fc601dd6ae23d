"""The screen that ``crowd-imi status`` shows."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from crowd_imi.harvester import ArmStatus, Status

_PARTS = (("valid", "green"), ("submitted", "cyan"), ("under_way", "blue"), ("short", "red"), ("open", "bright_black"))
_BAR = 24


def screen(status: Status, rehearsal: str | None) -> RenderableType:
    """Everything in one screen: tasks by arm, people, money, and what needs a look."""
    parts: list[RenderableType] = [_head(status, rehearsal), Padding(_arms(status), (1, 0)), _facts(status)]
    looks = _looks(status)
    if looks:
        parts += [Text("\nNeeds a look", style="bold yellow"), *(Text(f"  • {look}") for look in looks)]
    return Group(*parts)


def _head(status: Status, rehearsal: str | None) -> Text:
    head = Text.assemble((status.study, "bold"), f" on {status.platform}")
    if rehearsal is not None:
        head.append(f", rehearsal {rehearsal}", style="magenta")
    if not status.posted:
        head.append("  not posted yet", style="yellow")
    elif status.complete:
        head.append("  complete", style="bold green")
    else:
        head.append("  under way", style="blue")
    return head


def _arms(status: Status) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("arm")
    table.add_column("tasks", justify="right")
    table.add_column("")
    for name, colour in _PARTS:
        table.add_column(Text(name.replace("_", " "), style=colour), justify="right")
    table.add_column(Text("excluded", style="yellow"), justify="right")
    for arm in status.arms:
        _row(table, arm)
    if len(status.arms) > 1:
        table.add_section()
        _row(table, _sum(status))
    return table


def _row(table: Table, arm: ArmStatus) -> None:
    counts = [_count(getattr(arm, name), colour) for name, colour in _PARTS]
    table.add_row(arm.arm, str(arm.tasks), _bar(arm), *counts, _count(arm.excluded, "yellow"))


def _count(number: int, colour: str) -> Text:
    return Text(str(number), style=colour) if number else Text("·", style="bright_black")


def _sum(status: Status) -> ArmStatus:
    names = [name for name in ArmStatus.model_fields if name != "arm"]
    return ArmStatus(arm="all", **{name: sum(getattr(arm, name) for arm in status.arms) for name in names})


def _bar(arm: ArmStatus) -> Text:
    """One character per share of the tasks; a part that isn't empty shows at least one."""
    bar = Text()
    for name, colour in _PARTS[:-1]:
        count = getattr(arm, name)
        width = max(1, _BAR * count // arm.tasks) if count else 0
        bar.append("━" * min(width, _BAR - len(bar)), style=colour)
    if arm.open == 0 and len(bar) < _BAR:
        bar.append("━" * (_BAR - len(bar)), style=bar.spans[-1].style if bar.spans else "bright_black")
    return bar.append("━" * (_BAR - len(bar)), style="bright_black")


def _facts(status: Status) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    table.add_row("places", f"{status.places} offered, {status.places_free} free")
    table.add_row("money", f"{status.spent} paid, {status.committed} with who is at it, cap {status.cap}")
    if status.left:
        table.add_row("left", ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in status.left.items()))
    if status.excluded_by:
        failed = (f"{count} {criterion.replace('_', ' ')}" for criterion, count in status.excluded_by.items())
        table.add_row("excluded by", ", ".join(failed))
    if status.surplus:
        table.add_row("surplus", f"{status.surplus} came after their task was done: paid, not counted")
    return table


def _looks(status: Status) -> list[str]:
    looks = [
        f"{d.visits} {'visits are' if d.visits > 1 else 'visit is'} {d.here.replace('_', ' ')} and {d.payment} here, "
        f"but {d.there.replace('_', ' ')} on {status.platform}"
        for d in status.differences
    ]
    if status.held.amount:
        looks.append(f"{status.held} is owed beyond the cap and waits for a higher pay.cap")
    if status.strays:
        looks.append(f"{status.strays} on {status.platform} took a place without coming in here (or were turned away)")
    return looks + list(status.remarks)
