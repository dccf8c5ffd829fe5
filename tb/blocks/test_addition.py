# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_addition: operands rescaled as golden.arithmetic does, every shift and extreme, latency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest

from common.arrays import Int64
from golden.arithmetic import MIN_SHIFT, multiply_by_quantized_multiplier
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, join, make_rng, pattern, split

SOURCES = ["npu_addition.sv"]
LANES, LATENCY, MOST_LEFT = 16, 3, 23
OPERANDS = np.array([-255, -254, -128, -1, 0, 1, 127, 254, 255])
MULTIPLIERS = np.array([0, 1, 2, 2**30 - 1, 2**30, 2**30 + 1, 2**31 - 2, 2**31 - 1])


@dataclass(frozen=True)
class Step:
    """The operands of a cycle: 16 values of 9 bits, and how they are rescaled."""

    values: Int64
    multiplier: int
    left: int
    right: int

    def sums(self) -> list[int]:
        """Return what the golden model gives."""
        shifted = self.values << self.left
        wide = multiply_by_quantized_multiplier(shifted, self.multiplier, -self.right)
        return [int(value) for value in wide]


def random_steps(count: int, rng: np.random.Generator) -> list[Step]:
    """Return random steps; half of the multipliers and shifts are those of real additions."""
    steps = []
    for _ in range(count):
        real = bool(rng.integers(0, 2))
        multiplier = int(rng.integers(2**30 if real else 0, 2**31))
        left = 20 if real else int(rng.integers(0, MOST_LEFT + 1))
        right = int(rng.integers(0, 8 if real else 1 - MIN_SHIFT))
        steps.append(Step(rng.integers(-255, 256, LANES), multiplier, left, right))
    return steps


class TB(Bench):
    """Drives one step in a cycle and compares every output."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, clear="clear_i")
        self.flight: list[Step | None] = [None] * LATENCY
        self.compared = 0
        dut.valid_i.value = 0

    async def step(self, step: Step | None, rng: np.random.Generator) -> None:
        """One cycle: offer a step, or nothing; check what comes out."""
        dut = self.dut
        dut.valid_i.value = int(step is not None)
        shown = step or random_steps(1, rng)[0]
        dut.operand_i.value = join(shown.values.tolist(), 9)
        dut.multiplier_i.value, dut.left_i.value, dut.right_i.value = (
            shown.multiplier,
            shown.left,
            shown.right,
        )
        await self.drive()
        self.flight = [step, *self.flight[:-1]]
        assert int(dut.busy_o.value) == int(any(self.flight))
        out = self.flight[-1]
        if out is not None:
            assert split(int(dut.sum_o.value), 32, LANES).tolist() == out.sums(), f"{out}"
            self.compared += 1

    async def send(self, steps: list[Step], idle: str, rng: np.random.Generator) -> None:
        """Send steps with pauses, until the last is out."""
        pauses = pattern(idle, "send", len(steps))
        for step in steps:
            while next(pauses):
                await self.step(None, rng)
            await self.step(step, rng)
        for _ in range(LATENCY):
            await self.step(None, rng)


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def random_operands(dut: Any, idle: str) -> None:
    """Random operands give the golden results, whatever the pauses."""
    tb, rng = TB(dut), make_rng("random", idle)
    await tb.reset()
    await tb.send(random_steps(400, rng), idle, rng)
    assert tb.compared == 400


@cocotb.test()
async def extreme_operands(dut: Any) -> None:
    """Extremes of operand and multiplier at every pair of shifts."""
    tb, rng = TB(dut), make_rng("extremes")
    await tb.reset()
    steps = [
        Step(rng.choice(OPERANDS, LANES), int(multiplier), left, right)
        for multiplier in MULTIPLIERS
        for left in range(MOST_LEFT + 1)
        for right in range(1 - MIN_SHIFT)
    ]
    await tb.send(steps, "never", rng)
    assert tb.compared == len(steps)


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear"])
async def broken_off(dut: Any, how: str) -> None:
    """A reset or clear drops what is in flight and nothing else."""
    tb, rng = TB(dut), make_rng("broken", how)
    await tb.reset()
    for _ in range(8):
        for step in random_steps(int(rng.integers(1, 6)), rng):
            await tb.step(step, rng)
        await tb.break_off(how)
        dut.valid_i.value = 0
        tb.flight = [None] * LATENCY
        assert int(dut.busy_o.value) == 0
    await tb.send(random_steps(20, rng), "random", rng)


@pytest.mark.rtl
def test_operands_are_rescaled_as_golden_does() -> None:
    """Every cocotb test of this module."""
    run(Block("tb_addition", SOURCES), __name__, ["random_operands", "extreme_operands", "broken_off"])
