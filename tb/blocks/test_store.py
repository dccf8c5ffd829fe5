# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_store (with npu_bursts and npu_walk): random transfers and marks to a cocotbext-axi memory."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotbext.axi import AxiResp, AxiSlaveWrite, AxiWriteBus

from hw.commands import encode
from tb.blocks.dma import DONE_CYCLES, WORD, DmaBench, Transfer, check_illegal, draw, respond_with
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, join, make_rng, parameters, pattern

SOURCES = ["npu_fifo.sv", "npu_bursts.sv", "npu_walk.sv", "npu_store.sv"]


class TB(DmaBench):
    """The activation scratchpad's read port on one side, memory on the other."""

    request = "aw"

    def __init__(self, dut: Any, idle: str, stall: str, *salt: object) -> None:
        super().__init__(dut, self.watch, idle, stall)
        sizes = parameters()
        self.size = sizes["ActWords"]
        self.beats_per_word = 128 // sizes["AxiDataBits"]
        self.max_bursts = sizes["MaxBursts"]
        self.rng = make_rng(idle, stall, *salt)
        self.contents = [self.rng.bytes(WORD) for _ in range(self.size)]
        self.slave = AxiSlaveWrite(
            AxiWriteBus.from_prefix(dut, "m_axi"),
            dut.clk_i,
            dut.rst_ni,
            self.memory,
            reset_active_level=False,
        )
        self.slave.b_channel.set_pause_generator(pattern(idle, "b", *salt))
        self.slave.aw_channel.set_pause_generator(pattern(stall, "aw", *salt))
        self.slave.w_channel.set_pause_generator(pattern(stall, "w", *salt))
        self.read_stall = pattern(idle, "read", *salt)
        self.read_next: int | None = None
        self.now = int(self.rng.integers(0, 2**40))
        self.busy = False
        self.started = 0

    async def start(self) -> None:
        """Reset both sides."""
        await self.reset()
        self.watch_from_now()
        await self.drive()

    def stalls(self) -> None:
        """Answer the read that was taken; stall the next; advance the time."""
        dut = self.dut
        answer = self.rng.bytes(WORD) if self.read_next is None else self.contents[self.read_next]
        dut.read_data_i.value = int.from_bytes(answer, "little")
        dut.read_ready_i.value = int(not next(self.read_stall))
        self.now += 1
        dut.cycle_i.value = self.now
        self.busy = self.busy and bool(int(dut.rst_ni.value))

    def answer_ends(self) -> bool:
        """Return whether a write response is taken."""
        return bool(int(self.dut.m_axi_bvalid.value) and int(self.dut.m_axi_bready.value))

    def watch(self) -> None:
        """Take reads of the scratchpad."""
        dut = self.dut
        assert 0 <= self.requested - self.answered <= self.max_bursts, "bursts in flight"
        self.read_next = None
        if int(dut.read_valid_o.value):
            assert not int(dut.stop_i.value), "read after a stop"
            address = int(dut.read_addr_o.value)
            assert address < self.size
            if int(dut.read_ready_i.value):
                self.read_next = address
        assert int(dut.start_ready_o.value) == int(not self.busy), "one command at a time"
        if int(dut.start_valid_i.value) and int(dut.start_ready_o.value):
            self.started = self.now
            self.busy = True
        if int(dut.done_o.value) or int(dut.clear_i.value):
            self.busy = False

    def expected(self, transfer: Transfer) -> dict[int, int]:
        """Return every byte that a transfer writes."""
        return {
            address + i: byte
            for address, local in transfer.words()
            for i, byte in enumerate(self.contents[local])
        }

    async def finish(self, done: int) -> None:
        """Wait until commands are done; then all their bursts must have been answered."""
        await self.until(lambda: self.done >= done, DONE_CYCLES, "done")
        await self.cycles(3)
        assert self.done == done
        assert self.requested == self.answered
        assert int(self.dut.quiet_o.value) == 1

    async def store(self, transfer: Transfer) -> None:
        """Run a transfer: exactly its bytes must be written, each once."""
        self.memory.written.clear()
        self.memory.rewritten = 0
        beats = self.beats
        pauses = pattern(self.idle, "commands", self.done)
        while next(pauses):
            await self.drive()
        await self.offer(transfer)
        await self.finish(self.done + 1)
        assert self.memory.written == self.expected(transfer)
        assert self.memory.rewritten == 0
        assert self.beats - beats == len(transfer.words()) * self.beats_per_word, "beats written"

    def draw(self) -> Transfer:
        """Return a random transfer."""
        return draw("store", [self.size], self.rng, apart=True)


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def words(dut: Any, idle: str, stall: str) -> None:
    """Random transfers write exactly their words, across pages, planes and strides, with pauses."""
    tb = TB(dut, idle, stall, "words")
    await tb.start()
    for _ in range(4):
        await tb.store(tb.draw())
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def marks(dut: Any, idle: str, stall: str) -> None:
    """A mark writes the time of its start, its id and a zero word; marks and stores follow each other."""
    tb = TB(dut, idle, stall, "marks")
    await tb.start()
    for _ in range(4):
        address, number = WORD * int(tb.rng.integers(0, 2**28)), int(tb.rng.integers(0, 2**32))
        tb.memory.written.clear()
        await tb.offer(join([int(word) for word in encode("mark", mem_address=address, id=number)], 32))
        await tb.finish(tb.done + 1)
        record = tb.started | number << 64
        want = {address + i: byte for i, byte in enumerate(record.to_bytes(WORD, "little"))}
        assert tb.memory.written == want
        await tb.store(tb.draw())
    assert not tb.errors


@cocotb.test()
async def full_rate(dut: Any) -> None:
    """A long line takes one beat per cycle, once it flows: nothing is lost between bursts."""
    tb = TB(dut, "never", "never", "rate")
    await tb.start()
    await tb.offer(Transfer("store", 0, 4096 - 32, 0, 256, 1, 0, 1, 0, 1, 0))
    cycles = await tb.until(lambda: tb.done == 1, DONE_CYCLES, "done")
    # cocotbext-axi's memory takes a cycle more between bursts
    assert cycles <= (256 + 256 // 8) * tb.beats_per_word + 40


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def stopped(dut: Any, idle: str, stall: str) -> None:
    """A stop at any moment ends the bursts that are out; what is written is right; the next one works."""
    tb = TB(dut, idle, stall, "stop")
    await tb.start()
    for _ in range(8):
        transfer = tb.draw()
        tb.memory.written.clear()
        await tb.offer(transfer)
        await tb.cycles(int(tb.rng.integers(0, 80)))
        await tb.stop()
        want = tb.expected(transfer)
        wrong = {hex(place): byte for place, byte in tb.memory.written.items() if want.get(place) != byte}
        assert not wrong
    await tb.store(tb.draw())
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def reset_in_flight(dut: Any, idle: str) -> None:
    """A reset of both sides at any moment leaves nothing behind."""
    tb = TB(dut, idle, "random", "reset")
    await tb.start()
    for _ in range(6):
        await tb.offer(tb.draw())
        await tb.cycles(int(tb.rng.integers(0, 60)))
        await tb.break_off("reset")
        assert int(dut.quiet_o.value) == 1
        assert int(dut.read_valid_o.value) == 0
        await tb.cycles(2)
    await tb.store(tb.draw())
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(response=[AxiResp.SLVERR, AxiResp.DECERR], idle=PATTERNS)
async def bus_errors(dut: Any, response: AxiResp, idle: str) -> None:
    """A failed burst is reported with its cause; after the stop that follows the next transfer works."""
    tb = TB(dut, idle, "random", "errors")
    respond_with(tb.slave.b_channel, "bresp", response)
    await tb.start()
    for _ in range(4):
        transfer = tb.draw()
        places = transfer.words()
        tb.memory.refused = {places[int(tb.rng.integers(0, len(places)))][0] // WORD}
        await tb.offer(transfer)
        await tb.until(lambda: bool(tb.errors), DONE_CYCLES, "an error")
        await tb.stop()
        assert set(tb.errors) == {f"store_{response.name.lower()}"}
        tb.errors.clear()
        tb.memory.refused = set()
    await tb.store(tb.draw())
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(inside=[0, 1, 7])
async def range_errors(dut: Any, inside: int) -> None:
    """The first word beyond the scratchpad is an error; bursts that were requested end without it."""
    tb = TB(dut, "random", "random", inside)
    await tb.start()
    transfer = Transfer("store", 0, 0x1000, tb.size - inside, 20, 1, 0, 1, 0, 1, 0)
    await tb.offer(transfer)
    await tb.until(lambda: bool(tb.errors), DONE_CYCLES, "an error")
    await tb.stop()
    assert set(tb.errors) == {"scratchpad_range"}
    good = Transfer("store", 0, 0x1000, tb.size - inside, max(inside, 1), 1, 0, 1, 0, 1, 0)
    want = tb.expected(good) if inside else {}
    assert tb.memory.written.items() <= want.items()


@cocotb.test()
async def illegal_fields(dut: Any) -> None:
    """Each field out of range is reported while the command is offered; a mark has an address only."""
    tb = TB(dut, "never", "never", "illegal")
    await tb.reset()
    await check_illegal(tb, "store")
    for address, illegal in ((64, 0), (72, 1)):
        dut.start_cmd_i.value = join([int(word) for word in encode("mark", mem_address=address)], 32)
        await tb.settle()
        assert int(dut.start_illegal_o.value) == illegal
    assert np.array_equal([tb.done, tb.requested], [0, 0])


@cocotb.test()
async def requests_ahead(dut: Any) -> None:
    """While the memory answers nothing, as many bursts are out as may be in flight."""
    tb = TB(dut, "never", "never", "ahead")
    await tb.start()
    tb.slave.b_channel.set_pause_generator(repeat(True))
    lines = 2 * tb.max_bursts
    await tb.offer(Transfer("store", 0, 4096, 0, 1, lines, 4096, 1, 0, 1, 0))
    await tb.cycles(100)
    assert tb.requested - tb.answered == tb.max_bursts


@pytest.mark.parametrize("bits", [128, 64])
@pytest.mark.rtl
def test_store_writes_every_word(bits: int) -> None:
    """Every cocotb test of this module, on both bus widths."""
    sizes = {"AxiDataBits": bits, "ActWords": 1024, "MaxBursts": 4}
    needs = [
        "requests_ahead",
        "words",
        "marks",
        "full_rate",
        "stopped",
        "reset_in_flight",
        "bus_errors",
        "range_errors",
        "illegal",
    ]
    run(Block("tb_store", SOURCES, sizes), __name__, needs)
