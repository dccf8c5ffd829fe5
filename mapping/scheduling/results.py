# SPDX-License-Identifier: Apache-2.0
"""What runs leave: a row for each request, or for each policy, and a trace for Perfetto (ui.perfetto.dev)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mapping.scheduling.measured import Measured
from mapping.scheduling.metrics import Metrics, request_energy_uj
from mapping.scheduling.simulate import Run, Served

COLUMNS = (
    "stream", "network", "version", "units", "arrival_cycle", "start_cycle", "end_cycle",
    "predicted_service_cycles", "measured_service_cycles", "predicted_response_cycles",
    "measured_response_cycles", "energy_uj", "deadline_met", "exact",
)  # fmt: skip
"""Columns of requests.csv; those of a measurement are empty without RTL."""
POLICY_COLUMNS = (
    "policy", "seed", "requests", "served", "mean_response_cycles", "p95_response_cycles", "late_percent",
    "energy_uj", "idle_uj", "contention_percent", "drop_points", "makespan_cycles",
)  # fmt: skip
UNITS, REQUESTS = 1, 2
"""Processes of the trace: units and what they run, streams and how long their requests respond."""


def requests_csv(run: Run, measured: Measured | None = None) -> str:
    """Return the rows of the requests, by their numbers, as CSV with a head.

    Args:
        run: the prediction.
        measured: the same requests in RTL, of which version, units, start and end then are.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for request in run.requests:
        row = _row(run, request)
        if measured is not None:
            real = _row(measured.run, measured.run.requests[request.number])
            real["measured_service_cycles"] = real["predicted_service_cycles"]
            real["measured_response_cycles"] = real["predicted_response_cycles"]
            predicted = {
                name: row[name] for name in ("predicted_service_cycles", "predicted_response_cycles")
            }
            row = real | predicted
            if request.number in measured.exact:
                row["exact"] = "yes" if measured.exact[request.number] else "no"
        writer.writerow(row)
    return file.getvalue()


def _row(run: Run, request: Served) -> dict[str, str]:
    option = request.option
    energy = request_energy_uj(run, request)
    return {
        "stream": request.arrival.stream.name,
        "network": request.arrival.stream.network,
        "version": option.version.name if option else "",
        "units": "+".join(option.units) if option else "",
        "arrival_cycle": _cycles(request.arrived),
        "start_cycle": _cycles(request.start),
        "end_cycle": _cycles(request.end),
        "predicted_service_cycles": _cycles(request.service),
        "predicted_response_cycles": _cycles(request.response),
        "energy_uj": "" if energy is None else f"{energy:.4f}",
        "deadline_met": "" if request.in_time is None else ("yes" if request.in_time else "no"),
    }


def _cycles(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def policies_csv(figures: Mapping[str, Sequence[Metrics]], first_seed: int) -> str:
    """Return the figures of policies, a row for each policy and seed, as CSV with a head.

    Args:
        figures: the figures of each policy, one for each seed.
        first_seed: the first seed.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(POLICY_COLUMNS)
    for name, runs in figures.items():
        for seed, item in enumerate(runs, first_seed):
            total, energy = item.total, item.energy_uj
            writer.writerow(
                [
                    *(name, seed, total.requests, total.served, f"{total.mean:.1f}", f"{total.p95:.1f}"),
                    "" if total.late_percent is None else f"{total.late_percent:.3f}",
                    "" if energy is None else f"{energy:.3f}",
                    "" if energy is None else f"{item.idle_uj:.3f}",
                    *(f"{item.contention_percent:.3f}", f"{total.drop_points:.3f}", f"{item.makespan:.1f}"),
                ]
            )
    return file.getvalue()


def trace_json(run: Run, clock_mhz: float | None = None) -> str:
    """Return the trace: one track for each unit with what it runs, one for each stream with its responses.

    Args:
        run: the run.
        clock_mhz: cycles in a microsecond; None: a cycle is shown as a microsecond.
    """
    scale = 1.0 / (clock_mhz or 1.0)
    events = [*_names(run)]
    streams = _streams(run)
    for request in run.requests:
        if request.arrived is None:
            continue
        name = f"{request.arrival.stream.name} {request.number}"
        track = streams.index(request.arrival.stream.name)
        common = {"name": name, "cat": "request", "pid": REQUESTS, "tid": track, "id": request.number}
        end = request.end if request.end is not None else request.arrived
        result = {True: "in time", False: "late", None: "no deadline"}[request.in_time]
        if request.end is None:
            result = "dropped"
        events += [
            common | {"ph": "b", "ts": request.arrived * scale, "args": {"result": result}},
            common | {"ph": "e", "ts": end * scale},
        ]
        for start, unit, unit_end in (
            (span.start, *item) for span in request.spans for item in span.ends.items()
        ):
            assert request.option is not None
            events.append(
                {
                    "name": name,
                    "cat": "service",
                    "ph": "X",
                    "pid": UNITS,
                    "tid": run.deployment.system.index(unit),
                    "ts": start * scale,
                    "dur": (unit_end - start) * scale,
                    "args": {"version": request.option.version.name, "result": result},
                }
            )
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events}) + "\n"


def _streams(run: Run) -> list[str]:
    return list(dict.fromkeys(request.arrival.stream.name for request in run.requests))


def _names(run: Run) -> Iterable[dict[str, Any]]:
    """Yield what Perfetto calls processes and tracks."""
    for process, title, tracks in (
        (UNITS, "units", run.deployment.system.units),
        (REQUESTS, "streams", _streams(run)),
    ):
        yield {"name": "process_name", "ph": "M", "pid": process, "args": {"name": title}}
        for number, track in enumerate(tracks):
            yield {
                "name": "thread_name", "ph": "M", "pid": process, "tid": number, "args": {"name": track},
            }  # fmt: skip
