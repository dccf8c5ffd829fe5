# SPDX-License-Identifier: Apache-2.0
"""What command lists take: the engines of all units run side by side, each phase with a coefficient.

The lists are those that the units would fetch, so the tiling is the compiler's own. Each engine takes its
commands in order, waits for tokens and events as the hardware does, and spends on each command a few phases;
the time of a phase is a count (words, stripes, beats of the cycle law) times a calibrated coefficient
(`PHASES`). Where phases overlap, the later one counts. The critical path leads from the end back to the
start: the counts of its segments, times the coefficients, sum to the total. `execution` has the engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.arrays import Floats
from hw.core import CoreConfig
from mapping.compiler.schedule import Entry
from mapping.cost.coefficients import NAMES
from mapping.cost.execution import LAUNCH, STAGGER, Execution, Works
from mapping.cost.list_run import Events, ListRun
from mapping.cost.timeline import PathSegment, Term, Timeline


@dataclass(frozen=True, eq=False)
class Timing:
    """What command lists take.

    Attributes:
        cycles: first start to last interrupt.
        path: the critical path, from the start on, without a gap.
        counts: for each unit, (len(NAMES),) counts on that path; their products with the units' coefficients
            sum to `cycles`.
        ends: for each unit when each of its commands is complete, in the order of its list, in cycles.
    """

    cycles: float
    path: tuple[PathSegment, ...]
    counts: Mapping[str, Floats]
    ends: Mapping[str, tuple[float, ...]]


def time_lists(
    lists: Mapping[str, Sequence[Entry]],
    cores: Sequence[CoreConfig],
    coefficients: Mapping[str, Floats],
    port_bytes: int = 16,
    works: Works | None = None,
) -> Timing:
    """Return what the units take for their command lists, started one after the other.

    Args:
        lists: each unit's commands.
        cores: the units of the system, in the order in which they are started.
        coefficients: for each unit that has a list, (len(NAMES),) cycles.
        port_bytes: width of the memory's port.
        works: what commands ask of their engines, to be shared by calls for the same lists.
    """
    timeline = Timeline(coefficients)
    units = _run(cores, lists, timeline, works or Works(port_bytes))
    last = max(end for unit in units for end in unit.complete)
    path = timeline.path(last)
    return Timing(
        cycles=float(last),
        path=path,
        counts=path_counts(path, [unit.name for unit in units]),
        ends={unit.name: tuple(float(end) for end in unit.complete) for unit in units},
    )


def cycles_of(
    lists: Mapping[str, Sequence[Entry]],
    cores: Sequence[CoreConfig],
    coefficients: Mapping[str, Floats],
    port_bytes: int = 16,
) -> float:
    """Return the cycles of `time_lists` alone, in half of its time."""
    timeline = Timeline(coefficients, recording=False)
    units = _run(cores, lists, timeline, Works(port_bytes))
    return max(end for unit in units for end in unit.complete)


def _run(
    cores: Sequence[CoreConfig], lists: Mapping[str, Sequence[Entry]], timeline: Timeline, works: Works
) -> list[ListRun]:
    """Return the units after their lists, which were started one after the other."""
    active = [core for core in cores if core.name in lists]
    execution, events = Execution(active, timeline, works), Events()
    for i, core in enumerate(active):
        start = timeline.after(core.name, [0.0], *launch(i))
        execution.start(ListRun(core, lists[core.name], start, events))
    execution.settle()
    while ask := execution.next_ask():
        if execution.serve(ask):
            execution.settle()
    assert all(unit.done for unit in execution.units), "the lists wait for each other"
    return execution.units


def launch(place: int) -> tuple[Term, ...]:
    """Return the phases between a start and a unit's first request, `place` starts after the first one."""
    return ((LAUNCH, 1.0), (STAGGER, float(place))) if place else ((LAUNCH, 1.0),)


def path_counts(path: Sequence[PathSegment], units: Sequence[str]) -> dict[str, Floats]:
    """Return for each unit how often each coefficient counts on a path, (len(NAMES),)."""
    counts = {unit: np.zeros(len(NAMES)) for unit in units}
    for segment in path:
        counts[segment.unit][segment.term] += segment.number
    return counts
