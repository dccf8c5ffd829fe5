# SPDX-License-Identifier: Apache-2.0
"""Requests that arrive one after the other: the timing model carried on from request to request.

A request is the command lists of one inference. It starts when it has arrived, what it comes after is
complete, its units are free, and the host has started what it started before. Every unit goes on with its
next request while the others are at work, and all share the memory's port, as in `timing`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.arrays import Floats
from common.errors import NpuloopError
from hw.core import CoreConfig
from mapping.compiler.schedule import Entry
from mapping.cost.execution import STAGGER, Execution, Works
from mapping.cost.list_run import Events, ListRun
from mapping.cost.timeline import PathSegment, Timeline
from mapping.cost.timing import launch, path_counts


@dataclass(frozen=True, eq=False)
class Request:
    """One inference to come.

    Attributes:
        lists: the commands of each unit that it needs.
        arrival: cycle before which it does not start.
        after: places, in the sequence of requests, of those that must be complete before.
    """

    lists: Mapping[str, Sequence[Entry]]
    arrival: float = 0.0
    after: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class RequestTiming:
    """When a request ran.

    Attributes:
        released: cycle from which it could have started if its units had been free.
        start: cycle at which the host started its first unit.
        end: cycle of its last interrupt.
        ends: for each of its units the cycle of the interrupt.
        path: the critical path to its end, from an arrival on: the last time before which nobody waited.
            Empty if it was not recorded.
    """

    released: float
    start: float
    end: float
    ends: Mapping[str, float]
    path: tuple[PathSegment, ...]

    @property
    def service(self) -> float:
        """Cycles from start to last interrupt."""
        return self.end - self.start

    def counts(self) -> dict[str, Floats]:
        """Return for each unit how often each coefficient counts on the path, (len(NAMES),)."""
        return path_counts(self.path, sorted({segment.unit for segment in self.path}))


@dataclass(frozen=True)
class Completion:
    """A unit has ended a request's list.

    Attributes:
        end: cycle of its interrupt.
        unit: the unit.
        request: number of the request.
        start: cycle of the request's start, if that was not known before.
    """

    end: float
    unit: str
    request: int
    start: float | None = None


class RequestClock:
    """Units at work on requests that are started one by one, in the order of time.

    Args:
        cores: the units of the system.
        coefficients: for each of them (len(NAMES),) cycles.
        port_bytes: width of the memory's port.
        recording: points in time know their path.
        works: what commands ask of their engines, to be shared by clocks of the same lists.
    """

    def __init__(
        self,
        cores: Sequence[CoreConfig],
        coefficients: Mapping[str, Floats],
        port_bytes: int = 16,
        *,
        recording: bool = False,
        works: Works | None = None,
    ) -> None:
        self.timeline = Timeline(coefficients, recording=recording)
        self._cores = {core.name: core for core in cores}
        self._execution = Execution(cores, self.timeline, works or Works(port_bytes))
        self._running: dict[str, tuple[int, ListRun]] = {}
        self._starts: dict[int, dict[str, float]] = {}
        self._known: list[tuple[float, str, int]] = []  # completions that are to come, the earliest first
        self._host = (-math.inf, -math.inf, 0)  # first of the last starts in a row; last one; how many

    def start(self, request: int, lists: Mapping[str, Sequence[Entry]], released: float) -> float:
        """Start a request on units that are free; return the cycle of its first unit's start.

        Args:
            request: its number.
            lists: commands of each unit that it needs.
            released: when the host may start it, not before the last completion that was returned.
        """
        events = Events()
        self._starts[request] = {}
        for unit in sorted(lists, key=list(self._cores).index):
            assert unit not in self._running, f"{unit} is busy"
            first, start, place = self._host_start(unit, released)
            begin = self.timeline.after(unit, [first], *launch(place))
            run = ListRun(self._cores[unit], lists[unit], begin, events)
            self._execution.start(run)
            self._running[unit] = (request, run)
            self._starts[request][unit] = start
        self._settle()
        return min(self._starts[request].values())

    def _host_start(self, unit: str, released: float) -> tuple[float, float, int]:
        """Return the first of the host's starts in a row, this one's cycle, and its place among them."""
        stagger = self.timeline.values[unit][STAGGER]
        first, last, place = self._host
        if released >= last + stagger:
            first, last, place = released, float(released), 0
        else:
            place += 1
            last = first + stagger * place
        self._host = (first, last, place)
        return self._host

    def next_completion(self, until: float = math.inf) -> Completion | None:
        """Return the next completion, if it comes until a cycle; time does not go on beyond that.

        Raises:
            NpuloopError: a list waits for what never comes.
        """
        while True:
            horizon = min(until, self._known[0][0] if self._known else math.inf)
            ask = self._execution.next_ask()
            if ask and ask.time < horizon:
                if self._execution.serve(ask, horizon):
                    self._settle()
                continue
            if self._known and self._known[0][0] <= until:
                return Completion(*heapq.heappop(self._known))
            if not ask and self._running and until == math.inf:
                raise NpuloopError(f"{', '.join(self._running)}: the command lists wait for each other")
            return None

    def _settle(self) -> None:
        self._execution.settle()
        for unit, (request, run) in list(self._running.items()):
            if run.done:
                del self._running[unit]
                heapq.heappush(self._known, (max(run.complete), unit, request))


def time_requests(
    requests: Sequence[Request],
    cores: Sequence[CoreConfig],
    coefficients: Mapping[str, Floats],
    port_bytes: int = 16,
    *,
    recording: bool = True,
    works: Works | None = None,
) -> tuple[RequestTiming, ...]:
    """Return when each of some requests runs: every unit serves those that need it in the order given.

    A unit's interrupt frees it, also where other units of the same request are still at work. Starts are
    writes of one host: two that fall together are a stagger apart.

    Args:
        requests: the requests; the order of those that share a unit is that in which it serves them.
        cores: the units of the system.
        coefficients: for each of them (len(NAMES),) cycles; see `CostModel.coefficients`.
        port_bytes: width of the memory's port.
        recording: whether the timings have paths, which takes memory for every phase on them.
        works: see `RequestClock`.

    Returns:
        The timings, in the order of the requests.

    Raises:
        NpuloopError: requests that wait for each other.
    """
    clock = RequestClock(cores, coefficients, port_bytes, recording=recording, works=works)
    return tuple(_Replay(requests, clock).run())


class _Replay:
    """Requests that are served in a given order."""

    def __init__(self, requests: Sequence[Request], clock: RequestClock) -> None:
        self.requests = requests
        self.clock = clock
        self.queues: dict[str, list[int]] = {}
        for number in reversed(range(len(requests))):
            for unit in requests[number].lists:
                self.queues.setdefault(unit, []).append(number)
        self.free: dict[str, float] = dict.fromkeys(self.queues, 0.0)
        self.busy: set[str] = set()
        self.ends: dict[int, dict[str, float]] = {number: {} for number in range(len(requests))}
        self.released: dict[int, float] = {}
        self.starts: dict[int, float] = {}

    def run(self) -> list[RequestTiming]:
        """Serve all requests."""
        while any(self.queues.values()) or self.busy:
            ready = [self._release(number) for number in self._heads()]
            release, number = min(ready, default=(math.inf, -1))
            completion = self.clock.next_completion(release)
            if completion:
                self.ends[completion.request][completion.unit] = completion.end
                self.free[completion.unit] = completion.end
                self.busy.discard(completion.unit)
            elif number >= 0:
                self._start(number, release)
            else:
                waiting = sorted({queue[-1] for queue in self.queues.values() if queue})
                raise NpuloopError(f"requests {waiting} wait for each other; change their order")
        return [self._timing(number) for number in range(len(self.requests))]

    def _complete(self, number: int) -> bool:
        return len(self.ends[number]) == len(self.requests[number].lists)

    def _heads(self) -> list[int]:
        """Return the requests that nothing holds back but time."""
        heads = {queue[-1] for unit, queue in self.queues.items() if queue and unit not in self.busy}
        return [
            number
            for number in sorted(heads)
            if all(self._complete(other) for other in self.requests[number].after)
            and all(
                unit not in self.busy and self.queues[unit][-1] == number
                for unit in self.requests[number].lists
            )
        ]

    def _release(self, number: int) -> tuple[float, int]:
        """Return from when on a request can start, units apart and with them; the latter for the order."""
        request = self.requests[number]
        points = [float(request.arrival), *(max(self.ends[other].values()) for other in request.after)]
        self.released[number] = float(max(points))
        return max(*points, *(self.free[unit] for unit in request.lists)), number

    def _start(self, number: int, release: float) -> None:
        lists = self.requests[number].lists
        for unit in lists:
            self.queues[unit].pop()
            self.busy.add(unit)
        self.starts[number] = self.clock.start(number, lists, release)

    def _timing(self, number: int) -> RequestTiming:
        last = max(self.ends[number].values())
        return RequestTiming(
            released=self.released[number],
            start=self.starts[number],
            end=float(last),
            ends={unit: float(end) for unit, end in self.ends[number].items()},
            path=self.clock.timeline.path(last),
        )
