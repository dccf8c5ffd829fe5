# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_regs, the generated register block: every register through an AXI4-Lite master."""

from __future__ import annotations

from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, Timer, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from hw.interface import REGISTERS
from tb.blocks.runner import Block, run
from tb.blocks.support import CLOCK_NS, PATTERNS, Bench, make_rng, pattern

pytestmark = pytest.mark.rtl

SOURCES = ["generated/npu_regs_pkg.sv", "generated/npu_regs.sv"]
PLAIN = ("irq_enable", "cmd_address", "cmd_count")
"""Registers that the host writes and reads back."""
HOST = (*PLAIN, "ctrl", "irq_status")
SIZE = max(offset for offset, _ in REGISTERS.values()) + 4
TIMEOUT_NS = 2000 * CLOCK_NS


def mask_of(name: str) -> int:
    """Return the bits of a register that exist."""
    return sum(((1 << width) - 1) << lsb for lsb, width in REGISTERS[name][1].values())


class TB(Bench):
    """An AXI4-Lite master, and a watcher that counts the pulses of the control register."""

    def __init__(self, dut: Any, idle: str = "never", stall: str = "never") -> None:
        super().__init__(dut)
        dut.rst_ni.value = 0
        dut.irq_set_i.value = 0
        dut.values_i.value = 0
        self.host = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk_i, dut.rst_ni, reset_active_level=False
        )
        write, read = self.host.write_if, self.host.read_if
        for channel in (write.aw_channel, write.w_channel, read.ar_channel):
            channel.set_pause_generator(pattern(idle, str(channel)))
        for channel in (write.b_channel, read.r_channel):
            channel.set_pause_generator(pattern(stall, str(channel)))
        self.pulses = [0, 0]

    async def start(self) -> None:
        """Reset."""
        await self.reset()
        cocotb.start_soon(self._watcher())
        await self.drive()

    async def _watcher(self) -> None:
        while True:
            await FallingEdge(self.dut.clk_i)
            await Timer(1, "ns")
            self.pulses[0] += int(self.dut.start_o.value)
            self.pulses[1] += int(self.dut.soft_reset_o.value)

    async def write(self, name: str, value: int, lanes: int = 4, lane: int = 0) -> None:
        """Write a register, or some of its bytes."""
        data = value.to_bytes(4, "little")[lane : lane + lanes]
        answer = await with_timeout(self.host.write(REGISTERS[name][0] + lane, data), TIMEOUT_NS, "ns")
        assert answer.resp == AxiResp.OKAY

    async def read(self, name: str) -> int:
        """Read a register."""
        answer = await with_timeout(self.host.read(REGISTERS[name][0], 4), TIMEOUT_NS, "ns")
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")


@cocotb.test()
async def reset_values(dut: Any) -> None:
    """After reset all that the host can write is zero, and no pulse comes out."""
    tb = TB(dut)
    await tb.start()
    for name in HOST:
        assert await tb.read(name) == 0, name
    assert tb.pulses == [0, 0]


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def written_and_read_back(dut: Any, idle: str, stall: str) -> None:
    """Plain registers keep what is written, byte by byte, and show it to the core."""
    tb = TB(dut, idle, stall)
    await tb.start()
    rng = make_rng("write", idle, stall)
    mirror = dict.fromkeys(PLAIN, 0)
    for _ in range(30):
        name = str(rng.choice(PLAIN))
        value, lane = int(rng.integers(0, 2**32)), int(rng.integers(0, 4))
        lanes = int(rng.integers(1, 5 - lane))
        touched = ((1 << 8 * lanes) - 1) << 8 * lane
        await tb.write(name, value, lanes, lane)
        mirror[name] = (mirror[name] & ~touched | value & touched) & mask_of(name)
        for other in PLAIN:
            assert await tb.read(other) == mirror[other], other
        assert int(dut.cmd_address_o.value) == mirror["cmd_address"]
        assert int(dut.cmd_count_o.value) == mirror["cmd_count"]
        assert int(dut.irq_enable_o.value) == mirror["irq_enable"]
    assert tb.pulses == [0, 0]


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def read_only(dut: Any, idle: str, stall: str) -> None:
    """Every read-only register shows what the core gives it, in its own bits, and ignores writes."""
    tb = TB(dut, idle, stall)
    await tb.start()
    rng = make_rng("read", idle, stall)
    values = int.from_bytes(rng.bytes(SIZE), "little")
    dut.values_i.value = values
    await tb.drive()
    names = [name for name in REGISTERS if name not in HOST]
    assert len(names) == len(REGISTERS) - len(HOST)
    for name in names:
        want = values >> REGISTERS[name][0] * 8 & mask_of(name)
        assert await tb.read(name) == want, name
        await tb.write(name, ~want & 0xFFFFFFFF)
        assert await tb.read(name) == want, f"{name} after a write"
    assert [int(dut.cmd_address_o.value), int(dut.cmd_count_o.value)] == [0, 0]
    assert tb.pulses == [0, 0]


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def control_pulses(dut: Any, idle: str) -> None:
    """A written one of the control register is a pulse of one cycle; it reads as zero."""
    tb = TB(dut, idle, idle)
    await tb.start()
    want = [0, 0]
    for value in (1, 2, 3, 0, 1, 1):
        await tb.write("ctrl", value | 0xFFFF0000)
        want = [want[0] + (value & 1), want[1] + (value >> 1)]
        await tb.cycles(5)
        assert tb.pulses == want, f"after {value}"
        assert await tb.read("ctrl") == 0
    await tb.write("ctrl", 3, lanes=1, lane=1)
    await tb.cycles(5)
    assert tb.pulses == want, "a write of other bytes"


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def interrupts(dut: Any, idle: str) -> None:
    """The core sets interrupt bits; a written one clears its bit only, a zero nothing."""
    tb = TB(dut, idle, idle)
    await tb.start()
    for bits in (1, 2, 3):
        await tb.drive()
        dut.irq_set_i.value = bits
        await tb.drive()
        dut.irq_set_i.value = 0
        await tb.cycles(2)
        assert await tb.read("irq_status") == bits
        await tb.write("irq_status", 0)
        assert await tb.read("irq_status") == bits, "a written zero clears nothing"
        await tb.write("irq_status", ~bits & 3)
        assert await tb.read("irq_status") == bits, "the other bit"
        await tb.write("irq_status", bits)
        assert await tb.read("irq_status") == 0
    # held by the core, the bit comes back after every clear
    dut.irq_set_i.value = 1
    await tb.write("irq_status", 3)
    await tb.cycles(3)
    assert await tb.read("irq_status") == 1
    dut.irq_set_i.value = 0
    await tb.cycles(2)
    await tb.write("irq_status", 3)
    assert int(dut.irq_status_o.value) == 0


@cocotb.test()
@cocotb.parametrize(offset=range(-3, 4))
async def interrupt_against_clear(dut: Any, offset: int) -> None:
    """An event some cycles before, with or after the clear of the bit before it ends in a defined state.

    An event in the cycle of the clear, or after it, stays: none is lost.
    """
    tb = TB(dut)
    await tb.start()
    dut.irq_set_i.value = 1
    await tb.drive()
    dut.irq_set_i.value = 0
    await tb.cycles(4)
    writing = cocotb.start_soon(tb.write("irq_status", 1))
    cleared = await tb.until(lambda: int(dut.irq_status_o.value) == 0, 20, "the clear")
    await writing
    await tb.drive()
    # once more, now with the event at a known distance from the clear
    dut.irq_set_i.value = 1
    await tb.drive()
    dut.irq_set_i.value = 0
    await tb.cycles(4)
    writing = cocotb.start_soon(tb.write("irq_status", 1))
    for cycle in range(cleared + 8):
        # the clear takes effect at the rising edge before cycle `cleared`
        dut.irq_set_i.value = int(cycle == cleared - 1 + offset)
        await tb.drive()
    dut.irq_set_i.value = 0
    await writing
    await tb.cycles(2)
    assert int(dut.irq_status_o.value) == int(offset >= 0)


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def reset_in_flight(dut: Any, idle: str, stall: str) -> None:
    """A reset in the middle of accesses clears everything, and the port works afterwards."""
    tb = TB(dut, idle, stall)
    await tb.start()
    rng = make_rng("reset", idle, stall)
    for _ in range(6):
        tb.host.init_write(REGISTERS["cmd_count"][0], rng.bytes(4))
        tb.host.init_write(REGISTERS["irq_enable"][0], b"\3\0\0\0")
        tb.host.init_read(REGISTERS["cmd_count"][0], 4)
        await tb.cycles(int(rng.integers(1, 16)))
        await tb.break_off("reset")
        await tb.settle()
        assert int(dut.cmd_count_o.value) == int(dut.irq_enable_o.value) == 0
        await tb.cycles(3)
    await tb.write("cmd_count", 77)
    assert await tb.read("cmd_count") == 77


def test_registers_follow_the_table() -> None:
    """Every cocotb test of this module, against the same table that the host uses."""
    needs = [
        "reset_values",
        "written_and_read_back",
        "read_only",
        "control_pulses",
        "interrupts",
        "against_clear",
    ]
    run(Block("tb_regs", SOURCES), __name__, [*needs, "reset_in_flight"])


def test_table_has_a_register_for_every_word() -> None:
    """The register table has no hole: the wrapper's vector covers it."""
    assert [offset for offset, _ in REGISTERS.values()] == list(range(0, SIZE, 4))
    with pytest.raises(KeyError):
        mask_of("no such register")
