# SPDX-License-Identifier: Apache-2.0
"""The page of a served workload: report.html."""

from __future__ import annotations

from html import escape
from math import isnan

from mapping.report import html
from mapping.report.serving import NUMBERS, responses_cells
from mapping.report.serving_plots import (
    MOST_BARS,
    agreement_chart,
    energy_chart,
    response_curves,
    slowdown_curves,
    slowdowns,
    units_chart,
    utilisation_chart,
)
from mapping.report.style import svg
from mapping.scheduling.deployment import Option
from mapping.scheduling.measured import Measured, agreements, error_percent, pairs_of
from mapping.scheduling.metrics import Metrics, metrics
from mapping.scheduling.simulate import Run, Served
from mapping.scheduling.workload import Workload


def serving_page(
    run: Run, workload: Workload, policy: str, clock: str, measured: Measured | None = None
) -> str:
    """Return the page of a run.

    Args:
        run: the prediction of what becomes of each request.
        workload: the workload.
        policy: the policy's name.
        clock: the clock's name.
        measured: the same requests in RTL, which the page then shows, with the prediction beside.
    """
    scale = 1.0 if workload.clock_mhz is None else 1000.0 * workload.clock_mhz
    unit = "cycles" if workload.clock_mhz is None else "ms"
    shown = run if measured is None else measured.run
    figures = metrics(shown)
    runs = {"predicted": run} if measured is None else {"in RTL": shown, "predicted": run}
    parts = [
        html.figure(
            "units", "what each unit ran", svg(units_chart(runs, scale, unit)), _units_caption(shown)
        ),
        *([] if measured is None else _measured(run, measured, workload, unit, scale)),
        "<h2>Responses, contention, energy</h2>\n",
        '<div class="two">\n',
        *_charts(shown, figures, unit, scale),
        "</div>\n<h2>Streams</h2>\n",
        _streams(figures, workload, unit),
        "<h2>Versions</h2>\n",
        _versions(shown),
        "<h2>Units</h2>\n",
        html.table(["unit", "at work"], [[escape(u), f"{s:.1%}"] for u, s in figures.utilisation.items()], 1),
        "<h2>About this run</h2>\n",
        _about(run, figures, workload, policy, clock),
    ]
    return html.document("npuloop: served requests", f"How do {policy} and these units respond?",
                         escape(_lead(figures, unit, scale, measured)), parts)  # fmt: skip


def _charts(run: Run, figures: Metrics, unit: str, scale: float) -> list[str]:
    charts = [
        html.figure(
            "responses", "responses of each stream", svg(response_curves(run, scale, unit)),
            "<b>Responses.</b> Share of each stream's requests that has responded; dropped ones never do.",
        ),
        html.figure(
            "contention", "how much longer services took than alone", svg(slowdown_curves(run)),
            "<b>Contention.</b> How much longer each service took than alone, as others use the memory's "
            f"port: {figures.contention_percent:.1f} % in all.",
        ),
        html.figure(
            "utilisation", "what each unit worked for", svg(utilisation_chart(run)),
            "<b>Utilisation.</b> Share of the time that each unit was at work, by stream.",
        ),
    ]  # fmt: skip
    if figures.energy_uj is not None:
        charts.append(
            html.figure(
                "energy", "energy by part", svg(energy_chart(figures)),
                f"<b>Energy.</b> {figures.energy_uj:,.1f} µJ until the last interrupt; clocks with leakage.",
            )
        )  # fmt: skip
    return charts


def _measured(run: Run, measured: Measured, workload: Workload, unit: str, scale: float) -> list[str]:
    """Return the section that has predictions beside what the RTL took."""
    rows = []
    for name, item in agreements(run, measured).items():
        if not item.run:
            continue
        cells = [f"{item.exact:,} of {item.run:,}", f"{item.failed:,}"]
        cells += [_percent(value) for value in (item.service_mean, item.service_largest)]
        for pair in (item.response_mean, item.response_p95):
            cells += [_time(value / scale, workload) for value in pair]
            cells.append(_percent(error_percent(pair), signed=True) if pair[1] else "")
        rows.append([escape(name) or "all", *cells])
    head = [
        "stream", "exact", "failed", "service off, mean", "largest", "mean response predicted", "measured",
        "off", "95 % predicted", "measured", "off",
    ]  # fmt: skip
    elsewhere = sum(pair.service is None for pair in pairs_of(run, measured))
    note = (
        f"Responses in {unit}; errors in percent of what was measured, those of services without their sign."
    )
    if elsewhere:
        note += (
            f" {elsewhere:,} requests had another version or other units than predicted: their services are "
            "not compared."
        )
    reasons = [f"<li>request {number}: {escape(why)}</li>\n" for number, why in measured.failed.items()]
    return [
        "<h2>Predicted and measured</h2>\n",
        html.figure(
            "agreement", "how far predictions were off", svg(agreement_chart(run, measured)),
            "<b>Predictions against the RTL.</b> A point for each request; above 0 it was predicted longer.",
        ),
        html.table(head, rows, len(head) - 1),
        f'<p class="note">{note}</p>\n',
        f"<ul>\n{''.join(reasons)}</ul>\n" if reasons else "",
    ]  # fmt: skip


def _percent(value: float, *, signed: bool = False) -> str:
    if isnan(value):
        return "-"
    return f"{value:+.2f} %" if signed else f"{value:.2f} %"


def _time(value: float, workload: Workload) -> str:
    if isnan(value):
        return "-"
    return f"{value:,.0f}" if workload.clock_mhz is None else f"{value:,.3f}"


def _lead(figures: Metrics, unit: str, scale: float, measured: Measured | None) -> str:
    total = figures.total
    late = "" if total.late_percent is None else f"; {total.late_percent:.1f} % late"
    if isnan(total.mean):
        return f"None of {total.requests:,} requests was run{late}."
    if measured is None:
        source = "Predicted, not measured."
    else:
        exact = sum(measured.exact.values())
        source = f"Measured in RTL: {exact:,} of {len(measured.exact):,} requests exact to the last bit."
    return (
        f"{total.served:,} of {total.requests:,} requests were run: mean response {total.mean / scale:,.3f} "
        f"{unit}, 95 % within {total.p95 / scale:,.3f} {unit}{late}. {source}"
    )


def _units_caption(run: Run) -> str:
    count = sum(request.start is not None for request in run.requests)
    part = f" The first {MOST_BARS} of {count:,} requests." if count > MOST_BARS else ""
    return (
        "<b>Units.</b> What each ran; a tick below is a request's deadline, a red edge is one that missed "
        f"it.{part}"
    )


def _versions(run: Run) -> str:
    """Return which versions the requests of each stream ran, on which units, and what these lose."""
    used: dict[tuple[str, Option], list[Served]] = {}
    for request in run.requests:
        if request.option is not None:
            used.setdefault((request.arrival.stream.name, request.option), []).append(request)
    rows = []
    for (stream, option), requests in sorted(used.items(), key=lambda item: (item[0][0], item[0][1].name)):
        low, high = option.version.interval
        slow = slowdowns(requests)
        rows.append(
            [
                escape(stream),
                f"{len(requests):,}",
                f"{option.version.drop:.2f}",
                f"{low:.2f} to {high:.2f}",
                f"{option.cycles:,.0f}",
                f"{sum(slow) / len(slow):.1f} %",
                f"{max(slow):.1f} %",
                escape(option.version.name),
                escape("+".join(option.units)),
            ]
        )
    head = [
        "stream", "requests", "accuracy drop", "95 % interval", "cycles alone", "longer, mean", "largest",
        "version", "units",
    ]  # fmt: skip
    return html.table(head, rows, 6)


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
