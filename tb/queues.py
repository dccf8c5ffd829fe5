# SPDX-License-Identifier: Apache-2.0
"""Requests for the host's queues (tb_host.sv): how they are packed, and what their answers say."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.arrays import Bytes, Words
from hw.system import System
from tb.host import (
    INFO_NO_ANSWER,
    INFO_TIMEOUT,
    INFO_UNIT_ERROR,
    HostError,
    OpList,
    interrupt_ops,
    unit_error,
)
from tb.job import Job, JobError, UnitError

# tb_host_pkg.sv
MAX_REQUESTS = 256
"""Requests that a unit's ring holds."""
REQUEST_WORDS = 5
"""Words of a request; behind them is one for each unit of the system."""
ANSWER_WORDS = 8
INFO_PARTNER_FAILED, INFO_STUCK = 11, 12
MAX_JOIN_UNITS = 16
SPLITS = 1 << 16
"""Numbers of splits, which are used again."""
CYCLES = 1 << 32
"""Cycles that a stream of requests may last."""


@dataclass(frozen=True)
class QueuedRequest:
    """A request that waits in its units' queues until it may start.

    Attributes:
        number: of the caller's own, each once.
        starts: for each of its units, (byte address of its command list, number of commands); all start
            together.
        arrival: cycle before which it does not start; cycle 0 is the beginning of the stream.
        after: numbers of requests, earlier in the stream, that must be complete before.
        limit: cycles from its start after which it is given up.
        segments: what is written into the memory before it starts, when what its units did before is over;
            takes no cycle.
        reads: what is read when it is complete, (byte address, bytes); takes no cycle.
    """

    number: int
    starts: Mapping[str, tuple[int, int]]
    arrival: int = 0
    after: tuple[int, ...] = ()
    limit: int = 10_000_000
    segments: Sequence[tuple[int, Bytes]] = ()
    reads: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Answer:
    """How a unit has ended a request.

    Attributes:
        start: cycle in which its start was answered.
        end: cycle of its interrupt; without one, in which it was given up.
        cycles: what it counted from its start to the interrupt; 0 without one.
        failure: in words why it did not end well; empty if it did.
        error: the error that it reported, if it did.
    """

    start: int
    end: int
    cycles: int
    failure: str = ""
    error: UnitError | None = None


@dataclass(frozen=True, eq=False)
class AnsweredRequest:
    """A request that is complete.

    Attributes:
        number: the request's number.
        answers: how each of its units has ended it.
        reads: the bytes asked for.
    """

    number: int
    answers: Mapping[str, Answer]
    reads: Sequence[Bytes]

    @property
    def start(self) -> int:
        """Cycle in which its first unit was started."""
        return min(answer.start for answer in self.answers.values())

    @property
    def end(self) -> int:
        """Cycle of its last interrupt."""
        return max(answer.end for answer in self.answers.values())

    @property
    def failure(self) -> str:
        """In words what kept it from ending well, unit by unit; empty if it has."""
        return "; ".join(f"{unit}: {a.failure}" for unit, a in self.answers.items() if a.failure)


def unpack_answer(unit: str, words: Words) -> Answer:
    """Return a unit's answer from its words.

    Raises:
        HostError: the unit's registers do not answer as they must.
    """
    info, _, start, end, cycles, cause, command, response = (int(word) for word in words)
    if info == INFO_NO_ANSWER or response:
        what = f"was answered with AXI response {response}" if response else "was not answered"
        raise HostError(f"an access to a register of unit {unit} {what}")
    if info == INFO_STUCK:
        raise HostError(f"{unit} is not ready after a soft reset")
    error = unit_error(cause, command) if info == INFO_UNIT_ERROR else None
    failure = {
        0: "",
        INFO_TIMEOUT: f"has not ended after {end - start} cycles",
        INFO_UNIT_ERROR: f"{error.cause} in {error.engine}, command {command}" if error else "",
        INFO_PARTNER_FAILED: "another unit of the request has failed",
    }[info]
    return Answer(start, end, cycles, failure, error)


def enable_ops(config: System) -> OpList:
    """Return the operations that make the units ready for their queues."""
    ops = OpList()
    for index in range(len(config.cores)):
        interrupt_ops(ops, index)
    return ops


@dataclass
class QueueFeed:
    """Requests on their way to the queues, as far as these have room.

    Args:
        config: the system.
        requests: in the order in which they are queued; they are taken when there is room.
    """

    config: System
    requests: Iterable[QueuedRequest]
    _splits: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(1, SPLITS)))

    def __post_init__(self) -> None:
        """Begin with empty queues."""
        units = self.config.units
        self._source = iter(self.requests)
        self._held: QueuedRequest | None = None  # finds no room yet
        self._queued = dict.fromkeys(units, 0)  # in all
        self._answered = dict.fromkeys(units, 0)
        self._places: dict[int, Mapping[str, int]] = {}  # of each request, which it is of its units

    def take(self) -> list[dict[str, Any]]:
        """Return the next requests that find room, packed.

        Raises:
            JobError: a request that cannot be.
        """
        packed: list[dict[str, Any]] = []
        while True:
            request, self._held = self._held or next(self._source, None), None
            if request is None:
                return packed
            self._check(request)
            full = [u for u in request.starts if self._queued[u] - self._answered[u] >= MAX_REQUESTS]
            if full:
                self._held = request
                return packed
            packed.append(self._pack(request))

    def answered(self, item: Mapping[str, Any]) -> AnsweredRequest:
        """Return a request that the simulator reports, and make room for others.

        Raises:
            HostError: see `unpack_answer`.
        """
        units = self.config.units
        answers = {
            units[index]: unpack_answer(units[index], words) for index, words in item["answers"].items()
        }
        for unit in answers:
            self._answered[unit] += 1
        return AnsweredRequest(item["number"], answers, item["reads"])

    def _check(self, request: QueuedRequest) -> None:
        where = f"request {request.number}"
        if request.number in self._places:
            raise JobError(f"{where} is queued twice")
        if not request.starts:
            raise JobError(f"{where} starts no unit")
        if not 0 <= request.arrival < CYCLES or not 1 <= request.limit < CYCLES:
            raise JobError(f"{where}: arrival {request.arrival} and limit {request.limit} must fit 32 bits")
        if len(request.starts) > 1 and max(map(self.config.index, request.starts)) >= MAX_JOIN_UNITS:
            raise JobError(f"{where}: only the first {MAX_JOIN_UNITS} units of a system can start together")
        for other in request.after:
            if other not in self._places:
                raise JobError(f"{where} comes after {other}, which is not before it in the stream")
        Job(request.segments, request.starts, request.reads).check(self.config)

    def _pack(self, request: QueuedRequest) -> dict[str, Any]:
        units = self.config.units
        for unit in request.starts:
            self._queued[unit] += 1
        self._places[request.number] = {unit: self._queued[unit] for unit in request.starts}
        after = dict.fromkeys(units, 0)
        for other in request.after:
            for unit, place in self._places[other].items():
                after[unit] = max(after[unit], place)
        join = 0
        if len(request.starts) > 1:
            mask = sum(1 << self.config.index(unit) for unit in request.starts)
            join = next(self._splits) << MAX_JOIN_UNITS | mask
        tail = [request.limit, join, *after.values()]
        words = {
            self.config.index(unit): np.array([request.arrival, *start, *tail], dtype=np.uint32)
            for unit, start in request.starts.items()
        }
        return {
            "number": request.number,
            "words": words,
            "segments": list(request.segments),
            "reads": list(request.reads),
        }
