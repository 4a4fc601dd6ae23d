"""How figures look, and how they come into the page: matplotlib's object API, drawn as SVG data URIs."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from itertools import cycle
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crowd_imi.study import NULL

P = ParamSpec("P")

WIDTH = 9.6
"""Inches; the page's text is as wide."""
INK = "#222222"
SOFT = "#666666"
FAINT = "#d9d9d9"
GREY = "#7f7f7f"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#332288", "#999933")
"""Okabe and Ito's palette, which colour-blind people can tell apart, and three of Tol's; null units are grey."""

_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "svg.fonttype": "path",
    "text.parse_math": False,
    "svg.hashsalt": "crowd_imi",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as the page takes it."""

    uri: str
    """``data:…``: nothing is loaded from elsewhere."""
    alt: str
    """What the figure shows, for who can't see it."""
    width: int
    """CSS pixels."""

    @property
    def content(self) -> bytes:
        """The picture as a file: SVG for figures."""
        return base64.b64decode(self.uri.partition(",")[2])


def styled(draw: Callable[P, tuple[Figure, str]]) -> Callable[P, Picture]:
    """Turns a function that draws (figure, alternative text) into one that gives a ``Picture``."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with matplotlib.rc_context(_STYLE):
            figure, alt = draw(*args, **kwargs)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return Picture(data_uri(buffer.getvalue(), "image/svg+xml"), alt, round(figure.get_figwidth() * 96))

    return drawn


def data_uri(content: bytes, media_type: str) -> str:
    """The content itself as an address."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def palette(models: tuple[str, ...]) -> dict[str, str]:
    """A colour per model, the same in every figure."""
    return {**dict(zip(models, cycle(COLOURS), strict=False)), NULL: GREY}


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches from the figure's lower left corner."""
    across, up = figure.get_figwidth(), figure.get_figheight()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def for_text(colour: str) -> str:
    """A darker shade of a colour of the palette: letters need more contrast than dots (4.5 : 1 on white)."""
    return {
        GREY: SOFT,
        "#d55e00": "#b04d00",
        "#009e73": "#00734f",
        "#cc79a7": "#a34a7d",
        "#e69f00": "#8a5f00",
        "#56b4e9": "#1f6f9f",
        "#999933": "#6b6b1f",
    }.get(colour, colour)


def stacked(values: NDArray[np.float64], bin_width: float) -> NDArray[np.int_]:
    """How many earlier values share a value's bin: the height of its dot in a dot plot.

    Args:
        values: shape (n,).
        bin_width: values in the same bin of this width stand on one another.

    Returns:
        Shape (n,), from 0.
    """
    bins = np.round(values / bin_width).astype(int)
    order = np.argsort(bins, kind="stable")
    ranks = np.empty(len(values), dtype=int)
    first = np.searchsorted(bins[order], bins[order], side="left")
    ranks[order] = np.arange(len(values)) - first
    return ranks


def share_axis(axis: Axes, *, vertical: bool = False, low: float = 0.0) -> None:
    """Marks an axis as a proportion with chance at one half."""
    ticks = [tick for tick in (0, 0.25, 0.5, 0.75, 1) if tick >= low]
    labels = [f"{tick:g}".replace("0.", ".") for tick in ticks]
    if vertical:
        axis.set_ylim(low - 0.02, 1.03)
        axis.set_yticks(ticks, labels)
        axis.axhline(0.5, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    else:
        axis.set_xlim(low - 0.02, 1.03)
        axis.set_xticks(ticks, labels)
        axis.axvline(0.5, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
