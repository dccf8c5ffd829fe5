# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_axi_arbiter: three cocotbext-axi masters on one AxiRam."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import Combine, FallingEdge, Timer, with_timeout
from cocotbext.axi import AxiBus, AxiMaster, AxiRam, AxiResp

from tb.blocks.runner import Block, run
from tb.blocks.support import CLOCK_NS, PATTERNS, Bench, make_rng, pattern

PORTS = 3
REGION = 2**14
"""Bytes of memory that each master uses."""
TIMEOUT_NS = 60000 * CLOCK_NS


class TB(Bench):
    """Three masters, one memory, and a watcher of whom the port serves."""

    def __init__(self, dut: Any, idle: str, stall: str) -> None:
        super().__init__(dut)
        dut.rst_ni.value = 0
        self.masters = [
            AxiMaster(
                AxiBus.from_prefix(dut, f"s{port}_axi"),
                dut.clk_i,
                dut.rst_ni,
                reset_active_level=False,
                max_burst_len=16,
            )
            for port in range(PORTS)
        ]
        self.ram = AxiRam(
            AxiBus.from_prefix(dut, "m_axi"),
            dut.clk_i,
            dut.rst_ni,
            reset_active_level=False,
            size=PORTS * REGION,
        )
        self.served: list[int] = []
        for port, master in enumerate(self.masters):
            for part, channel in (
                *((idle, name) for name in ("aw", "w", "ar")),
                *((stall, name) for name in ("b", "r")),
            ):
                side = master.write_if if channel in ("aw", "w", "b") else master.read_if
                getattr(side, f"{channel}_channel").set_pause_generator(pattern(part, port, channel))
        for part, channel in (
            *((stall, name) for name in ("aw", "w", "ar")),
            *((idle, name) for name in ("b", "r")),
        ):
            side = self.ram.write_if if channel in ("aw", "w", "b") else self.ram.read_if
            getattr(side, f"{channel}_channel").set_pause_generator(pattern(part, "ram", channel))

    async def start(self) -> None:
        """Reset."""
        await self.reset()
        cocotb.start_soon(self._watcher())
        await self.drive()

    async def _watcher(self) -> None:
        dut = self.dut
        while True:
            await FallingEdge(dut.clk_i)
            await Timer(1, "ns")
            if int(dut.m_axi_arvalid.value) and int(dut.m_axi_arready.value):
                self.served.append(int(dut.m_axi_arid.value) >> 2)

    async def traffic(self, port: int, count: int, rng: np.random.Generator) -> None:
        """Write and read back a master's own region at random, several accesses at a time."""
        master, mirror = self.masters[port], bytearray(rng.bytes(REGION))
        base = port * REGION
        self.ram.write(base, bytes(mirror))
        for _ in range(count):
            half = REGION // 2
            places = [int(rng.integers(0, half - 1200)), half + int(rng.integers(0, half - 1200))]
            sizes = [int(size) for size in rng.integers(1, 1200, 2)]
            data = rng.bytes(sizes[0])
            # the write and the read are in flight together
            written = cocotb.start_soon(master.write(base + places[0], data))
            got = await master.read(base + places[1], sizes[1])
            answer = await written
            mirror[places[0] : places[0] + sizes[0]] = data
            assert answer.resp == got.resp == AxiResp.OKAY
            assert got.data == bytes(mirror[places[1] : places[1] + sizes[1]]), f"read of port {port}"
            back = await master.read(base + places[0], sizes[0])
            assert back.data == data, f"read back of port {port}"
        assert self.ram.read(base, REGION) == bytes(mirror), f"memory of port {port}"

    async def all_ports(self, count: int, rng: np.random.Generator) -> None:
        """Run traffic on all ports at once."""
        seeds = rng.spawn(PORTS)
        tasks = [cocotb.start_soon(self.traffic(port, count, seeds[port])) for port in range(PORTS)]
        await with_timeout(Combine(*tasks), TIMEOUT_NS, "ns")


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def masters_do_not_mix(dut: Any, idle: str, stall: str) -> None:
    """Reads, writes and answers of three masters stay apart, with pauses everywhere."""
    tb = TB(dut, idle, stall)
    await tb.start()
    await tb.all_ports(4, make_rng(idle, stall))
    assert set(tb.served) == set(range(PORTS))


@cocotb.test()
async def round_robin(dut: Any) -> None:
    """Masters that always ask are served in turn."""
    tb = TB(dut, "never", "never")
    await tb.start()
    reads = [cocotb.start_soon(tb.masters[port].read(port * REGION, 16 * 16 * 20)) for port in range(PORTS)]
    await with_timeout(Combine(*reads), TIMEOUT_NS, "ns")
    busy = tb.served[PORTS : 16 * PORTS]
    assert len(busy) == 15 * PORTS
    assert all(len(set(busy[i : i + PORTS])) == PORTS for i in range(len(busy) - PORTS + 1)), tb.served


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=["never", "random"])
async def reset_in_flight(dut: Any, idle: str, stall: str) -> None:
    """A reset at any moment leaves nothing behind."""
    tb = TB(dut, idle, stall)
    await tb.start()
    rng = make_rng("reset", idle, stall)
    for _ in range(4):
        for port, master in enumerate(tb.masters):
            master.init_write(port * REGION, rng.bytes(int(rng.integers(1, 2000))))
            master.init_read(port * REGION, int(rng.integers(1, 2000)))
        await tb.cycles(int(rng.integers(1, 120)))
        await tb.break_off("reset")
        await tb.settle()
        assert int(dut.m_axi_wvalid.value) == 0
        await tb.cycles(3)
    await tb.all_ports(2, rng)
    assert set(tb.served) == set(range(PORTS))


@pytest.mark.parametrize(("bits", "writes"), [(128, 4)])
@pytest.mark.rtl
def test_arbiter_keeps_masters_apart(bits: int, writes: int) -> None:
    """Every cocotb test of this module."""
    block = Block("tb_arbiter", ["npu_fifo.sv", "npu_axi_arbiter.sv"], {"DataBits": bits, "Writes": writes})
    run(block, __name__, ["masters_do_not_mix", "round_robin", "reset_in_flight"])
