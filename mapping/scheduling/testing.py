# SPDX-License-Identifier: Apache-2.0
"""What several tests use: systems with made-up times, and the digits networks on the default pair."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from golden.network import Network
from hw.core import CoreConfig
from hw.system import System
from mapping.compiler.program import Program, Section
from mapping.cost.execution import Works
from mapping.scheduling.arrivals import Periodic, Trace
from mapping.scheduling.deployment import Deployment, Option, deploy
from mapping.scheduling.simulate import Run
from mapping.scheduling.versions import Version
from mapping.scheduling.workload import Stream, Workload

NO_NETWORK = cast("Network", None)


@dataclass(frozen=True, eq=False)
class MadeUp(Deployment):
    """A deployment whose slow-downs are given; without them nobody slows anybody down."""

    slow: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def slowdown(self, option: Option, other: Option) -> float:
        return self.slow.get((option.version.name, other.version.name), 1.0)


def option(
    network: str,
    units: str,
    cycles: float | tuple[float, ...],
    energy: float | None = None,
    *,
    name: str = "",
    drop: float = 0.0,
) -> Option:
    """An option of a network; units are joined with "+"; several cycles are those of its sections."""
    sections = cycles if isinstance(cycles, tuple) else (cycles,)
    version = Version(name or network, network, "", drop=drop, interval=(drop - 0.5, drop + 0.5))
    names = tuple(units.split("+"))
    section = Section(dict.fromkeys(names, ()), {}, 0)
    program = cast("Program", SimpleNamespace(sections=(section,) * len(sections)))
    made: Option | None = None
    for place, taken in reversed(list(enumerate(sections))):
        left = taken + (made.cycles if made else 0.0)
        made = Option(version, names, program, left, {}, energy, NO_NETWORK, {}, place, made)
    assert made is not None
    return made


def turns(run: Run) -> list[float]:
    """Return the cycles from a unit's interrupts to its next starts, where requests had arrived before."""
    taken = []
    for unit in run.deployment.system.units:
        spans = [
            (span.start, span.ends[unit], request.arrived)
            for request in run.requests
            for span in request.spans
            if unit in span.ends
        ]
        taken += [
            start - end
            for (_, end, _), (start, _, arrived) in pairwise(sorted(spans))
            if arrived is not None and arrived <= end
        ]
    return taken


def made_up(units: str, *options: Option, **slow: Any) -> MadeUp:
    """A system of some units, separated by spaces, that takes given cycles."""
    system = System(tuple(CoreConfig(unit) for unit in units.split()))
    by_network: dict[str, tuple[Option, ...]] = {}
    for item in options:
        by_network[item.version.network] = (*by_network.get(item.version.network, ()), item)
    return MadeUp(system, {}, by_network, {}, {}, Works(16), **slow)


def trace(network: str, *times: float, **settings: Any) -> Stream:
    """A stream that arrives at given cycles."""
    return Stream(settings.pop("name", network), network, Trace(times), **settings)


def workload(*streams: Stream, **settings: Any) -> Workload:
    return Workload(streams, **settings)


DIGITS = (Version("int8", "digits", "digits_int8", "npu8"), Version("ternary", "digits", "digits_ternary"))


@functools.cache
def digits() -> Deployment:
    """The digits networks on the default pair: int8 on the big unit, ternary on both."""
    return deploy(System(), DIGITS)


def steady(period: float, requests: int, **settings: Any) -> Workload:
    """Requests for digits at a fixed period."""
    return workload(Stream("digits", "digits", Periodic(period), requests=requests, **settings))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def starts(run_requests: Sequence[Any]) -> list[tuple[str, float | None, float | None]]:
    """Units, start and end of each request."""
    return [("+".join(r.option.units) if r.option else "", r.start, r.end) for r in run_requests]
