# SPDX-License-Identifier: Apache-2.0
"""The figures of a served workload: what ran where and when, how requests responded, what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mapping.report.style import BLUE, GREY, HALF, INK, ORANGE, PURPLE, RED, TEAL, WIDE, legend, styled
from mapping.scheduling.metrics import Metrics
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
def units_chart(run: Run, scale: float, unit: str) -> Figure:
    """Draw what each unit ran: a bar for each section of each request; a red edge for a missed deadline.

    Args:
        run: the run.
        scale: cycles of a step of the axis.
        unit: what the axis counts.
    """
    units = run.deployment.system.units
    figure = Figure((WIDE[0], 1.2 + 0.45 * len(units)), layout="constrained")
    axis = figure.subplots()
    colours = stream_colours(run)
    for request in shown(run):
        late = request.in_time is False
        for start, name, end in ((span.start, *item) for span in request.spans for item in span.ends.items()):
            axis.barh(
                units.index(name), (end - start) / scale, left=start / scale, height=0.62,
                color=colours[request.arrival.stream.name], edgecolor=RED if late else "white",
                linewidth=1.4 if late else 0.4, zorder=3 if late else 2,
            )  # fmt: skip
    axis.set_yticks(range(len(units)), units)
    axis.set_ylim(len(units) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel(unit)
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    legend(figure, [*handles, Patch(facecolor="white", edgecolor=RED, label="late")], len(handles) + 1)
    return figure


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
    return {"clocks, at rest": figures.idle_uj, "clocks, at work": figures.busy_uj, **events}
