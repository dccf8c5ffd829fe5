"""What a session runs and what it gives back. It knows memory and command lists, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tb.config import SocConfig, TestbenchError
from tb.interface import COMMAND_BYTES

Bytes = npt.NDArray[np.uint8]

MAX_ERROR_RANGES = 4
RESPONSES = {"okay": 0, "slverr": 2, "decerr": 3}


class JobError(TestbenchError):
    """A job that cannot be run."""


@dataclass(frozen=True)
class ErrorRange:
    """Bytes of the memory that answer with an error: `size` bytes from `address` on."""

    address: int
    size: int
    response: Literal["slverr", "decerr"] = "slverr"
    reads: bool = True
    writes: bool = True


@dataclass(frozen=True)
class MemoryModel:
    """How the memory behaves during a job.

    Attributes:
        latency: cycles from a read address to its first beat; 2 or more.
        write_latency: cycles from the last beat of a write to its response; None: as `latency`.
        beats: with `per_cycles`, the bandwidth limit in each direction: `beats` beats in `per_cycles` cycles.
        per_cycles: see `beats`; 1 beat per cycle is the port's own limit.
        backpressure_percent: share of cycles in which a channel stalls, each of the five on its own.
        backpressure_seed: seed of those stalls; equal seeds stall in equal cycles.
        data_first: take a write's address only when its data is offered, as AXI4 allows a memory to do.
        errors: address ranges that answer with errors, at most 4. Beyond the memory
            it is always DECERR.
    """

    latency: int = 20
    write_latency: int | None = None
    beats: int = 1
    per_cycles: int = 1
    backpressure_percent: int = 0
    backpressure_seed: int = 1
    data_first: bool = False
    errors: tuple[ErrorRange, ...] = ()

    def __post_init__(self) -> None:
        """Check the ranges that the model can keep to."""
        for name in ("latency", "write_latency"):
            value = getattr(self, name)
            if value is not None and not 2 <= value <= 1_000_000:
                raise JobError(f"memory {name} = {value!r} must be 2 to 1000000 cycles")
        if not 1 <= self.beats <= self.per_cycles <= 1_000_000:
            raise JobError(
                f"memory bandwidth {self.beats} / {self.per_cycles} must be 1 beat per cycle or less"
            )
        if not 0 <= self.backpressure_percent <= 95:
            raise JobError(f"memory backpressure_percent = {self.backpressure_percent!r} must be 0 to 95")
        if len(self.errors) > MAX_ERROR_RANGES:
            raise JobError(f"{len(self.errors)} error ranges; the memory model has {MAX_ERROR_RANGES}")
        for item in self.errors:
            if item.size < 1 or item.address < 0 or item.address + item.size > 1 << 32:
                raise JobError(f"error range {item} is empty or outside the 32-bit address space")

    def settings(self) -> list[int]:
        """Return the words of `settings` in tb_memory.sv."""
        limited = self.beats < self.per_cycles
        write_latency = self.latency if self.write_latency is None else self.write_latency
        words = [
            self.latency,
            write_latency,
            self.beats if limited else 0,
            self.per_cycles if limited else 0,
            round(self.backpressure_percent * 256 / 100),
            self.backpressure_seed & 0xFFFFFFFF,
            int(self.data_first),
            0,
        ]
        for item in self.errors:
            kind = RESPONSES[item.response] << 2 | item.writes << 1 | item.reads
            words += [item.address, item.address + item.size - 1, kind, 0]
        return words + [0] * (32 - len(words))


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

    def check(self, config: SocConfig) -> None:
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
    def _check_range(what: str, address: int, size: int, config: SocConfig) -> None:
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
