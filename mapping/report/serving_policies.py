# SPDX-License-Identifier: Apache-2.0
"""Policies side by side over seeds: their figures with intervals, the chart, and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mapping.report import html
from mapping.report.search_comparison import student_interval
from mapping.report.style import BLUE, GREY, INK, ORANGE, PURPLE, RED, TEAL, WIDE, legend, styled, svg
from mapping.scheduling.bounds import Optimum
from mapping.scheduling.metrics import Metrics
from mapping.scheduling.workload import Workload

UNKNOWN = Optimum(None, None)
"""No optimum is known."""


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: over the seeds.
        half: half of the 95 % interval of the mean (Student's t); None: one seed only.
    """

    mean: float
    half: float | None

    def text(self, digits: int) -> str:
        """Return the mean, with plus or minus half of the interval where there is one."""
        beside = "" if self.half is None else f" ± {self.half:,.{digits}f}"
        return f"{self.mean:,.{digits}f}{beside}"


def spread(runs: Sequence[Metrics], value: Callable[[Metrics], float | None]) -> Spread | None:
    """Return a figure of several runs; None: not all of them have it."""
    values = [value(run) for run in runs]
    known = [float(item) for item in values if item is not None and not np.isnan(item)]
    if not known or len(known) < len(values):
        return None
    mean = float(np.mean(known))
    return Spread(mean, student_interval(known)[1] - mean if len(known) > 1 else None)


def mean_response(run: Metrics) -> float:
    """Return the mean response of all requests, cycles."""
    return run.total.mean


def p95_response(run: Metrics) -> float:
    """Return the 95th percentile of all responses, cycles."""
    return run.total.p95


def late_percent(run: Metrics) -> float | None:
    """Return the percentage of requests that missed their deadline."""
    return run.total.late_percent


def request_uj(run: Metrics) -> float | None:
    """Return the energy of a request that was run, µJ: everything, idle units included."""
    return None if run.energy_uj is None or not run.total.served else run.energy_uj / run.total.served


def at_work(unit: str) -> Callable[[Metrics], float]:
    """Return what gives the percentage of the time in which a unit was at work."""
    return lambda run: 100.0 * run.utilisation[unit]


@styled
def policies_chart(
    figures: Mapping[str, Sequence[Metrics]], scale: float, unit: str, best: Optimum
) -> Figure:
    """Draw responses, late requests, energy and utilisation of each policy, with 95 % intervals over seeds.

    Args:
        figures: the figures of each policy, one for each seed.
        scale: cycles of a step of the axis of responses.
        unit: what that axis counts.
        best: what no policy beats.
    """
    figure = Figure((WIDE[0], 1.6 + 0.36 * len(figures)), layout="constrained")
    axes = figure.subplots(1, 4, sharey=True, width_ratios=(1.6, 1, 1, 1))
    runs = list(figures.values())
    _dots(axes[0], runs, mean_response, BLUE, scale)
    _dots(axes[0], runs, p95_response, ORANGE, scale)
    _dots(axes[1], runs, late_percent, INK)
    _dots(axes[2], runs, request_uj, INK)
    units = list(runs[0][0].utilisation)
    colours = (TEAL, PURPLE, RED, GREY)
    for i, name in enumerate(units):
        _dots(
            axes[3], runs, at_work(name), colours[i % len(colours)], offset=0.14 * (i - (len(units) - 1) / 2)
        )
    for axis, value in ((axes[0], best.mean), (axes[1], best.late_percent)):
        if value is not None:
            axis.axvline(value / (scale if axis is axes[0] else 1.0), color=GREY, ls="--", linewidth=1)
    axes[0].set_yticks(range(len(figures)), list(figures))
    axes[0].set_ylim(len(figures) - 0.5, -0.5)
    for axis, label in zip(
        axes, (f"response, {unit}", "late, %", "energy of a request, µJ", "at work, %"), strict=True
    ):
        axis.set_xlabel(label)
        axis.set_xlim(left=0)
    handles = [_dot(BLUE, "mean"), _dot(ORANGE, "95th percentile")]
    if best != UNKNOWN:
        handles.append(Line2D([], [], color=GREY, ls="--", label="optimum of the mean, of late ones"))
    handles += [_dot(colours[i % len(colours)], f"{name} at work") for i, name in enumerate(units)]
    legend(figure, handles, len(handles))
    return figure


def _dot(colour: str, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker="o", ls="", markersize=5, label=label)


def _dots(
    axis: Axes,
    runs: Sequence[Sequence[Metrics]],
    value: Callable[[Metrics], float | None],
    colour: str,
    scale: float = 1.0,
    offset: float = 0.0,
) -> None:
    """Draw a figure of each policy with its interval; a policy without it has no dot."""
    for row, item in enumerate(runs):
        found = spread(item, value)
        if found is not None:
            half = None if found.half is None else found.half / scale
            axis.errorbar(
                found.mean / scale, row + offset, xerr=half, fmt="o", color=colour, markersize=5, capsize=3,
                elinewidth=1.1, zorder=3,
            )  # fmt: skip


def policies_page(
    figures: Mapping[str, Sequence[Metrics]], workload: Workload, clock: str, first_seed: int,
    best: Optimum = UNKNOWN,
) -> str:  # fmt: skip
    """Return the page of several policies or seeds.

    Args:
        figures: the figures of each policy, one for each seed.
        workload: the workload.
        clock: the clock's name.
        first_seed: the first seed.
        best: what no policy beats.
    """
    scale = 1.0 if workload.clock_mhz is None else 1000.0 * workload.clock_mhz
    unit = "cycles" if workload.clock_mhz is None else "ms"
    seeds = len(next(iter(figures.values())))
    parts = [
        html.figure(
            "policies", "policies side by side", svg(policies_chart(figures, scale, unit, best)),
            "<b>Policies.</b> Means over seeds; bars are their 95 % intervals." if seeds > 1
            else "<b>Policies.</b> One seed: there are no intervals.",
        ),
        "<h2>Figures</h2>\n",
        _table(figures, scale, unit, best),
        "<h2>About these runs</h2>\n",
        _about(workload, clock, first_seed, seeds),
    ]  # fmt: skip
    means = {name: spread(runs, mean_response) for name, runs in figures.items()}
    known = {name: item.mean for name, item in means.items() if item is not None}
    lead = "No policy ran a request."
    if known:
        soonest = min(known, key=lambda name: known[name])
        mean = f"{known[soonest] / scale:,.3f} {unit}"
        lead = f"{soonest} responds soonest: {mean} on average. Predicted, not measured."
    return html.document("npuloop: policies", "Which policy serves these requests best?", escape(lead), parts)


def _table(figures: Mapping[str, Sequence[Metrics]], scale: float, unit: str, best: Optimum) -> str:
    units = list(next(iter(figures.values()))[0].utilisation)
    digits = 0 if scale == 1 else 3
    columns: list[tuple[str, Callable[[Metrics], float | None], int]] = [
        (f"mean response, {unit}", lambda run: run.total.mean / scale, digits),
        (f"95 %, {unit}", lambda run: run.total.p95 / scale, digits),
        ("late, %", late_percent, 1),
        ("energy of a request, µJ", request_uj, 2),
        *((f"{name} at work, %", at_work(name), 1) for name in units),
        ("longer than alone, %", lambda run: run.contention_percent, 1),
        ("accuracy drop, points", lambda run: run.total.drop_points, 2),
    ]
    rows = []
    for policy, runs in figures.items():
        found = [(spread(runs, value), places) for _, value, places in columns]
        rows.append([escape(policy), *("" if item is None else item.text(places) for item, places in found)])
    if best != UNKNOWN:
        mean = "" if best.mean is None else f"{best.mean / scale:,.{digits}f}"
        late = "" if best.late_percent is None else f"{best.late_percent:.1f}"
        rows.append(["optimum", mean, "", late, *[""] * (len(columns) - 3)])
    note = (
        '<p class="note">± is half of the 95 % interval of the mean over seeds (Student\'s t). Energy is '
        "that of everything until the last interrupt, idle units included, over the requests that were run."
    )
    if best != UNKNOWN:
        note += " The optimum knows the future and no contention: no policy is below."
    return html.table(["policy", *(name for name, _, _ in columns)], rows, len(columns)) + note + "</p>\n"


def _about(workload: Workload, clock: str, first_seed: int, seeds: int) -> str:
    rows = [
        ["workload", f"<code>{escape(workload.source)}</code>"],
        ["clock", escape(clock)],
        ["seeds", f"{first_seed}" if seeds == 1 else f"{first_seed} to {first_seed + seeds - 1}"],
    ]
    return html.table(["what", "value"], rows, 0) + f'<p class="note">{escape(html.colophon())}.</p>\n'
