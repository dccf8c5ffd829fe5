# SPDX-License-Identifier: Apache-2.0
"""A clock that is the RTL: requests run in simulation, and every output is compared with the golden model.

It is one of `mapping.scheduling.clocks`: the policy decides at arrivals and completions from the state of the
hardware, and the simulation stands still meanwhile. The host takes the cycles of its register accesses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from common.arrays import Array
from hw.interface import REGISTERS
from hw.memory import MemoryModel
from mapping.cost.requests import Completion
from mapping.run.layers import RunError
from mapping.scheduling.deployment import Deployment, Option
from mapping.scheduling.images import Image, Images
from tb.host import ENDED, WAIT, OpList, interrupt_ops, pack, soft_reset_ops
from tb.job import Job
from tb.queues import enable_ops
from tb.session import Session

BETWEEN_LISTS = 2
"""Cycles from the end of a list of host operations to the start of the next."""
PATIENCE = 20
"""A request is given up after so many times its predicted cycles."""


@dataclass
class _Work:
    request: int
    option: Option
    start: float
    left: set[str]


class RtlClock:
    """Units in RTL.

    Args:
        deployment: the system and what it runs.
        session: a running session of that system.
        memory: behaviour of the memory.

    Attributes:
        exact: for each request that is over, whether all its outputs were equal to the golden model's.
        failed: what kept requests from ending well; their units were reset and took the next.
    """

    def __init__(self, deployment: Deployment, session: Session, memory: MemoryModel | None = None) -> None:
        self._deployment = deployment
        self._session = session
        self._memory = memory or MemoryModel()
        self._now = 0.0  # cycle of the host
        self._images = Images(deployment)
        self._running: dict[str, _Work] = {}
        self._ended: list[Completion] = []
        self.exact: dict[int, bool] = {}
        self.failed: dict[int, str] = {}
        session.reset()
        session.run_ops(enable_ops(deployment.system), Job(memory=self._memory))

    # ----------------------------------------------------------------------------------------------- clock
    def start(self, request: int, option: Option, now: float) -> float:
        """Start a request; see `mapping.scheduling.clocks.Clock`."""
        self._now = max(self._now, now)
        if request in self.failed:  # what is left of it is given up too
            self._ended += [Completion(self._now, unit, request) for unit in option.next_units]
            return self._now
        known = option in self._images
        image = self._images.place(option)
        segments = [] if known else list(image.program.segments)
        segments += [] if option.begun else image.input_segments(request)
        ops = OpList()
        units = {unit: self._deployment.system.index(unit) for unit in option.next_units}
        for unit, index in units.items():
            address, count = image.program.sections[option.section].starts[unit]
            ops.write(index, "cmd_address", address)
            ops.write(index, "cmd_count", count)
        starts = [ops.write(index, "ctrl", pack("ctrl", start=1)) for index in units.values()]
        begun = self._now
        results, _ = self._run(ops, segments, [])
        at = begun + results[starts[0]][1]
        work = _Work(request, option, at, set(units))
        for unit in units:
            self._running[unit] = work
        return at

    def next_completion(self, until: float = math.inf) -> Completion | None:
        """Return the next completion; see `mapping.scheduling.clocks.Clock`.

        Raises:
            RunError: a unit does not become ready after a reset.
        """
        while not self._ended or self._ended[0].end > until:
            if self._ended or self._now >= until:
                return None
            if not self._running:
                self._now = until if until < math.inf else self._now  # nothing happens meanwhile
                return None
            self._wait(until)
        return self._ended.pop(0)

    # ------------------------------------------------------------------------------------------- simulation
    def _run(
        self, ops: OpList, segments: list[tuple[int, Array]], reads: list[tuple[int, int]]
    ) -> tuple[list[tuple[int, int]], list[Array]]:
        """Run operations; return value and cycle of each, and the bytes that were read. Time goes on."""
        job = Job(segments=segments, reads=reads, memory=self._memory, keep_memory=True)
        results, raw = self._session.run_ops(ops, job)
        self._now += results.cycle(len(ops.ops)) + BETWEEN_LISTS
        return [(results.value(i), results.cycle(i)) for i in range(len(ops.ops))], list(raw)

    def _wait(self, until: float) -> None:
        """Go on until a unit interrupts, or to a cycle; note what has ended."""
        units = {unit: self._deployment.system.index(unit) for unit in self._running}
        longest = PATIENCE * max(work.option.next_cycles for work in self._running.values()) + 100_000
        limit = max(1, math.ceil(min(until - self._now, longest)))
        ops = OpList()
        ops.add(WAIT, sum(1 << i for i in units.values()), REGISTERS["irq_status"][0], ENDED, limit)
        status = {unit: ops.read(index, "irq_status") for unit, index in units.items()}
        cycles = {unit: ops.read(index, "cycles") for unit, index in units.items()}
        results, _ = self._run(ops, [], [])
        for unit, work in list(self._running.items()):
            if results[status[unit]][0] & pack("irq_status", error=1):
                self._fail(work, f"{unit} reports an error")
            elif not results[status[unit]][0] and self._now - work.start > longest:
                self._fail(work, f"{unit} does not end")
        ended = [unit for unit in units if unit in self._running and results[status[unit]][0]]
        if not ended:
            return
        clear = OpList()
        complete: list[tuple[int, Image]] = []
        found = []
        for unit in ended:
            clear.write(units[unit], "irq_status", ENDED)
            work = self._running.pop(unit)
            work.left.discard(unit)
            found.append(Completion(work.start + results[cycles[unit]][0], unit, work.request))
            if not work.left and not work.option.then:
                complete.append((work.request, self._images.place(work.option)))
        _, raw = self._run(clear, [], [read for _, image in complete for read in image.reads()])
        for request, image in complete:
            self.exact[request] = image.exact(request, [raw.pop(0) for _ in image.reads()])
        self._ended = sorted([*self._ended, *found], key=lambda item: item.end)

    def _fail(self, work: _Work, reason: str) -> None:
        """Give a request up: its units are reset, the others go on."""
        units = [unit for unit, other in self._running.items() if other is work]
        ops = OpList()
        polls = soft_reset_ops(ops, self._deployment.system, units)
        for unit in units:
            interrupt_ops(ops, self._deployment.system.index(unit))
        results, _ = self._run(ops, [], [])
        for unit in units:
            if results[polls[unit]][0] & pack("status", busy=1, error=1, stopping=1):
                raise RunError(f"request {work.request}: {reason}, and {unit} is not ready after a reset")
            del self._running[unit]
            self._ended.append(Completion(self._now, unit, work.request))
        self.exact[work.request] = False
        self.failed[work.request] = reason
