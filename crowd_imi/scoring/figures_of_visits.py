"""Figures of participants and money: how far people came, why some don't count, how long it took, what it cost."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from crowd_imi.scoring.canvas import COLOURS, FAINT, INK, SOFT, WIDTH, axes_at, stacked, styled
from crowd_imi.scoring.participants import CRITERION_NAMES, FLOW, Exclusion, Spending
from crowd_imi.scoring.wording import count
from crowd_imi.study import ExclusionSection

_BLUE, _ORANGE = COLOURS[0], COLOURS[1]
_PALE = "#bcd7ea"
_PALE_ORANGE = "#f2bf99"
_LABELS = 2.35


@styled
def participants_flow(totals: "pd.Series[int]") -> tuple[Figure, str]:
    """A bar per stage, and beside it who was lost before the next one.

    Args:
        totals: from ``participants.flow``, summed over arms.
    """
    consented = totals["arrived"] - totals["declined"]
    stages = [
        ("arrived", totals["arrived"], ("declined",)),
        ("consented", consented, ("failed_practice", "returned", "timed_out", "under_way")),
        ("submitted", totals["submitted"], ("excluded", "surplus", "waiting")),
        ("valid", totals["valid"], ()),
    ]
    figure = Figure(figsize=(WIDTH, 2.3))
    axis = _bar_axis(figure, len(stages), 2.3 - 0.25, max(1, int(totals["arrived"])), right=2.6)
    for row, (name, number, losses) in enumerate(stages):
        axis.barh(row, number, height=0.62, color=_BLUE if name == "valid" else _PALE)
        axis.text(-0.012, row, name, transform=axis.get_yaxis_transform(), ha="right", va="center")
        inside = number > 0.12 * totals["arrived"]
        axis.annotate(
            f"{number}",
            (number, row),
            xytext=(-5 if inside else 5, 0),
            textcoords="offset points",
            va="center",
            ha="right" if inside else "left",
            color="white" if inside and name == "valid" else INK,
            weight="bold",
        )
        lost = [f"{totals[key]} {FLOW[key]}" for key in losses if totals[key]]
        for line, text in enumerate(lost):
            y = row + 0.5 + (line - (len(lost) - 1) / 2) * 0.27
            axis.text(1.02, y, f"− {text}", transform=axis.get_yaxis_transform(), va="center", color=SOFT, fontsize=8.5)
    said = ", ".join(f"{totals[key]} {name}" for key, name in FLOW.items() if totals[key] or key in ("arrived", "valid"))
    return figure, f"Participants from arrival to a valid submission: {said}."


def _bar_axis(figure: Figure, rows: int, height: float, longest: float, *, right: float) -> Axes:
    axis = axes_at(figure, _LABELS, 0.1, figure.get_figwidth() - _LABELS - right, height)
    axis.set_xlim(0, longest)
    axis.set_ylim(rows - 0.5, -0.5)
    axis.set_yticks([])
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    return axis


_ENDINGS = {
    "valid": (_BLUE, ""),
    "surplus": (COLOURS[5], ""),
    "excluded": (_ORANGE, "///"),
    "failed_practice": (COLOURS[4], "..."),
    "returned": ("#bdbdbd", ""),
    "timed_out": ("#8c8c8c", ""),
    "declined": ("#e3e3e3", ""),
    "under_way": ("white", ""),
    "waiting": ("white", "xx"),
}
"""Colours that differ in brightness, too, and hatches, so that they can be told apart in print."""


@styled
def attrition(flow: pd.DataFrame) -> tuple[Figure, str]:
    """A bar per arm: which share of those who arrived ended how.

    Args:
        flow: from ``participants.flow``, an arm per row.
    """
    used = [ending for ending in _ENDINGS if flow[ending].any()]
    height = 0.36 * len(flow) + 0.3
    figure = Figure(figsize=(WIDTH, height + 0.35))
    axis = axes_at(figure, _LABELS, 0.1, WIDTH - _LABELS - 1.2, height - 0.1)
    axis.set_xlim(0, 1)
    axis.set_ylim(len(flow) - 0.5, -0.5)
    axis.set_axis_off()
    for row, (arm, numbers) in enumerate(flow.iterrows()):
        left, arrived = 0.0, max(1, int(numbers["arrived"]))
        for ending in used:
            share = numbers[ending] / arrived
            colour, hatch = _ENDINGS[ending]
            axis.barh(row, share, left=left, height=0.66, color=colour, hatch=hatch, edgecolor=SOFT, linewidth=0.4)
            left += share
        axis.text(-0.012, row, str(arm), transform=axis.get_yaxis_transform(), ha="right", va="center")
        axis.text(
            1.012,
            row,
            f"{numbers['arrived']} arrived",
            transform=axis.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
            color=SOFT,
        )
    handles = [Patch(facecolor=_ENDINGS[ending][0], hatch=_ENDINGS[ending][1], edgecolor=SOFT, linewidth=0.4) for ending in used]
    figure.legend(
        handles,
        [FLOW[ending] for ending in used],
        loc="upper left",
        bbox_to_anchor=(_LABELS / WIDTH - 0.01, 1.0),
        ncols=len(used),
        frameon=False,
        fontsize=8.5,
        handlelength=1.2,
        columnspacing=1.2,
        borderpad=0,
    )
    said = "; ".join(
        f"{arm}: {numbers['arrived']} arrived, " + ", ".join(f"{numbers[ending]} {FLOW[ending]}" for ending in used)
        for arm, numbers in flow.iterrows()
    )
    return figure, f"How participants' visits ended, by arm, as shares of those who arrived. {said}."


@styled
def exclusion_bars(found: tuple[Exclusion, ...]) -> tuple[Figure, str]:
    """Submissions that failed each criterion; the darker part failed no other."""
    height = 0.36 * len(found) + 0.4
    figure = Figure(figsize=(WIDTH, height))
    axis = _bar_axis(figure, len(found), height - 0.4, max(1, *(one.failed for one in found)), right=1.2)
    for row, one in enumerate(found):
        axis.barh(row, one.alone, height=0.6, color=_ORANGE)
        axis.barh(row, one.failed - one.alone, left=one.alone, height=0.6, color=_PALE_ORANGE)
        name = CRITERION_NAMES.get(one.criterion, one.criterion)
        axis.text(-0.012, row, name, transform=axis.get_yaxis_transform(), ha="right", va="center")
        axis.annotate(f"{one.failed}", (one.failed, row), xytext=(5, 0), textcoords="offset points", va="center")
    for x, colour, text in ((0.0, _ORANGE, "failed only this one"), (0.33, _PALE_ORANGE, "failed others too")):
        axis.scatter(x + 0.01, 1 + 0.16 / height, s=40, marker="s", color=colour, transform=axis.transAxes, clip_on=False)
        axis.text(x + 0.03, 1 + 0.16 / height, text, transform=axis.transAxes, va="center", color=SOFT, fontsize=8.5)
    said = "; ".join(f"{CRITERION_NAMES.get(one.criterion, one.criterion)} {one.failed}" for one in found)
    return figure, f"Submissions that failed each exclusion criterion: {said}."


@styled
def visit_times(taken: pd.DataFrame, order: list[str], limits: ExclusionSection) -> tuple[Figure, str]:
    """A mark per submission, a row per arm, on a logarithmic scale; the criterion's limits as lines.

    Args:
        taken: from ``participants.minutes``.
        order: the study's arms.
        limits: of study.toml.
    """
    arms = [arm for arm in order if (taken["arm"] == arm).any()]
    height = 0.52 * len(arms)
    figure = Figure(figsize=(WIDTH, height + 0.8))
    axis = axes_at(figure, _LABELS, 0.5, WIDTH - _LABELS - 1.2, height)
    bounds = (limits.min_total_seconds / 60, limits.max_total_seconds / 60)
    _minute_scale(axis, taken["total"], bounds)
    axis.set_ylim(len(arms) - 0.5, -0.5)
    for row, arm in enumerate(arms):
        here = taken[taken["arm"] == arm].sort_values("total")
        values = np.maximum(here["total"].to_numpy(dtype=float), axis.get_xlim()[0])
        heights = stacked(np.log(values), 0.035)
        y = row + 0.22 - heights * min(0.1, 0.5 / max(1, int(heights.max(initial=0))))
        counts = (here["ending"] == "valid").to_numpy()
        axis.scatter(values[counts], y[counts], s=13, color=_BLUE, alpha=0.6, linewidths=0, zorder=3)
        axis.scatter(values[~counts], y[~counts], s=20, color=_ORANGE, marker="x", linewidths=1.2, zorder=4)
        median = float(here["total"].median())
        axis.plot((median, median), (row - 0.3, row + 0.36), color=INK, linewidth=1.4, zorder=5)
        axis.text(-0.012, row + 0.05, arm, transform=axis.get_yaxis_transform(), ha="right", va="center")
        axis.text(
            1.012,
            row + 0.05,
            f"median {median:.1f} min",
            transform=axis.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
            color=SOFT,
        )
    for bound, side, ha in ((bounds[0], " at least", "left"), (bounds[1], "at most ", "right")):
        axis.axvline(max(bound, axis.get_xlim()[0]), color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axis.text(bound, -0.56, side, ha=ha, va="bottom", color=SOFT, fontsize=8.5)
    medians = "; ".join(f"{arm}: median {taken.loc[taken['arm'] == arm, 'total'].median():.1f} minutes" for arm in arms)
    return figure, f"Minutes from consent to submission, one mark per submission, by arm. {medians}."


def _minute_scale(axis: Axes, total: "pd.Series[float]", bounds: tuple[float, float]) -> None:
    axis.set_xscale("log")
    low = max(0.1, min(total.min(), bounds[0] or total.min()))
    axis.set_xlim(low * 0.8, max(total.max(), bounds[1]) * 1.15)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color=FAINT, linewidth=0.6)
    axis.set_xlabel("minutes from consent to submission")


@styled
def money_spent(spent: Spending) -> tuple[Figure, str]:
    """What was spent, rewards and bonuses, as a part of the cap."""
    cap = max(1, spent.cap.amount, spent.spent.amount)
    figure = Figure(figsize=(WIDTH, 0.75))
    axis = axes_at(figure, 0.05, 0.12, WIDTH - 0.1, 0.3)
    axis.set_axis_off()
    axis.set_xlim(0, cap)
    axis.barh(0, spent.cap.amount, height=1, color="#ececec")
    axis.barh(0, spent.rewards.amount, height=1, color=_BLUE)
    axis.barh(0, spent.bonuses.amount, left=spent.rewards.amount, height=1, color=_ORANGE, hatch="///", edgecolor=SOFT, lw=0.4)
    bonuses = f", {spent.bonuses} of it in bonuses (hatched)" if spent.bonuses.amount else ""
    axis.text(0, 0.75, f"{spent.spent} spent{bonuses}", va="bottom", weight="bold", color=_BLUE)
    axis.text(cap, 0.75, f"cap {spent.cap}", va="bottom", ha="right", color=SOFT)
    share = spent.spent.amount / spent.cap.amount if spent.cap.amount else 0
    beside = f" and {count(spent.bonuses_paid, 'bonus', 'bonuses')}" if spent.bonuses_paid else ""
    said = f"{spent.spent} of {spent.cap} spent ({100 * share:.0f} %), on {count(spent.paid, 'submission')}{beside}."
    return figure, said
