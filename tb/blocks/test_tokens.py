# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_tokens: nine counters against a plain model, up to overflow, clear and reset in flight."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
import pytest

from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, make_rng, parameters, pattern

ENGINES = range(3)


class TB(Bench):
    """Posts and takes at random; every output of every cycle is compared with the counts."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, clear="clear_i")
        self.limit = 2 ** parameters()["CountBits"] - 1
        self.count = np.zeros((3, 3), dtype=int)  # [from][to]
        self.held = 0
        for name in ("post_valid_i", "post_mask_i", "take_i"):
            getattr(dut, name).value = 0

    async def start(self) -> None:
        """Reset."""
        await self.reset()
        self.count[:] = 0

    async def step(self, posts: dict[int, int], takes: dict[int, int]) -> set[int]:
        """One cycle: posts by posting engine (mask of targets), takes by taking engine (mask of sources).

        Returns:
            The engines whose post was taken.
        """
        dut = self.dut
        dut.post_valid_i.value = sum(1 << engine for engine in posts)
        dut.post_mask_i.value = sum(mask << 3 * engine for engine, mask in posts.items())
        dut.take_i.value = sum(mask << 3 * engine for engine, mask in takes.items())
        await self.settle()
        ready, available = int(dut.post_ready_o.value), int(dut.available_o.value)
        taken = set()
        for engine, mask in posts.items():
            room = all(self.count[engine][to] < self.limit for to in ENGINES if mask >> to & 1)
            assert ready >> engine & 1 == int(room), f"post of {mask:03b} by {engine}, counts\n{self.count}"
            self.held += not room
            if room:
                taken.add(engine)
        for to in ENGINES:
            for source in ENGINES:
                got = available >> 3 * to + source & 1
                assert got == int(self.count[source][to] > 0), (
                    f"tokens {source} to {to}, counts\n{self.count}"
                )
        for engine in taken:
            for to in ENGINES:
                self.count[engine][to] += posts[engine] >> to & 1
        for engine, mask in takes.items():
            for source in ENGINES:
                self.count[source][engine] -= mask >> source & 1
        await self.drive()
        return taken

    def possible(self, engine: int) -> int:
        """Return the mask of sources that have a token for an engine."""
        return sum(1 << source for source in ENGINES if self.count[source][engine] > 0)


async def traffic(tb: TB, rng: np.random.Generator, idle: str, stall: str, cycles: int) -> None:
    """Let all engines post and take at random; a post that is held stays until it is taken."""
    pauses = [pattern(idle, "post", engine) for engine in ENGINES]
    stalls = [pattern(stall, "take", engine) for engine in ENGINES]
    posts: dict[int, int] = {}
    for _ in range(cycles):
        for engine in ENGINES:
            if engine not in posts and not next(pauses[engine]):
                posts[engine] = int(rng.integers(0, 8))
        takes = {
            engine: tb.possible(engine) & int(rng.integers(0, 8))
            for engine in ENGINES
            if not next(stalls[engine])
        }
        for engine in await tb.step(posts, takes):
            del posts[engine]


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def counts(dut: Any, idle: str, stall: str) -> None:
    """No token is lost or invented, whoever pauses."""
    tb = TB(dut)
    await tb.start()
    await traffic(tb, make_rng(idle, stall), idle, stall, 400)
    # at the end every token that was counted can be taken, and no other
    dut.post_valid_i.value = 0
    while tb.count.any():
        await tb.step({}, {engine: tb.possible(engine) for engine in ENGINES})
    await tb.step({}, {})
    assert int(dut.available_o.value) == 0


@cocotb.test()
async def overflow(dut: Any) -> None:
    """A full counter holds a post as a whole, also for targets with room, until a token is taken."""
    tb = TB(dut)
    await tb.start()
    for source in ENGINES:
        for to in ENGINES:
            for _ in range(tb.limit):
                assert await tb.step({source: 1 << to}, {}) == {source}
            for _ in range(3):
                assert await tb.step({source: 0b111}, {}) == set()
            # a take in the same cycle frees the room for the next cycle only
            assert await tb.step({source: 0b111}, {to: 1 << source}) == set()
            assert await tb.step({source: 1 << to}, {}) == {source}
            while tb.count.any():
                await tb.step({}, {engine: tb.possible(engine) for engine in ENGINES})
    assert tb.held == 9 * 4


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear"], idle=PATTERNS)
async def broken_off(dut: Any, how: str, idle: str) -> None:
    """A reset or clear drops all tokens, those posted in the same cycle too."""
    tb = TB(dut)
    await tb.start()
    rng = make_rng(how, idle)
    for _ in range(6):
        await traffic(tb, rng, idle, "random", int(rng.integers(1, 60)))
        dut.take_i.value = 0
        dut.post_valid_i.value = 0b111 if how == "clear" else 0
        dut.post_mask_i.value = 0o777
        await tb.break_off(how)
        tb.count[:] = 0
        await tb.step({}, {})
        assert int(dut.available_o.value) == 0


@pytest.mark.parametrize("bits", [6, 2])
@pytest.mark.rtl
def test_tokens_are_neither_lost_nor_invented(bits: int) -> None:
    """Every cocotb test of this module, for deep and shallow counters."""
    block = Block("tb_tokens", ["npu_tokens.sv"], {"CountBits": bits})
    run(block, __name__, ["counts", "overflow", "broken_off"])
