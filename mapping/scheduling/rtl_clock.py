# SPDX-License-Identifier: Apache-2.0
"""A clock that is the RTL: requests run in simulation, and every output is compared with the golden model.

It is one of `mapping.scheduling.clocks`: the policy decides at arrivals and completions from the state of the
hardware, and the simulation stands still meanwhile. What it starts goes into the queues of the host, one for
each unit, so that no unit waits for the host's attention to another.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from hw.memory import MemoryModel
from mapping.cost.requests import Completion
from mapping.scheduling.deployment import Deployment, Option
from mapping.scheduling.images import Images
from tb.job import Job
from tb.session import Session

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on


class RtlClock:
    """Units in RTL. The session does nothing else until the clock is closed, by leaving it as a context.

    Args:
        deployment: the system and what it runs.
        session: a running session of that system.
        memory: behaviour of the memory.

    Attributes:
        exact: for each request that is over, whether all its outputs were equal to the golden model's.
        failed: what kept requests from ending well; their units were reset and took the next.
    """

    def __init__(self, deployment: Deployment, session: Session, memory: MemoryModel | None = None) -> None:
        self.exact: dict[int, bool] = {}
        self.failed: dict[int, str] = {}
        self._images = Images(deployment)
        self._numbers = itertools.count()  # in the queues
        self._running: dict[int, tuple[int, Option]] = {}  # request and what is left of it, by that number
        self._starts: dict[int, float] = {}  # of the first unit that has answered, by that number
        self._ended: list[Completion] = []
        self._skipped = 0.0  # cycles in which nothing ran, which were not simulated
        session.reset()
        self._queues = session.queues(Job(memory=memory or MemoryModel()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queues.close()

    @property
    def now(self) -> float:
        """The cycle at which the simulation stands."""
        return self._queues.now + self._skipped

    def start(self, request: int, option: Option, now: float) -> float:
        """Start a request; see `mapping.scheduling.clocks.Clock`. Its completions say when it did start."""
        if request in self.failed:  # what is left of it is given up too
            self._ended += [Completion(self.now, unit, request) for unit in option.next_units]
            return self.now
        self._skip(now)
        known = option in self._images
        image = self._images.place(option)
        number = next(self._numbers)
        queued = image.queued(number, request, option)
        if not known:
            queued = replace(queued, segments=[*image.program.segments, *queued.segments])
        self._queues.add(queued)
        self._running[number] = (request, option)
        return self.now

    def next_completion(self, until: float = math.inf) -> Completion | None:
        """Return the next completion; see `mapping.scheduling.clocks.Clock`.

        Raises:
            HostError: a unit does not become ready after a reset.
        """
        while not self._ended:
            if self.now >= until:
                return None
            if not self._running:
                self._skip(until)
                return None
            self._run(until)
        return self._ended.pop(0) if self._ended[0].end <= until else None

    def _skip(self, until: float) -> None:
        """Let time pass where nothing runs."""
        if not self._running and self.now < until < math.inf:
            self._skipped += until - self.now

    def _run(self, until: float) -> None:
        """Go on until a unit has ended a request, or to a cycle; note what has ended."""
        for item in self._queues.run(None if until == math.inf else math.ceil(until - self._skipped)):
            request, option = self._running[item.number]
            begun = item.answer.start + self._skipped
            begun = self._starts[item.number] = min(begun, self._starts.get(item.number, begun))
            self._ended.append(Completion(item.answer.end + self._skipped, item.unit, request, begun))
            if item.request is None:
                continue
            del self._running[item.number]
            if item.request.failure:
                self.failed[request] = item.request.failure
                self.exact[request] = False
            elif not option.then:
                self.exact[request] = self._images.place(option).exact(request, item.request.reads)
        self._ended.sort(key=lambda item: item.end)
