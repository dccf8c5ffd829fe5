# SPDX-License-Identifier: Apache-2.0
"""Serves requests: they arrive, a policy decides, units run them, and a clock says until when."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mapping.cost.requests import Completion
from mapping.scheduling.clocks import CLOCKS, EXACT, Clock
from mapping.scheduling.deployment import Deployment, Option
from mapping.scheduling.policy import Policy, PolicyError, Start, UnitState, Waiting
from mapping.scheduling.workload import Arrival, Workload


@dataclass(frozen=True)
class Span:
    """When a section of a request ran; a request that is not cut has one.

    Attributes:
        start: cycle at which the first of its units was started.
        ends: for each of its units the cycle of its interrupt.
    """

    start: float
    ends: Mapping[str, float]

    @property
    def end(self) -> float:
        """Cycle of its last interrupt."""
        return max(self.ends.values())


@dataclass(frozen=True, eq=False)
class Served:
    """What became of a request.

    Attributes:
        number: its number.
        arrival: the request.
        arrived: cycle at which it arrived; None: it never did, as what it comes after was dropped.
        option: how it was run; None: it was not.
        spans: when its sections ran, in their order; none: it was dropped.
    """

    number: int
    arrival: Arrival
    arrived: float | None
    option: Option | None = None
    spans: tuple[Span, ...] = ()

    @property
    def start(self) -> float | None:
        """Cycle at which the first of its units was started; None: it did not run."""
        return self.spans[0].start if self.spans else None

    @property
    def end(self) -> float | None:
        """Cycle of its last interrupt; None: it did not run."""
        return self.spans[-1].end if self.spans else None

    @property
    def response(self) -> float | None:
        """Cycles from its arrival to its end; None: it did not run."""
        return None if self.end is None or self.arrived is None else self.end - self.arrived

    @property
    def service(self) -> float | None:
        """Cycles in which it ran: from its start to its end, without those between its sections.

        None: it did not run.
        """
        return sum(span.end - span.start for span in self.spans) if self.spans else None

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
        policy: decides; called at every arrival and whenever a unit becomes free, also between sections.
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
        self.given: dict[int, Option] = {}  # the section that is next or runs, with what is behind it
        self.whole: dict[int, Option] = {}  # how requests are run that a policy has started
        self.held: dict[int, int] = {}  # by the program of options that are cut, the request that runs it
        self.pending = [(item.time, number) for number, item in enumerate(arrivals) if not item.after]
        heapq.heapify(self.pending)
        self.left = {number: set(item.after) for number, item in enumerate(arrivals) if item.after}
        self.followers: dict[int, list[int]] = {}
        for number, before in self.left.items():
            for other in before:
                self.followers.setdefault(other, []).append(number)
        self.arrived: dict[int, float] = {}
        self.starts: dict[int, float] = {}  # of the section that runs
        self.ends: dict[int, dict[str, float]] = {}
        self.spans: dict[int, list[Span]] = {}
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

    def _go_on(self, number: int, rest: Option) -> None:
        """Let what is left of a request wait for the policy; where others queue for a unit, it goes on."""
        if any(self.units[unit].queue for unit in rest.next_units):
            self._queue(number, rest)
            return
        stream, arrived = self.arrivals[number].stream, self.arrived[number]
        deadline = None if stream.deadline is None else arrived + stream.deadline
        self.waiting[number] = Waiting(number, stream.name, arrived, deadline, stream.priority, (rest,))

    def _completed(self, completion: Completion) -> None:
        unit = self.units[completion.unit]
        number = completion.request
        unit.running = None
        if completion.start is not None:
            self.starts[number] = completion.start
        self.ends.setdefault(number, {})[completion.unit] = completion.end
        option = self.given[number]
        if len(self.ends[number]) == len(option.next_units):
            self.spans.setdefault(number, []).append(Span(self.starts[number], self.ends.pop(number)))
            if option.then:
                self._go_on(number, option.then)
                return
            self.done.add(number)
            self.held = {program: other for program, other in self.held.items() if other != number}
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
        offered = filter(None, map(self._offered, self.waiting.values()))
        waiting = sorted(offered, key=lambda item: (item.arrival, item.number))
        if not waiting:
            return
        for start in self.policy(self.now, waiting, self._states()):
            self._give(start)
        self._start_heads()

    def _offered(self, waiting: Waiting) -> Waiting | None:
        """Return a request without the options that others hold; None: nothing is left of them."""
        number = waiting.number
        options = tuple(
            option for option in waiting.options if self.held.get(id(option.program), number) == number
        )
        return replace(waiting, options=options) if options else None

    def _states(self) -> dict[str, UnitState]:
        states = {}
        for name, unit in self.units.items():
            end = self.now if unit.running is None else max(self.now, unit.expected)
            rest = None if unit.running is None else self.given[unit.running].then
            free_at = end + (rest.cycles if rest else 0.0)
            free_at += sum(self.given[number].cycles for number in unit.queue)
            states[name] = UnitState(name, unit.running, tuple(unit.queue), free_at, end)
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
        self._queue(start.request, start.option)

    def _queue(self, number: int, option: Option) -> None:
        self.given[number] = option
        self.whole.setdefault(number, option)
        if option.then:
            self.held.setdefault(id(option.program), number)
        for unit in option.next_units:
            queue = self.units[unit].queue
            queue.insert(0 if option.begun else len(queue), number)

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
                users = [self.units[name] for name in option.next_units]
                if self.held.get(id(option.program), number) != number:
                    continue  # the policy has given the same place in memory twice
                if any(user.running is not None or user.queue[0] != number for user in users):
                    continue
                if option.then:
                    self.held[id(option.program)] = number
                for user in users:
                    del user.queue[0]
                started = True
                if self._too_late(number):
                    self._lose(number)
                    continue
                self.starts[number] = self.clock.start(number, option, self.now)
                for user in users:
                    user.running, user.expected = number, self.starts[number] + option.next_cycles

    # ----------------------------------------------------------------------------------- late requests
    def _too_late(self, number: int) -> bool:
        stream = self.arrivals[number].stream
        if not stream.drop_late or stream.deadline is None or number in self.spans:
            return False
        return self.now >= self.arrived[number] + stream.deadline

    def _drop(self, waiting: dict[int, Waiting]) -> None:
        for number in [number for number in waiting if self._too_late(number)]:
            del waiting[number]
            self._lose(number)

    def _lose(self, number: int) -> None:
        """Note that a request is not run: what comes after it in a cascade never arrives, a loop goes on."""
        self.done.add(number)
        self.held = {program: other for program, other in self.held.items() if other != number}
        for follower in self.followers.get(number, ()):
            if self.arrivals[follower].stream.name == self.arrivals[number].stream.name:
                self.left[follower].discard(number)
                if not self.left[follower]:
                    heapq.heappush(self.pending, (self.now, follower))
            else:
                self._lose(follower)

    def _served(self, number: int) -> Served:
        spans = tuple(self.spans.get(number, ()))
        return Served(
            number=number,
            arrival=self.arrivals[number],
            arrived=self.arrived.get(number),
            option=self.whole[number] if spans else None,
            spans=spans,
        )
