# SPDX-License-Identifier: Apache-2.0
"""Two clocks that say when requests end: one quick, for exploring, one exact, for what is reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from mapping.cost.requests import Completion, RequestClock
from mapping.scheduling.deployment import Deployment, Option

EXACT, FAST = "exact", "fast"


class Clock(Protocol):
    """Units at work on requests that are started in the order of time."""

    def start(self, request: int, option: Option, now: float) -> float:
        """Start a request's section on units that are free; return when it starts, as far as known."""

    def next_completion(self, until: float) -> Completion | None:
        """Return the next time a unit has ended a request's section, if that is not later than a cycle."""


class ExactClock:
    """The timing model, carried on from request to request: every burst on the port is served in its turn.

    Args:
        deployment: the system and what it runs.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._clock = RequestClock(
            deployment.system.cores, deployment.coefficients, deployment.port_bytes, works=deployment.works
        )

    def start(self, request: int, option: Option, now: float) -> float:
        """Start a request; see `Clock`."""
        return self._clock.start(request, option.lists, now)

    def next_completion(self, until: float) -> Completion | None:
        """Return the next completion; see `Clock`."""
        return self._clock.next_completion(until)


@dataclass
class _Job:
    option: Option
    left: float  # cycles that it would still take alone
    slowdown: float = 1.0
    units: tuple[str, ...] = ()  # whose completion has not been told


class FastClock:
    """The cycles of each request alone, stretched by those that run beside it, pair by pair.

    What each of the others adds to a request's time is summed; it changes whenever one starts or ends. All
    units of a request end at the same time.

    Args:
        deployment: the system and what it runs.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._jobs: dict[int, _Job] = {}
        self._ended: list[Completion] = []
        self._now = 0.0

    def start(self, request: int, option: Option, now: float) -> float:
        """Start a request; see `Clock`."""
        self._advance(now)
        self._jobs[request] = _Job(option, option.next_cycles, units=option.next_units)
        self._pair()
        return now

    def next_completion(self, until: float) -> Completion | None:
        """Return the next completion; see `Clock`."""
        if not self._ended and self._jobs:
            ends = [(self._now + job.left * job.slowdown, number) for number, job in self._jobs.items()]
            end, number = min(ends)
            if end <= until:
                self._advance(end)
                job = self._jobs.pop(number)
                self._ended = [Completion(end, unit, number) for unit in reversed(job.units)]
                self._pair()
        return self._ended.pop() if self._ended else None

    def _advance(self, now: float) -> None:
        for job in self._jobs.values():
            job.left = max(0.0, job.left - (now - self._now) / job.slowdown)
        self._now = max(now, self._now)

    def _pair(self) -> None:
        for number, job in self._jobs.items():
            others = [other.option for key, other in self._jobs.items() if key != number]
            slow = (self._deployment.slowdown(job.option, other) - 1.0 for other in others)
            job.slowdown = 1.0 + math.fsum(slow)


CLOCKS: Mapping[str, Callable[[Deployment], Clock]] = {EXACT: ExactClock, FAST: FastClock}
