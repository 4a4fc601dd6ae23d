"""Figures of answers: whether people who are surer are right more often, and how long they take."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from crowd_imi.scoring.canvas import COLOURS, FAINT, SOFT, WIDTH, axes_at, share_axis, styled
from crowd_imi.scoring.figures import Colours
from crowd_imi.scoring.wording import model_name, setting, share

_COLUMNS = 3
_MARKERS = "osD^vP*X<"
_LEFT = 2.35


@styled
def calibration(table: pd.DataFrame, colours: Colours) -> tuple[Figure, str]:
    """Proportion correct by confidence: a panel per condition and difficulty, a line per model.

    Args:
        table: from ``answers_by.by_confidence``.
        colours: of the models.
    """
    settings = list(dict.fromkeys(zip(table["condition"], table["difficulty"], strict=True)))
    height, gap = 2.2, 0.75
    rows = -(-len(settings) // _COLUMNS)
    figure = Figure(figsize=(WIDTH, rows * (height + gap) + 0.1 + 0.22 * -(-table["model"].nunique() // 5)))
    width = (WIDTH - 0.7 - 0.35 * (_COLUMNS - 1)) / _COLUMNS
    top = figure.get_figheight() - 0.22 * -(-table["model"].nunique() // 5)
    models = [model for model in colours if (table["model"] == model).any()]
    for place, (condition, difficulty) in enumerate(settings):
        row, column = divmod(place, _COLUMNS)
        axis = axes_at(figure, 0.55 + column * (width + 0.35), top - (row + 1) * (height + gap) + 0.45, width, height)
        here = table[(table["condition"] == condition) & (table["difficulty"] == difficulty)]
        _calibration_panel(axis, here, models, colours)
        axis.set_title(setting(condition, difficulty))
        if column:
            axis.tick_params(labelleft=False)
        else:
            axis.set_ylabel("proportion correct")
    handles = [
        figure.axes[0].plot([], [], color=colours[model], marker=_MARKERS[place % len(_MARKERS)], markersize=5, linewidth=1.2)[0]
        for place, model in enumerate(models)
    ]
    figure.legend(handles, list(map(model_name, models)), loc="upper left", ncols=5, frameon=False, fontsize=8.5, borderpad=0)
    groups: dict[str, list[str]] = {}
    for line in table.to_dict("records"):
        group = f"{model_name(line['model'])}, {setting(line['condition'], line['difficulty'])}"
        groups.setdefault(group, []).append(f"{share(line['proportion_correct'])} at {line['confidence']}")
    said = "; ".join(f"{group}: {', '.join(levels)}" for group, levels in groups.items())
    return figure, f"Proportion correct by confidence (1 to 3), with 95 % Wilson intervals. {said}."


def _calibration_panel(axis: Axes, here: pd.DataFrame, models: list[str], colours: Colours) -> None:
    share_axis(axis, vertical=True)
    axis.set_xlim(0.6, 3.4)
    axis.set_xticks([1, 2, 3], ["1 low", "2", "3 high"])
    axis.set_xlabel("confidence")
    for place, model in enumerate(models):
        line = here[here["model"] == model]
        x = line["confidence"] + 0.05 * (place - (len(models) - 1) / 2)
        axis.vlines(x, line["low"], line["high"], color=colours[model], linewidth=1.4, alpha=0.6)
        axis.plot(
            x,
            line["proportion_correct"],
            color=colours[model],
            marker=_MARKERS[place % len(_MARKERS)],
            markersize=4.5,
            linewidth=1.1,
        )


@styled
def reaction_times(table: pd.DataFrame, arms: list[str]) -> tuple[Figure, str]:
    """Quantiles of reaction times by arm, right answers above wrong ones, on a logarithmic scale.

    Args:
        table: from ``answers_by.by_time``.
        arms: in their order.
    """
    present = [arm for arm in arms if (table["arm"] == arm).any()]
    height = 0.5 * len(present)
    figure = Figure(figsize=(WIDTH, height + 0.95))
    axis = axes_at(figure, _LEFT, 0.5, WIDTH - _LEFT - 1.2, height)
    axis.set_xscale("log")
    axis.set_xlim(max(0.05, table["p10"].min() * 0.8), table["p90"].max() * 1.25)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(len(present) - 0.5, -0.5)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color=FAINT, linewidth=0.6)
    axis.set_xlabel("seconds from the painted frame to the click")
    for line in table.to_dict("records"):
        y = present.index(line["arm"]) + (-0.16 if line["correct"] else 0.16)
        colour = COLOURS[0] if line["correct"] else COLOURS[1]
        axis.plot((line["p10"], line["p90"]), (y, y), color=colour, linewidth=1)
        axis.plot((line["p25"], line["p75"]), (y, y), color=colour, linewidth=5, alpha=0.45, solid_capstyle="butt")
        axis.scatter(line["p50"], y, s=30, color=colour, marker="o" if line["correct"] else "X", zorder=3, linewidths=0)
        axis.text(1.012, y, f"{line['p50']:.1f} s", transform=axis.get_yaxis_transform(), va="center", fontsize=8, color=SOFT)
    for row, arm in enumerate(present):
        axis.text(-0.012, row, arm, transform=axis.get_yaxis_transform(), ha="right", va="center")
    for x, marker, colour, text in ((0.0, "o", COLOURS[0], "right"), (0.12, "X", COLOURS[1], "wrong")):
        y = 1 + 0.18 / height
        axis.scatter(x + 0.01, y, s=30, marker=marker, color=colour, transform=axis.transAxes, clip_on=False, linewidths=0)
        axis.text(x + 0.03, y, text, transform=axis.transAxes, va="center", fontsize=8.5, color=SOFT)
    said = "; ".join(
        f"{line['arm']}, {'right' if line['correct'] else 'wrong'}: median {line['p50']:.1f} seconds"
        for line in table.to_dict("records")
    )
    return figure, f"Reaction times by arm: median, quartiles (thick) and the middle 80 % (thin). {said}."
