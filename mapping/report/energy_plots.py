# SPDX-License-Identifier: Apache-2.0
"""The figures of energy and area, each from plain numbers: no file is read, nothing is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from common.arrays import Floats
from mapping.energy.tables import GROUPS, Group
from mapping.report.style import (
    BLUE,
    MUTED,
    ORANGE,
    PALE_BLUE,
    PALE_TEAL,
    PURPLE,
    TEAL,
    WIDE,
    key,
    legend,
    plain_numbers,
    signed,
    styled,
)

UNIT_COLOURS = (BLUE, TEAL, ORANGE, PURPLE)
"""Colours of units, in their order."""
NETWORK_COLOURS = (BLUE, ORANGE, TEAL, PURPLE)
"""Colours of the networks that validation windows are of."""
ENERGY_COLOURS: Mapping[Group, str] = {
    "array": BLUE,
    "accumulators": PALE_BLUE,
    "requantiser": TEAL,
    "scratchpads": PALE_TEAL,
    "bus": PURPLE,
    "external_memory": ORANGE,
    "idle": "#b4bcc6",
}
"""Colours of the parts of an energy, in the order in which they are stacked."""
assert set(ENERGY_COLOURS) == set(GROUPS)

ARRAY, OTHERS = "array", "other cells"
CELL_COLOURS = {
    ARRAY: BLUE,
    "accumulators": PALE_BLUE,
    "requantiser": TEAL,
    "drain": "#c9649a",
    "DMA": PURPLE,
    "command queues": "#a99fcb",
    "registers": "#8c6d31",
    "counters and glue": "#c7b07e",
    OTHERS: "#b4bcc6",
}
"""Colours of groups of cells, in the order in which they are stacked; all that are not here are others."""
MEMORY_COLOURS = (ORANGE, "#eba768", "#f4cfae", "#b35a0c")
SMALL = 0.04
"""Share of a unit's cells below which a group of cells counts as others; the array never does."""
PALE_GREY = "#cbd2d9"
LOWER, VALUE, UPPER = range(3)
BLANK: Mapping[str, Any] = {"facecolor": "white", "linewidth": 0, "pad": 0.6}
"""What is behind words that stand on lines."""
SHARES, SHADES = (0.0, 0.5, 0.9), (BLUE, "#5e9bd6", "#a3c3e3")
"""Shares of zero weights that the energy over the width is drawn for, and their colours."""
UM2_PER_MM2 = 1e6


# ---------------------------------------------------------------------------------------------------- area
@dataclass(frozen=True)
class UnitBar:
    """The area of a unit in cells of a library.

    Attributes:
        label: of its bar.
        cells_um2: by group, with the group `ARRAY`.
        memories_um2: by name, as CACTI has them.
        open_memories_um2: by name, of published open macros; empty where the table has none.
    """

    label: str
    cells_um2: Mapping[str, float]
    memories_um2: Mapping[str, float]
    open_memories_um2: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_um2(self) -> float:
        """Cells and memories of CACTI."""
        return sum(self.cells_um2.values()) + sum(self.memories_um2.values())

    @property
    def open_um2(self) -> float | None:
        """Cells and memories of open macros; None where the table has none."""
        macros = sum(self.open_memories_um2.values())
        return sum(self.cells_um2.values()) + macros if macros else None


@styled
def area(libraries: Mapping[str, Sequence[UnitBar]]) -> Figure:
    """Draw what the area of units consists of: a row of panels per library, cells left, all right.

    Args:
        libraries: the units by library, the first at the top of its panels.
    """
    every = [bar for bars in libraries.values() for bar in bars]
    colours = {name: CELL_COLOURS[name] for name in _groups(every)}
    memories = list(dict.fromkeys(name for bar in every for name in bar.memories_um2))
    warm = dict(zip(memories, cycle(MEMORY_COLOURS), strict=False))
    heights = [1.1 + 0.27 * len(bars) for bars in libraries.values()]
    figure = Figure(figsize=(WIDE[0], 0.5 + sum(heights)), layout="constrained")
    grid = figure.subplots(len(libraries), 2, squeeze=False, gridspec_kw={"height_ratios": heights})
    for (library, bars), (left, right) in zip(libraries.items(), grid, strict=True):
        cells = [_cells_mm2(bar, list(colours)) for bar in bars]
        whole = [
            {ARRAY: parts[ARRAY], OTHERS: sum(parts.values()) - parts[ARRAY]}
            | {name: bar.memories_um2.get(name, 0.0) / UM2_PER_MM2 for name in memories}
            for bar, parts in zip(bars, cells, strict=True)
        ]
        _bars(left, [bar.label for bar in bars], cells, colours)
        _bars(right, [""] * len(bars), whole, colours | warm)
        left.set_title(f"{library}: cells")
        right.set_title(f"{library}: cells and memories")
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    handles += [Patch(color=colour, label=f"memory: {name}") for name, colour in warm.items()]
    _legend(figure, handles, 7)
    return figure


def _groups(bars: Sequence[UnitBar]) -> list[str]:
    """Return the groups of cells that are drawn, in their order: the array, the large ones, the others."""
    largest: dict[str, float] = {}
    for bar in bars:
        cells = sum(bar.cells_um2.values())
        for name, um2 in bar.cells_um2.items():
            largest[name] = max(largest.get(name, 0.0), um2 / cells)
    return [name for name in CELL_COLOURS if name in (ARRAY, OTHERS) or largest.get(name, 0.0) >= SMALL]


def _cells_mm2(bar: UnitBar, shown: Sequence[str]) -> dict[str, float]:
    """Return the area of the groups that are drawn, mm²; everything else is in the others."""
    parts = dict.fromkeys(shown, 0.0)
    for name, um2 in bar.cells_um2.items():
        parts[name if name in parts else OTHERS] += um2 / UM2_PER_MM2
    return parts


def _legend(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """Write a key above all panels, at most so many entries in a line."""
    legend(figure, handles, min(columns, len(handles)), handlelength=1.1, handletextpad=0.5)


def _bars(
    axis: Axes, labels: Sequence[str], bars: Sequence[Mapping[str, float]], colours: Mapping[str, str]
) -> None:
    """Draw stacked bars, mm², with their sum and the array's share beside them."""
    most = max(sum(parts.values()) for parts in bars)
    for place, parts in enumerate(bars):
        left, total = 0.0, sum(parts.values())
        for name, size in parts.items():
            axis.barh(place, size, left=left, color=colours[name], height=0.74, linewidth=0)
            left += size
        text = f"{total:.2f}, array {100 * parts[ARRAY] / total:.0f} %"
        axis.text(left + 0.01 * most, place, text, va="center", fontsize=8.5, bbox=BLANK)
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlim=(0, 1.36 * most), ylim=(len(labels) - 0.45, -0.55), xlabel="mm²")
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.grid(visible=False, axis="y")
    axis.spines["left"].set_visible(False)


# ------------------------------------------------------------------------------------------ energy of a MAC
@dataclass(frozen=True, eq=False)
class MacEnergy:
    """What a MAC in the array takes, by the share of zero weights.

    Attributes:
        label: of the unit.
        w_bits: width of its weights.
        shares: (N,) shares of zero weights, rising from 0 to 1.
        energy_pj: (3, N) lower, value, upper.
        usual: the share of zeros in the streams that were measured.
        known: least and largest share of zeros of what was measured; beyond them lines are extrapolated.
    """

    label: str
    w_bits: int
    shares: Floats
    energy_pj: Floats
    usual: float
    known: tuple[float, float]

    def knows(self, share: float) -> bool:
        """Return whether a share of zeros lies in what was measured."""
        return self.known[0] <= share <= self.known[1]

    def at(self, share: float) -> Floats:
        """Return lower, value and upper at a share of zeros."""
        return np.array([np.interp(share, self.shares, line) for line in self.energy_pj])


@styled
def per_mac(units: Sequence[MacEnergy]) -> Figure:
    """Draw the energy of a MAC over the width of the weights, and over their share of zeros.

    Args:
        units: the units, by falling width.
    """
    figure = Figure(figsize=(WIDE[0], 3.9), layout=ConstrainedLayoutEngine(wspace=0.04))
    ratios = [1.45, *(1.0 for _ in units)]
    left, *others = figure.subplots(1, 1 + len(units), sharey=True, gridspec_kw={"width_ratios": ratios})
    _over_widths(left, units)
    for axis, unit, colour in zip(others, units, cycle(UNIT_COLOURS), strict=False):
        for other in units:
            axis.plot(100 * other.shares, other.energy_pj[VALUE], color=PALE_GREY, linewidth=0.9)
        inside = np.linspace(*unit.known, 11)
        lower, value, upper = np.array([unit.at(share) for share in inside.tolist()]).T
        axis.fill_between(100 * inside, lower, upper, color=colour, alpha=0.2, linewidth=0)
        dashed: dict[str, Any] = {"linewidth": 1.1, "linestyle": (0, (3, 2))}
        axis.plot(100 * unit.shares, unit.energy_pj[VALUE], color=colour, **dashed)
        axis.plot(100 * inside, value, color=colour, linewidth=2.2)
        usual = unit.at(unit.usual)[VALUE]
        dot: dict[str, Any] = {"markersize": 6.5, "markeredgecolor": "white", "zorder": 4, "clip_on": False}
        axis.plot(100 * unit.usual, usual, "o", color=colour, **dot)
        axis.set_title(unit.label, color=colour)
        axis.set(xlabel="zero weights, %", xlim=(0, 100), xticks=(0, 25, 50, 75, 100))
    left.set_ylim(bottom=0)
    return figure


def _over_widths(axis: Axes, units: Sequence[MacEnergy]) -> None:
    """Draw the energy over the width of the weights, for some shares of zeros side by side."""
    rising = sorted(units, key=lambda unit: unit.w_bits)
    widths = np.array([unit.w_bits for unit in rising], float)
    middle = (len(SHARES) - 1) / 2
    entries = []
    for i, (share, colour) in enumerate(zip(SHARES, SHADES, strict=True)):
        lower, value, upper = np.array([unit.at(share) for unit in rising]).T
        known = np.array([unit.knows(share) for unit in rising])
        places = widths + 0.15 * (i - middle)
        axis.plot(places, value, color=colour, linewidth=1.2)
        dots: dict[str, Any] = {"s": 28, "edgecolors": colour, "linewidths": 1.2, "zorder": 3}
        axis.scatter(places, value, color=[colour if inside else "white" for inside in known], **dots)
        axis.vlines(places[known], lower[known], upper[known], color=colour, linewidth=1.2, alpha=0.8)
        entries.append(("●", colour, f"{100 * share:.0f} %"))
    entries[-1] = (*entries[-1][:2], f"{entries[-1][2]} zero weights")
    axis.set_xticks(sorted(set(widths.tolist())))
    ends = widths.min() - 0.8, widths.max() + 0.8
    axis.set(xlabel="bits of a weight", ylabel="pJ per MAC", xlim=ends)
    axis.grid(visible=False, axis="x")
    plain_numbers(axis.xaxis)
    plain_numbers(axis.yaxis)
    key(axis, entries)


@dataclass(frozen=True, eq=False)
class Validation:
    """Validation windows of a unit: a column with its accumulator and requantiser lane.

    Attributes:
        label: of the unit.
        networks: (N) where each is from.
        zero_shares: (N,) of its weights.
        measured: (3, N) on gates, lower, value and upper, pJ a cycle.
        modelled: (N,) by the model, pJ a cycle.
    """

    label: str
    networks: tuple[str, ...]
    zero_shares: Floats
    measured: Floats
    modelled: Floats

    @property
    def errors(self) -> Floats:
        """(N,) relative errors of the model, percent."""
        return np.asarray(100 * (self.modelled / self.measured[VALUE] - 1), float)


@styled
def validation(units: Sequence[Validation]) -> Figure:
    """Draw windows over their share of zeros: on gates, and the model's errors below; a column per unit."""
    figure = Figure(figsize=(WIDE[0], 5.0), layout="constrained")
    ratios: dict[str, Any] = {"height_ratios": [3, 2]}
    grid = figure.subplots(2, len(units), squeeze=False, sharex=True, sharey="row", gridspec_kw=ratios)
    networks = list(dict.fromkeys(name for unit in units for name in unit.networks))
    colours = dict(zip(networks, cycle(NETWORK_COLOURS), strict=False))
    for (top, bottom), unit in zip(grid.T, units, strict=True):
        shades = [colours[name] for name in unit.networks]
        percent, error = 100 * unit.zero_shares, unit.errors
        lower, value, upper = unit.measured
        top.vlines(percent, lower, upper, color=shades, linewidth=0.9, alpha=0.4)
        dots: dict[str, Any] = {"s": 18, "color": shades, "alpha": 0.85, "linewidths": 0, "zorder": 3}
        top.scatter(percent, value, **dots)
        bottom.axhline(0, color=MUTED, linewidth=0.8)
        bottom.scatter(percent, error, **dots)
        size = np.abs(error)
        bias = signed(float(error.mean()), 1)
        said = f"mean {size.mean():.1f} %, largest {size.max():.1f} %, bias {bias} %"
        top.set_title(unit.label)
        bottom.set_title(said, fontsize=8.5)
        bottom.set(xlabel="zero weights, %", xlim=(-4, 104))
    reach = 1.15 * max(5.0, *(float(np.abs(unit.errors).max()) for unit in units))
    grid[0, 0].set(ylabel="on gates, pJ a cycle", ylim=(0, None))
    grid[1, 0].set(ylabel="error of the model, %", ylim=(-reach, reach))
    marks: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 5}
    _legend(figure, [Line2D([], [], color=c, label=name, **marks) for name, c in colours.items()], 8)
    return figure


# ------------------------------------------------------------------------------------------- energy of layers
@dataclass(frozen=True, eq=False)
class NetworkBars:
    """What the layers of a network take on a unit.

    Attributes:
        label: of the unit.
        layers: (L) their names.
        parts_pj: (L,) for each of ENERGY_COLOURS.
        bounds_pj: lower, value and upper of all.
    """

    label: str
    layers: tuple[str, ...]
    parts_pj: Mapping[Group, Floats]
    bounds_pj: tuple[float, float, float]


@styled
def breakdown(units: Sequence[NetworkBars], scale: tuple[float, str]) -> Figure:
    """Draw what the energy of a network's layers consists of: a panel per unit, a bar per layer.

    Args:
        units: the same network on each.
        scale: pJ in the unit of energy that is shown, and its name.
    """
    size, name = scale
    layers = list(dict.fromkeys(layer for unit in units for layer in unit.layers))
    figure = Figure(figsize=(WIDE[0], 1.5 + 0.26 * len(layers)), layout="constrained")
    (row,) = figure.subplots(1, len(units), squeeze=False, sharex=True)
    most = max(float(np.sum([*unit.parts_pj.values()], axis=0).max()) for unit in units) / size
    for axis, unit in zip(row, units, strict=True):
        places = np.array([layers.index(layer) for layer in unit.layers])
        left = np.zeros(len(places))
        for group, colour in ENERGY_COLOURS.items():
            values = unit.parts_pj[group] / size
            axis.barh(places, values, left=left, color=colour, height=0.74, linewidth=0)
            left = left + values
        for place, total in zip(places.tolist(), left.tolist(), strict=True):
            axis.text(total + 0.015 * most, place, f"{total:,.1f}", va="center", fontsize=8, color=MUTED)
        low, value, high = (pj / size for pj in unit.bounds_pj)
        axis.set_title(f"{unit.label}\nall {value:,.1f} {name} ({low:,.1f} to {high:,.1f})", fontsize=9)
        axis.set_yticks(range(len(layers)), layers if axis is row[0] else [""] * len(layers))
        axis.tick_params(axis="y", labelsize=8.5)
        axis.set(ylim=(len(layers) - 0.4, -0.6), xlim=(0, 1.2 * most), xlabel=name)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.grid(visible=False, axis="y")
        axis.spines["left"].set_visible(False)
    groups = ENERGY_COLOURS.items()
    _legend(figure, [Patch(color=colour, label=group.replace("_", " ")) for group, colour in groups], 8)
    return figure
