# SPDX-License-Identifier: Apache-2.0
"""What the benches of the two DMAs share: transfers, a memory that can fail, and the command port."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, Timer
from cocotbext.axi import AxiResp, SparseMemoryRegion

from hw.commands import encode
from hw.interface import ERRORS, TARGETS
from tb.blocks.support import Bench, join
from tb.coverage.collect import sample_bench

WORD = 16
QUIET_CYCLES = 2000
DONE_CYCLES = 20000


class Memory(SparseMemoryRegion):  # type: ignore[misc]
    """A 4 GiB memory that records what is written and refuses chosen 16-byte words."""

    def __init__(self) -> None:
        super().__init__(2**32)
        self.refused: set[int] = set()
        self.written: dict[int, int] = {}
        self.rewritten = 0

    def refuses(self, address: int) -> bool:
        """Return whether an access gives an error."""
        return address // WORD in self.refused

    async def _read(self, address: int, length: int, **kwargs: Any) -> bytes:
        if self.refuses(address):
            raise OSError(f"read of {address:#x} refused")
        return bytes(await super()._read(address, length, **kwargs))

    async def _write(self, address: int, data: bytes, **kwargs: Any) -> None:
        if self.refuses(address):
            raise OSError(f"write of {address:#x} refused")
        for i, byte in enumerate(data):
            self.rewritten += address + i in self.written
            self.written[address + i] = byte
        await super()._write(address, data, **kwargs)


def respond_with(channel: Any, field: str, response: AxiResp) -> None:
    """Make a slave's response channel answer failures with another response: it knows SLVERR only."""
    send = channel.send

    async def changed(transaction: Any) -> None:
        if getattr(transaction, field) == AxiResp.SLVERR:
            setattr(transaction, field, response)
        await send(transaction)

    channel.send = changed


@dataclass(frozen=True)
class Transfer:
    """A LOAD or STORE."""

    name: str
    target: int
    mem_address: int
    local_address: int
    line_words: int
    lines: int
    line_stride: int
    planes: int
    plane_stride: int
    local_step: int
    local_plane_stride: int

    @property
    def command(self) -> int:
        """The command as one vector."""
        fields = {name: value for name, value in vars(self).items() if name != "name"}
        return join([int(word) for word in encode(self.name, **fields)], 32)

    def kind(self) -> dict[str, str]:
        """Return what the functional plan tells transfers apart by."""
        end = self.mem_address % 4096 // WORD + self.line_words
        return {
            "direction": self.name,
            "line": "1 word" if self.line_words == 1 else "several words",
            "page": "crossed" if end > 4096 // WORD else "within",
            "lines": "1" if self.lines == 1 else "several",
            "planes": "1" if self.planes == 1 else "several",
            "step": {0: "0", 1: "1"}.get(self.local_step, "more"),
        }

    def words(self) -> list[tuple[int, int]]:
        """Return (byte address in memory, word address in the scratchpad) of each word, in order."""
        return [
            (
                (self.mem_address + plane * self.plane_stride + line * self.line_stride + WORD * word)
                % 2**32,
                self.local_address
                + plane * self.local_plane_stride
                + (line * self.line_words + word) * self.local_step,
            )
            for plane in range(self.planes)
            for line in range(self.lines)
            for word in range(self.line_words)
        ]


def draw(name: str, sizes: list[int], rng: np.random.Generator, *, apart: bool = False) -> Transfer:
    """Return a random transfer that fits the scratchpads; lines often cross 4 KiB pages.

    Args:
        name: load or store.
        sizes: words of the scratchpads, by target.
        rng: random numbers.
        apart: no two words have the same address in memory.
    """

    def pick(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    while True:
        target = pick(0, len(sizes) - 1)
        line_words, lines, planes = pick(1, 40), pick(1, 4), pick(1, 3)
        page = pick(0, 2**20 - 1) * 4096
        least = line_words if apart else 0
        line_stride = WORD * (line_words if pick(0, 1) else pick(least, 600))
        plane_least = (lines - 1) * line_stride // WORD + line_words if apart else 0
        transfer = Transfer(
            name,
            target,
            (page + WORD * (pick(236, 255) if pick(0, 1) else pick(0, 255))) % 2**32,
            pick(0, sizes[target] - 1),
            line_words,
            lines,
            line_stride,
            planes,
            WORD * pick(plane_least, plane_least + 600),
            pick(0, 4),
            pick(0, 200),
        )
        last = transfer.words()[-1]
        fits = max(local for _, local in transfer.words()) < sizes[target]
        if fits and last[0] < 2**32 - 65536 and last[0] >= transfer.mem_address:
            return transfer


class DmaBench(Bench):
    """The part of a DMA's bench that does not depend on the direction.

    A watcher samples every cycle after the inputs have settled; `watch` is what a direction adds to it.
    """

    request = ""  # valid and ready of the requests
    answer = ""  # valid and ready of the last answer of a burst

    def __init__(self, dut: Any, watch: Callable[[], None], idle: str, stall: str) -> None:
        super().__init__(dut, clear="clear_i")
        self.idle = idle
        self.stall = stall
        self.memory = Memory()
        self.done = 0
        self.errors: list[str] = []
        self.requested = 0
        self.answered = 0
        self.beats = 0
        self._watch = watch
        dut.stop_i.value = 0
        dut.start_valid_i.value = 0
        dut.start_cmd_i.value = 0
        dut.clear_i.value = 0

    def watch_from_now(self) -> None:
        """Start the watcher."""
        cocotb.start_soon(self._watcher())

    def stalls(self) -> None:
        """Drive the scratchpad's side for the next cycle, before it is sampled."""

    def answer_ends(self) -> bool:
        """Return whether this cycle brings a burst's last answer."""
        raise NotImplementedError

    async def _watcher(self) -> None:
        dut = self.dut
        valid, ready = getattr(dut, f"m_axi_{self.request}valid"), getattr(dut, f"m_axi_{self.request}ready")
        length = getattr(dut, f"m_axi_{self.request}len")
        while True:
            await FallingEdge(dut.clk_i)
            self.stalls()
            await Timer(1, "ns")
            if not int(dut.rst_ni.value):
                self.requested = self.answered = 0
                continue
            if int(dut.done_o.value):
                self.done += 1
            if int(dut.error_o.value):
                self.errors.append(ERRORS[int(dut.error_cause_o.value)])
            if int(valid.value) and int(ready.value):
                self.requested += 1
                self.beats += int(length.value) + 1
            self.answered += self.answer_ends()
            self._watch()

    async def offer(self, transfer: Transfer | int) -> None:
        """Hand a command over."""
        dut = self.dut
        if isinstance(transfer, Transfer):
            sample_bench("transfer of a DMA", **transfer.kind(), idle=self.idle, stall=self.stall)
        dut.start_cmd_i.value = transfer if isinstance(transfer, int) else transfer.command
        dut.start_valid_i.value = 1
        await Timer(2, "ns")
        assert int(dut.start_illegal_o.value) == 0, f"refused: {transfer}"
        while not int(dut.start_ready_o.value):
            await FallingEdge(dut.clk_i)
            await Timer(2, "ns")
        await FallingEdge(dut.clk_i)
        dut.start_valid_i.value = 0

    async def stop(self) -> None:
        """Stop as the core does: hold stop_i until the bus is quiet, then clear."""
        dut = self.dut
        dut.stop_i.value = 1
        await self.until(lambda: int(dut.quiet_o.value) == 1, QUIET_CYCLES, "quiet")
        await Timer(2, "ns")  # after the watcher's sample
        assert int(dut.quiet_o.value) == 1
        assert self.requested == self.answered, "quiet although answers are owed"
        for _ in range(20):
            await FallingEdge(dut.clk_i)
            assert int(dut.quiet_o.value) == 1, "quiet again and again"
        assert self.requested == self.answered
        await self.break_off("clear")
        dut.stop_i.value = 0


async def check_illegal(bench: DmaBench, name: str) -> None:
    """Check start_illegal_o, field by field."""
    good = {
        "mem_address": 64,
        "line_words": 1,
        "lines": 1,
        "planes": 1,
        "line_stride": 16,
        "plane_stride": 16,
    }
    bad = [
        *({"mem_address": 64 + (1 << bit)} for bit in range(4)),
        *({"line_stride": 16 + (1 << bit)} for bit in range(4)),
        *({"plane_stride": 16 + (1 << bit)} for bit in range(4)),
        *({"line_words": 0}, {"lines": 0}, {"planes": 0}, {"target": len(TARGETS)}),
        *([{"target": 1}, {"target": 2}] if name == "store" else []),
    ]
    for change, illegal in [({}, 0), *((fields, 1) for fields in bad)]:
        bench.dut.start_cmd_i.value = join([int(word) for word in encode(name, **(good | change))], 32)
        await Timer(1, "ns")
        assert int(bench.dut.start_illegal_o.value) == illegal, f"{name} with {change}"
