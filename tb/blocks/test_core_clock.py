# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_core_clock: a gated counter counts the edges of its clock, cycle by cycle against a model."""

from __future__ import annotations

from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, make_rng, parameters, pattern

SOURCES = ["technology/npu_clock_gate.sv", "npu_core_clock.sv"]


class TB(Bench):
    """Gives reasons to be awake and compares the counter."""

    def __init__(self, dut: Any, *salt: object) -> None:
        super().__init__(dut)
        self.tail, self.always = parameters()["Tail"], bool(parameters()["FeedThrough"])
        self.rng = make_rng(*salt)
        self.left = self.tail  # cycles that it stays awake without a reason
        self.edges: int | None = None
        dut.access_i.value = dut.busy_i.value = 0

    async def step(self, access: bool, busy: bool, glitch: bool) -> bool:
        """One cycle; with `glitch` the reason comes or goes while the clock is high. Return whether awake."""
        dut = self.dut
        dut.access_i.value, dut.busy_i.value = int(access), int(busy)
        await self.settle()
        before = int(dut.edges_o.value)
        assert self.edges is None or before == self.edges, "edges of the gated clock"
        assert int(dut.clk_o.value) == 0, "the gated clock is low while the clock is"
        awake = access or busy or self.left > 0 or self.always
        self.left = self.tail if access or busy else max(self.left - 1, 0)
        await RisingEdge(dut.clk_i)
        for value in (not access, access) if glitch else ():
            await self.settle()
            dut.access_i.value = int(value)
        await self.drive()
        self.edges = (before + awake) % 256
        assert int(dut.edges_o.value) == self.edges, f"awake: {awake}"
        return awake


@cocotb.test()
@cocotb.parametrize(access=PATTERNS, busy=PATTERNS)
async def wakes_and_sleeps(dut: Any, access: str, busy: str) -> None:
    """Every edge with a reason comes through at once, and `Tail` more; no other does."""
    tb = TB(dut, access, busy)
    await tb.reset()
    no_access, idle = pattern(access, "access"), pattern(busy, "busy")
    slept = 0
    for _ in range(300):
        calm = tb.rng.integers(0, 4) > 0  # else long breaks
        reasons = (not next(no_access), not next(idle)) if calm else (False, False)
        glitch = bool(tb.rng.integers(0, 2))
        slept += not await tb.step(*reasons, glitch)
        for _ in range(int(tb.rng.integers(0, 6)) if not calm else 0):
            slept += not await tb.step(False, False, glitch)
    assert bool(slept) != tb.always


@pytest.mark.parametrize(("tail", "feed_through"), [(2, 0), (1, 0), (2, 1)])
@pytest.mark.rtl
def test_clock_runs_while_there_is_a_reason(tail: int, feed_through: int) -> None:
    """Every cocotb test of this module, gated and as FPGAs have it."""
    size = {"Tail": tail, "FeedThrough": feed_through}
    run(Block("tb_core_clock", SOURCES, size), __name__, ["wakes_and_sleeps"])
