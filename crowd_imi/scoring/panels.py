"""Panels as participants saw them, for the most and the least interpretable unit of a condition."""

import io
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from crowd_imi.errors import PackError
from crowd_imi.pack import Pack
from crowd_imi.records import Condition, Panel, Unit
from crowd_imi.scoring.canvas import INK, Picture, data_uri
from crowd_imi.scoring.mis import CONDITIONS, Scores
from crowd_imi.scoring.reliability import with_shrunk
from crowd_imi.scoring.wording import interval, setting, share

TILE = 104
_GAP = 4
_BETWEEN = 44
_TOP = 30
_QUERY = (3 * TILE + 2 * _GAP - 12) // 2
"""Two queries, one above the other, are as tall as a grid of references."""

_MIN_COLOUR = "#b34700"
_MAX_COLOUR = "#005a96"


@dataclass(frozen=True, slots=True)
class Shown:
    """One unit's panel in the report."""

    heading: str
    caption: str
    picture: Picture


def extremes(scores: Scores, pack: Pack) -> tuple[Shown, ...]:
    """The most and the least interpretable real unit of each condition.

    Units are ranked by their score drawn towards their model's mean (``reliability.shrunk``), so that units with few responses
    don't win by luck; among equals, the interval and then confidence decide.

    Raises:
        PackError: the pack doesn't have a panel that was answered.
    """
    shown: list[Shown] = []
    every = with_shrunk(scores)
    for condition in CONDITIONS:
        units = every[(every["condition"] == condition) & ~every["null"] & (every["responses"] > 0)]
        if len(units) < 2:
            continue
        # Too small a group has no shrunk scores; then the end of Wilson's interval that speaks against the choice decides.
        best = units.sort_values(["shrunk", "low", "confidence_mean", "unit"], ascending=[False, False, False, True]).iloc[0]
        worst = units.sort_values(["shrunk", "high", "confidence_mean", "unit"]).iloc[0]
        shown += [_shown("Most interpretable", condition, best, pack), _shown("Least interpretable", condition, worst, pack)]
    return tuple(shown)


def disputed(scores: Scores, pack: Pack) -> tuple[Shown, ...]:
    """The real unit of each condition about whose panels people disagree most, with the panel that they disagree about most.

    Two participants who saw the same panel disagree when one is right and the other wrong. A unit's disagreement is the share of
    such pairs over its panels, drawn towards the condition's by as many pairs as a unit has on average, so that few answers
    don't win by luck.

    Raises:
        PackError: the pack doesn't have a panel that was answered.
    """
    shown: list[Shown] = []
    every = with_shrunk(scores)
    for condition in CONDITIONS:
        units = every[(every["condition"] == condition) & ~every["null"] & (every["responses"] > 0)]
        found = disagreement(scores.counted[scores.counted["arm"].isin(units["arm"])], units)
        if len(units) < 2 or not found["apart"].any():
            continue
        best = found.sort_values(["drawn", "apart", "unit"], ascending=[False, False, True]).iloc[0]
        row = units[(units["arm"] == best["arm"]) & (units["unit"] == best["unit"])].iloc[0].copy()
        row["batch_shown"] = best["batch"]
        share_apart = f" Of {best['pairs']} pairs of participants who saw the same panel, {best['apart']} disagree."
        shown.append(_shown("Most disputed", condition, row, pack, share_apart))
    return tuple(shown)


def disagreement(answers: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """Pairs of participants who saw the same panel, and how many of them disagree.

    Args:
        answers: ``arm``, ``unit``, ``batch``, ``correct``.
        units: ``arm`` and ``unit`` of those that are looked at.

    Returns:
        A row per unit with two answers to a panel: ``arm``, ``unit``, ``pairs``, ``apart``, ``drawn`` (the share drawn towards
        the mean) and ``batch``, the panel with the most pairs apart.
    """
    given = answers.astype({"arm": str, "unit": str}).merge(units[["arm", "unit"]], on=["arm", "unit"])
    panels = given.groupby(["arm", "unit", "batch"])["correct"].agg(right="sum", asked="size").reset_index()
    panels["pairs"] = panels["asked"] * (panels["asked"] - 1) // 2
    panels["apart"] = panels["right"] * (panels["asked"] - panels["right"])
    panels = panels[panels["pairs"] > 0]
    most = panels.sort_values(["apart", "batch"], ascending=[False, True]).drop_duplicates(["arm", "unit"])
    found = panels.groupby(["arm", "unit"])[["pairs", "apart"]].sum().reset_index()
    weight = found["pairs"].mean()
    average = found["apart"].sum() / max(1, found["pairs"].sum())
    found["drawn"] = (found["apart"] + weight * average) / (found["pairs"] + weight)
    return found.merge(most[["arm", "unit", "batch"]], on=["arm", "unit"])


def _shown(which: str, condition: Condition, row: "pd.Series[Any]", pack: Pack, more: str = "") -> Shown:
    unit = Unit.from_key(row["unit"])
    panel = _panel(pack, row["arm"], unit, row["batch_shown"])
    where = f"{unit.model}, {unit.layer}, channel {unit.channel}"
    scored = f"{share(row['proportion_correct'])} {interval(row['low'], row['high'])}"
    drawn = "" if isnan(row["shrunk"]) else f", drawn towards the model's mean to {share(row['shrunk'])}"
    alt = (
        f"{condition.capitalize()} references: nine images that drive {where} least, on the left; nine that drive it most, "
        "on the right; between them the two queries: the upper one, framed blue, drives it more and is the right answer, the "
        "lower one drives it less."
    )
    return Shown(
        heading=f"{which}, {condition} references",
        caption=f"{where} ({setting(condition, row['difficulty'])}): {row['correct']} of {row['responses']} answers right, "
        f"{scored}{drawn}.{more} Shown: batch {panel.batch}.",
        picture=draw_panel(pack, panel, alt),
    )


def _panel(pack: Pack, arm: str, unit: Unit, batch: float) -> Panel:
    for found in pack.manifest.arm(arm).units:
        for panel in found.panels:
            if found.unit == unit and panel.batch == batch:
                return panel
    raise PackError(f"{pack.folder}: {arm} has no batch {batch:g} of {unit.key}, which was answered; render the pack again")


def draw_panel(pack: Pack, panel: Panel, alt: str) -> Picture:
    """3×3 min references, the two queries, 3×3 max references, each group under its name."""
    grid = 3 * TILE + 2 * _GAP
    width = 2 * grid + 2 * _BETWEEN + _QUERY
    canvas = Image.new("RGB", (width, _TOP + grid + 4), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=17)
    centre = grid + _BETWEEN
    right = centre + _QUERY + _BETWEEN
    for x, name, colour in (
        (grid / 2, "drive the unit least", _MIN_COLOUR),
        (centre + _QUERY / 2, "queries", INK),
        (right + grid / 2, "drive the unit most", _MAX_COLOUR),
    ):
        draw.text((x, 2), name, fill=colour, font=font, anchor="ma")
    _draw_grid(canvas, pack, tuple(exemplar.image for exemplar in panel.references.min), 0)
    _draw_grid(canvas, pack, tuple(exemplar.image for exemplar in panel.references.max), right)
    lower = _TOP + _QUERY + 12
    for y, exemplar, colour in ((_TOP, panel.queries.max, _MAX_COLOUR), (lower, panel.queries.min, _MIN_COLOUR)):
        canvas.paste(_image(pack.image(exemplar.image), _QUERY), (centre, y))
        draw.rectangle((centre - 4, y - 4, centre + _QUERY + 3, y + _QUERY + 3), outline=colour, width=3)
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=88, subsampling=0)
    return Picture(data_uri(buffer.getvalue(), "image/jpeg"), alt, width)


def _draw_grid(canvas: Image.Image, pack: Pack, images: tuple[str, ...], left: int) -> None:
    for index, digest in enumerate(images):
        row, column = divmod(index, 3)
        place = (left + column * (TILE + _GAP), _TOP + row * (TILE + _GAP))
        canvas.paste(_image(pack.image(digest), TILE), place)


def _image(path: Path, size: int) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
