# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_read_mux: two requesters on one read port, every output of every cycle compared."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest

from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, make_rng, pattern

REQUESTERS = range(2)
R_BITS = 133  # of a beat: id, resp, last, data
CYCLES = 4000


@dataclass(frozen=True)
class Request:
    """A burst that a requester asks for; its own ID must not matter."""

    own_id: int
    address: int
    length: int


def draw(rng: np.random.Generator) -> Request:
    """Return a random request of 1 to 16 beats."""
    return Request(int(rng.integers(0, 4)), int(rng.integers(0, 2**32)), int(rng.integers(0, 16)))


class TB(Bench):
    """Two requesters and a memory that answers bursts of different IDs in any order, beats interleaved."""

    def __init__(self, dut: Any, idle: str, stall: str, *salt: object) -> None:
        super().__init__(dut)
        self.rng = make_rng(idle, stall, *salt)
        self.pauses = [pattern(idle, "request", i, *salt) for i in REQUESTERS]
        self.data_pauses = pattern(idle, "data", *salt)
        self.port_stall = pattern(stall, "port", *salt)
        self.data_stalls = [pattern(stall, "data", i, *salt) for i in REQUESTERS]
        self.waiting: list[deque[Request]] = [deque(), deque()]
        self.forget()
        for name in ("valid_i", "port_ready_i", "port_r_valid_i", "r_ready_i"):
            getattr(dut, name).value = 0

    def forget(self) -> None:
        """Expect nothing in flight."""
        self.offered = [False, False]
        self.held: int | None = None  # the requester whose request is on the port
        self.owed: list[deque[int]] = [deque(), deque()]  # beats of each burst taken
        self.beat: tuple[int, int] | None = None  # ID and contents of the beat on the port
        self.taken = [0, 0]
        self.beats = [0, 0]

    def next_beat(self) -> tuple[int, int] | None:
        """Return memory's next beat: of either ID."""
        if self.beat is None and not next(self.data_pauses):
            choices = [i for i in REQUESTERS if self.owed[i]]
            if choices:
                requester = int(self.rng.choice(choices))
                last = int(self.owed[requester][0] == 1)
                rest = int.from_bytes(self.rng.bytes(16), "little") | last << 128
                self.beat = (requester, rest | int(self.rng.integers(0, 4)) << 129)
        return self.beat

    async def step(self) -> None:
        """One cycle: drive, compare every output, follow."""
        dut = self.dut
        for i in REQUESTERS:
            if self.waiting[i] and not self.offered[i] and not next(self.pauses[i]):
                self.offered[i] = True
        # what is not offered shows something else
        shown = [self.waiting[i][0] if self.offered[i] else draw(self.rng) for i in REQUESTERS]
        dut.valid_i.value = sum(1 << i for i in REQUESTERS if self.offered[i])
        dut.id_i.value = sum(shown[i].own_id << 2 * i for i in REQUESTERS)
        dut.addr_i.value = sum(shown[i].address << 32 * i for i in REQUESTERS)
        dut.len_i.value = sum(shown[i].length << 8 * i for i in REQUESTERS)
        port_ready = not next(self.port_stall)
        r_ready = [not next(stall) for stall in self.data_stalls]
        beat = self.next_beat()
        dut.port_ready_i.value = int(port_ready)
        dut.r_ready_i.value = sum(1 << i for i in REQUESTERS if r_ready[i])
        dut.port_r_valid_i.value = int(beat is not None)
        identity, contents = beat or (
            int(self.rng.integers(0, 4)),
            int.from_bytes(self.rng.bytes(16), "little"),
        )
        dut.port_r_id_i.value, dut.port_r_i.value = identity, contents
        await self.settle()
        self.compare(shown, port_ready, r_ready, beat, identity << 131 | contents)
        await self.drive()

    def compare(
        self,
        shown: list[Request],
        port_ready: bool,
        r_ready: list[bool],
        beat: tuple[int, int] | None,
        word: int,
    ) -> None:
        """Compare the outputs, and take over what happens at the clock edge."""
        dut = self.dut
        # fetch goes first, but a request on the port stays; without any the port is load's
        select = self.held if self.held is not None else 0 if self.offered[0] else 1
        valid = self.offered[select]
        assert int(dut.port_valid_o.value) == int(valid)
        if valid:
            got = (int(dut.port_id_o.value), int(dut.port_addr_o.value), int(dut.port_len_o.value))
            assert got == (select, shown[select].address, shown[select].length)
        ready = int(dut.ready_o.value)
        for i in REQUESTERS:
            if self.offered[i]:
                assert ready >> i & 1 == int(port_ready and i == select), f"ready of requester {i}"
        both = all(r_ready)
        assert int(dut.port_r_ready_o.value) == int(both)
        wanted = 1 << beat[0] if beat is not None and both else 0
        assert int(dut.r_valid_o.value) == wanted
        if beat is not None and both:
            seen = int(dut.r_o.value) >> R_BITS * beat[0] & ((1 << R_BITS) - 1)
            assert seen == word, f"data of requester {beat[0]}"
            owed = self.owed[beat[0]]
            owed[0] -= 1
            if not owed[0]:
                owed.popleft()
            self.beats[beat[0]] += 1
            self.beat = None
        self.held = select if valid and not port_ready else None
        if valid and port_ready:
            self.owed[select].append(shown[select].length + 1)
            self.waiting[select].popleft()
            self.offered[select] = False
            self.taken[select] += 1

    async def finish(self) -> None:
        """Run until all requests and their beats have been taken."""
        wanted = [sum(request.length + 1 for request in self.waiting[i]) for i in REQUESTERS]
        count = [len(self.waiting[i]) for i in REQUESTERS]
        for _ in range(CYCLES):
            if not any(self.waiting) and not any(self.owed):
                break
            await self.step()
        assert (self.taken, self.beats) == (count, wanted)


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def bursts(dut: Any, idle: str, stall: str) -> None:
    """All requests go out once under their requester's number, all beats come back to who asked."""
    tb = TB(dut, idle, stall, "bursts")
    await tb.reset()
    for _ in range(3):
        await tb.step()
    for i in REQUESTERS:
        tb.waiting[i].extend(draw(tb.rng) for _ in range(25))
    await tb.finish()
    for _ in range(3):
        await tb.step()


@cocotb.test()
@cocotb.parametrize(requester=list(REQUESTERS), stall=PATTERNS)
async def one_requester(dut: Any, requester: int, stall: str) -> None:
    """A requester alone has the whole port."""
    tb = TB(dut, "never", stall, "one")
    await tb.reset()
    tb.waiting[requester].extend(draw(tb.rng) for _ in range(10))
    await tb.finish()


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def reset_in_flight(dut: Any, idle: str) -> None:
    """A reset in any cycle leaves no lock behind."""
    tb = TB(dut, idle, "bursts", "reset")
    await tb.reset()
    held = 0
    for _ in range(30):
        for i in REQUESTERS:
            tb.waiting[i].clear()
            tb.waiting[i].extend(draw(tb.rng) for _ in range(3))
        for _ in range(int(tb.rng.integers(1, 12))):
            await tb.step()
        held += tb.held is not None
        dut.valid_i.value = 0
        dut.port_r_valid_i.value = 0
        await tb.break_off("reset")
        tb.forget()
    assert held > 3
    for i in REQUESTERS:
        tb.waiting[i].clear()
        tb.waiting[i].extend(draw(tb.rng) for _ in range(3))
    await tb.finish()


@pytest.mark.rtl
def test_read_mux_gives_beats_to_who_asked() -> None:
    """Every cocotb test of this module; the block has no parameters."""
    block = Block("tb_read_mux", ["npu_read_mux.sv"])
    run(block, __name__, ["bursts", "one_requester", "reset_in_flight"])
