# SPDX-License-Identifier: Apache-2.0
"""What a policy sees and what it decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from common.errors import NpuloopError
from mapping.scheduling.deployment import Option


class PolicyError(NpuloopError):
    """A policy that is unknown, or decides what cannot be."""


@dataclass(frozen=True, eq=False)
class Waiting:
    """A request that has arrived and that no unit has been given yet, or one that is between two sections.

    Attributes:
        number: the request's number.
        stream: name of its stream.
        arrival: cycle at which it arrived.
        deadline: cycle before which it should be complete; None: none.
        priority: that of its stream.
        options: how it may be run: what is accurate enough. Of a request that has begun it is what is left of
            its option. A version that is cut has one place in memory: until the request that has it is
            complete, it is no option of others.
    """

    number: int
    stream: str
    arrival: float
    deadline: float | None
    priority: int
    options: tuple[Option, ...]

    @property
    def begun(self) -> bool:
        """Whether some of its sections are complete."""
        return self.options[0].begun


@dataclass(frozen=True)
class UnitState:
    """A unit at the time of a decision.

    Attributes:
        name: the unit.
        running: number of the request that it works on; None: it is idle.
        queued: numbers of the requests that it has been given besides, in their order.
        free_at: cycle at which all of this should be complete, by the cycles that each takes alone; the
            present if it is idle.
        section_end: cycle at which the section that it works on should be complete.
    """

    name: str
    running: int | None
    queued: tuple[int, ...]
    free_at: float
    section_end: float

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.running is None and not self.queued


@dataclass(frozen=True, eq=False)
class Start:
    """A decision: a request gets an option's units. On a unit that is busy it queues behind the others.

    Of an option that is cut, the decision is for its next section: then the request waits again, with what is
    left. Where others queue for one of its units, it goes on before them without a decision.

    Attributes:
        request: number of a waiting request.
        option: one of its options.
    """

    request: int
    option: Option


Policy: TypeAlias = Callable[[float, Sequence[Waiting], Mapping[str, UnitState]], Sequence[Start]]
"""Called with the cycle, the waiting requests in the order of their arrival, and the units by name, whenever
a request arrives or a unit becomes free, also between two sections; returns starts. What it leaves waits
until it is called again."""


def expected_end(now: float, option: Option, free_at: Mapping[str, float]) -> float:
    """Return when an option should end: alone, behind what its units have been given.

    Args:
        now: the cycle.
        option: the option.
        free_at: of each unit the cycle at which it should be free.
    """
    return max(now, *(free_at[unit] for unit in option.next_units)) + option.cycles
