# SPDX-License-Identifier: Apache-2.0
"""The figures of the cost model's errors, each from plain numbers: no file is read, nothing is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from common.arrays import Floats, Int64
from mapping.report.style import (
    BLUE,
    GREY,
    HALF,
    INK,
    MUTED,
    ORANGE,
    PALE,
    PALE_BLUE,
    PALE_TEAL,
    RED,
    TEAL,
    WIDE,
    cycles_axis,
    key,
    percent,
    plain_numbers,
    signed,
    styled,
)

Points = tuple[str, Floats, Floats, Floats]
"""A set of layers: its name, measured cycles, predicted cycles, whether each lies in its interval."""

SETS = (BLUE, ORANGE)
"""Colours of the sets of layers, in their order."""
GROUP_COLOURS = {
    "array": BLUE,
    "drain": PALE_BLUE,
    "load": TEAL,
    "store": PALE_TEAL,
    "waiting": ORANGE,
    "control": "#b4bcc6",
}
"""Colours of the groups of phases, in the order in which they are stacked."""


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
    plain_numbers(bottom.xaxis, minor=False)
    return figure


@styled
def staircase(
    channels: Floats,
    model: Floats,
    slopes: Floats,
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
    plain_numbers(bottom.yaxis)
    peak = 1.08 * max(model.max(), *measured.values())
    top.set(ylim=(0, peak), ylabel="cycles")
    bottom.set(xlabel=label, ylabel="cycles\nper channel", xlim=(channels[0], channels[-1]))
    bottom.set_xticks(np.arange(0, channels[-1] + 1, block * max(1, round(len(channels) / block / 12))))
    cycles_axis(top, "y")
    said = f"{slope}, over {block} channels"
    key(top, (("●", INK, "measured"), ("━", BLUE, "model"), ("╍", ORANGE, said)))
    return figure


def _corners(channels: Floats, slopes: Floats) -> Int64:
    """Return where the slope changes, and both ends."""
    changes = np.flatnonzero(np.diff(slopes)) + 1
    return np.concatenate([[0], changes, [len(channels) - 1]])


@styled
def phases(layers: Sequence[str], cycles: Mapping[str, Floats], measured: Floats) -> Figure:
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
def methods(ratios: Mapping[str, Floats]) -> Figure:
    """Draw how far each method's cycles are from the measured ones.

    Args:
        ratios: for each method, ours last, predicted / measured; NaN where it has no estimate.
    """
    figure = Figure(figsize=HALF, layout="constrained")
    axis = figure.subplots()
    names = list(ratios)
    for place, (name, method) in enumerate(ratios.items()):
        known = method[np.isfinite(method)]
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


def _spread(values: Floats) -> Floats:
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
    plain_numbers(axis.yaxis, minor=False)
    axis.grid(visible=False, axis="x")
    return figure
