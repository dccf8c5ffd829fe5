# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_core_control and npu_core_errors: random inputs, every cycle compared."""

from __future__ import annotations

from typing import Any

import cocotb
import pytest

from hw.interface import ENGINES, ERRORS
from tb.blocks.runner import Block, run
from tb.blocks.support import Bench, join, make_rng

READY, RUN, STOP_ERROR, ERROR, STOP_RESET = range(5)
LOAD, COMPUTE, STORE, FETCH = range(4)
CYCLES = 3000
WORD = 2**32


class TB(Bench):
    """Drives random inputs; the parts do not see each other."""

    def __init__(self, dut: Any, *salt: object) -> None:
        super().__init__(dut)
        self.rng = make_rng(*salt)
        for name in ("control_start_i", "soft_reset_i", "quiet_i", "finished_i", "control_error_i", "run_i"):
            getattr(dut, name).value = 0
        for name in ("clear_i", "work_i", "illegal_i", "fetch_i"):
            getattr(dut, name).value = 0

    def chance(self, percent: int) -> int:
        """Return 1 with a probability, else 0."""
        return int(self.rng.integers(0, 100) < percent)

    def word(self) -> int:
        """Return 32 random bits."""
        return int(self.rng.integers(0, WORD))


@cocotb.test()
async def control(dut: Any) -> None:
    """Every state is left for what it waits for only; a soft reset goes first, in every state."""
    tb = TB(dut, "control")
    await tb.reset()
    state, done = READY, 0
    entered = {state}
    for cycle in range(CYCLES):
        start, soft_reset, quiet = tb.chance(40), tb.chance(8), tb.chance(30)
        finished, error = tb.chance(15), tb.chance(10)
        dut.control_start_i.value, dut.soft_reset_i.value, dut.quiet_i.value = start, soft_reset, quiet
        dut.finished_i.value, dut.control_error_i.value = finished, error
        await tb.settle()
        starts = state == READY and start and not soft_reset
        ends = state == RUN and finished and not error
        want = {
            "start": starts,
            "run": state == RUN,
            "stop": state in (STOP_ERROR, ERROR, STOP_RESET),
            "clear": state == STOP_RESET and quiet,
            "done": done,
            "irq_done": ends and not soft_reset,
            "irq_error": state == STOP_ERROR and quiet and not soft_reset,
        }
        for name, value in want.items():
            assert int(getattr(dut, f"{name}_o").value) == int(bool(value)), f"{name}_o in state {state}"
        assert int(dut.state_o.value) == state
        if soft_reset or starts:
            done = 0
        elif ends:
            done = 1
        if soft_reset:
            state = STOP_RESET
        elif starts:
            state = RUN
        elif state == RUN and (error or finished):
            state = STOP_ERROR if error else READY
        elif state in (STOP_ERROR, STOP_RESET) and quiet:
            state = ERROR if state == STOP_ERROR else READY
        entered.add(state)
        await tb.drive()
        if cycle % 400 == 399:
            await tb.break_off("reset")
            state, done = READY, 0
    assert entered == {READY, RUN, STOP_ERROR, ERROR, STOP_RESET}


@cocotb.test()
async def first_error(dut: Any) -> None:
    """The error of a run is kept until a clear; of several in one cycle the order decides."""
    tb = TB(dut, "errors")
    await tb.reset()
    kept = (0, LOAD, 0)
    seen = set()
    for cycle in range(CYCLES):
        running, clear = tb.chance(60), tb.chance(20)
        many = tb.chance(50)
        work = [tb.chance(50 if many else 8) for _ in ENGINES]
        illegal = [tb.chance(50 if many else 8) for _ in ENGINES]
        fetch = tb.chance(30)
        causes = [int(tb.rng.integers(1, len(ERRORS))) for _ in range(4)]
        work_index, illegal_index = [tb.word() for _ in ENGINES], [tb.word() for _ in ENGINES]
        fetch_index = tb.word()
        dut.run_i.value, dut.clear_i.value = running, clear
        dut.work_i.value, dut.illegal_i.value = join(work, 1), join(illegal, 1)
        dut.work_cause_i.value, dut.fetch_cause_i.value = join(causes[:3], 8), causes[3]
        dut.work_index_i.value, dut.illegal_index_i.value = join(work_index, 32), join(illegal_index, 32)
        dut.fetch_i.value, dut.fetch_index_i.value = fetch, fetch_index
        order = (COMPUTE, LOAD, STORE)
        errors = [(causes[engine], engine, work_index[engine]) for engine in order if work[engine]]
        errors += [(1, engine, illegal_index[engine]) for engine in order if illegal[engine]]
        errors += [(causes[3], FETCH, fetch_index)] if fetch else []
        await tb.settle()
        assert int(dut.error_o.value) == int(bool(errors))
        got = tuple(int(getattr(dut, f"first_{name}_o").value) for name in ("cause", "engine", "index"))
        assert got == kept
        if clear:
            kept = (0, LOAD, 0)
        elif running and errors:
            kept = errors[0]
            seen.add((kept[1], bool(work[kept[1]]) if kept[1] != FETCH else False))
        await tb.drive()
        if cycle % 300 == 299:
            await tb.break_off("reset")
            kept = (0, LOAD, 0)
    assert len(seen) == 7, "every engine's two kinds of errors, and fetch, were the first once"


@pytest.mark.rtl
def test_core_parts_follow_their_models() -> None:
    """Every cocotb test of this module."""
    block = Block("tb_core_parts", ["npu_core_control.sv", "npu_core_errors.sv"])
    run(block, __name__, ["control", "first_error"])
