# SPDX-License-Identifier: Apache-2.0
"""What all block benches share in the simulator: clock, reset, random numbers, idle and stall patterns."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, Timer

from common.arrays import Array, Int64
from tb.coverage.collect import sample_bench

Pattern = Iterator[bool]
"""For each cycle: pause."""

PATTERNS: tuple[str, ...] = ("never", "random", "bursts")
"""Names of the patterns that idle sources and stalling sinks are crossed with."""
CLOCK_NS = 10


def make_rng(*salt: object) -> np.random.Generator:
    """Return random numbers that depend on the seed and on what the caller names, not on other tests."""
    return np.random.default_rng([cocotb.RANDOM_SEED & (2**63 - 1), zlib.crc32(repr(salt).encode())])


def pattern(name: str, *salt: object) -> Pattern:
    """Return an endless pattern of pauses by its name.

    never: no pause. random: half of the cycles. bursts: runs of 1 to 20 cycles with and without pause.
    """
    if name == "never":
        while True:
            yield False
    rng = make_rng("pattern", name, *salt)
    while True:
        if name == "random":
            yield from (bool(bit) for bit in rng.integers(0, 2, 64))
        elif name == "bursts":
            for paused in (False, True):
                yield from [paused] * int(rng.integers(1, 21))
        else:
            raise ValueError(f"no pattern {name!r}; there are {', '.join(PATTERNS)}")


def parameters() -> dict[str, int]:
    """Return the parameters that the block was built with."""
    words = os.environ.get("NPULOOP_BLOCK_PARAMETERS", "").split()
    return {name: int(value) for name, value in (word.split("=") for word in words)}


def join(values: Array | Sequence[int], bits: int) -> int:
    """Return values as one packed vector, value 0 in the low bits; negative ones in two's complement."""
    if bits % 8 == 0:
        width = bits // 8
        array = np.asarray(values, dtype=np.int64).reshape(-1, 1).view(np.uint8).reshape(-1, 8)[:, :width]
        return int.from_bytes(array.tobytes(), "little")
    total = 0
    for value in reversed([int(value) for value in values]):
        total = total << bits | (value & ((1 << bits) - 1))
    return total


def split(vector: int, bits: int, count: int) -> Int64:
    """Return the signed values of a packed vector, the inverse of `join` for 8 and 32 bits."""
    return np.frombuffer(vector.to_bytes(bits // 8 * count, "little"), dtype=f"<i{bits // 8}").astype(
        np.int64
    )


class Bench:
    """Clock and reset of a block.

    Everything is driven right after a falling edge and sampled right before a rising one, where all outputs
    have settled: benches see what a register at the block's port would take.
    """

    def __init__(self, dut: Any, *, clear: str | None = None) -> None:
        self.dut = dut
        self.clear = clear
        Clock(dut.clk_i, CLOCK_NS, "ns").start(start_high=False)

    async def reset(self) -> None:
        """Hold the reset for two cycles, whatever goes on; leaves right after a falling edge."""
        if self.clear is not None:
            getattr(self.dut, self.clear).value = 0
        self.dut.rst_ni.value = 0
        await ClockCycles(self.dut.clk_i, 2)
        await FallingEdge(self.dut.clk_i)
        self.dut.rst_ni.value = 1

    async def break_off(self, how: str) -> None:
        """Interrupt: "reset" by the reset, between clock edges; "clear" by one cycle of clear_i."""
        sample_bench("interruption of a block", block=cocotb.top._name, how=how)
        if how == "reset":
            await Timer(2, "ns")
            await self.reset()
        elif how == "clear" and self.clear is not None:
            getattr(self.dut, self.clear).value = 1
            await FallingEdge(self.dut.clk_i)
            getattr(self.dut, self.clear).value = 0
        else:
            raise ValueError(f"this block cannot be interrupted by {how!r}")

    async def drive(self) -> None:
        """Wait for the moment to drive inputs: right after the next falling edge."""
        await FallingEdge(self.dut.clk_i)

    async def settle(self) -> None:
        """Wait until outputs that follow inputs without a register have settled."""
        await Timer(1, "ns")

    async def cycles(self, count: int) -> None:
        """Let cycles pass, to right after a falling edge."""
        for _ in range(count):
            await FallingEdge(self.dut.clk_i)

    async def until(self, condition: Callable[[], bool], cycles: int, what: str) -> int:
        """Wait for a condition, looked at after falling edges; fail after a number of cycles."""
        for i in range(cycles):
            if condition():
                return i
            await FallingEdge(self.dut.clk_i)
        raise AssertionError(f"{what} did not happen in {cycles} cycles")


async def rising(dut: Any) -> None:
    """Wait for the next rising edge."""
    await RisingEdge(dut.clk_i)
