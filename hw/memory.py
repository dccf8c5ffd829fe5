# SPDX-License-Identifier: Apache-2.0
"""Settings of the memory behind the port: how it behaves while a system runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.errors import ConfigError

MAX_ERROR_RANGES = 4
RESPONSES = {"okay": 0, "slverr": 2, "decerr": 3}


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
                raise ConfigError(f"memory {name} = {value!r} must be 2 to 1000000 cycles")
        if not 1 <= self.beats <= self.per_cycles <= 1_000_000:
            raise ConfigError(
                f"memory bandwidth {self.beats} / {self.per_cycles} must be 1 beat per cycle or less"
            )
        if not 0 <= self.backpressure_percent <= 95:
            raise ConfigError(f"memory backpressure_percent = {self.backpressure_percent!r} must be 0 to 95")
        if len(self.errors) > MAX_ERROR_RANGES:
            raise ConfigError(f"{len(self.errors)} error ranges; the memory model has {MAX_ERROR_RANGES}")
        for item in self.errors:
            if item.size < 1 or item.address < 0 or item.address + item.size > 1 << 32:
                raise ConfigError(f"error range {item} is empty or outside the 32-bit address space")

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
