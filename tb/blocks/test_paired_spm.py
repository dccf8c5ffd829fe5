# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_paired_spm: a reader that is always served, and a writer, against a plain memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import pytest

from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, make_rng, parameters, pattern

SOURCES = ["npu_sram.sv", "npu_paired_spm.sv"]


@dataclass(frozen=True)
class Write:
    """What the writer asks for: the same data for all the lanes of a word that are enabled."""

    address: int
    lanes: int
    data: bytes
    last: bool


class TB(Bench):
    """Drives both ports and keeps the contents."""

    def __init__(self, dut: Any, reads: str, writes: str, *salt: object) -> None:
        super().__init__(dut)
        size = parameters()
        self.words = size["Words"]
        self.lanes, self.lane_bytes = size["WordBits"] // size["LaneBits"], size["LaneBits"] // 8
        self.rng = make_rng(reads, writes, *salt)
        self.reads, self.writes = pattern(reads, "reads", *salt), pattern(writes, "writes", *salt)
        self.memory: list[list[bytes]] = []
        self.held: Write | None = None  # a write that waits at the port
        self.late: Write | None = None  # one that waits inside
        self.data: bytes | None = None  # what the last read gives
        self.waited = 0
        dut.re_i.value = dut.write_valid_i.value = 0

    def write(self, address: int, lanes: int) -> Write:
        """Return a write of random data."""
        return Write(address, lanes, self.rng.bytes(self.lane_bytes), bool(self.rng.integers(0, 8) == 0))

    async def fill(self) -> None:
        """Write every word."""
        self.memory = [[bytes(self.lane_bytes)] * self.lanes for _ in range(self.words)]
        for address in range(self.words):
            await self.cycle(None, self.write(address, (1 << self.lanes) - 1))

    async def step(self) -> None:
        """One cycle of random accesses near each other; a write that is not taken waits unchanged."""
        near = int(self.rng.integers(0, self.words))
        read = None if next(self.reads) else (near + int(self.rng.integers(0, 3))) % self.words
        if self.late is not None and read == self.late.address:
            read = None  # nobody reads what is on its way: its end has not been told
        if self.held is None and not next(self.writes):
            lanes = int(self.rng.integers(1, 1 << self.lanes))
            self.held = self.write((near + int(self.rng.integers(0, 3))) % self.words, lanes)
        if await self.cycle(read, self.held):
            self.held = None

    async def cycle(self, read: int | None, write: Write | None) -> bool:
        """One cycle: check who is served and what the last read gives; return whether the write is taken."""
        dut = self.dut
        # without a request a port shows anything
        shown = write or self.write(int(self.rng.integers(0, self.words)), (1 << self.lanes) - 1)
        address = read if read is not None else int(self.rng.integers(0, self.words))
        dut.re_i.value, dut.raddr_i.value = int(read is not None), address
        dut.write_valid_i.value, dut.write_last_i.value = int(write is not None), int(shown.last)
        dut.waddr_i.value, dut.we_i.value = shown.address, shown.lanes
        dut.wdata_i.value = int.from_bytes(shown.data, "little")
        await self.settle()
        if self.data is not None:
            got = int(dut.rdata_o.value).to_bytes(len(self.data), "little")
            assert got == self.data, "data of the last read"
        taken = {read % 2} if read is not None else set()
        late = self.late
        if late is not None and late.address % 2 not in taken:
            taken.add(late.address % 2)
            self.store(late)
            self.late = None
        free = shown.address % 2 not in taken
        ready = (free or not shown.last) and (self.late is None or (free and not shown.last))
        assert int(dut.write_ready_o.value) == int(ready), f"{write}, {late}, read {read}"
        if read is not None:
            self.data = b"".join(self.memory[read])
        if write is not None and ready:
            if free:
                self.store(write)
            else:
                self.late = write
        self.waited += write is not None and not ready
        await self.drive()
        return ready

    def store(self, write: Write) -> None:
        """Change the contents."""
        for lane in range(self.lanes):
            if write.lanes >> lane & 1:
                self.memory[write.address][lane] = write.data


@cocotb.test()
@cocotb.parametrize(reads=PATTERNS, writes=["never", "bursts"])
async def traffic(dut: Any, reads: str, writes: str) -> None:
    """Both ports at once: the reader is always served, its data stays, the writer waits for its bank only."""
    tb = TB(dut, reads, writes, "traffic")
    await tb.reset()
    await tb.fill()
    for _ in range(300):
        await tb.step()
    assert tb.waited
    await tb.cycle(None, None)
    await tb.cycle(None, None)
    assert tb.late is None
    for address in range(tb.words):
        await tb.cycle(address, None)
    await tb.cycle(None, None)


@cocotb.test()
async def in_order(dut: Any) -> None:
    """Beside reads of words in their order, lanes of words in their order are taken in every cycle."""
    tb = TB(dut, "never", "never", "order")
    await tb.reset()
    await tb.fill()
    for first in range(4):  # however they start
        before, half = tb.waited, tb.words // 2
        for i in range(2 * half):
            lane, word = i % tb.lanes, i // tb.lanes
            write = Write(half + word % half, 1 << lane, tb.rng.bytes(tb.lane_bytes), False)
            assert await tb.cycle((first + i) % half, write)
        assert tb.waited == before
        for _ in range(3):
            await tb.cycle(None, None)


@pytest.mark.parametrize(("bits", "words"), [(256, 32), (128, 22)])
@pytest.mark.rtl
def test_scratchpad_serves_its_reader_and_the_writer_between(bits: int, words: int) -> None:
    """Every cocotb test of this module, for words of two lanes (weights) and of one (parameters)."""
    size = {"WordBits": bits, "Words": words, "LaneBits": 128}
    run(Block("npu_paired_spm", SOURCES, size), __name__, ["traffic", "in_order"])
