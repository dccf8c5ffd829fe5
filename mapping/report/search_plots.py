# SPDX-License-Identifier: Apache-2.0
"""The figures of a mapping study, each from plain numbers: no file is read, nothing is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from common.arrays import Floats
from mapping.report.style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    RULE,
    TEAL,
    WIDE,
    cycles_axis,
    key,
    legend,
    plain_numbers,
    signed,
    styled,
)

SEARCHED = "searched"
PINK, BROWN = "#c9649a", "#8c6d31"
UNIT_COLOURS = (TEAL, ORANGE, PURPLE, GREY)
"""Colours of the units, in their order: of their channels, and of networks that run on one alone."""
LINEAR_POINTS = 12
"""Points of accuracy that a linear axis shows well; beyond them the axis is that of the error's logarithm."""
ACCURACY_TICKS = (0, 20, 40, 60, 80, 90, 95, 98, 99, 99.5, 100)
CLOSE = 9
"""Points between marks that would hide each other."""
EPSILON = 0.3
"""Percent below which an error is not told from none, on the logarithmic axis."""


class Appearance(NamedTuple):
    """How points of a kind are drawn.

    Attributes:
        colour: of points and lines.
        marker: matplotlib's.
        mark: the same for a line of text.
    """

    colour: str
    marker: str
    mark: str


APPEARANCES = {
    SEARCHED: Appearance(BLUE, "o", "●"),
    "first_last": Appearance(PURPLE, "D", "◆"),
    "cheapest": Appearance(INK, "v", "▼"),
    "layerwise": Appearance(PINK, "P", "✚"),
    "random": Appearance(MUTED, "X", "✖"),
}
UNIT_APPEARANCES = (Appearance(TEAL, "s", "■"), Appearance(ORANGE, "^", "▲"))
OTHER_APPEARANCES = (Appearance(BROWN, "<", "◀"), Appearance(GREY, ">", "▶"), Appearance(RED, "p", "⬟"))


def appearances_of(kinds: Sequence[str], units: Sequence[str]) -> dict[str, Appearance]:
    """Return how each kind is drawn; a unit's name stands for everything on that unit."""
    known = APPEARANCES | dict(zip(units, UNIT_APPEARANCES, strict=False))
    others = [kind for kind in dict.fromkeys(kinds) if kind not in known]
    known |= {kind: OTHER_APPEARANCES[i % len(OTHER_APPEARANCES)] for i, kind in enumerate(others)}
    return {kind: known[kind] for kind in dict.fromkeys(kinds)}


@dataclass(frozen=True)
class Mark:
    """A point with the runs that it is the mean of.

    Attributes:
        kind: for its appearance.
        label: what is written beside it; empty for nothing.
        x: cycles, or energy.
        accuracy, low, high: percent, and its interval.
        runs: x and accuracy of each run.
    """

    kind: str
    label: str
    x: float
    accuracy: float
    low: float
    high: float
    runs: tuple[tuple[float, float], ...]


@styled
def trade(
    marks: Sequence[Mark],
    line: Sequence[tuple[float, float]],
    appearances: Mapping[str, Appearance],
    words: Mapping[str, str],
    label: str,
) -> Figure:
    """Draw accuracy over what it costs.

    Args:
        marks: the points.
        line: x and accuracy of those that no other searched point beats, by x.
        appearances: of each kind, in the order of the key.
        words: name of each kind.
        label: of the x axis.
    """
    figure = Figure(figsize=WIDE, layout="constrained")
    axis = figure.subplots()
    values = [value for mark in marks for value in (mark.low, mark.high, *(run[1] for run in mark.runs))]
    accuracy_axis(axis, min(values), max(values))
    places = [x for mark in marks for x in (mark.x, *(run[0] for run in mark.runs))]
    margin = 0.05 * (max(places) - min(places)) or 0.05 * max(places)
    axis.set(xlim=(min(places) - margin, max(places) + margin), xlabel=label)
    cycles_axis(axis)
    axis.plot(*np.array(line).reshape(-1, 2).T, color=BLUE, linewidth=1.4, zorder=2)
    shifts = _side_by_side(axis, marks)
    for mark, shift in zip(marks, shifts, strict=True):
        colour, shape, _ = appearances[mark.kind]
        if len(mark.runs) > 1:
            xs, ys = zip(*mark.runs, strict=True)
            axis.scatter(xs, ys, s=11, color=colour, marker=shape, alpha=0.35, linewidths=0, zorder=1)
        moved: dict[str, Any] = {
            "color": colour,
            "transform": axis.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans),
        }
        axis.vlines(mark.x, mark.low, mark.high, linewidth=1.1, alpha=0.75, zorder=2, **moved)
        dot: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.7, "zorder": 4}
        axis.plot(mark.x, mark.accuracy, shape, markersize=8, **dot, **moved)
    _label(axis, marks, shifts, line, appearances)
    key(axis, [(item.mark, item.colour, words[kind]) for kind, item in appearances.items()])
    return figure


def _side_by_side(axis: Axes, marks: Sequence[Mark]) -> list[float]:
    """Return by how many points to the right each is drawn, so that none hides another."""
    where = axis.transData.transform([(mark.x, mark.accuracy) for mark in marks]) * 72 / axis.figure.dpi
    groups: list[list[int]] = []
    for i in np.argsort(where[:, 0], kind="stable").tolist():
        near = (group for group in groups if any(np.abs(where[i] - where[j]).max() < CLOSE for j in group))
        group = next(near, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    shifts = [0.0] * len(marks)
    for group in groups:
        for place, i in enumerate(group):
            shifts[i] = CLOSE * (place - (len(group) - 1) / 2)
    return shifts


def _label(
    axis: Axes,
    marks: Sequence[Mark],
    shifts: Sequence[float],
    line: Sequence[tuple[float, float]],
    appearances: Mapping[str, Appearance],
) -> None:
    """Write the labels of points, each at the corner with the most room."""
    scale = 72 / axis.figure.dpi
    steps = np.linspace(0, 1, 40)[:, np.newaxis]
    ways = [(1 - steps) * start + steps * np.array(end) for start, end in pairwise(line)]
    taken = [scale * axis.transData.transform(way) for way in ways]
    for mark, shift in zip(marks, shifts, strict=True):
        bar = [(mark.x, y) for y in (mark.accuracy, *np.linspace(mark.low, mark.high, 40))]
        taken.append(scale * axis.transData.transform(bar) + (shift, 0))
    for mark, shift in zip(marks, shifts, strict=True):
        if not mark.label:
            continue
        here = scale * axis.transData.transform((mark.x, mark.accuracy)) + (shift, 0)
        every = np.concatenate(taken)
        others = every[np.abs(every - here)[:, 0] > 0.5]  # its own bar is as far from all corners
        half = 3 + 2.9 * len(mark.label)  # of the label's width, with some space
        sides = [(x, y) for y in (1, -1) for x in (-1, 1)]
        middles = [np.add(here, (x * (4 + half), 9 * y)) for x, y in sides]
        away = [np.abs(others - middle) / (half, 6) for middle in middles]
        room = [float(gap.max(axis=1).min(initial=2)) for gap in away]
        best = int(np.argmax(np.minimum(room, 1.2)))  # where several have enough, the first
        x, y = sides[best]
        place: dict[str, Any] = {"textcoords": "offset points", "ha": "right" if x < 0 else "left"}
        place |= {"va": "bottom" if y > 0 else "top", "color": appearances[mark.kind].colour, "fontsize": 8.5}
        axis.annotate(mark.label, (mark.x, mark.accuracy), (shift + 5 * x, 4 * y), **place)
        taken.append(middles[best] + np.array([(-half / 2, 0), (0, 0), (half / 2, 0)]))


def accuracy_axis(axis: Axes, low: float, high: float) -> None:
    """Give a panel a y axis for accuracies from `low` to `high`, percent.

    A wide range gets the logarithm of the error, which shows 95 % beside 99 % as clearly as 60 % beside 92 %.
    """
    if high - low <= LINEAR_POINTS:
        margin = max(0.3, 0.06 * (high - low))
        axis.set(ylim=(low - margin, min(high + margin, 100 + margin / 2)), ylabel="accuracy, %")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value <= 100 else ""))
        return
    axis.set_yscale("function", functions=(_stretched, _plain))
    bottom = float(_plain(_stretched(np.array(low)) - 0.12))
    axis.set(ylim=(max(bottom, 0.0), min(100.0 + EPSILON / 4, high + 0.1 * (100 - high) + EPSILON / 4)))
    axis.set_ylabel("accuracy, %\n(logarithm of the error)")
    bottom, top = axis.get_ylim()
    axis.set_yticks([tick for tick in ACCURACY_TICKS if bottom <= tick <= top])
    plain_numbers(axis.yaxis, minor=False)


def _stretched(accuracy: Floats) -> Floats:
    return np.asarray(-np.log(np.maximum(100 + EPSILON - np.asarray(accuracy, float), 1e-3)), float)


def _plain(stretched: Floats) -> Floats:
    return np.asarray(100 + EPSILON - np.exp(-np.asarray(stretched, float)), float)


@styled
def prediction(
    names: Sequence[str],
    kinds: Sequence[str],
    measured: Floats,
    predicted: Floats,
    low: Floats,
    high: Floats,
    appearances: Mapping[str, Appearance],
    words: Mapping[str, str],
) -> Figure:
    """Draw predicted beside measured cycles, and the errors with their intervals.

    Args:
        names, kinds: (N) of the points.
        measured, predicted: (N,) cycles.
        low, high: (N,) ends of the 90 % interval of each prediction, cycles.
        appearances: of each kind, in the order of the key.
        words: name of each kind.
    """
    figure = Figure(figsize=(WIDE[0], 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [2, 3]})
    margin = 0.05 * float(np.ptp([*measured, *predicted])) or 0.05 * float(measured.max())
    ends = min(measured.min(), predicted.min()) - margin, max(measured.max(), predicted.max()) + margin
    left.plot(ends, ends, color=GREY, linewidth=0.8)
    error, below, above = (100 * (values / measured - 1) for values in (predicted, low, high))
    right.axhline(0, color=GREY, linewidth=0.8)
    for kind, (colour, shape, _) in appearances.items():
        of_kind = [i for i, other in enumerate(kinds) if other == kind]
        dots: dict[str, Any] = {"color": colour, "marker": shape, "s": 30, "alpha": 0.8, "linewidths": 0}
        left.scatter(measured[of_kind], predicted[of_kind], **dots)
        right.vlines(measured[of_kind], below[of_kind], above[of_kind], color=colour, linewidth=1, alpha=0.5)
        right.scatter(measured[of_kind], error[of_kind], **dots)
    outside = (measured < low) | (measured > high)
    ring: dict[str, Any] = {"s": 85, "facecolors": "none", "edgecolors": RED, "linewidths": 1.1}
    right.scatter(measured[outside], error[outside], **ring)
    worst = int(np.argmax(np.abs(error)))
    late = measured[worst] > (ends[0] + ends[1]) / 2
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": "right" if late else "left"}
    text = f"{names[worst]}: {signed(float(error[worst]), 2)} %"
    right.annotate(text, (measured[worst], error[worst]), (-9 if late else 9, 0), fontsize=8.5, **place)
    reach = 1.15 * max(0.1, *np.abs([error, below, above]).ravel().tolist())
    left.set(xlim=ends, ylim=ends, xlabel="measured, cycles", ylabel="predicted, cycles")
    right.set(xlim=ends, ylim=(-reach, reach), xlabel="measured, cycles", ylabel="error, %")
    plain_numbers(right.yaxis)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        cycles_axis(axis)
    left.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    cycles_axis(left, "y")
    _legend(figure, [_dot(item, words[kind]) for kind, item in appearances.items()])
    return figure


def _dot(appearance: Appearance, words: str) -> Line2D:
    return Line2D(
        [], [], color=appearance.colour, marker=appearance.marker, markersize=6, linestyle="", label=words
    )


def _legend(figure: Figure, handles: Sequence[Line2D | Patch]) -> None:
    """Write a key above all panels, in as many lines as it needs."""
    widths = [0.5 + 0.073 * len(str(handle.get_label())) for handle in handles]
    columns = len(handles)
    while columns > 1 and sum(max(widths[i::columns]) for i in range(columns)) > figure.get_figwidth():
        columns -= 1
    legend(figure, handles, columns, handlelength=1.2, handletextpad=0.4, columnspacing=1.4)


@dataclass(frozen=True)
class Row:
    """The split of a point's layers.

    Attributes:
        label: of the row.
        channels: by layer, output channels on each unit by name.
    """

    label: str
    channels: Mapping[str, Mapping[str, int]]


@styled
def splits(rows: Sequence[Row], layers: Sequence[str], units: Sequence[str]) -> Figure:
    """Draw which share of every layer's channels each unit makes: a row per point, a column per layer.

    Args:
        rows: the points, from the top.
        layers: names of the columns; a row may lack some.
        units: names of the units, the first is drawn leftmost.
    """
    longest = max(map(len, layers))
    turned = 0.075 * longest * len(layers) > 10
    head = 0.5 + (0.055 * min(longest, 24) if turned else 0.15)
    figure = Figure(figsize=(WIDE[0], head + 0.3 * len(rows) + 0.2), layout="constrained")
    axis = figure.subplots()
    wide = 0.88
    numbers = len(layers) <= 16
    colours = dict(zip(units, cycle(UNIT_COLOURS), strict=False))
    for place, row in enumerate(rows):
        for column, layer in enumerate(layers):
            channels = row.channels.get(layer, {})
            total = sum(channels.values())
            left = column - wide / 2
            for unit in units:
                share = wide * channels.get(unit, 0) / total if total else 0.0
                if share:
                    axis.barh(place, share, 0.74, left, color=colours[unit], linewidth=0)
                if share > 0.2 and numbers:
                    middle: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
                    text = str(channels[unit])
                    axis.text(left + share / 2, place, text, color="white", fontsize=7.5, **middle)
                left += share
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    axis.set(xlim=(-0.5, len(layers) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    short = [name if len(name) <= 24 else f"…{name[-23:]}" for name in layers]
    axis.xaxis.tick_top()
    axis.set_xticks(range(len(layers)), short)
    if turned:
        for tick in axis.get_xticklabels():
            tick.set(rotation=50, ha="left", rotation_mode="anchor")
    axis.tick_params(axis="x", length=0, labelsize=8)
    axis.tick_params(axis="y", labelsize=8.5)
    axis.grid(visible=False)
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    _legend(figure, [Patch(color=colours[unit], label=f"channels on {unit}") for unit in units])
    return figure


@dataclass(frozen=True, eq=False)
class Curve:
    """A training.

    Attributes:
        phase: the column it is drawn in.
        kind, setting: for its colour; an empty kind is before any choice.
        epochs: (N,) numbers.
        values: by QUANTITIES, (N,); NaN where there is none.
    """

    phase: str
    kind: str
    setting: str
    epochs: Floats
    values: Mapping[str, Floats]


QUANTITIES = ("loss", "accuracy", "cost")
"""What is drawn of a training."""


@styled
def training(
    curves: Sequence[Curve], appearances: Mapping[str, Appearance], words: Mapping[str, str]
) -> Figure:
    """Draw loss, accuracy and cost over epochs: a row for each, a column for each phase.

    Args:
        curves: the trainings.
        appearances: of each kind.
        words: name of each kind.
    """
    phases = list(dict.fromkeys(curve.phase for curve in curves))
    shown = [name for name in QUANTITIES if any(_known(curve, name).any() for curve in curves)] or ["loss"]
    colours = _curve_colours(curves, appearances)
    figure = Figure(figsize=(WIDE[0], 0.6 + 1.9 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), len(phases), squeeze=False, sharey="row", sharex="col")
    for row, name in zip(grid, shown, strict=True):
        for axis, phase in zip(row, phases, strict=True):
            of_phase = [curve for curve in curves if curve.phase == phase]
            for curve in of_phase:
                known = _known(curve, name)
                line: dict[str, Any] = {"color": colours[curve.kind, curve.setting], "linewidth": 1.1}
                axis.plot(curve.epochs[known], curve.values[name][known], alpha=0.8, **line)
            if not any(_known(curve, name).any() for curve in of_phase):
                axis.text(0.5, 0.5, f"no {name} here", color=MUTED, ha="center", transform=axis.transAxes)
        values = np.concatenate([curve.values[name][_known(curve, name)] for curve in curves])
        _training_axis(row[0], name, values)
    for axis, phase in zip(grid[0], phases, strict=True):
        axis.set_title(phase)
    for axis in grid[-1]:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    handles = []
    for (kind, setting), colour in colours.items():
        label = f"{words.get(kind, kind)} {setting}".strip() or "before any choice"
        handles.append(Line2D([], [], color=colour, linewidth=1.8, label=label))
    _legend(figure, handles)
    return figure


def _known(curve: Curve, name: str) -> Any:
    return np.isfinite(curve.values[name])


def _training_axis(axis: Axes, name: str, values: Floats) -> None:
    axis.set_ylabel(name)
    if name == "cost":
        cycles_axis(axis, "y")
    if name == "accuracy" and len(values):
        accuracy_axis(axis, float(values.min()), float(values.max()))
    if name == "loss" and len(values) and values.min() > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        plain_numbers(axis.yaxis, minor=False)


def _curve_colours(
    curves: Sequence[Curve], appearances: Mapping[str, Appearance]
) -> dict[tuple[str, str], str]:
    """Return the colour of every kind and setting: several settings of a kind from pale to full."""
    order = ["", *appearances]
    every = dict.fromkeys((curve.kind, curve.setting) for curve in curves)
    pairs = sorted(every, key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order))
    drawn: dict[tuple[str, str], str] = {}
    for kind, setting in pairs:
        settings = [other for name, other in pairs if name == kind]
        full = appearances[kind].colour if kind in appearances else GREY
        shades = LinearSegmentedColormap.from_list("shades", [RULE, full])
        place = (settings.index(setting) + 1) / len(settings)
        drawn[kind, setting] = to_hex(shades(0.25 + 0.75 * place))
    return drawn
