# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_agu: every beat of random operators against plain nested loops over the tensor's coordinates.

For sliding depthwise passes the words that have slid in are followed too: each tap that fires must see its
own input pixel.
"""

from __future__ import annotations

from typing import Any

import cocotb
import pytest

from hw.interface import COMMANDS
from tb.blocks.operators import OPERATORS, Operator, Unit, Want, draw, long, moved, passes_of, reference
from tb.blocks.runner import Block, run
from tb.blocks.structures import BEAT, STRIPE, Fields, unpack
from tb.blocks.support import PATTERNS, Bench, make_rng, parameters, pattern

FAR_BEATS = 40
"""Beats of an operator at most whose addresses are looked at, not its loops."""


class TB(Bench):
    """Runs operators and compares beat by beat."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, clear="clear_i")
        size = parameters()
        self.unit = Unit(size["Rows"], size["Cols"], size["WBits"], size["DwTaps"])
        self.bank = 0
        self.beats = 0
        dut.start_i.value = 0
        dut.ready_i.value = 0

    async def start(self) -> None:
        """Reset."""
        await self.reset()
        self.bank = 0

    def compare(self, got: Fields, want: Fields, what: str) -> None:
        """Compare the fields that are specified."""
        wrong = {name: (got[name], value) for name, value in want.items() if got[name] != value}
        assert not wrong, f"{what}: field: (got, expected) = {wrong}"

    async def run(self, op: Operator, stall: str, stop_after: int | None = None) -> None:
        """Start an operator; check all its beats, or the first `stop_after`."""
        dut = self.dut
        wants, after = reference(op, self.bank)
        stalls = pattern(stall, "ready", len(wants))
        assert int(dut.busy_o.value) == 0
        dut.cmd_i.value = op.command
        dut.start_i.value = 1
        await self.settle()
        if op.name in ("conv", "depthwise"):
            first = (int(dut.first_tile_addr_o.value), int(dut.first_tile_words_o.value))
            assert first == (op.fields["weight_base"], passes_of(op)[0].words), f"first tile of {op}"
        await self.drive()
        dut.start_i.value = 0
        dut.cmd_i.value = 0
        assert int(dut.opcode_o.value) == COMMANDS[op.name][0]
        recent: list[int | None] = []
        for i, want in enumerate(wants):
            if stop_after is not None and i == stop_after:
                return
            while True:
                ready = not next(stalls)
                dut.ready_i.value = int(ready)
                assert int(dut.valid_o.value) == int(dut.busy_o.value) == 1, f"beat {i} of {op}"
                self.check(want, f"beat {i} of {len(wants)} of {op}")
                if ready:
                    break
                await self.drive()
            recent = [want.beat.get("addr"), *recent][: self.unit.taps]
            for column, address in want.columns.items():
                assert recent[column] == address, f"column {column} in beat {i} of {op}"
            self.beats += 1
            await self.drive()
        dut.ready_i.value = 0
        assert int(dut.valid_o.value) == int(dut.busy_o.value) == 0, f"more than {len(wants)} beats: {op}"
        self.bank = after

    def check(self, want: Want, what: str) -> None:
        """Compare what the block offers."""
        dut = self.dut
        beat = unpack(int(dut.beat_o.value), BEAT)
        if "tap_mask" in want.beat and "tap_pad" in want.beat:
            beat["tap_pad"] &= beat["tap_mask"]
        self.compare(beat, want.beat, what)
        if want.stripe is not None:
            self.compare(unpack(int(dut.stripe_o.value), STRIPE), want.stripe, f"stripe, {what}")
        if want.tile is not None:
            tile = (int(dut.tile_addr_o.value), int(dut.tile_words_o.value))
            assert int(dut.tile_valid_o.value) == 1, f"tile, {what}"
            assert tile == want.tile, f"tile, {what}"
        if want.no_tile:
            assert int(dut.tile_valid_o.value) == 0, f"tile, {what}"


@cocotb.test()
@cocotb.parametrize(kind=OPERATORS, idle=["never", "random"], stall=PATTERNS)
async def beats(dut: Any, kind: str, idle: str, stall: str) -> None:
    """Random operators of a kind give the documented beats, whatever the pauses between and the stalls."""
    tb = TB(dut)
    await tb.start()
    rng = make_rng(kind, idle, stall, str(tb.unit))
    pauses = pattern(idle, "commands")
    for _ in range(5):
        while next(pauses):
            await tb.drive()
        await tb.run(draw(kind, tb.unit, rng), stall)
    assert tb.beats > 0


@cocotb.test()
@cocotb.parametrize(kind=OPERATORS)
async def far_away(dut: Any, kind: str) -> None:
    """Bases and steps use all bits of their fields, up to the highest."""
    tb = TB(dut)
    await tb.start()
    rng = make_rng("far", kind, str(tb.unit))
    for _ in range(8):
        await tb.run(moved(draw(kind, tb.unit, rng, FAR_BEATS), rng), "never")
    assert tb.beats > 0


@cocotb.test()
@cocotb.parametrize(kind=["conv", "depthwise", "max", "add"])
async def many(dut: Any, kind: str) -> None:
    """More than 32768 input channels, output channels and, in the smallest array, pixels of a row."""
    tb = TB(dut)
    await tb.start()
    if kind != "max" or tb.unit.cols == 16:
        await tb.run(long(kind, tb.unit), "never")
        assert tb.beats > 500


@cocotb.test()
async def mixed(dut: Any) -> None:
    """Operators of all kinds follow each other; the accumulator banks alternate through all of them."""
    tb = TB(dut)
    await tb.start()
    rng = make_rng("mixed", str(tb.unit))
    for _ in range(24):
        await tb.run(draw(str(rng.choice(OPERATORS)), tb.unit, rng), str(rng.choice(PATTERNS)))
    assert tb.beats > 0


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear"], stall=PATTERNS)
async def broken_off(dut: Any, how: str, stall: str) -> None:
    """A reset or clear in the middle of an operator leaves nothing behind."""
    tb = TB(dut)
    await tb.start()
    rng = make_rng("broken", how, stall, str(tb.unit))
    for kind in OPERATORS:
        op = draw(kind, tb.unit, rng)
        await tb.run(op, stall, stop_after=int(rng.integers(0, len(reference(op, 0)[0]))))
        await tb.break_off(how)
        tb.bank = 0
        assert int(dut.busy_o.value) == int(dut.valid_o.value) == 0
        await tb.run(draw(kind, tb.unit, rng), stall)
    assert tb.beats > 0


@pytest.mark.parametrize(
    ("rows", "cols", "w_bits", "taps"), [(16, 16, 8, 5), (16, 64, 2, 3), (64, 128, 7, 1)]
)
@pytest.mark.rtl
def test_agu_gives_the_documented_order(rows: int, cols: int, w_bits: int, taps: int) -> None:
    """Every cocotb test of this module, for several shapes of the array."""
    block = Block("tb_agu", ["npu_agu.sv"], {"Rows": rows, "Cols": cols, "WBits": w_bits, "DwTaps": taps})
    run(block, __name__, [*(f"kind={kind}" for kind in OPERATORS), "far_away", "many", "mixed", "broken_off"])
