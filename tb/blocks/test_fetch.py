# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_fetch: command lists from a memory that stalls and fails, compared in every cycle."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest

from hw.interface import COMMAND_BYTES, ERRORS
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, make_rng, parameters, pattern

OKAY, EXOKAY, SLVERR, DECERR = range(4)
CYCLES = 3000
LONG_LIST = 14


@dataclass(frozen=True)
class List:
    """A command list in memory; `bad` gives the response of chosen beats, by command and beat."""

    address: int
    count: int
    commands: list[int]
    bad: dict[tuple[int, int], int]


def draw(rng: np.random.Generator, count: int | None = None, *, foreign: int | None = None) -> List:
    """Return a random list of legal commands; that number `foreign` is for an engine that does not exist."""
    count = int(rng.integers(0, LONG_LIST)) if count is None else count
    # a quarter of the lists wraps around the end of the address space
    address = int(rng.integers(0, 2**26)) * COMMAND_BYTES if rng.integers(0, 4) else 2**32 - COMMAND_BYTES
    commands = []
    for index in range(min(count, LONG_LIST)):
        engine = 3 if index == foreign else int(rng.integers(0, 3))
        commands.append(int.from_bytes(rng.bytes(COMMAND_BYTES), "little") & ~0x300 | engine << 8)
    return List(address, count, commands, {})


class TB(Bench):
    """Memory, three engines and the control of a core, with a model of the unit for every cycle."""

    def __init__(self, dut: Any, idle: str, stall: str, *salt: object) -> None:
        super().__init__(dut, clear="clear_i")
        size = parameters()
        self.bits, self.depth = size["AxiDataBits"], size["Depth"]
        self.beats = 8 * COMMAND_BYTES // self.bits
        self.rng = make_rng(idle, stall, *salt)
        self.data_pauses = pattern(idle, "r", *salt)
        self.stalls = [pattern(stall, name, *salt) for name in ("ar", "load", "compute", "store")]
        self.list = List(0, 0, [], {})
        self.stop = False
        self.taken: list[int] = []
        self.errors: list[tuple[str, int]] = []
        self.forget()
        for name in ("stop_i", "start_i", "clear_i", "r_valid_i", "ar_ready_i", "cmd_ready_i"):
            getattr(dut, name).value = 0

    def forget(self) -> None:
        """Expect nothing, and no answer of the memory."""
        self.left_to_request = self.left_to_dispatch = 0
        self.requested = self.received = self.dispatched = self.arrived = 0
        self.offered = self.misaligned = False
        self.ahead: deque[int] = deque()
        self.owed: deque[tuple[int, int]] = deque()  # command and beat that memory still has to send

    async def break_off(self, how: str) -> None:
        """Interrupt; the memory forgets too."""
        self.dut.r_valid_i.value = 0
        self.dut.ar_ready_i.value = 0
        await super().break_off(how)
        self.forget()
        self.dut.stop_i.value = 0
        self.stop = False

    async def start(self, list_: List) -> None:
        """One cycle in which a list is started."""
        self.list = list_
        self.taken.clear()
        self.dut.address_i.value = list_.address
        self.dut.count_i.value = list_.count
        self.dut.start_i.value = 1
        await self.step()
        self.dut.start_i.value = 0
        # the unit keeps them
        self.dut.address_i.value = int(self.rng.integers(0, 2**32))
        self.dut.count_i.value = int(self.rng.integers(0, 2**32))
        self.misaligned = list_.address % COMMAND_BYTES != 0
        self.left_to_request = 0 if self.misaligned else list_.count
        self.left_to_dispatch = list_.count
        self.requested = self.received = self.dispatched = self.arrived = 0

    async def step(self) -> None:
        """One cycle: drive what the surroundings do, compare what the unit does, follow it."""
        dut = self.dut
        ready = [not next(stall) for stall in self.stalls]
        beat = self.owed[0] if self.owed and not next(self.data_pauses) else None
        dut.stop_i.value = int(self.stop)
        dut.ar_ready_i.value = int(ready[0])
        dut.cmd_ready_i.value = sum(1 << engine for engine in range(3) if ready[1 + engine])
        dut.r_valid_i.value = int(beat is not None)
        # without valid the data is anything
        response, last = int(self.rng.integers(0, 4)), int(self.rng.integers(0, 2))
        data = int.from_bytes(self.rng.bytes(self.bits // 8), "little")
        if beat is not None:
            command, number = beat
            response = self.list.bad.get(beat, OKAY)
            last = int(number == self.beats - 1)
            if command < len(self.list.commands):
                data = self.list.commands[command] >> self.bits * number & ((1 << self.bits) - 1)
        dut.r_resp_i.value, dut.r_last_i.value, dut.r_data_i.value = response, last, data
        await self.settle()
        dispatch = self.compare(ready, response if beat is not None else OKAY)
        self.follow(ready[0], beat, dispatch)
        await self.drive()

    def compare(self, ready: list[bool], response: int) -> bool:
        """Compare every output; return whether a command is dispatched."""
        dut = self.dut
        head = self.ahead[0] if self.ahead else None
        engine = head >> 8 & 3 if head is not None else 3
        valid = 1 << engine if engine < 3 and not self.stop else 0
        dispatch = bool(valid) and ready[1 + engine]
        assert int(dut.cmd_valid_o.value) == valid
        if valid:
            assert (int(dut.cmd_o.value), int(dut.cmd_index_o.value)) == (head, self.dispatched)
        assert int(dut.blocked_o.value) == int(head is not None and not dispatch)
        assert int(dut.dispatched_o.value) == self.dispatched
        assert int(dut.idle_o.value) == int(self.left_to_dispatch == 0)
        assert int(dut.quiet_o.value) == int(not self.offered and self.requested == self.arrived)
        assert int(dut.ar_valid_o.value) == int(self.offered)
        assert int(dut.r_ready_o.value) == 1
        if self.offered:
            address = (self.list.address + COMMAND_BYTES * self.requested) % 2**32
            got = (int(dut.ar_id_o.value), int(dut.ar_addr_o.value), int(dut.ar_len_o.value))
            assert got == (0, address, self.beats - 1)
        error = None
        if response in (SLVERR, DECERR):
            error = ("fetch_slverr" if response == SLVERR else "fetch_decerr", self.received)
        elif self.misaligned:
            error = ("illegal_command", 0)
        elif head is not None and engine == 3:
            error = ("illegal_command", self.dispatched)
        assert int(dut.error_o.value) == int(error is not None)
        got_error = (ERRORS[int(dut.error_cause_o.value)], int(dut.error_index_o.value))
        assert got_error == error if error else got_error[0] == "none"
        if error:
            self.errors.append(error)
        return dispatch

    def follow(self, ar_ready: bool, beat: tuple[int, int] | None, dispatch: bool) -> None:
        """Take over what happens at the clock edge."""
        room = self.requested - self.dispatched < self.depth
        if self.offered:
            if ar_ready:
                self.offered = False
                self.owed.extend((self.requested, number) for number in range(self.beats))
                self.requested += 1
                self.left_to_request -= 1
        elif self.left_to_request and room and not self.stop:
            self.offered = True
        if beat is not None:
            self.owed.popleft()
            if beat[1] == self.beats - 1:
                self.received += 1
                self.arrived += 1
                if not self.stop:
                    self.ahead.append(self.list.commands[beat[0]] if beat[0] < LONG_LIST else 0)
        if dispatch:
            self.taken.append(self.ahead.popleft())
            self.dispatched += 1
            self.left_to_dispatch -= 1

    async def steps(self, count: int) -> None:
        """Let cycles pass."""
        for _ in range(count):
            await self.step()

    async def fetch(self, list_: List) -> None:
        """Run a list to its end; it comes out once, in order."""
        await self.start(list_)
        for _ in range(CYCLES):
            if not self.left_to_dispatch and not self.owed:
                break
            await self.step()
        assert self.taken == list_.commands
        await self.steps(6)
        assert int(self.dut.idle_o.value) == int(self.dut.quiet_o.value) == 1

    async def end(self) -> None:
        """Stop as the core does: hold stop_i until the bus is quiet, then clear."""
        self.stop = True
        await self.step()
        for _ in range(CYCLES):
            if not self.offered and not self.owed:
                break
            await self.step()
        await self.steps(int(self.rng.integers(1, 5)))
        assert int(self.dut.quiet_o.value) == 1
        await self.break_off("clear")
        self.errors.clear()
        await self.steps(3)
        assert not self.errors


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def lists(dut: Any, idle: str, stall: str) -> None:
    """Random lists, empty ones too, come out once and in order, each command at its engine."""
    tb = TB(dut, idle, stall, "lists")
    await tb.reset()
    await tb.steps(4)
    for count in (None, 0, 1, LONG_LIST):
        await tb.fetch(draw(tb.rng, count))
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def stopped(dut: Any, idle: str, stall: str) -> None:
    """A stop in any cycle ends the bus cleanly and hands out nothing more; the next list works."""
    tb = TB(dut, idle, stall, "stop")
    await tb.reset()
    for _ in range(8):
        await tb.start(draw(tb.rng, LONG_LIST))
        await tb.steps(int(tb.rng.integers(0, 50)))
        await tb.end()
    await tb.fetch(draw(tb.rng, 5))


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def broken_off(dut: Any, idle: str) -> None:
    """A reset of both sides in any cycle leaves nothing behind; a clear comes only when the bus is quiet."""
    tb = TB(dut, idle, "random", "reset")
    await tb.reset()
    for _ in range(8):
        await tb.start(draw(tb.rng, LONG_LIST))
        await tb.steps(int(tb.rng.integers(0, 50)))
        await tb.break_off("reset")
        await tb.steps(3)
    await tb.fetch(draw(tb.rng, 5))
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(response=[EXOKAY, SLVERR, DECERR], idle=PATTERNS)
async def responses(dut: Any, response: int, idle: str) -> None:
    """A failed beat is reported in its cycle with its command's index; EXOKAY is no failure."""
    tb = TB(dut, idle, "random", "responses")
    await tb.reset()
    for _ in range(5):
        list_ = draw(tb.rng, 8)
        bad = (int(tb.rng.integers(0, 8)), int(tb.rng.integers(0, tb.beats)))
        list_.bad[bad] = response
        await tb.start(list_)
        for _ in range(CYCLES):
            if tb.errors or not tb.left_to_dispatch:
                break
            await tb.step()
        name = {SLVERR: "fetch_slverr", DECERR: "fetch_decerr"}.get(response)
        assert tb.errors == ([(name, bad[0])] if name else [])
        await tb.end()


@cocotb.test()
async def misaligned_lists(dut: Any) -> None:
    """A list that is not aligned is an error at once; nothing is read, and an aligned one works after it."""
    tb = TB(dut, "never", "never", "misaligned")
    await tb.reset()
    for bit in range(6):
        list_ = draw(tb.rng, 3)
        await tb.start(List(list_.address + (1 << bit), 3, list_.commands, {}))
        await tb.steps(12)
        assert tb.requested == 0
        assert tb.errors == [("illegal_command", 0)] * 12
        tb.errors.clear()
        if bit % 3 == 1:
            await tb.end()
        elif bit % 3 == 2:
            await tb.break_off("reset")
        await tb.fetch(list_)
        # without either the error lasts until the cycle of the start
        assert len(tb.errors) == int(bit % 3 == 0)
        tb.errors.clear()


@cocotb.test()
@cocotb.parametrize(stall=PATTERNS)
async def foreign_engines(dut: Any, stall: str) -> None:
    """A command for no engine is reported with its index once it is the next, and holds those behind it."""
    tb = TB(dut, "random", stall, "foreign")
    await tb.reset()
    for place in (0, 1, 5):
        await tb.start(draw(tb.rng, 9, foreign=place))
        for _ in range(CYCLES):
            if tb.errors:
                break
            await tb.step()
        await tb.steps(20)
        assert set(tb.errors) == {("illegal_command", place)}
        assert len(tb.taken) == place
        await tb.end()


@cocotb.test()
async def long_lists(dut: Any) -> None:
    """Every bit of the count counts: such a list begins, and is not at its end."""
    tb = TB(dut, "never", "never", "long")
    await tb.reset()
    for bit in range(4, 32):
        await tb.start(draw(tb.rng, 1 << bit))
        await tb.steps(30)
        assert len(tb.taken) > 2
        await tb.end()


@pytest.mark.parametrize(("bits", "depth"), [(128, 4), (64, 4), (128, 1)])
@pytest.mark.rtl
def test_fetch_hands_out_every_command(bits: int, depth: int) -> None:
    """Every cocotb test of this module, on both bus widths, and without fetching ahead."""
    needs = ["lists", "stopped", "broken_off", "responses", "misaligned", "foreign", "long_lists"]
    sources = ["npu_fifo.sv", "npu_fetch.sv"]
    run(Block("tb_fetch", sources, {"AxiDataBits": bits, "Depth": depth}), __name__, needs)
