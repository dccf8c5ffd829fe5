# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_axil_demux: a cocotbext-axi AXI4-Lite master on two AxiLiteRams, and the void beyond."""

from __future__ import annotations

from typing import Any

import cocotb
import pytest
from cocotb.triggers import with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiLiteRam, AxiResp

from tb.blocks.runner import Block, run
from tb.blocks.support import CLOCK_NS, PATTERNS, Bench, make_rng, pattern

WINDOW_BITS = 10
WINDOW = 2**WINDOW_BITS
REGISTERS = 256
"""Bytes of a window that hold registers."""
TIMEOUT_NS = 2000 * CLOCK_NS


class TB(Bench):
    """A host and two cores."""

    def __init__(self, dut: Any, idle: str, stall: str) -> None:
        super().__init__(dut)
        dut.rst_ni.value = 0
        self.host = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk_i, dut.rst_ni, reset_active_level=False
        )
        self.cores = [
            AxiLiteRam(
                AxiLiteBus.from_prefix(dut, f"m{port}_axil"),
                dut.clk_i,
                dut.rst_ni,
                reset_active_level=False,
                size=WINDOW,
            )
            for port in range(2)
        ]
        for side, host_names, core_names in (("write_if", ("aw", "w"), ("b",)), ("read_if", ("ar",), ("r",))):
            for unit in (self.host, *self.cores):
                # what a unit sends follows `idle`, what it takes follows `stall`
                sends, takes = (host_names, core_names) if unit is self.host else (core_names, host_names)
                for part, names in ((idle, sends), (stall, takes)):
                    for name in names:
                        channel = getattr(getattr(unit, side), f"{name}_channel")
                        channel.set_pause_generator(pattern(part, name, str(unit is self.host)))

    async def write(self, address: int, data: bytes) -> AxiResp:
        """Write up to a word."""
        answer = await with_timeout(self.host.write(address, data), TIMEOUT_NS, "ns")
        return AxiResp(answer.resp)

    async def read(self, address: int) -> tuple[AxiResp, bytes]:
        """Read a word."""
        answer = await with_timeout(self.host.read(address, 4), TIMEOUT_NS, "ns")
        return AxiResp(answer.resp), bytes(answer.data)


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def windows(dut: Any, idle: str, stall: str) -> None:
    """Every access reaches the core of its window; elsewhere it is answered with DECERR."""
    tb = TB(dut, idle, stall)
    await tb.reset()
    await tb.drive()
    rng = make_rng(idle, stall)
    mirror = [bytearray(WINDOW), bytearray(WINDOW)]
    for core, contents in zip(tb.cores, mirror, strict=True):
        core.write(0, bytes(contents))
    starts = [0, WINDOW, 2 * WINDOW]
    edges = [start + at for start in starts for at in (0, REGISTERS - 4, REGISTERS, WINDOW - 4)]
    edges += [3 * WINDOW, 0x8000, 0xFFFC, *(4 * int(word) for word in rng.integers(0, REGISTERS // 4, 12))]
    places = [*edges, *(4 * int(word) for word in rng.integers(0, 2**10, 24))]
    for place in rng.permutation(places):
        address = int(place)
        port, offset = divmod(address, WINDOW)
        data = rng.bytes(int(rng.integers(1, 5)))
        answer = await tb.write(address, data)
        got = await tb.read(address)
        if port < 2 and offset < REGISTERS:
            mirror[port][offset : offset + len(data)] = data
            assert answer == AxiResp.OKAY
            assert got == (AxiResp.OKAY, bytes(mirror[port][offset : offset + 4])), hex(address)
        else:
            assert answer == got[0] == AxiResp.DECERR, hex(address)
        for core, contents in zip(tb.cores, mirror, strict=True):
            assert core.read(0, WINDOW) == bytes(contents), f"after {address:#x}"


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def reads_and_writes_together(dut: Any, idle: str, stall: str) -> None:
    """A read and a write at the same time do not disturb each other, whatever their windows."""
    tb = TB(dut, idle, stall)
    await tb.reset()
    await tb.drive()
    rng = make_rng("together", idle, stall)
    for core in tb.cores:
        core.write(0, rng.bytes(WINDOW))
    for _ in range(20):
        windows_ = [int(value) for value in rng.integers(0, 3, 2)]
        write_at, read_at = 4 * int(rng.integers(0, 32)), 4 * int(rng.integers(32, 64))
        data = rng.bytes(4)
        writing = cocotb.start_soon(tb.write(windows_[0] * WINDOW + write_at, data))
        response, got = await tb.read(windows_[1] * WINDOW + read_at)
        answer = await writing
        assert answer == (AxiResp.OKAY if windows_[0] < 2 else AxiResp.DECERR)
        assert response == (AxiResp.OKAY if windows_[1] < 2 else AxiResp.DECERR)
        if windows_[0] < 2:
            assert tb.cores[windows_[0]].read(write_at, 4) == data
        if windows_[1] < 2:
            assert got == tb.cores[windows_[1]].read(read_at, 4)


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=["never", "random"])
async def reset_in_flight(dut: Any, idle: str, stall: str) -> None:
    """A reset in the middle of accesses leaves nothing behind."""
    tb = TB(dut, idle, stall)
    await tb.reset()
    await tb.drive()
    rng = make_rng("reset", idle, stall)
    for _ in range(6):
        tb.host.init_write(4 * int(rng.integers(0, 1024)), rng.bytes(4))
        tb.host.init_read(4 * int(rng.integers(0, 1024)), 4)
        await tb.cycles(int(rng.integers(1, 12)))
        await tb.break_off("reset")
        await tb.settle()
        assert int(dut.s_axil_bvalid.value) == int(dut.s_axil_rvalid.value) == 0
        await tb.cycles(3)
    for port in range(2):
        data = rng.bytes(4)
        assert await tb.write(port * WINDOW + 8, data) == AxiResp.OKAY
        assert await tb.read(port * WINDOW + 8) == (AxiResp.OKAY, data)


@pytest.mark.rtl
def test_demux_splits_into_windows() -> None:
    """Every cocotb test of this module."""
    block = Block("tb_demux", ["npu_axil_demux.sv"], {"WindowBits": WINDOW_BITS})
    run(block, __name__, ["windows", "reads_and_writes_together", "reset_in_flight"])
