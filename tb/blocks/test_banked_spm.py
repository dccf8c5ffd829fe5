# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_banked_spm: a reader that is always served, and a writer, against a plain memory."""

from __future__ import annotations

from typing import Any

import cocotb
import pytest

from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, make_rng, parameters, pattern

SOURCES = ["npu_sram.sv", "npu_banked_spm.sv"]


class TB(Bench):
    """Drives both ports and keeps the contents."""

    def __init__(self, dut: Any, reads: str, writes: str, *salt: object) -> None:
        super().__init__(dut)
        size = parameters()
        self.words, self.banks = size["Words"], size["Banks"]
        self.lanes, self.lane_bytes = size["WordBits"] // size["LaneBits"], size["LaneBits"] // 8
        self.rng = make_rng(reads, writes, *salt)
        self.reads, self.writes = pattern(reads, "reads", *salt), pattern(writes, "writes", *salt)
        self.memory: list[list[bytes]] = []
        self.held: tuple[int, int, list[bytes]] | None = None  # a write that waits: address, lanes, data
        self.data: bytes | None = None  # what the last read gives
        self.waited = 0
        dut.re_i.value = dut.write_valid_i.value = 0

    def write(self, address: int, lanes: int) -> tuple[int, int, list[bytes]]:
        """Return a write of random data."""
        return address, lanes, [self.rng.bytes(self.lane_bytes) for _ in range(self.lanes)]

    async def fill(self) -> None:
        """Write every word."""
        self.memory = [[bytes(self.lane_bytes)] * self.lanes for _ in range(self.words)]
        for address in range(self.words):
            await self.cycle(None, self.write(address, (1 << self.lanes) - 1))

    async def step(self) -> None:
        """One cycle of random accesses near each other; a write that is not taken waits unchanged."""
        near = int(self.rng.integers(0, self.words))
        read = None if next(self.reads) else (near + int(self.rng.integers(0, 3))) % self.words
        if self.held is None and not next(self.writes):
            lanes = int(self.rng.integers(1, 1 << self.lanes))
            self.held = self.write((near + int(self.rng.integers(0, 3))) % self.words, lanes)
        if await self.cycle(read, self.held):
            self.held = None

    async def cycle(self, read: int | None, write: tuple[int, int, list[bytes]] | None) -> bool:
        """One cycle: check who is served and what the last read gives; return whether the write is taken."""
        dut = self.dut
        # without a request a port shows anything
        shown = write or self.write(int(self.rng.integers(0, self.words)), (1 << self.lanes) - 1)
        address = read if read is not None else int(self.rng.integers(0, self.words))
        dut.re_i.value, dut.raddr_i.value = int(read is not None), address
        dut.write_valid_i.value = int(write is not None)
        dut.waddr_i.value, dut.we_i.value = shown[0], shown[1]
        dut.wdata_i.value = int.from_bytes(b"".join(shown[2]), "little")
        await self.settle()
        if self.data is not None:
            got = int(dut.rdata_o.value).to_bytes(len(self.data), "little")
            assert got == self.data, "data of the last read"
        free = read is None or read % self.banks != shown[0] % self.banks
        assert int(dut.write_ready_o.value) == int(free)
        if read is not None:
            self.data = b"".join(self.memory[read])
        if write is not None and free:
            for lane in range(self.lanes):
                if write[1] >> lane & 1:
                    self.memory[write[0]][lane] = write[2][lane]
        self.waited += write is not None and not free
        await self.drive()
        return free


@cocotb.test()
@cocotb.parametrize(reads=PATTERNS, writes=["never", "bursts"])
async def traffic(dut: Any, reads: str, writes: str) -> None:
    """Both ports at once: the reader is always served, its data stays, the writer waits for its bank only."""
    tb = TB(dut, reads, writes, "traffic")
    await tb.reset()
    await tb.fill()
    for _ in range(200):
        await tb.step()
    assert tb.waited
    for address in range(tb.words):
        await tb.cycle(address, None)
    await tb.cycle(None, None)


@cocotb.test()
async def in_order(dut: Any) -> None:
    """Beside reads of words in their order a write waits at most a cycle, where there is more than a bank."""
    tb = TB(dut, "never", "never", "order")
    await tb.reset()
    await tb.fill()
    for address in range(40):
        before = tb.waited
        write = tb.write(int(tb.rng.integers(0, tb.words)), 1)
        for i in range(4):
            if await tb.cycle((address + i) % tb.words, write):
                break
        assert tb.waited - before <= (1 if tb.banks > 1 else 4)


@pytest.mark.parametrize(("bits", "words", "banks"), [(256, 32, 2), (128, 21, 1)])
@pytest.mark.rtl
def test_scratchpad_serves_its_reader_and_the_writer_between(bits: int, words: int, banks: int) -> None:
    """Every cocotb test of this module, for what holds weights and what holds parameters."""
    size = {"WordBits": bits, "Words": words, "LaneBits": 128, "Banks": banks}
    run(Block("npu_banked_spm", SOURCES, size), __name__, ["traffic", "in_order"])
