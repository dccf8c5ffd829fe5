# SPDX-License-Identifier: Apache-2.0
"""Serves requests: they arrive, a policy decides, units run them, and a clock says until when."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mapping.cost.requests import Completion
from mapping.scheduling.clocks import CLOCKS, EXACT, Clock
from mapping.scheduling.deployment import Deployment, Option
from mapping.scheduling.policy import Policy, PolicyError, Start, UnitState, Waiting
from mapping.scheduling.workload import Arrival, Workload


@dataclass(frozen=True, eq=False)
class Served:
    """What became of a request.

    Attributes:
        number: its number.
        arrival: the request.
        arrived: cycle at which it arrived; None: it never did, as what it comes after was dropped.
        option: how it was run; None: it was not.
        start: cycle at which the first of its units was started; None: it was dropped.
        ends: for each of its units the cycle of its interrupt.
    """

    number: int
    arrival: Arrival
    arrived: float | None
    option: Option | None = None
    start: float | None = None
    ends: Mapping[str, float] = field(default_factory=dict)

    @property
    def end(self) -> float | None:
        """Cycle of its last interrupt; None: it did not run."""
        return max(self.ends.values()) if self.ends else None

    @property
    def response(self) -> float | None:
        """Cycles from its arrival to its end; None: it did not run."""
        return None if self.end is None or self.arrived is None else self.end - self.arrived

    @property
    def service(self) -> float | None:
        """Cycles from its start to its end; None: it did not run."""
        return None if self.end is None or self.start is None else self.end - self.start

    @property
    def in_time(self) -> bool | None:
        """Whether it met its deadline; None: it has none, or never arrived."""
        deadline = self.arrival.stream.deadline
        if deadline is None or self.arrived is None:
            return None
        return self.response is not None and self.response <= deadline


@dataclass(frozen=True, eq=False)
class Run:
    """A workload, served.

    Attributes:
        deployment: the system and what it could run.
        requests: what became of each request, by number.
    """

    deployment: Deployment
    requests: tuple[Served, ...]

    @property
    def makespan(self) -> float:
        """Cycle of the last interrupt."""
        return max((request.end for request in self.requests if request.end is not None), default=0.0)


def simulate(
    deployment: Deployment,
    workload: Workload,
    arrivals: Sequence[Arrival],
    policy: Policy,
    clock: str | Clock = EXACT,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Run:
    """Serve requests and return what became of each.

    Args:
        deployment: the system and what it can run.
        workload: the workload, for what its streams allow.
        arrivals: its requests.
        policy: decides; called at every arrival and whenever a unit becomes free.
        clock: the name of one of CLOCKS, or a clock of that system, such as the RTL.
        progress: called with the requests that are done and all.

    Raises:
        WorkloadError: see `Deployment.allowed`.
        PolicyError: the policy decides what cannot be, or leaves requests waiting for ever.
    """
    chosen = CLOCKS[clock](deployment) if isinstance(clock, str) else clock
    server = _Server(deployment, workload, arrivals, chosen, policy)
    return server.run(progress)


@dataclass
class _Unit:
    """A unit: what it works on, and what it has been given besides."""

    running: int | None = None
    expected: float = 0.0  # cycle at which what it works on should be complete
    queue: list[int] = field(default_factory=list)


class _Server:
    """The state of a system that serves requests."""

    def __init__(
        self,
        deployment: Deployment,
        workload: Workload,
        arrivals: Sequence[Arrival],
        clock: Clock,
        policy: Policy,
    ) -> None:
        self.deployment = deployment
        self.arrivals = arrivals
        self.allowed = deployment.allowed(workload)
        self.clock = clock
        self.policy = policy
        self.now = 0.0
        self.units = {unit: _Unit() for unit in deployment.system.units}
        self.waiting: dict[int, Waiting] = {}
        self.given: dict[int, Option] = {}  # how requests are run that a policy has started
        self.pending = [(item.time, number) for number, item in enumerate(arrivals) if not item.after]
        heapq.heapify(self.pending)
        self.left = {number: set(item.after) for number, item in enumerate(arrivals) if item.after}
        self.followers: dict[int, list[int]] = {}
        for number, before in self.left.items():
            for other in before:
                self.followers.setdefault(other, []).append(number)
        self.arrived: dict[int, float] = {}
        self.starts: dict[int, float] = {}
        self.ends: dict[int, dict[str, float]] = {}
        self.done: set[int] = set()

    def run(self, progress: Callable[[int, int], None]) -> Run:
        """Serve everything."""
        while self._step():
            self._decide()
            progress(len(self.done), len(self.arrivals))
        if self.waiting or any(unit.queue for unit in self.units.values()):
            stuck = next(iter(self.waiting), None)
            raise PolicyError(
                f"the policy leaves {len(self.waiting)} requests waiting for ever"
                + ("" if stuck is None else f", the first is number {stuck} ({self.waiting[stuck].stream})")
                + "; a policy must start what waits when its units are free"
            )
        return Run(self.deployment, tuple(self._served(number) for number in range(len(self.arrivals))))

    # ------------------------------------------------------------------------------------------- time
    def _step(self) -> bool:
        """Go on to the next arrival or completion, with all others of its cycle; return whether one was."""
        arrival = self.pending[0][0] if self.pending else math.inf
        completion = self.clock.next_completion(arrival)
        if completion:
            self.now = max(self.now, completion.end)
            self._completed(completion)
        elif self.pending:
            self.now = arrival
        else:
            return False
        while True:
            while self.pending and self.pending[0][0] <= self.now:
                self._arrive(heapq.heappop(self.pending)[1])
            more = self.clock.next_completion(self.now)
            if more is None:
                return True
            self._completed(more)

    def _arrive(self, number: int) -> None:
        stream = self.arrivals[number].stream
        self.arrived[number] = self.now
        deadline = None if stream.deadline is None else self.now + stream.deadline
        options = self.allowed[stream.name]
        self.waiting[number] = Waiting(number, stream.name, self.now, deadline, stream.priority, options)

    def _completed(self, completion: Completion) -> None:
        unit = self.units[completion.unit]
        number = completion.request
        unit.running = None
        self.ends.setdefault(number, {})[completion.unit] = completion.end
        if len(self.ends[number]) == len(self.given[number].units):
            self.done.add(number)
            for follower in self.followers.get(number, ()):
                self.left[follower].discard(number)
                if not self.left[follower]:
                    time = max(self.arrivals[follower].time, self.now)
                    heapq.heappush(self.pending, (time, follower))

    # -------------------------------------------------------------------------------------- decisions
    def _decide(self) -> None:
        self._start_heads()  # what is queued goes first, so that the policy sees who is free
        self._drop(self.waiting)
        if not self.waiting:
            return
        waiting = sorted(self.waiting.values(), key=lambda item: (item.arrival, item.number))
        for start in self.policy(self.now, waiting, self._states()):
            self._give(start)
        self._start_heads()

    def _states(self) -> dict[str, UnitState]:
        states = {}
        for name, unit in self.units.items():
            free_at = self.now if unit.running is None else max(self.now, unit.expected)
            free_at += sum(self.given[number].cycles for number in unit.queue)
            states[name] = UnitState(name, unit.running, tuple(unit.queue), free_at)
        return states

    def _give(self, start: Start) -> None:
        if not isinstance(start, Start) or start.request not in self.waiting:
            raise PolicyError(
                f"the policy returns {start!r}, which starts no waiting request; return Starts of those"
            )
        waiting = self.waiting[start.request]
        if start.option not in waiting.options:
            raise PolicyError(
                f"the policy starts request {start.request} with something that is not one of its options"
            )
        del self.waiting[start.request]
        self.given[start.request] = start.option
        for unit in start.option.units:
            self.units[unit].queue.append(start.request)

    def _start_heads(self) -> None:
        """Start every request that is the next of all its units, if these are free."""
        started = True
        while started:
            started = False
            for unit in self.units.values():
                if unit.running is not None or not unit.queue:
                    continue
                number = unit.queue[0]
                option = self.given[number]
                users = [self.units[name] for name in option.units]
                if any(user.running is not None or user.queue[0] != number for user in users):
                    continue
                for user in users:
                    del user.queue[0]
                started = True
                if self._too_late(number):
                    self._lose(number)
                    continue
                self.starts[number] = self.clock.start(number, option, self.now)
                for user in users:
                    user.running, user.expected = number, self.starts[number] + option.cycles

    # ----------------------------------------------------------------------------------- late requests
    def _too_late(self, number: int) -> bool:
        stream = self.arrivals[number].stream
        if not stream.drop_late or stream.deadline is None:
            return False
        return self.now >= self.arrived[number] + stream.deadline

    def _drop(self, waiting: dict[int, Waiting]) -> None:
        for number in [number for number in waiting if self._too_late(number)]:
            del waiting[number]
            self._lose(number)

    def _lose(self, number: int) -> None:
        """Note that a request is not run: what comes after it in a cascade never arrives, a loop goes on."""
        self.done.add(number)
        for follower in self.followers.get(number, ()):
            if self.arrivals[follower].stream.name == self.arrivals[number].stream.name:
                self.left[follower].discard(number)
                if not self.left[follower]:
                    heapq.heappush(self.pending, (self.now, follower))
            else:
                self._lose(follower)

    def _served(self, number: int) -> Served:
        ends = self.ends.get(number, {})
        return Served(
            number=number,
            arrival=self.arrivals[number],
            arrived=self.arrived.get(number),
            option=self.given[number] if ends else None,
            start=self.starts.get(number),
            ends=ends,
        )
