"""The screen that ``crowd-imi status`` shows."""

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from crowd_imi.harvester import ArmAttrition, ArmStatus, ClosingRemarks, Difference, Status, Surplus
from crowd_imi.harvester.approvals import WITHOUT_FINISHING
from crowd_imi.harvester.context import COMING_BACK, KNOWN
from crowd_imi.harvester.progress import PAY_TOP_UP
from crowd_imi.lifecycle import Payment
from crowd_imi.platforms.base import PostingState
from crowd_imi.store.postings import MAIN

_PARTS = {"valid": "green", "submitted": "cyan", "under_way": "blue", "short": "red", "open": "bright_black"}
"""Where a task can be → its colour, in the order of the bar."""

_HEADINGS = {"submitted": "waiting", "under_way": "at it", "open": "open", "short": "short", "excluded": "excluded"}

_PILOT_IS: dict[PostingState | None, str] = {PostingState.PAUSED: " and paused", PostingState.STOPPED: " and was stopped"}

_FREE: dict[PostingState | None, str] = {
    PostingState.PAUSED: "free, but nobody is let in while it is paused",
    PostingState.STOPPED: "not in use",
}

_ATTRITION = {"came": ("came",), "left": ("declined", "returned", "timed_out"), "failed": ("failed_practice",)}
"""Columns about who left, where there is one table for everything → what they count."""

_TWO_TABLES = 6
"""With more arms than these, tasks and who left share one table."""

_LOOKS = 6
"""So much is said of what needs a look; the rest is counted."""

_NAMED = 3
"""Visits or units that a line names; the others are counted."""


def screen(status: Status, rehearsal: str | None) -> RenderableType:
    """Everything in one screen: tasks by arm, people, money, and what needs a look."""
    folded = len(status.arms) > _TWO_TABLES and status.posted  # before that, who came and left are the pilot's
    arms = _Arms(status) if folded else _arms(status)
    parts: list[RenderableType] = [_head(status, rehearsal), Padding(arms, (1, 0)), _facts(status, rehearsal)]
    if any(arm.came for arm in status.attrition) and not folded:
        parts.append(Padding(_attrition(status), (1, 0, 0, 0)))
    steps = [*status.next, *_to_publish(status)]
    if steps:
        parts += [Text("\nNext", style="bold"), *(Text(f"  • {step}") for step in steps)]
    looks = _looks(status)
    if len(looks) > _LOOKS:
        looks[_LOOKS:] = [f"and {len(looks) - _LOOKS} more: `--json` has everything"]
    if looks:
        parts += [Text("\nNeeds a look", style="bold yellow"), *(Text(f"  • {look}") for look in looks)]
    return Group(*parts)


def _head(status: Status, rehearsal: str | None) -> Text:
    head = Text.assemble((status.study, "bold"), f" on {status.platform}")
    if rehearsal is not None:
        head.append(f", rehearsal {rehearsal}", style="magenta")
    if not status.posted and _piloting(status):
        head.append(f"  only the pilot is posted{_PILOT_IS.get(status.state, '')}", style="yellow")
    elif not status.posted:
        head.append("  not posted yet", style="yellow")
    elif status.state is PostingState.STOPPED:
        head.append("  stopped" if status.complete else "  stopped; those at it may finish", style="yellow")
    elif status.complete:
        head.append("  complete", style="bold green")
    elif status.state is PostingState.PAUSED:
        head.append("  paused", style="yellow")
    else:
        head.append("  under way", style="blue")
    return head


def _piloting(status: Status) -> bool:
    return status.pilot is not None and status.places > 0


def _to_publish(status: Status) -> list[str]:
    """What brings a study that isn't posted further."""
    if status.posted:
        return []
    if not _piloting(status):
        return ["nothing is posted yet: `crowd-imi publish` again, with the pages running"]
    return ["when the pilot says what you wanted to know: `crowd-imi publish` without --pilot posts the study itself"]


class _Arms:
    """Many arms in one table: who left beside where tasks are, as far as the screen is wide enough for both."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = _arms(self._status, with_attrition=True)
        fits = Measurement.get(console, options.update(max_width=10_000), whole).minimum <= options.max_width
        yield whole if fits else _arms(self._status)


def _arms(status: Status, *, with_attrition: bool = False) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("arm", no_wrap=True)
    table.add_column("")
    table.add_column(Text("valid", style=_PARTS["valid"]), justify="right", no_wrap=True)
    for name, heading in _HEADINGS.items():
        table.add_column(Text(heading, style=_PARTS.get(name, "yellow")), justify="right", no_wrap=True)
    for heading in _ATTRITION if with_attrition else ():
        table.add_column(heading, justify="right", no_wrap=True)
    came = {arm.arm: arm for arm in (*status.attrition, _everybody(status))}
    pilot = [] if status.pilot is None else [status.pilot]
    for arm in (*status.arms, *([_sum(status)] if len(status.arms) > 1 else []), *pilot):
        valid = Text.assemble((str(arm.valid), "green"), f"/{arm.tasks}")
        counts = [_count(getattr(arm, name), _PARTS.get(name, "yellow")) for name in _HEADINGS]
        if with_attrition and arm.arm in came:
            counts += [_count(sum(getattr(came[arm.arm], name) for name in names), "default") for names in _ATTRITION.values()]
        table.add_row(arm.arm, _Bar(arm), valid, *counts)
    return table


def _attrition(status: Status) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    names = [name for name in ArmAttrition.model_fields if name != "arm"]
    table.add_column("who left", no_wrap=True)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for arm in (*status.attrition, *([_everybody(status)] if len(status.attrition) > 1 else [])):
        table.add_row(arm.arm, *(_count(getattr(arm, name), "default") for name in names))
    return table


def _everybody(status: Status) -> ArmAttrition:
    names = [name for name in ArmAttrition.model_fields if name != "arm"]
    return ArmAttrition(arm="all", **{name: sum(getattr(arm, name) for arm in status.attrition) for name in names})


def _count(number: int, colour: str) -> Text:
    return Text(str(number), style=colour) if number else Text("·", style="bright_black")


def _sum(status: Status) -> ArmStatus:
    names = [name for name in ArmStatus.model_fields if name != "arm"]
    return ArmStatus(arm="all", **{name: sum(getattr(arm, name) for arm in status.arms) for name in names})


class _Bar:
    """An arm's tasks as a line in as many colours as there are places where they can be; takes the width that is left."""

    def __init__(self, arm: ArmStatus) -> None:
        self.arm = arm

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(8, 30)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, 30)
        bar, before = Text(), 0
        for name, colour in _PARTS.items():
            before += getattr(self.arm, name)
            # Ends are rounded, not lengths, so that the whole line is as long as every other.
            bar.append("━" * (round(width * before / max(1, self.arm.tasks)) - len(bar)), style=colour)
        yield bar


def _facts(status: Status, rehearsal: str | None) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    table.add_row("places", f"{status.places} offered, {status.places_free} {_FREE.get(status.state, 'free')}")
    table.add_row("units", _units(status))
    table.add_row("money", f"{status.spent} paid, {status.committed} committed, {status.left_over} left of {status.cap}")
    left = {**status.left, "failed_practice": _everybody(status).failed_practice}
    if any(left.values()):
        table.add_row("left", ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in left.items() if count))
    if status.excluded_by:
        failed = (f"{count} {criterion.replace('_', ' ')}" for criterion, count in status.excluded_by.items())
        table.add_row("excluded by", ", ".join(failed))
    if status.surplus:
        table.add_row("surplus", _surplus(status.surplus))
    if status.events_elsewhere:
        what = "named no submission of this study and were passed over; an SQS queue must be one study's alone"
        table.add_row("events", f"{status.events_elsewhere} of the last days {what}")
    if status.closing_remarks:
        which = "" if rehearsal is None else f" --rehearsal {rehearsal}"
        read = f"`crowd-imi status STUDY{which} --remarks`"
        table.add_row("wrote to you", f"{status.closing_remarks} at the end of their visit: {read}")
    return table


def remarks_screen(written: ClosingRemarks) -> RenderableType:
    """What participants wrote on the last page; what could steer a terminal is taken out of it."""
    if not written.remarks:
        return Text("nobody has written anything on the last page")
    parts: list[RenderableType] = []
    for one in written.remarks:
        pilot = "" if one.label == MAIN else f", {one.label}"
        parts += [
            Text(f"{one.visit}  {one.arm}{pilot}, {one.state}", style="bold"),
            Padding(Text(_printable(one.text)), (0, 0, 1, 2)),
        ]
    return Group(*parts)


def _printable(text: str) -> str:
    lines = text.replace("\r\n", "\n").replace("\t", " ")
    return "".join(letter if letter == "\n" or letter.isprintable() else "�" for letter in lines)


def _surplus(surplus: Sequence[Surplus]) -> str:
    """How many there are and which; with many, the last ones that came (``--json`` lists all)."""
    unpaid = sum(one.payment == Payment.UNPAID for one in surplus)
    named = [f"{one.visit} for {one.task}" for one in surplus[-_NAMED:]]
    more = len(surplus) - len(named)
    return (
        f"{len(surplus)} came after their task was done: not counted, "
        + (f"{unpaid} to be paid" if unpaid else "paid")
        + f" ({f'{more} more, ' if more else ''}{', '.join(named)})"
    )


def _units(status: Status) -> str:
    """How many units have all responses, and the one that is furthest behind."""
    done = sum(unit.valid == unit.wanted for unit in status.units)
    text = f"{done} of {len(status.units)} have all their valid responses"
    behind = min(status.units, key=lambda unit: unit.valid / max(1, unit.wanted), default=None)
    if behind is not None and behind.valid < behind.wanted:
        text += f"; fewest: {behind.valid} of {behind.wanted}, {behind.unit}"
    short = [unit for unit in status.units if unit.short]
    if not short:
        return text
    more = len(short) - _NAMED
    named = ", ".join(unit.unit for unit in short[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{text}; {len(short)} stay short: {named}"


def _looks(status: Status) -> list[str]:
    looks: list[str] = []
    if status.held.amount:
        looks.append(f"{status.held} goes over the cap and waits for a higher pay.cap")
    if status.top_up is not None:
        looks.append(
            f"the median submission is paid {status.top_up.per_hour} an hour, below {status.top_up.floor}: no more places are "
            f"offered until {len(status.top_up.amounts)} people are paid {status.top_up.together} in all; harvest lists them, "
            f"{PAY_TOP_UP} pays them"
        )
    return [*looks, *status.remarks, *_strays(status), *(_difference(status, one) for one in status.differences)]


def _difference(status: Status, one: Difference) -> str:
    """Which visits, and what a person can do about them."""
    more = f" and {one.visits - _NAMED} more" if one.visits > _NAMED else ""
    which = ", ".join(one.which[:_NAMED]) + more
    said = (
        f"{one.visits} {'visits are' if one.visits > 1 else 'visit is'} {one.here.replace('_', ' ')} and {one.payment} here, "
        f"but {one.there.replace('_', ' ')} on {status.platform}"
    )
    if one.there not in WITHOUT_FINISHING or one.payment != Payment.UNPAID:
        return f"{said} ({which})"
    return f"{said}: once out of time, `crowd-imi pay --visit ID --approve` or `crowd-imi reject --visit ID` ({which})"


def _strays(status: Status) -> Iterator[str]:
    """Who has a place there and no visit here; who was paid or rejected there is decided."""
    are = dict(status.strays_are)
    waiting = sum(are.pop(word, 0) for word in WITHOUT_FINISHING)
    if waiting:
        yield (
            f"{waiting} handed in on {status.platform} without a visit here: `crowd-imi ledger` names them, "
            "`crowd-imi pay --stray NAME` or `crowd-imi reject --stray NAME` decides"
        )
    at_it = sum(are.pop(word, 0) for word in COMING_BACK)
    if at_it:
        yield (
            f"{at_it} took a place on {status.platform} without coming in here (or were turned away): nothing to do, the place "
            "comes free when they leave or their time is over"
        )
    for word, count in are.items():
        if word not in KNOWN:
            yield f"{count} on {status.platform} without a visit here: {word} there, which nobody here knows; look there"
