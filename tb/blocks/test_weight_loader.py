# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_weight_loader: tiles word by word, back to back or with pauses, up to the scratchpad's end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest

from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, make_rng, parameters, pattern

ADDRESSES = 2**20


@dataclass(frozen=True)
class Tile:
    """A request."""

    address: int
    words: int


def draw(words: int, rng: np.random.Generator, *, inside: bool = True) -> Tile:
    """Return a random tile, often of one or two words; `inside` the scratchpad, or from its last words on."""
    size = int(rng.choice([1, 2, int(rng.integers(1, min(40, words) + 1))]))
    if inside:
        return Tile(int(rng.integers(0, words - size + 1)), size)
    return Tile(int(rng.integers(words - size + 1, words + 1)), size)


class TB(Bench):
    """Asks for tiles; a model says in every cycle what is read and what comes out."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, clear="clear_i")
        self.words = parameters()["Words"]
        self.rng = make_rng("not asked for")
        self.forget()
        for name in ("start_i", "addr_i", "words_i"):
            getattr(dut, name).value = 0

    def forget(self) -> None:
        """Expect no tile."""
        self.address, self.left, self.index = 0, 0, 0
        self.out: int | None = None  # index of the word that comes out in this cycle

    async def step(self, tile: Tile | None = None) -> None:
        """One cycle, in which a tile is asked for."""
        dut = self.dut
        shown = tile or Tile(int(self.rng.integers(0, ADDRESSES)), int(self.rng.integers(0, 256)))
        dut.start_i.value = int(tile is not None)
        dut.addr_i.value, dut.words_i.value = shown.address, shown.words
        await self.settle()
        assert int(dut.ready_o.value) == int(self.left == 0)
        if tile is not None:
            self.address, self.left, self.index = tile.address, tile.words, 0
        reading = self.left > 0
        error = reading and self.address >= self.words
        assert int(dut.error_o.value) == int(error), f"word {self.address}"
        assert int(dut.re_o.value) == int(reading and not error)
        if reading and not error:
            assert int(dut.raddr_o.value) == self.address
        assert int(dut.word_valid_o.value) == int(self.out is not None)
        if self.out is not None:
            assert int(dut.word_index_o.value) == self.out
        self.out = None
        if tile is not None and error:
            self.left = 0  # nothing has been taken
        elif reading and not error:
            self.out = self.index
            self.address, self.left, self.index = self.address + 1, self.left - 1, self.index + 1
        await self.drive()

    async def whole(self, tile: Tile) -> None:
        """Ask for a tile and read it up to the cycle in which the next may be asked for."""
        await self.step(tile)
        while self.left:
            await self.step()


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def tiles(dut: Any, idle: str) -> None:
    """Random tiles come out once, in order, one word per cycle; the next may follow at once."""
    tb = TB(dut)
    await tb.reset()
    await tb.step()
    rng, pauses = make_rng("tiles", idle), pattern(idle, "tiles")
    for _ in range(60):
        while next(pauses):
            await tb.step()
        await tb.whole(draw(tb.words, rng))
    await tb.step()
    await tb.step()


@cocotb.test()
async def every_place(dut: Any) -> None:
    """The first and the last words, the longest tile, and every bit of an address."""
    tb = TB(dut)
    await tb.reset()
    longest = min(255, tb.words)
    for tile in (Tile(0, 1), Tile(tb.words - 1, 1), Tile(tb.words - longest, longest), Tile(0, longest)):
        await tb.whole(tile)
    for bit in range(tb.words.bit_length() - 1):
        await tb.whole(Tile(1 << bit, 1))
    await tb.step()


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear"])
async def outside(dut: Any, how: str) -> None:
    """A word outside is an error as long as it is the next, and is not read; so is every higher address."""
    tb = TB(dut)
    await tb.reset()
    rng = make_rng("outside", how)
    for _ in range(10):
        tile = draw(tb.words, rng, inside=False)
        await tb.step(tile)
        for _ in range(tile.words + 5):
            await tb.step()
        await tb.break_off(how)
        tb.forget()
        await tb.whole(draw(tb.words, rng))
    for bit in range(20):
        if 1 << bit >= tb.words:
            await tb.step(Tile(1 << bit, 1))
            await tb.step(Tile(1 << bit | 1, 2))
    await tb.step(Tile(ADDRESSES - 1, 255))
    await tb.whole(draw(tb.words, rng))


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear"])
async def broken_off(dut: Any, how: str) -> None:
    """A reset or clear in any word of a tile leaves nothing behind."""
    tb = TB(dut)
    await tb.reset()
    rng = make_rng("broken", how)
    for cycles in range(12):
        tile = Tile(int(rng.integers(0, tb.words - 12)), int(rng.integers(1, 13)))
        await tb.step(tile)
        for _ in range(cycles):
            await tb.step()
        await tb.break_off(how)
        tb.forget()
        for _ in range(cycles % 3):
            await tb.step()
    await tb.whole(draw(tb.words, rng))
    await tb.step()


@pytest.mark.parametrize("words", [2048, 96])
@pytest.mark.rtl
def test_weight_loader_reads_every_word(words: int) -> None:
    """Every cocotb test of this module, for a scratchpad of a power of two and one that is none."""
    needs = ["tiles", "every_place", "outside", "broken_off"]
    run(Block("npu_weight_loader", ["npu_weight_loader.sv"], {"Words": words}), __name__, needs)
