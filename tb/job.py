# SPDX-License-Identifier: Apache-2.0
"""What a session runs and what it gives back. It knows memory and command lists, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.arrays import Bytes
from common.errors import TestbenchError
from hw.interface import COMMAND_BYTES
from hw.memory import MemoryModel
from hw.system import System


class JobError(TestbenchError):
    """A job that cannot be run."""


@dataclass(frozen=True)
class Job:
    """One run of the hardware.

    Attributes:
        segments: the memory image, (byte address, bytes); a later segment overwrites an earlier one.
        starts: for each unit to start, (byte address of its command list, number of commands).
        reads: what to read back afterwards, (byte address, bytes).
        max_cycles: cycles after which the job is given up, with a diagnosis.
        memory: behaviour of the memory.
        reset_after: soft-reset the started units this many cycles after the last start.
        stop_on_error: end as soon as one unit reports an error, not when all have ended.
        waves: file to trace this job into; wave and record flavours only.
        wave_scopes: paths of the modules whose signals are traced, from tb_top on; all if there are none.
        keep_memory: keep the memory as the job before left it, under the segments.
        fill: byte that memory outside the segments holds. Not 0, so that results never written are noticed.
    """

    segments: Sequence[tuple[int, Bytes]] = ()
    starts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    reads: Sequence[tuple[int, int]] = ()
    max_cycles: int = 10_000_000
    memory: MemoryModel = field(default_factory=MemoryModel)
    reset_after: int | None = None
    stop_on_error: bool = True
    waves: Path | None = None
    wave_scopes: Sequence[str] = ()
    keep_memory: bool = False
    fill: int = 0xA5

    def check(self, config: System) -> None:
        """Raise :class:`JobError` if the job does not fit the system."""
        for address, data in self.segments:
            if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 1:
                raise JobError(f"segment at {address:#x}: must be a one-dimensional uint8 array")
            self._check_range("segment", address, len(data), config)
        for address, size in self.reads:
            self._check_range("read", address, size, config)
        for unit, (address, count) in self.starts.items():
            config.index(unit)
            if not 0 <= address < 1 << 32 or not 0 <= count < 1 << 32:
                raise JobError(f"{unit}: {count} commands at {address:#x} do not fit 32 bits")
        if not 1 <= self.max_cycles < 1 << 32:
            raise JobError(f"max_cycles = {self.max_cycles!r} must be 1 to 2**32 - 1")
        if self.reset_after is not None and not 0 <= self.reset_after < 1 << 32:
            raise JobError(f"reset_after = {self.reset_after!r} must be 0 to 2**32 - 1")
        if not 0 <= self.fill <= 255:
            raise JobError(f"fill = {self.fill!r} must be a byte")

    @staticmethod
    def _check_range(what: str, address: int, size: int, config: System) -> None:
        if address < 0 or size < 0 or address + size > config.mem_bytes:
            raise JobError(f"{what} of {size} bytes at {address:#x}: the memory has {config.mem_bytes}")

    def command_at(self, unit: str, index: int) -> Bytes | None:
        """Return command `index` of a unit's list as the segments hold it, or None."""
        if unit not in self.starts or index >= self.starts[unit][1]:
            return None
        address = self.starts[unit][0] + COMMAND_BYTES * index
        for start, data in reversed(self.segments):
            if start <= address and address + COMMAND_BYTES <= start + len(data):
                return data[address - start : address - start + COMMAND_BYTES]
        return None


@dataclass(frozen=True)
class EngineDiag:
    """What one engine did when the job ended: its state, and what it waited for."""

    engine: str
    state: str
    tokens: tuple[str, ...]
    event: int | None
    command: int


@dataclass(frozen=True)
class UnitError:
    """The first error that a unit met."""

    cause: str
    engine: str
    command: int


@dataclass(frozen=True)
class UnitResult:
    """What one unit reports after a job.

    `counters` holds every counter register by name, 64-bit pairs joined; `cycles` is start to interrupt.
    """

    name: str
    busy: bool
    done: bool
    stopping: bool
    error: UnitError | None
    cycles: int
    counters: Mapping[str, int]
    diag: Mapping[str, EngineDiag]
    dispatched: int
    blocked: bool


@dataclass(frozen=True)
class JobResult:
    """What a job gives back.

    Attributes:
        reads: the bytes asked for.
        units: the started units' results.
        cycles: cycles from the first start to the end of the wait, seen by the host: a few more than the
            units count.
        timed_out: the job was given up after `max_cycles`.
        diagnosis: in words, what went wrong; empty if nothing did.
        stuck: units that a soft reset did not make ready again (the session then resets the whole system).
        outstanding: memory transactions that were open at the end; 0 whenever all units were done.
        read_beats: beats that the memory delivered.
        write_beats: beats that the memory took.
        sim_cycles: cycles simulated for the job, register accesses included.
        seconds: wall-clock time of the simulation.
    """

    reads: list[Bytes]
    units: Mapping[str, UnitResult]
    cycles: int
    timed_out: bool
    diagnosis: str
    stuck: tuple[str, ...]
    outstanding: int
    read_beats: int
    write_beats: int
    sim_cycles: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every started unit has ended its list without error."""
        return not self.diagnosis and all(unit.done for unit in self.units.values())
