# SPDX-License-Identifier: Apache-2.0
"""Where to cut a network: no section takes longer than some cycles, and all together as little as can be.

Every section is compiled alone, and its price is that of its own lists: what it loads and stores at its ends,
and weights that are not loaded ahead. The shortest way from the first layer to the last, section by section,
is the cheapest division. Lists are compared by the compiler's estimate, which is quick; the timing model then
says what the sections take that were chosen, and the limit of the estimate is lowered until they keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from common.arrays import Floats
from hw.core import CoreConfig
from hw.interface import TRANSFER_WORD_BYTES
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.graph import Graph
from mapping.compiler.passes import Options, front, section_schedule
from mapping.compiler.schedule import Entry, Schedule
from mapping.cost.execution import Works
from mapping.cost.requests import Request, time_requests

START_CYCLES = 25
"""What the host takes between two sections, which the lists do not know: see docs/how-to/serving.md."""
SHORTEST = 0.5
"""Share of the longest that a section has at least, where layers permit: shorter ones would be joined."""
ATTEMPTS = 5


def choose_cuts(
    graph: Graph,
    cores: Sequence[CoreConfig],
    units: Mapping[str, ChannelAssignment],
    coefficients: Mapping[str, Floats],
    longest: float,
    port_bytes: int = 16,
) -> tuple[str, ...]:
    """Return the layers after which a network is cut; none if it is short enough as it is.

    A layer that takes longer alone is a section of its own.

    Args:
        graph: the network.
        cores: the units of the system.
        units: for each operator the index of the unit of every output channel.
        coefficients: of each unit, for the timing model.
        longest: cycles that a section of several layers takes at most.
        port_bytes: width of the memory's port.

    Raises:
        NpuloopError: the network does not fit its units, as in `compile_graph`.
    """
    options = Options(word_cycles=TRANSFER_WORD_BYTES // port_bytes, image_wanted=False)
    begun = front(graph, cores, units, options)
    names = [op.name for op in begun.graph.ops]

    @cache
    def scheduled(first: int, end: int) -> Schedule:
        return section_schedule(begun, cores, units, options, range(first, end))

    @cache
    def cycles(first: int, end: int) -> float:
        lists: dict[str, Sequence[Entry]] = {
            core.name: entries
            for core, entries in zip(cores, scheduled(first, end).lists, strict=True)
            if entries
        }
        (alone,) = time_requests(
            [Request(lists)], cores, coefficients, port_bytes, recording=False, works=Works(port_bytes)
        )
        return alone.end

    if cycles(0, len(names)) <= longest:
        return ()
    limit = longest
    places: tuple[int, ...] = ()
    for _ in range(ATTEMPTS):
        places = _cheapest(len(names), lambda first, end: scheduled(first, end).cycles, limit)
        spans = zip((0, *places), (*places, len(names)), strict=True)
        over = max((cycles(*span) / longest for span in spans if span[1] - span[0] > 1), default=0.0)
        if over <= 1.0:
            break
        limit /= 1.005 * over
    return tuple(names[place - 1] for place in places)


def _cheapest(count: int, cycles: Callable[[int, int], float], limit: float) -> tuple[int, ...]:
    """Return the places of the cuts that divide layers 0 to `count` - 1 into the cheapest sections.

    A section is not looked at that is shorter than SHORTEST of the limit and could be longer.

    Args:
        count: number of layers.
        cycles: of the section from a layer to before another one.
        limit: cycles that a section of several layers takes at most.
    """
    least = [0.0] + [math.inf] * count
    before = [0] * (count + 1)
    for first in range(count):
        if least[first] == math.inf:
            continue
        ends = []  # (end, cycles) of sections that are short enough; one layer always is
        for end in range(first + 1, count + 1):
            taken = cycles(first, end)
            if taken > limit and end > first + 1:
                break
            ends.append((end, taken))
        for end, taken in ends:
            if taken < SHORTEST * limit and end != ends[-1][0]:
                continue
            price = least[first] + taken + START_CYCLES
            if price < least[end]:
                least[end], before[end] = price, first
    places = [count]
    while places[-1]:
        places.append(before[places[-1]])
    return tuple(reversed(places[1:-1]))
