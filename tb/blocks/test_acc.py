# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_acc, in both forms: sums and maxima of two banks against numpy, while the other is drained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest

from common.arrays import Int64
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, join, make_rng, parameters, pattern, split

SOURCES = [
    *("structural/npu_acc_columns.sv", "structural/npu_acc_structural.sv"),
    *("npu_acc_behavioural.sv", "npu_acc.sv"),
]
LANES = 16


@dataclass(frozen=True)
class Beat:
    """A contribution to a pixel."""

    bank: int
    pixel: int
    first: bool
    maximum: bool
    value: Int64


def wrap(value: Int64, bits: int) -> Int64:
    """Return what an accumulator of so many bits holds of a value."""
    half = 1 << (bits - 1)
    return (value + half) % (2 * half) - half


def values(rng: np.random.Generator, bits: int) -> Int64:
    """Return a contribution for each lane: small ones, any, or the extremes."""
    kind, most = rng.integers(0, 3), 2 ** (bits - 1) - 1
    if kind == 0:
        return rng.integers(-1000, 1000, LANES)
    if kind == 1:
        return rng.integers(-most - 1, most + 1, LANES)
    return rng.choice(np.array([-most - 1, -1, 0, 1, most]), LANES)


class TB(Bench):
    """Sums into one bank beat by beat, and drains the other."""

    def __init__(self, dut: Any, idle: str, drain: str, *salt: object) -> None:
        super().__init__(dut)
        self.depth, self.bits = parameters()["Depth"], parameters()["Bits"]
        self.rng = make_rng(idle, drain, *salt)
        self.pauses, self.drain_pauses = pattern(idle, "beats", *salt), pattern(drain, "drain", *salt)
        self.sums: list[list[Int64 | None]] = [[None] * self.depth for _ in range(2)]
        self.second: Beat | None = None  # the beat in its second cycle
        self.drained: Int64 | None = None
        self.compared = 0
        self.maximum = False
        for name in ("read_i", "add_i", "drain_i"):
            getattr(dut, name).value = 0

    async def step(self, beat: Beat | None, drain: tuple[int, int] | None) -> None:
        """One cycle: a beat's first, the second of the one before, a read of the drain."""
        dut, rng = self.dut, self.rng
        dut.read_i.value = int(beat is not None)
        # what comes with no beat, and no drain, is anything
        shown = beat or self.beat(int(rng.integers(0, 2)))
        dut.bank_i.value, dut.pixel_i.value, dut.first_i.value = shown.bank, shown.pixel, int(shown.first)
        second = self.second
        dut.add_i.value = int(second is not None)
        dut.max_i.value = int(second.maximum) if second is not None else int(rng.integers(0, 2))
        dut.value_i.value = join(second.value if second is not None else values(rng, self.bits), 32)
        dut.drain_i.value = int(drain is not None)
        bank, pixel = drain or (int(rng.integers(0, 2)), int(rng.integers(0, self.depth)))
        dut.drain_bank_i.value, dut.drain_pixel_i.value = bank, pixel
        await self.settle()
        if self.drained is not None:
            got = split(int(dut.drain_o.value), 32, LANES).tolist()
            assert got == self.drained.tolist(), "drained in the cycle before"
            self.compared += 1
        if second is not None:
            old = self.sums[second.bank][second.pixel]
            self.sums[second.bank][second.pixel] = self.combine(second, old)
        self.second = beat
        self.drained = self.sums[bank][pixel] if drain is not None else None
        await self.drive()

    def combine(self, beat: Beat, old: Int64 | None) -> Int64:
        """Return what the accumulators hold after a beat."""
        if beat.first:
            return beat.value
        assert old is not None, "the bench adds to a pixel that has no sum"
        if beat.maximum:
            return np.maximum(beat.value, old)
        return wrap(beat.value + old, self.bits)

    def beat(self, bank: int) -> Beat:
        """Return a random beat: often of the pixel of the beat before, or the one before that."""
        known = [pixel for pixel in range(self.depth) if self.sums[bank][pixel] is not None]
        second = self.second
        pixel = int(self.rng.integers(0, self.depth))
        if second is not None and self.rng.integers(0, 2):
            pixel = second.pixel
        coming = second is not None and second.bank == bank and second.pixel == pixel
        first = (pixel not in known and not coming) or bool(self.rng.integers(0, 4) == 0)
        return Beat(bank, pixel, first, self.maximum, values(self.rng, self.bits))

    async def stripe(self, bank: int, beats: int) -> None:
        """Sum a stripe into a bank, every pixel at least once, while the other bank is drained."""
        self.maximum = bool(self.rng.integers(0, 2))
        order = [int(pixel) for pixel in self.rng.permutation(self.depth)]
        for i in range(self.depth + beats):
            while next(self.pauses):
                await self.step(None, self.read(bank ^ 1))
            beat = self.beat(bank)
            if i < self.depth:
                beat = Beat(bank, order[i], True, self.maximum, beat.value)
            await self.step(beat, self.read(bank ^ 1))
        await self.step(None, self.read(bank ^ 1))

    def read(self, bank: int) -> tuple[int, int] | None:
        """Return a pixel to drain, or none."""
        known = [pixel for pixel in range(self.depth) if self.sums[bank][pixel] is not None]
        second = self.second
        if not known or next(self.drain_pauses) or (second is not None and second.bank == bank):
            return None
        return bank, int(self.rng.choice(known))

    async def read_all(self) -> None:
        """Drain every pixel of both banks."""
        for bank in (0, 1):
            for pixel in range(self.depth):
                if self.sums[bank][pixel] is not None:
                    await self.step(None, (bank, pixel))
        await self.step(None, None)


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, drain=["never", "random"])
async def stripes(dut: Any, idle: str, drain: str) -> None:
    """Stripes alternate between the banks, sums or maxima; the bank before is drained meanwhile."""
    tb = TB(dut, idle, drain, "stripes")
    await tb.reset()
    for number in range(4):
        await tb.stripe(number % 2, 40)
    await tb.read_all()
    assert tb.compared > 20


@cocotb.test()
async def one_bank_twice(dut: Any) -> None:
    """A bank is added to again without a drain (a convolution split over its input channels)."""
    tb = TB(dut, "random", "random", "twice")
    await tb.reset()
    for bank in (0, 0, 1, 1, 0):
        await tb.stripe(bank, 25)
    await tb.read_all()


@cocotb.test()
async def banks_in_turn(dut: Any) -> None:
    """The same pixel of both banks in consecutive cycles: each bank's sum is its own."""
    tb = TB(dut, "never", "never", "turn")
    await tb.reset()
    for bank in (0, 1):
        for pixel in range(tb.depth):
            await tb.step(Beat(bank, pixel, True, False, values(tb.rng, tb.bits)), None)
    for _ in range(60):
        pixel = int(tb.rng.integers(0, tb.depth))
        for bank in (0, 1, 1, 0):
            await tb.step(
                Beat(bank, pixel, False, bool(tb.rng.integers(0, 2)), values(tb.rng, tb.bits)), None
            )
    await tb.step(None, None)
    await tb.read_all()


@cocotb.test()
async def held_data(dut: Any) -> None:
    """Drained data stays until the bank is read again, whatever the other bank does."""
    tb = TB(dut, "never", "never", "held")
    await tb.reset()
    await tb.stripe(0, 3)
    await tb.stripe(1, 3)
    for bank in (0, 1):
        await tb.step(None, (bank, tb.depth - 1))
        want = tb.sums[bank][tb.depth - 1]
        for _ in range(5):
            await tb.step(Beat(bank ^ 1, 0, False, False, values(tb.rng, tb.bits)), None)
            tb.drained = want
        await tb.step(None, None)
    await tb.read_all()


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """A reset keeps what has been written; a new stripe after it is right."""
    tb = TB(dut, "random", "random", "reset")
    await tb.reset()
    await tb.stripe(0, 10)
    for _ in range(4):
        await tb.step(tb.beat(0), None)
        dut.read_i.value = dut.add_i.value = dut.drain_i.value = 0
        await tb.break_off("reset")
        tb.second, tb.drained = None, None
        await tb.read_all()
        await tb.stripe(0, 10)
    await tb.read_all()


@pytest.mark.parametrize(
    ("form", "depth", "bits"),
    [("behavioural", 16, 32), ("behavioural", 1, 24), ("structural", 16, 32), ("structural", 5, 24)],
)
@pytest.mark.rtl
def test_accumulators_give_numpys_sums(form: str, depth: int, bits: int) -> None:
    """Every cocotb test of this module, for both forms and widths, also with one pixel or with five."""
    size = {"Structural": int(form == "structural"), "Depth": depth, "Bits": bits}
    block = Block("tb_acc", SOURCES, size)
    run(block, __name__, ["stripes", "one_bank_twice", "banks_in_turn", "held_data", "reset_in_flight"])
