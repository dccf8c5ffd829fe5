# SPDX-License-Identifier: Apache-2.0
"""What `npuloop serve` prints: streams, units and energy of a run, and policies side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from mapping.report.console import console_table
from mapping.report.serving_policies import (
    UNKNOWN,
    late_percent,
    mean_response,
    p95_response,
    request_uj,
    spread,
)
from mapping.scheduling.bounds import Optimum
from mapping.scheduling.measured import Measured, agreements, error_percent
from mapping.scheduling.metrics import Metrics, Responses
from mapping.scheduling.simulate import Run
from mapping.scheduling.workload import Workload

NUMBERS = ("requests", "served", "deadline", "mean response", "95 %", "late %", "accuracy drop")


def streams_table(figures: Metrics, workload: Workload) -> Table:
    """Return how the requests of each stream responded, in milliseconds where the workload has a clock."""
    unit = "cycles" if workload.clock_mhz is None else "ms"
    table = console_table(f"responses, {unit}", ("stream", "network"), NUMBERS)
    for stream in workload.streams:
        if stream.name in figures.streams:
            shown = responses_cells(figures.streams[stream.name], workload, stream.deadline)
            table.add_row(stream.name, stream.network, *shown)
    table.add_section()
    table.add_row("all", "", *responses_cells(figures.total, workload, None))
    return table


def responses_cells(item: Responses, workload: Workload, deadline: float | None) -> Sequence[str]:
    """Return the cells of some requests below NUMBERS; without a deadline that cell is empty."""
    return (
        f"{item.requests:,}",
        f"{item.served:,}",
        "" if deadline is None else _time(deadline, workload),
        _time(item.mean, workload),
        _time(item.p95, workload),
        "" if item.late_percent is None else f"{item.late_percent:.1f}",
        f"{item.drop_points:.2f}",
    )


def _time(cycles: float, workload: Workload) -> str:
    if math.isnan(cycles):
        return "-"
    return f"{cycles:,.0f}" if workload.clock_mhz is None else f"{cycles / workload.clock_mhz / 1000:,.3f}"


def summary(figures: Metrics) -> str:
    """Return units, contention and energy in a few lines."""
    busy = ", ".join(f"{unit} {share:.0%}" for unit, share in figures.utilisation.items())
    first = (
        f"{figures.makespan:,.0f} cycles; units at work: {busy}; services {figures.contention_percent:.1f} % "
        "longer than alone"
    )
    if figures.energy_uj is None or figures.events_uj is None:
        return f"{first}\nno energy: a unit has no energy table"
    parts = {
        "clocks and leakage of units at work": figures.busy_uj,
        "of units at rest": figures.idle_uj,
        **{name.replace("_", " "): energy for name, energy in figures.events_uj.items()},
    }
    shares = ", ".join(f"{name} {energy:,.1f}" for name, energy in parts.items())
    return f"{first}\n{figures.energy_uj:,.1f} µJ: {shares}"


def rtl_summary(predicted: Run, measured: Measured) -> str:
    """Return how many requests were exact in RTL, and how far services and responses were predicted off."""
    found = agreements(predicted, measured)[""]
    text = f"in RTL: {found.exact:,} of {found.run:,} requests exact"
    if not found.run or math.isnan(found.response_mean[1]):
        return text
    pairs = {"mean response": found.response_mean, "95 %": found.response_p95}
    responses = ", ".join(
        f"{name} {pair[1]:,.0f} cycles, predicted {pair[0]:,.0f} ({error_percent(pair):+.1f} %)"
        for name, pair in pairs.items()
    )
    services = ""
    if found.compared:
        services = f"; services off by {found.service_mean:.2f} %, at most {found.service_largest:.1f} %"
    return f"{text}; {responses}{services}"


def policies_table(
    figures: Mapping[str, Sequence[Metrics]], workload: Workload, best: Optimum = UNKNOWN
) -> Table:
    """Return policies side by side: means over seeds, and half of the mean response's 95 % interval.

    Args:
        figures: the figures of each policy, one for each seed.
        workload: the workload.
        best: what no policy beats.
    """
    unit = "cycles" if workload.clock_mhz is None else "ms"
    numbers = ("mean response", "± (95 %)", "95 %", "late %", "energy of one, µJ", "accuracy drop")
    table = console_table(f"policies, {unit}", ("policy",), numbers)
    for name, runs in figures.items():
        response, p95 = spread(runs, mean_response), spread(runs, p95_response)
        late, energy = spread(runs, late_percent), spread(runs, request_uj)
        half = None if response is None else response.half
        table.add_row(
            name,
            "-" if response is None else _time(response.mean, workload),
            "-" if half is None else _time(half, workload),
            "-" if p95 is None else _time(p95.mean, workload),
            "" if late is None else f"{late.mean:.1f}",
            "" if energy is None else f"{energy.mean:,.2f}",
            f"{np.mean([item.total.drop_points for item in runs]):.2f}",
        )
    if best != UNKNOWN:
        mean = "" if best.mean is None else _time(best.mean, workload)
        fewest = "" if best.late_percent is None else f"{best.late_percent:.1f}"
        table.add_section()
        table.add_row("optimum", mean, "", "", fewest, "", "")
    return table
