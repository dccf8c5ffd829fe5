"""The figures of the report, each from plain numbers: no file is read, nothing is measured."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

Vector = npt.NDArray[np.float64]
Points = tuple[str, Vector, Vector, Vector]
"""A set of layers: its name, measured cycles, predicted cycles, whether each lies in its interval."""

INK, MUTED, RULE, PALE = "#1f2933", "#66727f", "#d9dee4", "#d3e2f2"
BLUE, ORANGE, RED, GREY = "#2b6cb0", "#dd7a1c", "#c53030", "#9aa5b1"
SETS = (BLUE, ORANGE)
"""Colours of the sets of layers, in their order."""
GROUP_COLOURS = {
    "array": "#2b6cb0",
    "drain": "#8fbce6",
    "load": "#2f8f7f",
    "store": "#97d1c3",
    "waiting": "#dd7a1c",
    "control": "#b4bcc6",
}
"""Colours of the groups of phases, in the order in which they are stacked."""
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


def percent(value: float) -> str:
    """Return a percentage with two digits."""
    return f"{value:.2g} %" if abs(value) < 10 else f"{value:.0f} %"


def signed(value: float, digits: int) -> str:
    """Return a number with its sign, of which nothing has none."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


@styled
def accuracy(sets: Sequence[Points], band: Callable[[float], float]) -> Figure:
    """Draw predicted over measured cycles, and the errors below.

    Args:
        sets: the layers.
        band: half of the 90 % interval of a prediction, cycles, of a layer that waits for nobody.
    """
    figure = Figure(figsize=HALF, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2]})
    every = np.concatenate([np.concatenate(item[1:3]) for item in sets])
    ends = every.min() / 1.3, every.max() * 1.3
    line = np.geomspace(*ends, 100)
    half = np.array([band(value) for value in line])
    top.fill_between(line, line - half, line + half, color=PALE, linewidth=0)
    top.plot(ends, ends, color=GREY, linewidth=0.8)
    bottom.fill_between(line, -100 * half / line, 100 * half / line, color=PALE, linewidth=0)
    bottom.axhline(0, color=GREY, linewidth=0.8)
    reach = 0.5
    for (name, measured, predicted, inside), colour in zip(sets, SETS, strict=False):
        error = 100 * (predicted / measured - 1)
        reach = max(reach, 1.15 * float(np.abs(error).max()))
        edges = [colour if within else RED for within in inside]
        dots = {"s": 14, "color": colour, "alpha": 0.65, "linewidths": 0}
        top.scatter(measured, predicted, **dots)
        bottom.scatter(measured, error, **dots)
        out = np.array(edges) == RED
        bottom.scatter(measured[out], error[out], s=26, facecolors="none", edgecolors=RED, linewidths=0.9)
        place = 0.94 - 0.1 * SETS.index(colour)
        top.text(0.03, place, f"{name} ({len(measured)})", color=colour, transform=top.transAxes, va="top")
    top.set(xscale="log", yscale="log", xlim=ends, ylim=ends, ylabel="predicted, cycles")
    bottom.set(ylim=(-reach, reach), xlabel="measured, cycles", ylabel="error, %")
    cycles_axis(top, "y")
    cycles_axis(bottom)
    return figure


@styled
def distribution(sets: Sequence[Points], limits: Mapping[str, float]) -> Figure:
    """Draw how often which error occurs: signed, and the share of layers below an absolute error.

    Args:
        sets: the layers.
        limits: what must hold, by name and in percent, as `calibrate.LIMITS`.
    """
    figure = Figure(figsize=HALF, layout="constrained")
    top, bottom = figure.subplots(2, 1)
    errors = [100 * (predicted / measured - 1) for _, measured, predicted, _ in sets]
    reach = max(0.1, float(np.percentile(np.abs(np.concatenate(errors)), 99)))
    edges = np.linspace(-reach, reach, 42)
    clipped = [np.clip(error, -reach, reach) for error in errors]
    top.hist(clipped, edges, stacked=True, color=SETS[: len(errors)], rwidth=0.9)
    top.axvline(0, color=INK, linewidth=0.8)
    top.grid(visible=False, axis="x")
    top.set(xlabel="error, % (beyond the 99th percentile: in the last bars)", ylabel="layers")
    for i, ((name, *_), error) in enumerate(zip(sets, errors, strict=True)):
        text = f"{name}: bias {signed(error.mean(), 2)} %"
        words = {"color": SETS[i], "fontsize": 8.5, "va": "top"}
        top.text(1.0, 0.98 - 0.13 * i, text, transform=top.transAxes, ha="right", **words)
        rising = np.sort(np.abs(error))
        share = 100 * np.arange(1, len(rising) + 1) / len(rising)
        bottom.step(np.maximum(rising, 1e-3), share, where="post", color=SETS[i], linewidth=1.6)
        ninety_five = float(np.percentile(np.abs(error), 95))
        bottom.plot(ninety_five, 95, "o", color=SETS[i], markersize=5)
        text = f"95 % of the {name}\nbelow {percent(ninety_five)}"
        bottom.text(0.015, 0.97 - 0.24 * i, text, transform=bottom.transAxes, **words)
    for name, limit in limits.items():
        short = {"mape_percent": "mean", "p95_percent": "p95", "max_percent": "max"}[name]
        bottom.axvline(limit, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        turned = {"color": MUTED, "fontsize": 7.5, "rotation": 90, "ha": "right", "va": "bottom"}
        bottom.text(limit, 2, f" limit of {short} ", **turned)
    bottom.set(xscale="log", ylim=(0, 101), xlabel="absolute error, %", ylabel="share of layers, %")
    bottom.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bottom.xaxis.set_minor_formatter(NullFormatter())
    return figure


@styled
def staircase(
    channels: Vector,
    model: Vector,
    slopes: Vector,
    measured: Mapping[int, int],
    block: int,
    label: str,
    slope: str,
) -> Figure:
    """Draw a layer's cycles over its channels, and their slope over blocks.

    Args:
        channels: (N,) channels, one more each.
        model: (N,) predicted cycles.
        slopes: (N - 1,) cycles per channel between neighbours.
        measured: measured cycles by channels.
        block: channels of a block.
        label: of the channel axis.
        slope: what the slope is.
    """
    figure = Figure(figsize=WIDE, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.3]})
    top.step(channels, model, where="mid", color=BLUE, linewidth=1.6)
    corners = _corners(channels, slopes)
    top.plot(channels[corners], model[corners], color=ORANGE, linewidth=1.1, linestyle=(0, (5, 2)))
    counts = sorted(measured)
    values = [measured[count] for count in counts]
    dots = {"markersize": 5.5, "markeredgecolor": "white", "zorder": 3, "clip_on": False}
    top.plot(counts, values, "o", color=INK, **dots)
    bottom.stairs(slopes, channels, color=ORANGE, linewidth=1.6, baseline=None)
    bottom.axhline(0, color=GREY, linewidth=0.8)
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    peak = 1.08 * max(model.max(), *measured.values())
    top.set(ylim=(0, peak), ylabel="cycles")
    bottom.set(xlabel=label, ylabel="cycles\nper channel", xlim=(channels[0], channels[-1]))
    bottom.set_xticks(np.arange(0, channels[-1] + 1, block * max(1, round(len(channels) / block / 12))))
    cycles_axis(top, "y")
    said = f"{slope}, over {block} channels"
    key(top, (("●", INK, "measured"), ("━", BLUE, "model"), ("╍", ORANGE, said)))
    return figure


def _corners(channels: Vector, slopes: Vector) -> npt.NDArray[np.int64]:
    """Return where the slope changes, and both ends."""
    changes = np.flatnonzero(np.diff(slopes)) + 1
    return np.concatenate([[0], changes, [len(channels) - 1]])


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


@styled
def phases(layers: Sequence[str], cycles: Mapping[str, Vector], measured: Vector) -> Figure:
    """Draw what the cycles of a network's layers are made of, a bar for each.

    Args:
        layers: their names, in their order.
        cycles: for each of GROUP_COLOURS, (len(layers),) predicted.
        measured: (len(layers),) cycles.
    """
    figure = Figure(figsize=(WIDE[0], 0.9 + 0.27 * len(layers)), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(layers))
    left = np.zeros(len(layers))
    for name, colour in GROUP_COLOURS.items():
        axis.barh(places, cycles[name], left=left, color=colour, height=0.72, linewidth=0)
        left = left + cycles[name]
    most = float(left.max())
    for place, total in enumerate(left.tolist()):
        real = float(measured[place])
        axis.vlines(real, place - 0.44, place + 0.44, color=INK, linewidth=1.4)
        text = f"{total:,.0f}   {signed(100 * (total / real - 1), 1)} %"
        axis.text(max(total, real) + 0.008 * most, place, text, va="center", fontsize=8.5)
    axis.set_yticks(places, layers)
    axis.set(xlim=(0, 1.14 * most), ylim=(len(layers) - 0.4, -0.6), xlabel="cycles")
    axis.grid(visible=False, axis="y")
    axis.spines["left"].set_visible(False)
    cycles_axis(axis)
    groups = [("■", colour, name) for name, colour in GROUP_COLOURS.items()]
    key(axis, [*groups, ("┃", INK, "measured")])
    return figure


@styled
def methods(ratios: Mapping[str, Vector]) -> Figure:
    """Draw how far each method's cycles are from the measured ones.

    Args:
        ratios: for each method, ours last, predicted / measured; NaN where it has no estimate.
    """
    figure = Figure(figsize=HALF, layout="constrained")
    axis = figure.subplots()
    names = list(ratios)
    for place, (name, found) in enumerate(ratios.items()):
        known = found[np.isfinite(found)]
        colour = BLUE if place == len(names) - 1 else MUTED
        axis.scatter(known, place + _spread(np.log(known)), s=13, color=colour, alpha=0.6, linewidths=0)
        mean = 100 * float(np.abs(known - 1).mean())
        worst = 100 * float(np.abs(known - 1).max())
        text = f"{name}: mean {percent(mean)}, worst {percent(worst)} ({len(known)} layers)"
        axis.text(0.0, place - 0.36, text, color=colour, transform=axis.get_yaxis_transform(), va="bottom")
    every = np.concatenate(list(ratios.values()))
    every = every[np.isfinite(every)]
    axis.axvline(1, color=INK, linewidth=0.8)
    ends = min(0.45, 0.8 * every.min()), max(1.6, 1.2 * every.max())
    axis.set(xscale="log", xlim=ends, ylim=(len(names) - 0.6, -0.5), yticks=[])
    ticks = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
    inside = [tick for tick in ticks if ends[0] <= tick <= ends[1]]
    axis.set_xticks(inside, [f"{tick:g}" for tick in inside])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("estimated / measured cycles")
    axis.spines["left"].set_visible(False)
    return figure


def _spread(values: Vector) -> Vector:
    """Return offsets, within 0.26, that draw crowded points apart."""
    levels = np.zeros(len(values))
    row: list[int] = []
    for place in np.argsort(values, kind="stable"):
        row = [other for other in row if values[place] - values[other] < 0.03]
        levels[place] = (len(row) + 1) // 2 * (-1 if len(row) % 2 else 1)
        row.append(int(place))
    return levels * min(0.035, 0.26 / max(1.0, float(np.abs(levels).max())))


@styled
def learning(curve: Sequence[tuple[int, float]], limit: float) -> Figure:
    """Draw the held-out error over the number of measurements in the fit.

    Args:
        curve: (measurements, mean absolute error in percent).
        limit: of the error, percent.
    """
    figure = Figure(figsize=HALF, layout="constrained")
    axis = figure.subplots()
    counts = [count for count, _ in curve]
    errors = [error for _, error in curve]
    places = np.arange(len(counts))
    axis.plot(places, errors, "-o", color=BLUE, linewidth=1.6, markersize=5)
    words: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "color": BLUE}
    for place, error in enumerate(errors):
        axis.annotate(percent(error), (place, error), (6, 8), **words)
    axis.axhline(limit, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axis.text(0, limit, f"limit: {limit:g} %", color=MUTED, fontsize=8, va="bottom")
    ends = 0.6 * min(*errors, limit), 2 * max(*errors, limit)
    axis.set(yscale="log", xlim=(-0.4, len(counts) - 0.6), ylim=ends)
    axis.set_ylabel("mean absolute error on held-out random layers, %")
    axis.set_xticks(places, [str(count) for count in counts])
    axis.set_xlabel("measurements in the fit (0: values from the pipeline's drawings)")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(visible=False, axis="x")
    return figure
