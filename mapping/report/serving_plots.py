# SPDX-License-Identifier: Apache-2.0
"""The figures of a served workload: what ran where and when, how requests responded, what it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mapping.report.style import (
    BLUE,
    GREY,
    HALF,
    INK,
    ORANGE,
    PURPLE,
    RED,
    TEAL,
    WIDE,
    cycles_axis,
    legend,
    styled,
)
from mapping.scheduling.measured import Measured, error_percent, pairs_of
from mapping.scheduling.metrics import Metrics, busy_cycles
from mapping.scheduling.simulate import Run, Served

COLOURS = (BLUE, ORANGE, TEAL, PURPLE, "#c9649a", "#8c6d31", INK, GREY)
"""Colours of the streams, in their order."""
MOST_BARS = 400
"""Requests that the chart of units shows: the first."""
ENERGY_COLOURS = (INK, GREY, BLUE, TEAL, ORANGE, PURPLE, "#c9649a", "#8c6d31", RED)


def stream_colours(run: Run) -> dict[str, str]:
    """Return the colour of each stream."""
    names = dict.fromkeys(request.arrival.stream.name for request in run.requests)
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


@styled
def units_chart(runs: Mapping[str, Run], scale: float, unit: str) -> Figure:
    """Draw what each unit ran: a bar for each section of each request, and a tick below at its deadline.

    Requests that missed their deadline have a red edge.

    Args:
        runs: the same requests, predicted and perhaps measured, by the titles of their panels.
        scale: cycles of a step of the axis.
        unit: what the axis counts.
    """
    units = next(iter(runs.values())).deployment.system.units
    height = (0.3 if len(runs) > 1 else 0.0) + 0.2 + 0.45 * len(units)
    figure = Figure((WIDE[0], 1.0 + height * len(runs)), layout="constrained")
    axes = figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
    colours = stream_colours(next(iter(runs.values())))
    for axis, (title, run) in zip(axes, runs.items(), strict=True):
        _bars(axis, run, scale, colours)
        axis.set_yticks(range(len(units)), units)
        axis.set_ylim(len(units) - 0.5, -0.5)
        axis.grid(visible=False, axis="y")
        if len(runs) > 1:
            axis.set_title(title)
    axes[-1].set_xlabel(unit)
    handles: list[Artist] = [Patch(color=colour, label=name) for name, colour in colours.items()]
    handles.append(Patch(facecolor="white", edgecolor=RED, label="late"))
    handles.append(Line2D([], [], color=GREY, marker="|", ls="", markersize=6, label="deadline"))
    legend(figure, handles, len(handles))
    return figure


def _bars(axis: Axes, run: Run, scale: float, colours: Mapping[str, str]) -> None:
    units = run.deployment.system.units
    last = 0.0
    for request in shown(run):
        colour = colours[request.arrival.stream.name]
        late = request.in_time is False
        for start, name, end in ((span.start, *item) for span in request.spans for item in span.ends.items()):
            axis.barh(
                units.index(name), (end - start) / scale, left=start / scale, height=0.62,
                color=colour, edgecolor=RED if late else "white", linewidth=1.4 if late else 0.4,
                zorder=3 if late else 2,
            )  # fmt: skip
            last = max(last, end / scale)
            deadline = request.arrival.stream.deadline
            if deadline is not None and request.arrived is not None:
                place = (request.arrived + deadline) / scale
                axis.plot([place] * 2, [units.index(name) + d for d in (0.35, 0.46)], color=colour, lw=1.0)
    axis.set_xlim(0, 1.01 * last if last else 1.0)


def shown(run: Run) -> Sequence[Served]:
    """Return the requests that the chart of units shows."""
    ran = sorted((r for r in run.requests if r.start is not None), key=lambda request: request.start or 0.0)
    return ran[:MOST_BARS]


@styled
def response_curves(run: Run, scale: float, unit: str) -> Figure:
    """Draw for each stream the share of its requests that has responded, and its deadline.

    Requests that were dropped never respond: their curve ends below 1.

    Args:
        run: the run.
        scale: cycles of a step of the axis.
        unit: what the axis counts.
    """
    figure = Figure(HALF, layout="constrained")
    axis = figure.subplots()
    for name, colour in stream_colours(run).items():
        _curve(axis, [r for r in run.requests if r.arrival.stream.name == name], scale, colour)
    axis.set_xlabel(f"response, {unit}")
    axis.set_ylabel("share of requests")
    axis.set_ylim(0, 1.02)
    axis.set_xlim(left=0)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in stream_colours(run).items()]
    legend(figure, [*handles, Line2D([], [], color=GREY, ls="--", label="deadline")], 4)
    return figure


def _curve(axis: Axes, requests: Sequence[Served], scale: float, colour: str) -> None:
    arrived = [request for request in requests if request.arrived is not None]
    values = np.sort([r.response / scale for r in arrived if r.response is not None])
    if len(values):
        share = np.arange(1, len(values) + 1) / len(arrived)
        axis.step([0.0, *values], [0.0, *share], where="post", color=colour)
    deadline = requests[0].arrival.stream.deadline
    if deadline is not None:
        axis.axvline(deadline / scale, color=colour, ls="--", linewidth=0.9)


@styled
def energy_chart(figures: Metrics) -> Figure:
    """Draw what took energy: events by part of the hardware, clocks and leakage at work and at rest."""
    parts = energy_parts(figures)
    figure = Figure(HALF, layout="constrained")
    axis = figure.subplots()
    colours = [ENERGY_COLOURS[i % len(ENERGY_COLOURS)] for i in range(len(parts))]
    axis.barh(range(len(parts)), list(parts.values()), color=colours, height=0.62)
    axis.set_yticks(range(len(parts)), list(parts))
    axis.set_ylim(len(parts) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("energy, µJ")
    return figure


def energy_parts(figures: Metrics) -> Mapping[str, float]:
    """Return what took energy, µJ, the units' clocks and leakage first."""
    events = {name.replace("_", " "): value for name, value in (figures.events_uj or {}).items()}
    return {"leakage, at rest": figures.idle_uj, "clocks, at work": figures.busy_uj, **events}


@styled
def slowdown_curves(run: Run) -> Figure:
    """Draw for each stream the share of its services that took at most so much longer than alone."""
    figure = Figure(HALF, layout="constrained")
    axis = figure.subplots()
    colours = stream_colours(run)
    for name, colour in colours.items():
        values = np.sort(slowdowns(r for r in run.requests if r.arrival.stream.name == name))
        if len(values):
            share = np.arange(1, len(values) + 1) / len(values)
            axis.step([values[0], *values], [0.0, *share], where="post", color=colour)
    axis.set_xlabel("service longer than alone, %")
    axis.set_ylabel("share of services")
    axis.set_ylim(0, 1.02)
    legend(figure, [Line2D([], [], color=colour, label=name) for name, colour in colours.items()], 4)
    return figure


def slowdowns(requests: Iterable[Served]) -> list[float]:
    """Return by how many percent each service took longer than its option takes alone."""
    return [
        100.0 * (request.service / request.option.cycles - 1.0)
        for request in requests
        if request.option is not None and request.service is not None
    ]


@styled
def utilisation_chart(run: Run) -> Figure:
    """Draw the share of the time in which each unit was at work, by stream."""
    units, colours = run.deployment.system.units, stream_colours(run)
    figure = Figure((HALF[0], 1.4 + 0.4 * len(units)), layout="constrained")
    axis = figure.subplots()
    for row, unit in enumerate(units):
        left = 0.0
        for name, share in stream_shares(run, unit).items():
            axis.barh(row, share, left=left, color=colours[name], height=0.62, edgecolor="white", lw=0.4)
            left += share
    axis.set_yticks(range(len(units)), units)
    axis.set_ylim(len(units) - 0.5, -0.5)
    axis.set_xlim(0, 100)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("at work, % of the time until the last interrupt")
    legend(figure, [Patch(color=colour, label=name) for name, colour in colours.items()], 4)
    return figure


def stream_shares(run: Run, unit: str) -> dict[str, float]:
    """Return for each stream the percentage of the time in which a unit worked for it."""
    shares = dict.fromkeys(stream_colours(run), 0.0)
    for request in run.requests:
        cycles = busy_cycles(request).get(unit, 0.0)
        shares[request.arrival.stream.name] += 100.0 * cycles / run.makespan if run.makespan else 0.0
    return shares


@styled
def agreement_chart(predicted: Run, measured: Measured) -> Figure:
    """Draw by how much each prediction was off: services and responses, against what was measured."""
    figure = Figure(WIDE, layout="constrained")
    colours = stream_colours(predicted)
    panels = figure.subplots(1, 2)
    pairs = pairs_of(predicted, measured)
    for axis, kind in zip(panels, ("service", "response"), strict=True):
        for name, colour in colours.items():
            values = [
                point
                for pair in pairs
                if predicted.requests[pair.number].arrival.stream.name == name
                and (point := getattr(pair, kind)) is not None
            ]
            errors = [error_percent(value) for value in values]
            axis.scatter(
                [v[1] for v in values], errors, s=14, color=colour, alpha=0.7, linewidths=0, zorder=3
            )
        axis.axhline(0, color=INK, linewidth=0.8)
        cycles = [point[1] for pair in pairs if (point := getattr(pair, kind)) is not None]
        if cycles and max(cycles) > 30 * min(cycles):
            axis.set_xscale("log")
        cycles_axis(axis)
        axis.set_xlabel(f"measured {kind}, cycles")
        axis.set_ylabel("predicted against measured, %" if kind == "service" else "")
    handles = [Line2D([], [], color=c, marker="o", ls="", markersize=4, label=n) for n, c in colours.items()]
    legend(figure, handles, 8)
    return figure
