# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_requant: bit-exact against golden.arithmetic, latency and tags, all shifts and extremes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest

from common.arrays import Int64
from golden.arithmetic import INT32_MAX, INT32_MIN, MAX_SHIFT, MIN_SHIFT, requantize, wrap_int32
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, join, make_rng, parameters, pattern, split
from tb.coverage.collect import sample_bench

SOURCES = [
    *("structural/npu_requant_lane.sv", "structural/npu_requant_structural.sv"),
    *("npu_requant_behavioural.sv", "npu_requant.sv"),
]
LATENCY = 5
SHIFTS = np.arange(MIN_SHIFT, MAX_SHIFT + 1)
EXTREMES = np.array(
    [INT32_MIN, INT32_MIN + 1, -(2**30) - 1, -(2**30), -1, 0, 1, 2**30 - 1, 2**30, INT32_MAX - 1, INT32_MAX]
)

MULTIPLIERS = EXTREMES[EXTREMES >= 0]


@dataclass(frozen=True)
class Step:
    """One cycle's operands, for all lanes."""

    tag: int
    acc: Int64
    bias: Int64
    multiplier: Int64
    shift: Int64
    single: bool
    zero_point: int
    act_min: int
    act_max: int

    def data(self) -> list[int]:
        """Return the golden int8 results."""
        operands = (self.acc, self.bias, self.multiplier, self.shift)
        limits = (self.zero_point, self.act_min, self.act_max)
        return [int(v) for v in requantize(*operands, *limits, single_rounding=self.single)]


def steps_of(columns: dict[str, Int64], lanes: int, rng: np.random.Generator) -> list[Step]:
    """Cut columns of operands into cycles, each with its own tag, zero point and clamp."""
    count = len(columns["acc"]) // lanes
    rows = {name: values[: count * lanes].reshape(count, lanes) for name, values in columns.items()}
    steps = []
    for i in range(count):
        narrow = rng.integers(-128, 128, 3)
        low, high = (-128, 127) if rng.integers(0, 2) else sorted(int(value) for value in narrow[:2])
        operands = {name: values[i] for name, values in rows.items()}
        steps.append(
            Step(
                tag=i & 0xFFFF, single=bool(rng.integers(0, 2)), zero_point=int(narrow[2]), act_min=low,
                act_max=high, **operands,
            )
        )  # fmt: skip
    return steps


def extreme_steps(lanes: int, rng: np.random.Generator) -> list[Step]:
    """Return every accumulator and multiplier extreme at every shift, each twice: rounding is drawn."""
    grids = np.meshgrid(EXTREMES, MULTIPLIERS, SHIFTS)
    acc, multiplier, shift = (np.tile(grid.reshape(-1), 2) for grid in grids)
    bias = rng.choice(EXTREMES, acc.size)
    # half of them reach the multiplier as the extreme itself, half are moved (and wrapped) by the bias
    acc = np.where(rng.integers(0, 2, acc.size) == 1, np.asarray(wrap_int32(acc - bias)), acc)
    columns = {"acc": acc, "bias": bias, "multiplier": multiplier, "shift": shift}
    return steps_of(columns, lanes, rng)


def random_steps(lanes: int, count: int, rng: np.random.Generator) -> list[Step]:
    """Return random operands, many of which give results inside of int8, as a network's do."""
    size = count * lanes
    bits = rng.integers(1, 32, size)
    columns = {
        "acc": rng.integers(-(1 << bits), 1 << bits),
        "bias": rng.integers(INT32_MIN, INT32_MAX + 1, size) >> rng.integers(0, 32, size),
        "multiplier": np.where(
            rng.integers(0, 4, size) > 0, rng.integers(2**30, 2**31, size), rng.integers(0, 2**31, size)
        ),
        "shift": np.where(
            rng.integers(0, 2, size) == 1,
            np.clip(-bits + rng.integers(0, 8, size), -31, 0),
            rng.choice(SHIFTS, size),
        ),
    }
    columns["acc"] = np.clip(columns["acc"], INT32_MIN, INT32_MAX)
    return steps_of(columns, lanes, rng)


def sample_step(step: Step) -> None:
    """Sample a step's operands for the functional plan."""
    low, high = min(step.act_min, step.act_max), max(step.act_min, step.act_max)
    for multiplier, shift in zip(step.multiplier.tolist(), step.shift.tolist(), strict=True):
        sample_bench(
            "operands of the requantiser",
            rounding="single" if step.single else "double",
            shift="right" if shift < 0 else "left" if shift > 0 else "none",
            multiplier="positive" if multiplier else "zero",
            clamp="none" if (low, high) == (-128, 127) else "narrow",
        )


class TB(Bench):
    """Drives one step per cycle and compares every output of every cycle, valid or not."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, clear="clear_i")
        self.lanes = parameters()["Lanes"]
        self.now = 0
        self.data: dict[int, Step] = {}
        self.compared = 0
        dut.valid_i.value = 0

    async def start(self) -> None:
        """Reset; everything in flight is gone."""
        await self.reset()
        self.forget()

    def forget(self) -> None:
        """Expect nothing of what is in flight."""
        self.data.clear()

    async def step(self, step: Step | None) -> None:
        """Offer a step, or nothing, in the next cycle; check that cycle's outputs."""
        dut = self.dut
        dut.valid_i.value = int(step is not None)
        if step is not None:
            sample_step(step)
            dut.tag_i.value = step.tag
            dut.sum_i.value = join(step.acc, 32)
            dut.bias_i.value = join(step.bias, 32)
            dut.multiplier_i.value = join(step.multiplier, 32)
            dut.shift_i.value = join(step.shift, 8)
            dut.single_i.value = int(step.single)
            dut.zero_point_i.value = step.zero_point & 0xFF
            dut.act_min_i.value = step.act_min & 0xFF
            dut.act_max_i.value = step.act_max & 0xFF
            self.data[self.now + LATENCY] = step
        await self.drive()
        self.now += 1
        self.check()

    def check(self) -> None:
        """Compare the outputs with what this cycle must give."""
        dut = self.dut
        data = self.data.pop(self.now, None)
        assert int(dut.valid_o.value) == int(data is not None), f"valid_o in cycle {self.now}"
        if data is not None:
            assert int(dut.tag_o.value) == data.tag
            got = split(int(dut.data_o.value), 8, self.lanes).tolist()
            assert got == data.data(), f"result of {data}"
            self.compared += 1

    async def send(self, steps: list[Step], idle: str) -> None:
        """Send all steps, with pauses, and take the last results."""
        pauses = pattern(idle, "send", len(steps))
        for step in steps:
            while next(pauses):
                await self.step(None)
            await self.step(step)
        for _ in range(LATENCY + 1):
            await self.step(None)


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def random_operands(dut: Any, idle: str) -> None:
    """Random operands give the golden results, whatever the pauses."""
    tb = TB(dut)
    await tb.start()
    steps = random_steps(tb.lanes, 400, make_rng("random", idle, tb.lanes))
    await tb.send(steps, idle)
    assert tb.compared == len(steps)


@cocotb.test()
async def extreme_operands(dut: Any) -> None:
    """All extremes of accumulator and multiplier at all 62 shifts give the golden results."""
    tb = TB(dut)
    await tb.start()
    steps = extreme_steps(tb.lanes, make_rng("extremes", tb.lanes))
    await tb.send(steps, "never")
    assert tb.compared == len(steps) == 2 * EXTREMES.size * MULTIPLIERS.size * SHIFTS.size // tb.lanes


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear"], idle=PATTERNS)
async def broken_off(dut: Any, how: str, idle: str) -> None:
    """A reset or clear drops what is in flight and nothing else; the next operands are right again."""
    tb = TB(dut)
    await tb.start()
    rng = make_rng("broken", how, idle)
    for round_ in range(8):
        pauses = pattern(idle, how, round_)
        for step in random_steps(tb.lanes, int(rng.integers(1, 12)), rng):
            if next(pauses):
                await tb.step(None)
            await tb.step(step)
        # valid_i stays up: what is offered together with clear_i is dropped too
        await tb.break_off(how)
        dut.valid_i.value = 0
        tb.forget()
        assert int(dut.valid_o.value) == 0
    compared = tb.compared
    steps = random_steps(tb.lanes, 20, rng)
    await tb.send(steps, idle)
    assert tb.compared == compared + len(steps)


@pytest.mark.parametrize(("form", "lanes"), [("behavioural", 16), ("behavioural", 4), ("structural", 16)])
@pytest.mark.rtl
def test_requant_gives_the_golden_results(form: str, lanes: int) -> None:
    """Every cocotb test of this module, for both forms, and for a bank of 16 lanes and one of 4."""
    block = Block("tb_requant", SOURCES, {"Lanes": lanes, "Structural": int(form == "structural")})
    run(block, __name__, ["random_operands", "extreme_operands", "broken_off"])
