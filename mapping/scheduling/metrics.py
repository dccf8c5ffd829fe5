# SPDX-License-Identifier: Apache-2.0
"""What a run was like: responses, deadlines, energy by part, utilisation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mapping.energy.tables import Group
from mapping.scheduling.simulate import Run, Served

PJ_PER_UJ = 1e6


@dataclass(frozen=True)
class Responses:
    """Some requests in figures.

    Attributes:
        requests: how many arrived.
        served: how many were run.
        mean, p95: of the responses of those that were run, cycles; NaN where none was.
        late_percent: share of those with a deadline that missed it, dropped ones included; None: none has.
        drop_points: mean accuracy that the versions lost.
    """

    requests: int
    served: int
    mean: float
    p95: float
    late_percent: float | None
    drop_points: float


@dataclass(frozen=True)
class Metrics:
    """A run in figures.

    Attributes:
        total: all requests.
        streams: those of each stream.
        makespan: cycle of the last interrupt.
        utilisation: for each unit the share of these cycles in which it was at work.
        contention_percent: how much longer the requests took than alone, in all.
        events_uj: what the requests' events took, by part of the hardware; None without energy tables.
        busy_uj: what clocks and leakage of the units at work took.
        idle_uj: what the units without work took, whose clocks stand still, until the last interrupt.
    """

    total: Responses
    streams: Mapping[str, Responses]
    makespan: float
    utilisation: Mapping[str, float]
    contention_percent: float
    events_uj: Mapping[Group, float] | None
    busy_uj: float
    idle_uj: float

    @property
    def energy_uj(self) -> float | None:
        """Everything; None without energy tables."""
        return None if self.events_uj is None else sum(self.events_uj.values()) + self.busy_uj + self.idle_uj


def metrics(run: Run) -> Metrics:
    """Return the figures of a run."""
    deployment, requests = run.deployment, run.requests
    busy = dict.fromkeys(deployment.system.units, 0.0)
    events: dict[Group, float] = {}
    for request in requests:
        if request.option is None:
            continue
        for unit, cycles in busy_cycles(request).items():
            busy[unit] += cycles
        for group, energy in request.option.events_pj.items():
            events[group] = events.get(group, 0.0) + energy / PJ_PER_UJ
    work, rest = deployment.work_pj, deployment.rest_pj
    services = [(r.service or 0.0, r.option.cycles) for r in requests if r.option]
    alone = sum(cycles for _, cycles in services)
    taken = sum(service for service, _ in services)
    names = [stream.name for stream in dict.fromkeys(request.arrival.stream for request in requests)]
    return Metrics(
        total=_responses(requests),
        streams={name: _responses(r for r in requests if r.arrival.stream.name == name) for name in names},
        makespan=run.makespan,
        utilisation={unit: cycles / run.makespan if run.makespan else 0.0 for unit, cycles in busy.items()},
        contention_percent=100.0 * (taken / alone - 1.0) if alone else 0.0,
        events_uj=events if work else None,
        busy_uj=sum(energy * busy[unit] for unit, energy in work.items()) / PJ_PER_UJ,
        idle_uj=sum(energy * (run.makespan - busy[unit]) for unit, energy in rest.items()) / PJ_PER_UJ,
    )


def busy_cycles(request: Served) -> dict[str, float]:
    """Return for each unit of a request the cycles from start to interrupt, of all its sections."""
    cycles: dict[str, float] = {}
    for span in request.spans:
        for unit, end in span.ends.items():
            cycles[unit] = cycles.get(unit, 0.0) + end - span.start
    return cycles


def request_energy_uj(run: Run, request: Served) -> float | None:
    """Return what a request took: its events, and the clocks and leakage of its units while they ran it.

    None without energy tables, or for a request that was not run.
    """
    work = run.deployment.work_pj
    if request.option is None or not work:
        return None
    clocks = sum(work[unit] * cycles for unit, cycles in busy_cycles(request).items())
    return (sum(request.option.events_pj.values()) + clocks) / PJ_PER_UJ


def _responses(requests: Iterable[Served]) -> Responses:
    arrived = [request for request in requests if request.arrived is not None]
    values = [request.response for request in arrived if request.response is not None]
    met = [request.in_time for request in arrived if request.in_time is not None]
    drops = [request.option.version.drop for request in arrived if request.option]
    return Responses(
        requests=len(arrived),
        served=len(values),
        mean=float(np.mean(values)) if values else float("nan"),
        p95=float(np.percentile(values, 95)) if values else float("nan"),
        late_percent=100.0 * (1.0 - float(np.mean(met))) if met else None,
        drop_points=float(np.mean(drops)) if drops else 0.0,
    )
