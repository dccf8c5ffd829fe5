# SPDX-License-Identifier: Apache-2.0
"""A policy that interrupts networks at their cuts, and that cuts them only where it expects to gain by it.

A version that is cut takes longer than the whole one, and what is more urgent waits for the end of a section
instead of the end of the network. Which of them waits less in all depends on how often something more urgent
arrives: the policy counts what has arrived so far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mapping.scheduling.deployment import Option
from mapping.scheduling.policy import Start, UnitState, Waiting


@dataclass
class _Stream:
    """What is known of a stream.

    Attributes:
        priority: of its requests.
        deadline: cycles from a request's arrival to its deadline; None: none.
        cycles: of its fastest option.
        units: on how many units it has an option.
        arrived: how many requests have.
    """

    priority: int
    deadline: float | None
    cycles: float
    units: int
    arrived: int = 0


Rank = tuple[float, ...]


class Preempt:
    """Late binding by urgency: priority, then deadline, then what is left to do; at every cut anew.

    Each waiting request, in that order, gets the unit on which it ends first: behind the section that this
    works on, or behind all of a request that is more urgent. Of its options there that meet its deadline,
    or of all if none does, it is started with the one of least expected waiting:

        cycles x (1 + requests behind it) + arrivals x (wait + interruption)

    `arrivals` are the more urgent requests of each stream that are expected while it runs: those that have
    arrived by now, divided by the cycles until now, times the cycles of the option in which one would be more
    urgent, shared among the units that can run them. `wait` is how long one waits on average for the end of
    the section in which it comes: half the sum of the squares of the sections' cycles, divided by their sum.
    `interruption` is by how much one delays the request: its own cycles, unless it comes in the last section.
    """

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._known: set[int] = set()
        self._ranks: dict[int, Rank] = {}  # of requests that were started, when they were

    def __call__(self, now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        """Return the starts."""
        for request in waiting:
            self._count(request)
        placed: dict[str, float] = {}  # when units are free again that something was placed on
        idle = {name for name, unit in units.items() if unit.idle}
        starts = []
        ranked = sorted(waiting, key=urgency)
        for place, request in enumerate(ranked):
            rank = urgency(request)
            free = {name: placed.get(name, self._free(unit, rank)) for name, unit in units.items()}
            ends = [
                (max(now, *(free[u] for u in option.next_units)) + option.cycles, option)
                for option in request.options
            ]
            _, first = min(ends, key=lambda item: item[0])
            here = [item for item in ends if item[1].units == first.units]
            in_time = [item for item in here if request.deadline is None or item[0] <= request.deadline]
            behind = sum(_meets(other, first) for other in ranked[place + 1 :])
            prices = [self._price(now, request, option, behind) for _, option in in_time or here]
            best = min(range(len(prices)), key=prices.__getitem__)
            end, option = (in_time or here)[best]
            if idle.issuperset(option.next_units):
                starts.append(Start(request.number, option))
                self._ranks[request.number] = rank
            placed |= dict.fromkeys(option.next_units, end)
            idle -= set(option.next_units)
        return starts

    def _count(self, request: Waiting) -> None:
        if request.number in self._known:
            return
        self._known.add(request.number)
        if request.stream not in self._streams:
            deadline = None if request.deadline is None else request.deadline - request.arrival
            able = {unit for option in request.options for unit in option.units}
            self._streams[request.stream] = _Stream(request.priority, deadline, _left(request), len(able))
        self._streams[request.stream].arrived += 1

    def _free(self, unit: UnitState, rank: Rank) -> float:
        """Return when a unit is free for a request: what is less urgent ends with its section."""
        running = self._ranks.get(unit.running, ()) if unit.running is not None else ()
        return unit.section_end if rank < running else unit.free_at

    def _price(self, now: float, request: Waiting, option: Option, behind: int) -> float:
        """Return the cycles that are expected to be waited if a request is started with an option."""
        sections = [item.next_cycles for item in option.sections]
        wait = sum(cycles * cycles for cycles in sections) / (2 * option.cycles)
        interrupting = 1.0 - sections[-1] / option.cycles
        price = option.cycles * (1 + behind)
        for stream in self._streams.values():
            rate = stream.arrived / now if now > 0 else 0.0
            expected = rate * _urgent_cycles(now, request, option, stream) / stream.units
            price += expected * (wait + interrupting * stream.cycles)
        return price


def urgency(request: Waiting) -> Rank:
    """Rank by priority, then by the deadline, then by the cycles that are left: the smaller comes first."""
    deadline = math.inf if request.deadline is None else request.deadline
    return (-request.priority, deadline, _left(request), request.arrival, request.number)


def _left(request: Waiting) -> float:
    return min(option.cycles for option in request.options)


def _meets(request: Waiting, option: Option) -> bool:
    """Return whether a request could use a unit of an option."""
    return any(set(other.units) & set(option.units) for other in request.options)


def _urgent_cycles(now: float, request: Waiting, option: Option, stream: _Stream) -> float:
    """Return in how many cycles of an option, started now, a request of a stream would be more urgent."""
    if stream.priority != request.priority:
        return option.cycles if stream.priority > request.priority else 0.0
    if stream.deadline is None and request.deadline is None:
        return max(0.0, option.cycles - stream.cycles)  # until less is left than it takes
    if stream.deadline is None:
        return 0.0
    if request.deadline is None:
        return option.cycles
    return min(max(0.0, request.deadline - stream.deadline - now), option.cycles)
