"""Figures of the scores: group means, single units, natural against synthetic, depth."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from crowd_imi.scoring.agreement import Machine
from crowd_imi.scoring.canvas import FAINT, INK, SOFT, WIDTH, axes_at, for_text, share_axis, stacked, styled
from crowd_imi.scoring.mis import Group, Scores
from crowd_imi.scoring.wording import count, interval, model_name, setting, share, signed, signed_interval
from crowd_imi.study import NULL

Colours = Mapping[str, str]

_ROW = 0.62
_HEADING = 0.34
_COLUMNS = 3


@styled
def group_means(scores: Scores, colours: Colours) -> tuple[Figure, str]:
    """Every group's mean with its interval, and its units as dots stacked above."""
    blocks = _blocks(scores.groups)
    rows_height = len(scores.groups) * _ROW + len(blocks) * _HEADING
    figure = Figure(figsize=(WIDTH, rows_height + 0.75))
    axis = axes_at(figure, 1.75, 0.5, WIDTH - 1.75 - 1.55, rows_height)
    axis.set_ylim(-rows_height, 0)
    share_axis(axis)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color=FAINT, linewidth=0.6)
    axis.set_xlabel("proportion correct (MIS)")
    axis.text(0.5, 0.06, "chance", ha="center", va="bottom", color=SOFT, fontsize=8.5)
    axis.text(1.09, 0.06, "mean [95 %]", ha="left", va="bottom", color=SOFT, fontsize=8.5)
    y = 0.0
    for title, groups in blocks:
        edge = blended_transform_factory(figure.transFigure, axis.transData)
        axis.text(0.004, y - _HEADING * 0.62, title, transform=edge, ha="left", va="center", weight="bold")
        y -= _HEADING
        for group in groups:
            _group_row(axis, y - _ROW, group, scores.members(group), colours[group.model])
            y -= _ROW
    return figure, "Proportion correct by group, single units as dots. " + "; ".join(map(_said, scores.groups)) + "."


def _blocks(groups: tuple[Group, ...]) -> list[tuple[str, list[Group]]]:
    blocks: dict[str, list[Group]] = {}
    for group in groups:
        blocks.setdefault(setting(group.condition, group.difficulty), []).append(group)
    return list(blocks.items())


def _said(group: Group) -> str:
    where = f"{model_name(group.model)}, {setting(group.condition, group.difficulty)}"
    return f"{where}: {share(group.mean)} {interval(group.low, group.high)}, {group.units} units"


def _group_row(axis: Axes, bottom: float, group: Group, members: pd.DataFrame, colour: str) -> None:
    line = bottom + 0.13
    values = np.sort(members["proportion_correct"].dropna().to_numpy(dtype=float))
    heights = stacked(values, 0.0125)
    step = min(0.07, 0.36 / max(1, int(heights.max(initial=0))))
    axis.scatter(values, line + 0.09 + heights * step, s=15, color=colour, alpha=0.5, linewidths=0, zorder=2)
    axis.text(-0.045, line + 0.05, model_name(group.model), ha="right", va="center", color=for_text(colour))
    if group.mean is None:
        axis.text(1.09, line + 0.05, "no response yet", va="center", color=SOFT)
        return
    if group.low is not None and group.high is not None:
        axis.plot((group.low, group.high), (line, line), color=colour, linewidth=3, solid_capstyle="butt", zorder=3)
    axis.scatter(group.mean, line, s=46, color=colour, edgecolors="white", linewidths=1.2, zorder=4)
    axis.text(1.09, line + 0.05, f"{share(group.mean)} {interval(group.low, group.high)}", va="center")


@styled
def sorted_units(scores: Scores, colours: Colours) -> tuple[Figure, str]:
    """One panel per group: its units from the least to the most interpretable, each with Wilson's interval."""
    groups = [group for group in scores.groups if group.units]
    rows = [
        block[start : start + _COLUMNS] for _title, block in _blocks(tuple(groups)) for start in range(0, len(block), _COLUMNS)
    ]
    height, gap = 1.75, 0.62
    figure = Figure(figsize=(WIDTH, 0.1 + len(rows) * (height + gap)))
    width = (WIDTH - 0.7 - 0.35 * (_COLUMNS - 1)) / _COLUMNS
    for number, row in enumerate(rows):
        bottom = figure.get_figheight() - (number + 1) * (height + gap) + 0.1
        for column, group in enumerate(row):
            axis = axes_at(figure, 0.55 + column * (width + 0.35), bottom, width, height)
            _unit_panel(axis, group, scores.members(group), colours[group.model])
            if column:
                axis.tick_params(labelleft=False)
            else:
                axis.set_ylabel("proportion correct")
    ranges = "; ".join(_range_said(group, scores.members(group)) for group in groups)
    return figure, f"Single units by group, sorted by proportion correct, with 95 % Wilson intervals. {ranges}."


def _unit_panel(axis: Axes, group: Group, members: pd.DataFrame, colour: str) -> None:
    units = members.dropna(subset="proportion_correct").sort_values(["proportion_correct", "low", "unit"])
    x = np.arange(1, len(units) + 1)
    share_axis(axis, vertical=True)
    axis.vlines(x, units["low"], units["high"], color=colour, alpha=0.35, linewidth=1.6)
    axis.scatter(x, units["proportion_correct"], s=13, color=colour, linewidths=0, zorder=3)
    axis.set_xlim(0, len(units) + 1)
    axis.set_xticks([])
    axis.set_title(model_name(group.model), color=for_text(colour), weight="bold", pad=16)
    axis.text(0, 1.045, setting(group.condition, group.difficulty), transform=axis.transAxes, fontsize=8.5, color=SOFT)
    axis.text(1, 1.045, count(len(units), "unit"), transform=axis.transAxes, fontsize=8.5, color=SOFT, ha="right")


def _range_said(group: Group, members: pd.DataFrame) -> str:
    values = members["proportion_correct"]
    where = f"{model_name(group.model)}, {setting(group.condition, group.difficulty)}"
    return f"{where}: from {share(values.min())} to {share(values.max())}"


def in_both_conditions(scores: Scores) -> pd.DataFrame:
    """Units that were answered in the natural and in the synthetic condition at the same difficulty, one row each."""
    answered = scores.units.dropna(subset="proportion_correct")
    keys = ["unit", "model", "null", "difficulty"]
    wide = answered.pivot(index=keys, columns="condition", values="proportion_correct")
    return wide.reindex(columns=["natural", "synthetic"]).dropna().reset_index()


@styled
def natural_against_synthetic(pairs: pd.DataFrame, colours: Colours) -> tuple[Figure, str]:
    """A panel per model for the units of ``in_both_conditions``: across natural references, up synthetic ones."""
    label = pairs["model"].where(~pairs["null"], NULL)
    present = [model for model in colours if (label == model).any()]
    side, gap = (WIDTH - 0.7 - 0.35 * (_COLUMNS - 1)) / _COLUMNS, 0.82
    rows = -(-len(present) // _COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.05 + rows * (side + gap)))
    for place, model in enumerate(present):
        row, column = divmod(place, _COLUMNS)
        bottom = figure.get_figheight() - (row + 1) * (side + gap) + 0.5
        axis = axes_at(figure, 0.55 + column * (side + 0.35), bottom, side, side)
        _pair_panel(axis, model, pairs[label == model], colours[model])
        axis.set_xlabel("natural references")
        if column:
            axis.tick_params(labelleft=False)
        else:
            axis.set_ylabel("synthetic references")
    below, above = int((pairs["synthetic"] < pairs["natural"]).sum()), int((pairs["synthetic"] > pairs["natural"]).sum())
    return figure, (
        f"Units shown in both conditions, natural references across, synthetic ones up: of {len(pairs)} units, {below} were "
        f"answered better with natural references, {above} better with synthetic ones."
    )


def _pair_panel(axis: Axes, model: str, pairs: pd.DataFrame, colour: str) -> None:
    share_axis(axis)
    share_axis(axis, vertical=True)
    axis.plot((0, 1), (0, 1), color=FAINT, linewidth=1.2, zorder=1)
    axis.text(0.04, 0.075, "equal", color=SOFT, fontsize=8.5, rotation=45, ha="left", va="bottom")
    axis.scatter(pairs["natural"], pairs["synthetic"], s=26, color=colour, alpha=0.6, linewidths=0, zorder=3)
    axis.set_title(model_name(model), color=for_text(colour), weight="bold")
    axis.text(1, 1.03, count(len(pairs), "unit"), transform=axis.transAxes, fontsize=8.5, color=SOFT, ha="right")


@styled
def machine_against_people(machine: Machine, colours: Colours) -> tuple[Figure, str]:
    """A panel per model, condition and difficulty: across the machine's unit scores, up people's, with Wilson's intervals."""
    groups = [one for one in machine.agreements if one.of != "models"]
    side, gap = (WIDTH - 0.7 - 0.35 * (_COLUMNS - 1)) / _COLUMNS, 1.12
    rows = -(-len(groups) // _COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.05 + rows * (side + gap)))
    for place, group in enumerate(groups):
        row, column = divmod(place, _COLUMNS)
        bottom = figure.get_figheight() - (row + 1) * (side + gap) + 0.5
        axis = axes_at(figure, 0.55 + column * (side + 0.35), bottom, side, side)
        units = machine.units
        here = (units["model"] == group.of) & (units["condition"] == group.condition) & (units["difficulty"] == group.difficulty)
        _machine_panel(axis, units[here], colours[group.of])
        axis.set_title(group.of, color=for_text(colours[group.of]), weight="bold", pad=31)
        where = setting(group.condition, group.difficulty)
        axis.annotate(where, (0, 1), (0, 18), "axes fraction", "offset points", fontsize=8.5, color=SOFT)
        rho = "too few to correlate" if group.rho is None else f"rho {signed(group.rho)} {signed_interval(group.low, group.high)}"
        ceiling = f", ceiling {share(group.ceiling)}" if group.ceiling else ""
        axis.annotate(rho + ceiling, (0, 1), (0, 5), "axes fraction", "offset points", fontsize=8.5, color=SOFT)
        axis.set_xlabel("machine MIS" if machine.fitted else "share of panels with Δ > 0")
        if column:
            axis.tick_params(labelleft=False)
        else:
            axis.set_ylabel("people: proportion correct")
    said = " ".join(one.sentence for one in groups)
    return figure, f"Units by machine (across) and by people (up, with 95 % Wilson intervals). {said}"


def _machine_panel(axis: Axes, units: pd.DataFrame, colour: str) -> None:
    share_axis(axis)
    share_axis(axis, vertical=True)
    axis.vlines(units["machine_mis"], units["low"], units["high"], color=colour, alpha=0.22, linewidth=1.2, zorder=2)
    axis.scatter(units["machine_mis"], units["proportion_correct"], s=22, color=colour, alpha=0.65, linewidths=0, zorder=3)


@styled
def by_depth(scores: Scores, colours: Colours) -> tuple[Figure, str]:
    """Real units by layer, the first layer at the top: a row of panels per model, a panel per condition and difficulty."""
    real = [group for group in scores.groups if group.model != NULL and group.units]
    settings = list(dict.fromkeys((group.condition, group.difficulty) for group in real))
    units = scores.units[~scores.units["null"]]
    layers = {
        model: list(units[units["model"] == model].sort_values("depth")["layer"].unique())
        for model in dict.fromkeys(group.model for group in real)
    }
    left = 0.25 + 0.078 * max(len(layer) for names in layers.values() for layer in names)
    width = (WIDTH - left - 0.15 - 0.3 * (len(settings) - 1)) / len(settings)
    heights = {model: 0.24 * len(names) + 0.1 for model, names in layers.items()}
    figure = Figure(figsize=(WIDTH, sum(heights.values()) + 0.78 * len(layers) + 0.2))
    bottom = figure.get_figheight() + 0.33
    for model, names in layers.items():
        bottom -= heights[model] + 0.78
        panels = [group for group in real if group.model == model]
        for group in panels:
            column = settings.index((group.condition, group.difficulty))
            axis = axes_at(figure, left + column * (width + 0.3), bottom, width, heights[model])
            _layer_panel(axis, scores.members(group), names, colours[model])
            axis.set_title(model, color=for_text(colours[model]), weight="bold", pad=16)
            where = setting(group.condition, group.difficulty).replace(" references", "")
            axis.annotate(where, (0, 1), (0, 4), "axes fraction", "offset points", fontsize=8.5, color=SOFT)
            if model == list(layers)[-1]:
                axis.set_xlabel("proportion correct")
            if group is panels[0]:
                edge = blended_transform_factory(figure.transFigure, axis.transData)
                for place, name in enumerate(names):
                    axis.text((left - 0.08) / WIDTH, place, name, transform=edge, ha="right", va="center", fontsize=9)
    return figure, f"Proportion correct by layer, first layer at the top, for {', '.join(layers)}. " + _layers_said(scores, real)


def _layer_panel(axis: Axes, members: pd.DataFrame, layers: list[str], colour: str) -> None:
    share_axis(axis)
    place = members["layer"].map({layer: index for index, layer in enumerate(layers)})
    axis.set_ylim(len(layers) - 0.4, -0.6)
    axis.set_yticks(range(len(layers)), labels=[""] * len(layers))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="y", color=FAINT, linewidth=0.6)
    means = members.groupby(place)["proportion_correct"].mean().dropna()
    axis.plot(means, means.index, color=INK, linewidth=0.9, marker="|", markersize=10, markeredgewidth=1.8, zorder=2)
    axis.scatter(members["proportion_correct"], place, s=18, color=colour, alpha=0.6, linewidths=0, zorder=3)


def _layers_said(scores: Scores, groups: list[Group]) -> str:
    said = []
    for group in groups:
        means = scores.members(group).groupby("layer", sort=False)["proportion_correct"].mean().dropna()
        inside = ", ".join(f"{layer} {share(mean)}" for layer, mean in means.items())
        said.append(f"{group.model}, {setting(group.condition, group.difficulty)}: {inside}")
    return "; ".join(said) + "."
