# SPDX-License-Identifier: Apache-2.0
"""How figures of every page look: colours, sizes, axes, keys, numbers; and how a figure becomes SVG."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea
from matplotlib.ticker import FuncFormatter, NullFormatter

INK, MUTED, RULE, PALE = "#1f2933", "#66727f", "#d9dee4", "#d3e2f2"
BLUE, ORANGE, RED, GREY = "#2b6cb0", "#dd7a1c", "#c53030", "#9aa5b1"
TEAL, PURPLE, PALE_BLUE, PALE_TEAL = "#2f8f7f", "#5d4a94", "#8fbce6", "#97d1c3"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "svg.fonttype": "path",
    "svg.hashsalt": "npuloop",
    "figure.facecolor": "white",
}
HALF, WIDE = (6.0, 4.6), (12.4, 4.4)
"""Sizes of figures that stand beside another, and of others, inches."""
Arguments = ParamSpec("Arguments")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Give a function that draws a figure the style of all of them."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG that depends on nothing outside it; equal figures are equal bytes."""
    file = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context(STYLE):
        figure.savefig(file, format="svg", metadata=nothing)
    text = file.getvalue()
    return text[text.index(b"<svg") :]  # without the address of a document type


def _thousands(value: float, _: float | None = None) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"


def cycles_axis(axis: Axes, which: str = "x") -> None:
    """Write the numbers of an axis of cycles as 1 k, 10 k."""
    target = axis.xaxis if which == "x" else axis.yaxis
    target.set_major_formatter(FuncFormatter(_thousands))
    target.set_minor_formatter(NullFormatter())


def plain_numbers(axis: Axis, *, minor: bool = True) -> None:
    """Write the numbers of an axis without zeros at their ends and without powers of ten.

    Args:
        axis: the x or y axis of a panel.
        minor: whether ticks between keep their numbers.
    """
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if not minor:
        axis.set_minor_formatter(NullFormatter())


def percent(value: float) -> str:
    """Return a percentage with two digits."""
    return f"{value:.2g} %" if abs(value) < 10 else f"{value:.0f} %"


def signed(value: float, digits: int) -> str:
    """Return a number with its sign, of which nothing has none."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def key(axis: Axes, entries: Sequence[tuple[str, str, str]]) -> None:
    """Write a line above a panel that says what is what: mark, its colour, words."""
    parts: list[Artist] = []
    for mark, colour, words in entries:
        shown = TextArea(mark, textprops={"color": colour, "fontsize": 9})
        said = TextArea(words, textprops={"color": INK, "fontsize": 9})
        parts.append(HPacker(children=[shown, said], pad=0, sep=4, align="baseline"))
    line = HPacker(children=parts, pad=0, sep=16, align="baseline")
    place: dict[str, Any] = {"bbox_to_anchor": (0.0, 1.0), "bbox_transform": axis.transAxes}
    axis.add_artist(AnchoredOffsetbox("lower left", child=line, pad=0, borderpad=0.5, frameon=False, **place))


def legend(figure: Figure, handles: Sequence[Artist], columns: int, **options: Any) -> None:
    """Write a key above all panels, line after line.

    Args:
        figure: the figure.
        handles: the entries, in the order in which they are read.
        columns: entries of a line.
        options: of matplotlib's legend.
    """
    ordered = [handle for i in range(columns) for handle in handles[i::columns]]  # matplotlib goes down first
    place: dict[str, Any] = {"loc": "outside upper left", "frameon": False, "fontsize": 8.5}
    figure.legend(handles=ordered, ncols=columns, **place, **options)
