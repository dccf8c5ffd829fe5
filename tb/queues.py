# SPDX-License-Identifier: Apache-2.0
"""Requests for the host's queues (tb_host.sv): how they are packed, and what their answers say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class UnitAnswer:
    """A unit has ended a request.

    Attributes:
        number: the request's number.
        unit: the unit.
        answer: how it has ended it.
        request: the request, if all its units have ended it.
    """

    number: int
    unit: str
    answer: Answer
    request: AnsweredRequest | None


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


class Ledger:
    """What has been given to the queues and what they have answered.

    Args:
        config: the system.
    """

    def __init__(self, config: System) -> None:
        self._config = config
        self._splits = itertools.cycle(range(1, SPLITS))
        self._queued = dict.fromkeys(config.units, 0)  # in all
        self._answered = dict.fromkeys(config.units, 0)
        self._places: dict[int, Mapping[str, int]] = {}  # of each request, which it is of its units
        self._answers: dict[int, dict[str, Answer]] = {}  # of requests that are not complete

    def has_room(self, request: QueuedRequest) -> bool:
        """Return whether a request finds room in the rings of its units."""
        return all(self._queued[unit] - self._answered[unit] < MAX_REQUESTS for unit in request.starts)

    def answered(self, item: Mapping[str, Any]) -> UnitAnswer:
        """Return an answer that the simulator reports, and make room for others.

        Raises:
            HostError: see `unpack_answer`.
        """
        number, unit = item["number"], self._config.units[item["unit"]]
        answers = self._answers.setdefault(number, {})
        answers[unit] = unpack_answer(unit, item["answer"])
        self._answered[unit] += 1
        complete = None
        if len(answers) == len(self._places[number]):
            in_order = {name: answers[name] for name in self._config.units if name in answers}
            complete = AnsweredRequest(number, in_order, item["reads"])
            del self._answers[number]
        return UnitAnswer(number, unit, answers[unit], complete)

    def check(self, request: QueuedRequest) -> None:
        """Raise :class:`JobError` for a request that cannot be."""
        where = f"request {request.number}"
        if request.number in self._places:
            raise JobError(f"{where} is queued twice")
        if not request.starts:
            raise JobError(f"{where} starts no unit")
        if not 0 <= request.arrival < CYCLES or not 1 <= request.limit < CYCLES:
            raise JobError(f"{where}: arrival {request.arrival} and limit {request.limit} must fit 32 bits")
        if len(request.starts) > 1 and max(map(self._config.index, request.starts)) >= MAX_JOIN_UNITS:
            raise JobError(f"{where}: only the first {MAX_JOIN_UNITS} units of a system can start together")
        for other in request.after:
            if other not in self._places:
                raise JobError(f"{where} comes after {other}, which is not before it in the stream")
        Job(request.segments, request.starts, request.reads).check(self._config)

    def pack(self, request: QueuedRequest) -> dict[str, Any]:
        """Return a request that finds room as the simulator takes it."""
        units = self._config.units
        for unit in request.starts:
            self._queued[unit] += 1
        self._places[request.number] = {unit: self._queued[unit] for unit in request.starts}
        after = dict.fromkeys(units, 0)
        for other in request.after:
            for unit, place in self._places[other].items():
                after[unit] = max(after[unit], place)
        join = 0
        if len(request.starts) > 1:
            mask = sum(1 << self._config.index(unit) for unit in request.starts)
            join = next(self._splits) << MAX_JOIN_UNITS | mask
        tail = [request.limit, join, *after.values()]
        words = {
            self._config.index(unit): np.array([request.arrival, *start, *tail], dtype=np.uint32)
            for unit, start in request.starts.items()
        }
        return {
            "number": request.number,
            "words": words,
            "segments": list(request.segments),
            "reads": list(request.reads),
        }
