# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_load (with npu_bursts and npu_walk): random transfers from a cocotbext-axi memory."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import Timer
from cocotbext.axi import AxiReadBus, AxiResp, AxiSlaveRead

from tb.blocks.dma import DONE_CYCLES, WORD, DmaBench, Transfer, check_illegal, draw, respond_with
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, make_rng, parameters, pattern

SOURCES = ["npu_fifo.sv", "npu_bursts.sv", "npu_walk.sv", "npu_load.sv"]


class TB(DmaBench):
    """Memory on one side, the three scratchpads' write port on the other."""

    request = "ar"

    def __init__(self, dut: Any, idle: str, stall: str, *salt: object) -> None:
        super().__init__(dut, self.watch, idle, stall)
        sizes = parameters()
        self.sizes = [sizes["ActWords"], sizes["WeightWords"], sizes["ParamWords"]]
        self.beats_per_word = 128 // sizes["AxiDataBits"]
        self.max_bursts = sizes["MaxBursts"]
        self.rng = make_rng(idle, stall, *salt)
        self.slave = AxiSlaveRead(
            AxiReadBus.from_prefix(dut, "m_axi"), dut.clk_i, dut.rst_ni, self.memory, reset_active_level=False
        )
        self.slave.r_channel.set_pause_generator(pattern(idle, "r", *salt))
        self.slave.ar_channel.set_pause_generator(pattern(stall, "ar", *salt))
        self.write_stalls = [pattern(stall, target, *salt) for target in ("act", "weight", "param")]
        self.want: list[tuple[int, int, int]] = []  # target, address, data
        self.last_words: list[int] = []  # how many are left of `want` after each command
        self.taken = 0

    async def start(self) -> None:
        """Reset both sides."""
        await self.reset()
        self.watch_from_now()
        await self.drive()

    def stalls(self) -> None:
        """Stall the scratchpads, each on its own."""
        self.dut.write_ready_i.value = sum(
            (not next(stall)) << i for i, stall in enumerate(self.write_stalls)
        )

    def answer_ends(self) -> bool:
        """Return whether a burst's last beat is taken."""
        dut = self.dut
        return bool(
            int(dut.m_axi_rvalid.value) and int(dut.m_axi_rready.value) and int(dut.m_axi_rlast.value)
        )

    def watch(self) -> None:
        """Compare every word that a scratchpad takes."""
        dut = self.dut
        assert 0 <= self.requested - self.answered <= self.max_bursts, "bursts in flight"
        valid = int(dut.write_valid_o.value)
        assert valid in (0, 1, 2, 4)
        assert not (valid and int(dut.stop_i.value)), "written after a stop"
        taken = bool(valid & int(dut.write_ready_i.value))
        if taken:
            assert self.want, "a word that nobody asked for"
            got = (valid.bit_length() - 1, int(dut.write_addr_o.value), int(dut.write_data_o.value))
            assert got == self.want.pop(0), "(target, address, data)"
            self.taken += 1
        last = bool(taken and self.last_words and len(self.want) == self.last_words[0])
        assert int(dut.done_o.value) == int(last), "done comes with a command's last word"
        if taken:
            assert int(dut.write_last_o.value) == int(last)
        if last:
            self.last_words.pop(0)

    def prepare(self, transfers: list[Transfer]) -> None:
        """Fill memory with random words where the transfers read, and expect them."""
        contents: dict[int, bytes] = {}
        for transfer in transfers:
            for address, _ in transfer.words():
                contents.setdefault(address, self.rng.bytes(WORD))
        for address, data in contents.items():
            self.memory.mem.write(address, data)
        self.want = [
            (transfer.target, local, int.from_bytes(contents[address], "little"))
            for transfer in transfers
            for address, local in transfer.words()
        ]
        left = len(self.want)
        self.last_words = []
        for transfer in transfers:
            left -= len(transfer.words())
            self.last_words.append(left)

    async def load(self, transfers: list[Transfer]) -> None:
        """Run transfers, the next offered while one runs; all their words must arrive, in order."""
        self.prepare(transfers)
        done, beats = self.done, self.beats
        words = len(self.want)
        pauses = pattern(self.idle, "commands")
        for transfer in transfers:
            while next(pauses):
                await self.drive()
            await self.offer(transfer)
        await self.until(lambda: self.done == done + len(transfers), DONE_CYCLES, "done")
        await self.cycles(2)
        assert not self.want
        assert int(self.dut.quiet_o.value) == 1
        assert self.beats - beats == words * self.beats_per_word, "beats read"


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def words(dut: Any, idle: str, stall: str) -> None:
    """Random transfers arrive word for word, across pages, planes and strides, with pauses on every side."""
    tb = TB(dut, idle, stall, "words")
    await tb.start()
    for _ in range(2):
        await tb.load([draw("load", tb.sizes, tb.rng) for _ in range(3)])
    assert tb.taken > 0
    assert not tb.errors


@cocotb.test()
async def full_rate(dut: Any) -> None:
    """A long line takes one beat per cycle, once it flows: nothing is lost between bursts."""
    tb = TB(dut, "never", "never", "rate")
    await tb.start()
    transfer = Transfer("load", 0, 4096 - 32, 0, 256, 1, 0, 1, 0, 1, 0)
    tb.prepare([transfer])
    await tb.offer(transfer)
    cycles = await tb.until(lambda: tb.done == 1, DONE_CYCLES, "done")
    assert cycles <= 256 * tb.beats_per_word + 40


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def stopped(dut: Any, idle: str, stall: str) -> None:
    """A stop at any moment ends the bus cleanly, nothing is written after it, and the next transfer works."""
    tb = TB(dut, idle, stall, "stop")
    await tb.start()
    for _ in range(6):
        transfers = [draw("load", tb.sizes, tb.rng) for _ in range(2)]
        tb.prepare(transfers)
        for transfer in transfers[: int(tb.rng.integers(1, 3))]:
            await tb.offer(transfer)
        await tb.cycles(int(tb.rng.integers(0, 80)))
        await tb.stop()
    await tb.load([draw("load", tb.sizes, tb.rng)])
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def reset_in_flight(dut: Any, idle: str) -> None:
    """A reset of both sides at any moment leaves nothing behind."""
    tb = TB(dut, idle, "random", "reset")
    await tb.start()
    for _ in range(6):
        transfer = draw("load", tb.sizes, tb.rng)
        tb.prepare([transfer])
        await tb.offer(transfer)
        await tb.cycles(int(tb.rng.integers(0, 60)))
        await tb.break_off("reset")
        assert int(dut.quiet_o.value) == 1
        assert int(dut.write_valid_o.value) == 0
        await tb.cycles(2)
    await tb.load([draw("load", tb.sizes, tb.rng)])
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(response=[AxiResp.SLVERR, AxiResp.DECERR], idle=PATTERNS)
async def bus_errors(dut: Any, response: AxiResp, idle: str) -> None:
    """A failed beat is reported with its cause; after the stop that follows the next transfer works."""
    tb = TB(dut, idle, "random", "errors")
    respond_with(tb.slave.r_channel, "rresp", response)
    await tb.start()
    for _ in range(4):
        transfer = draw("load", tb.sizes, tb.rng)
        tb.prepare([transfer])
        places = transfer.words()
        bad = int(tb.rng.integers(0, len(places)))
        tb.memory.refused = {places[bad][0] // WORD}
        # the first word at that address: strides may read one address twice
        bad = next(i for i, place in enumerate(places) if place[0] == places[bad][0])
        tb.want = tb.want[: bad + tb.beats_per_word]  # the failed word itself may still be written, as zeros
        failed = tb.want[bad : bad + 1]
        tb.want[bad : bad + 1] = [(target, address, 0) for target, address, _ in failed]
        tb.last_words = []
        await tb.offer(transfer)
        await tb.until(lambda: bool(tb.errors), DONE_CYCLES, "an error")
        await tb.stop()
        assert set(tb.errors) == {f"load_{response.name.lower()}"}
        tb.errors.clear()
        tb.memory.refused = set()
    await tb.load([draw("load", tb.sizes, tb.rng)])
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(target=[0, 1, 2])
async def range_errors(dut: Any, target: int) -> None:
    """The first word beyond a scratchpad is an error and is not written; the words before it are."""
    tb = TB(dut, "random", "random", target)
    await tb.start()
    for inside in (0, 1, 7):
        transfer = Transfer("load", target, 0x1000, tb.sizes[target] - inside, 20, 1, 0, 1, 0, 1, 0)
        tb.prepare([transfer])
        tb.want, tb.last_words = tb.want[:inside], []
        await tb.offer(transfer)
        await tb.until(lambda: bool(tb.errors), DONE_CYCLES, "an error")
        assert not tb.want
        await tb.stop()
        assert set(tb.errors) == {"scratchpad_range"}
        tb.errors.clear()


@cocotb.test()
async def illegal_fields(dut: Any) -> None:
    """Each field out of range is reported while the command is offered."""
    tb = TB(dut, "never", "never", "illegal")
    await tb.reset()
    await check_illegal(tb, "load")
    await Timer(1, "ns")
    assert np.array_equal([tb.done, tb.requested], [0, 0])


@cocotb.test()
async def requests_ahead(dut: Any) -> None:
    """While the memory answers nothing, as many bursts are out as may be in flight."""
    tb = TB(dut, "never", "never", "ahead")
    await tb.start()
    tb.slave.r_channel.set_pause_generator(repeat(True))
    lines = 2 * tb.max_bursts
    await tb.offer(Transfer("load", 0, 4096, 0, 1, lines, 4096, 1, 0, 1, 0))
    await tb.cycles(100)
    assert tb.requested - tb.answered == tb.max_bursts


@pytest.mark.parametrize("bits", [128, 64])
@pytest.mark.rtl
def test_load_moves_every_word(bits: int) -> None:
    """Every cocotb test of this module, on both bus widths."""
    sizes = {"AxiDataBits": bits, "ActWords": 1024, "WeightWords": 512, "ParamWords": 256, "MaxBursts": 4}
    needs = [
        "requests_ahead",
        "words",
        "full_rate",
        "stopped",
        "reset_in_flight",
        "bus_errors",
        "range_errors",
        "illegal_fields",
    ]
    run(Block("tb_load", SOURCES, sizes), __name__, needs)
