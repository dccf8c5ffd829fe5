# SPDX-License-Identifier: Apache-2.0
"""The page of a served workload: report.html."""

from __future__ import annotations

from html import escape
from math import isnan

from mapping.report import html
from mapping.report.serving import NUMBERS, responses_cells
from mapping.report.serving_plots import MOST_BARS, energy_chart, response_curves, units_chart
from mapping.report.style import svg
from mapping.scheduling.metrics import Metrics
from mapping.scheduling.simulate import Run
from mapping.scheduling.workload import Workload


def serving_page(run: Run, figures: Metrics, workload: Workload, policy: str, clock: str) -> str:
    """Return the page of a run.

    Args:
        run: what became of each request.
        figures: its figures.
        workload: the workload.
        policy: the policy's name.
        clock: the clock's name.
    """
    scale = 1.0 if workload.clock_mhz is None else 1000.0 * workload.clock_mhz
    unit = "cycles" if workload.clock_mhz is None else "ms"
    charts = [
        html.figure("units", "what each unit ran", svg(units_chart(run, scale, unit)), _units_caption(run)),
        '<div class="two">\n',
        html.figure(
            "responses", "responses of each stream", svg(response_curves(run, scale, unit)),
            "<b>Responses.</b> Share of each stream's requests that has responded; dropped ones never do.",
        ),
    ]  # fmt: skip
    if figures.energy_uj is not None:
        charts.append(
            html.figure(
                "energy", "energy by part", svg(energy_chart(figures)),
                f"<b>Energy.</b> {figures.energy_uj:,.1f} µJ until the last interrupt; clocks with leakage.",
            )
        )  # fmt: skip
    parts = [
        *charts,
        "</div>\n<h2>Streams</h2>\n",
        _streams(figures, workload, unit),
        "<h2>Units</h2>\n",
        html.table(["unit", "at work"], [[escape(u), f"{s:.1%}"] for u, s in figures.utilisation.items()], 1),
        "<h2>About this run</h2>\n",
        _about(run, figures, workload, policy, clock),
    ]
    return html.document("npuloop: served requests", f"How do {policy} and these units respond?",
                         escape(_lead(figures, unit, scale)), parts)  # fmt: skip


def _lead(figures: Metrics, unit: str, scale: float) -> str:
    total = figures.total
    late = "" if total.late_percent is None else f"; {total.late_percent:.1f} % late"
    if isnan(total.mean):
        return f"None of {total.requests:,} requests was run{late}."
    return (
        f"{total.served:,} of {total.requests:,} requests were run: mean response {total.mean / scale:,.3f} "
        f"{unit}, 95 % within {total.p95 / scale:,.3f} {unit}{late}. Predicted, not measured."
    )


def _units_caption(run: Run) -> str:
    count = sum(request.start is not None for request in run.requests)
    part = f" The first {MOST_BARS} of {count:,} requests." if count > MOST_BARS else ""
    return f"<b>Units.</b> What each ran; a red edge is a request that missed its deadline.{part}"


def _streams(figures: Metrics, workload: Workload, unit: str) -> str:
    rows = []
    for stream in workload.streams:
        if stream.name in figures.streams:
            cells = responses_cells(figures.streams[stream.name], workload, stream.deadline)
            rows.append([escape(stream.name), *map(escape, cells), escape(stream.network)])
    rows.append(["all", *map(escape, responses_cells(figures.total, workload, None)), ""])
    note = f'<p class="note">Times in {unit}. Accuracy drop: mean points that the versions lose.</p>\n'
    return html.table(["stream", *NUMBERS, "network"], rows, len(NUMBERS)) + note


def _about(run: Run, figures: Metrics, workload: Workload, policy: str, clock: str) -> str:
    units = ", ".join(f"{core.name} ({core.key})" for core in run.deployment.system.cores)
    rows = [
        ["workload", f"<code>{escape(workload.source)}</code>"],
        ["units", escape(units)],
        ["policy", escape(policy)],
        ["clock", escape(clock)],
        ["cycles", f"{figures.makespan:,.0f}"],
        ["services longer than alone", f"{figures.contention_percent:.1f} %"],
    ]
    return html.table(["what", "value"], rows, 0) + f'<p class="note">{escape(html.colophon())}.</p>\n'
