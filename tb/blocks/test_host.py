# SPDX-License-Identifier: Apache-2.0
"""Bench of tb_host's queues: units of Python that run, err, hang and reset, on a port that stalls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import pytest

from hw.interface import REGISTERS
from hw.sources import TB as TESTBENCH_FOLDER
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, make_rng, pattern
from tb.host import (
    DELAY,
    END,
    INFO_NO_ANSWER,
    INFO_TIMEOUT,
    INFO_UNIT_ERROR,
    OP_WORDS,
    POLL,
    READ,
    RESULT_WORDS,
    UNIT_BYTES,
)
from tb.queues import ANSWER_WORDS, INFO_PARTNER_FAILED, INFO_STUCK, REQUEST_WORDS

UNITS = 4
RING = 4
"""Requests of a unit at a time."""
ACCESS_LIMIT, RESET_LIMIT = 200, 300
START, SOFT_RESET = 1, 2
DONE, ERROR = 1, 2
BUSY, STOPPED = 1, 4
FAILS, HANGS, BREAKS = 1 << 20, 1 << 21, 1 << 22
"""Bits of a list's address: its unit reports an error, never ends, or is never ready again."""
NEVER = 1 << 30
OFFSETS = {offset: name for name, (offset, _) in REGISTERS.items()}


@dataclass
class Unit:
    """What the host sees of a unit."""

    registers: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(REGISTERS, 0) | {"irq_enable": DONE | ERROR}
    )
    list_address: int = 0  # taken at the start: the next one's is written while it runs
    left: int = -1  # cycles until it ends; -1: nothing goes on
    resetting: int = 0
    starts: list[tuple[int, int, int]] = field(default_factory=list)  # cycle, address, count
    resets: int = 0

    @property
    def irq(self) -> bool:
        """Its interrupt."""
        return bool(self.registers["irq_status"] & self.registers["irq_enable"])

    def write(self, name: str, value: int, now: int, runtime: int) -> None:
        """Take a write."""
        assert name in ("ctrl", "irq_status", "cmd_address", "cmd_count"), name
        registers = self.registers
        if name == "irq_status":
            registers[name] &= ~value
        elif name == "ctrl" and value == START:
            assert registers["status"] == 0, "started while it is not ready"
            assert not self.irq, "started with an interrupt from before"
            registers["status"], registers["cycles"] = BUSY, 0
            self.list_address = registers["cmd_address"]
            self.starts.append((now, self.list_address, registers["cmd_count"]))
            self.left = NEVER if self.list_address & HANGS else runtime
        elif name == "ctrl":
            assert value == SOFT_RESET
            self.resets += 1
            self.left, self.resetting = -1, NEVER if self.list_address & BREAKS else 9
        else:
            registers[name] = value

    def cycle(self) -> None:
        """Go on by a cycle."""
        registers = self.registers
        if self.resetting:
            self.resetting -= 1
            registers["status"] = 8 if self.resetting else 0
        if self.left >= 0:
            registers["cycles"] += 1
            self.left -= 1
            if self.left < 0:
                failed = self.list_address & FAILS
                registers["status"] = STOPPED if failed else 0
                registers["irq_status"] |= ERROR if failed else DONE
                registers["error_cause"], registers["error_command"] = (0x105, 77) if failed else (0, 0)


class Host(Bench):
    """The host, and units at its port."""

    def __init__(self, dut: Any, stall: str = "never", runtime: int = 20) -> None:
        super().__init__(dut)
        dut.rst_ni.value = 0
        self.units = [Unit() for _ in range(UNITS)]
        for index, unit in enumerate(self.units):
            unit.registers["id"] = 0x100 + index
        self.now = 0
        self.rng = make_rng("runtime", stall)
        self.stall = pattern(stall, "port")
        self.runtime = runtime
        self.answering = True
        self.heads = [0] * UNITS
        self.splits = 0

    async def begin(self, serve: bool = True) -> None:
        """Reset, and begin to serve."""
        for index in range(4):
            self.dut.control[index].value = 0
        for unit in range(UNITS):
            self.dut.head[unit].value = 0
            self.dut.tail[unit].value = 0
        for name in ("awready", "wready", "bvalid", "bresp", "arready", "rvalid", "rresp", "rdata"):
            getattr(self.dut, f"m_axil_{name}").value = 0
        self.dut.irq_i.value = 0
        await self.reset()
        cocotb.start_soon(self.port())
        await self.cycles(3)
        self.dut.control[1].value = int(serve)

    async def port(self) -> None:
        """Answer one access after the other, and let the units' time go on."""
        dut = self.dut
        answer = -1  # cycles until the answer that is to come
        is_write, address, data = False, 0, 0
        while True:
            await self.drive()
            self.now += 1
            for unit in self.units:
                unit.cycle()
            for name in ("awready", "wready", "arready", "bvalid", "rvalid"):
                getattr(dut, f"m_axil_{name}").value = 0
            reads, writes = int(dut.m_axil_arvalid.value), int(dut.m_axil_awvalid.value)
            assert writes == int(dut.m_axil_wvalid.value)
            assert not (reads and writes)
            if answer >= 0:
                assert not reads
                assert not writes
                if answer == 0:
                    self.respond(is_write, address, data)
                answer -= 1
            elif (reads or writes) and self.answering and not next(self.stall):
                is_write = bool(writes)
                address = int((dut.m_axil_awaddr if writes else dut.m_axil_araddr).value)
                data = int(dut.m_axil_wdata.value)
                for name in ("awready", "wready") if writes else ("arready",):
                    getattr(dut, f"m_axil_{name}").value = 1
                answer = 1 + sum(next(self.stall) for _ in range(2))
            dut.irq_i.value = sum(unit.irq << index for index, unit in enumerate(self.units))

    def respond(self, is_write: bool, address: int, data: int) -> None:
        """Answer an access."""
        unit, name = self.units[address // UNIT_BYTES], OFFSETS[address % UNIT_BYTES]
        if is_write:
            unit.write(name, data, self.now, self.runtime or int(self.rng.integers(0, 60)))
            self.dut.m_axil_bvalid.value = 1
        else:
            self.dut.m_axil_rdata.value = unit.registers[name]
            self.dut.m_axil_rvalid.value = 1

    def put(
        self,
        units: Sequence[int],
        address: int | Mapping[int, int],
        *,
        arrival: int = 0,
        limit: int = 5000,
        after: Sequence[int] = (),
    ) -> None:
        """Queue a request; `after` is for each unit how many of its requests must be complete."""
        self.splits += 1
        join = self.splits << 16 | sum(1 << unit for unit in units) if len(units) > 1 else 0
        for unit in units:
            of_unit = address if isinstance(address, int) else address[unit]
            words = [arrival, of_unit, of_unit + 1, limit, join, *(after or [0] * UNITS)]
            assert len(words) == REQUEST_WORDS + UNITS
            assert self.heads[unit] - self.tail(unit) < RING
            place = (unit * RING + self.heads[unit] % RING) * len(words)
            for index, word in enumerate(words):
                self.dut.requests[place + index].value = word
            self.heads[unit] += 1
            self.dut.head[unit].value = self.heads[unit]

    def tail(self, unit: int) -> int:
        """Return how many requests a unit has answered."""
        return int(self.dut.tail[unit].value)

    def answer(self, unit: int, number: int) -> list[int]:
        """Words of a unit's answer to its request of a number, from 0."""
        place = (unit * RING + number % RING) * ANSWER_WORDS
        return [int(self.dut.answers[place + index].value) for index in range(ANSWER_WORDS)]

    async def all_answered(self, cycles: int = 20_000) -> None:
        """Wait until every request is answered."""
        await self.until(
            lambda: all(self.tail(unit) == self.heads[unit] for unit in range(UNITS)), cycles, "an answer"
        )


@cocotb.test()
@cocotb.parametrize(stall=PATTERNS)
async def requests_of_all_units(dut: Any, stall: str) -> None:
    """Each unit runs its own requests in their order, through rings that are filled again and again."""
    host = Host(dut, stall, runtime=0)
    await host.begin()
    left = [[(unit << 12) + 64 * number for number in range(3 * RING)] for unit in range(UNITS)]
    lists = [list(item) for item in left]
    while any(left):
        for unit in range(UNITS):
            while left[unit] and host.heads[unit] - host.tail(unit) < RING:
                host.put([unit], left[unit].pop(0))
        await host.cycles(5)
    await host.all_answered()
    for unit in range(UNITS):
        assert [start[1:] for start in host.units[unit].starts] == [(a, a + 1) for a in lists[unit]]
        assert host.units[unit].resets == 0
        before = 0
        for number in range(2 * RING, 3 * RING):
            info, irq, start, end, cycles, *rest = host.answer(unit, number)
            assert (info, irq, rest) == (0, DONE, [0, 0, 0])
            assert before < start <= end
            assert abs(end - start - cycles) <= 5
            before = end


@cocotb.test()
@cocotb.parametrize(stall=PATTERNS)
async def what_holds_a_request(dut: Any, stall: str) -> None:
    """Its cycle, what it comes after, and the units that it joins; nothing holds the others."""
    host = Host(dut, stall, runtime=50)
    await host.begin()
    host.put([0], 0x1000, arrival=700)
    host.put([1], 0x2000, after=[1, 0, 0, 0])
    host.put([2, 3], 0x3000, after=[0, 1, 0, 0])
    host.put([3], 0x4000)
    host.put([2, 1], 0x5000)
    host.put([0], 0x6000, after=[0, 2, 0, 1])
    await host.all_answered()
    first, second, third = host.answer(0, 0), host.answer(1, 0), host.answer(2, 0)
    assert 700 < first[2] < 730
    assert first[3] < second[2] < second[3] < third[2]
    for left, right in (((2, 0), (3, 0)), ((2, 1), (1, 1))):
        assert abs(host.answer(*left)[2] - host.answer(*right)[2]) < 30
    assert host.answer(2, 1)[2] > host.answer(2, 0)[3]
    assert host.answer(0, 1)[2] > max(host.answer(1, 1)[3], host.answer(3, 0)[3])


@cocotb.test()
@cocotb.parametrize(stall=PATTERNS)
async def failures(dut: Any, stall: str) -> None:
    """An error, and a list that does not end, cost a soft reset of that unit alone."""
    host = Host(dut, stall, runtime=30)
    await host.begin()
    for address in (0x1000, 0x1000 | FAILS, 0x1100):
        host.put([0], address)
    for address in (0x2000 | HANGS, 0x2100):
        host.put([1], address, limit=400)
    for number in range(RING):
        host.put([2], 0x3000 + number)
    await host.all_answered()
    assert [unit.resets for unit in host.units] == [1, 1, 0, 0]
    assert [host.answer(0, number)[0] for number in range(3)] == [0, INFO_UNIT_ERROR, 0]
    assert host.answer(0, 1)[5:] == [0x105, 77, 0]
    info, irq, start, end, *_ = host.answer(1, 0)
    assert (info, irq) == (INFO_TIMEOUT, 0)
    assert 400 <= end - start < 420
    assert host.answer(1, 1)[0] == 0
    assert [host.answer(2, number)[0] for number in range(RING)] == [0] * RING
    assert host.answer(2, RING - 1)[3] < start + 400, "a unit has waited for another's limit"


@cocotb.test()
@cocotb.parametrize(stall=PATTERNS)
async def a_failure_of_one_that_is_joined(dut: Any, stall: str) -> None:
    """All units that a failed request has joined are reset, if they are still at it; others are not."""
    host = Host(dut, stall, runtime=40)
    await host.begin()
    host.put([0, 1, 2], {0: 0x1000 | FAILS, 1: 0x1000 | HANGS, 2: 0x1000 | HANGS})
    for unit in (0, 1, 2):
        host.put([unit], 0x2000)
    for number in range(RING):
        host.put([3], 0x3000 + number)
    await host.all_answered()
    infos = [INFO_UNIT_ERROR, INFO_PARTNER_FAILED, INFO_PARTNER_FAILED]
    assert [host.answer(unit, 0)[0] for unit in range(3)] == infos
    assert [unit.resets for unit in host.units] == [1, 1, 1, 0]
    assert [host.answer(unit, 1)[0] for unit in range(3)] == [0, 0, 0]


@cocotb.test()
@cocotb.parametrize(stall=PATTERNS)
async def a_list_beside_the_queues(dut: Any, stall: str) -> None:
    """The list and the queues share the port: each gets its own answers, and neither waits for ever."""
    host = Host(dut, stall, runtime=10)
    await host.begin()
    count = 40
    for index in range(count):
        words = [READ, (index % UNITS) * UNIT_BYTES + REGISTERS["id"][0], 0, 0, 0, 0, 0, 0]
        if index == 0:  # until a queue has written its last list
            words[:5] = [POLL, 3 * UNIT_BYTES + REGISTERS["cmd_count"][0], 0xFFFF, 0x3000 + RING, 5000]
        if index % 7 == 3:
            words[:2] = [DELAY, index]
        for place, word in enumerate(words):
            dut.ops[index * OP_WORDS + place].value = word
    dut.ops[count * OP_WORDS].value = END
    dut.results[count * RESULT_WORDS + 2].value = 0
    dut.control[0].value = 1
    for number in range(RING):
        for unit in range(UNITS):
            host.put([unit], 0x1000 * unit + number)
    await host.cycles(2)
    await host.until(lambda: int(dut.results[count * RESULT_WORDS + 2].value) > 0, 20_000, "the list's end")
    await host.all_answered()
    await host.cycles(2)
    for index in range(count):
        value, info = (int(dut.results[index * RESULT_WORDS + place].value) for place in range(2))
        assert info == 0
        assert index % 7 == 3 or value == (0x100 + index % UNITS if index else 0x3000 + RING)
    for unit in range(UNITS):
        assert [host.answer(unit, number)[0] for number in range(RING)] == [0] * RING
        assert len(host.units[unit].starts) == RING


@cocotb.test()
async def wakes(dut: Any) -> None:
    """Every answer toggles wake_o; two in a cycle do it once."""
    host = Host(dut)
    await host.begin()
    for unit in range(UNITS):
        host.put([unit], 0x1000)
        host.put([unit], 0x2000)
    toggles, answered, last = 0, [0], int(dut.wake_o.value)
    while answered[-1] < 2 * UNITS:
        await host.drive()
        now = sum(host.tail(unit) for unit in range(UNITS))
        if int(dut.wake_o.value) != last:
            toggles, last = toggles + 1, int(dut.wake_o.value)
            assert now > answered[-1]
        else:
            assert now == answered[-1]
        answered.append(now)
    assert toggles == len(set(answered)) - 1


@cocotb.test()
async def a_unit_that_is_never_ready_again(dut: Any) -> None:
    """Its request says so; the other units go on."""
    host = Host(dut)
    await host.begin()
    host.put([0], 0x1000 | FAILS | BREAKS)
    host.put([1], 0x2000)
    await host.all_answered()
    assert host.answer(0, 0)[0] == INFO_STUCK
    assert host.answer(1, 0)[0] == 0


@cocotb.test()
async def an_access_without_an_answer(dut: Any) -> None:
    """It ends the request; a list finds the port free again."""
    host = Host(dut)
    await host.begin()
    host.answering = False
    host.put([0], 0x1000)
    host.put([2], 0x1000)
    await host.all_answered(4 * ACCESS_LIMIT)
    assert host.answer(0, 0)[0] == host.answer(2, 0)[0] == INFO_NO_ANSWER
    host.answering = True
    dut.control[1].value = 0
    dut.ops[0].value, dut.ops[1].value, dut.ops[OP_WORDS].value = READ, REGISTERS["id"][0], END
    dut.control[0].value = 1
    await host.cycles(30)
    assert [int(dut.results[place].value) for place in range(2)] == [0x100, 0]


@cocotb.test()
async def serving_ends_and_begins_anew(dut: Any) -> None:
    """Without `control[1]` nothing is started, and everything is forgotten; then cycle 0 comes again."""
    host = Host(dut)
    await host.begin(serve=False)
    host.put([0], 0x1000)
    await host.cycles(100)
    assert not host.units[0].starts
    for _ in range(2):
        dut.control[1].value = 1
        await host.all_answered()
        assert host.answer(0, 0)[2] < 60
        dut.control[1].value = 0
        await host.cycles(5)
        assert host.tail(0) == 0
    assert len(host.units[0].starts) == 2


@pytest.mark.rtl
def test_host_serves_its_queues() -> None:
    """Every cocotb test of this module."""
    names = ("tb_host_pkg.sv", "tb_host_arbiter.sv", "tb_host_queue.sv", "tb_host.sv")
    sizes = {"NumUnits": UNITS, "MaxOps": 64, "MaxRequests": RING}
    limits = {"AccessLimit": ACCESS_LIMIT, "ResetLimit": RESET_LIMIT}
    block = Block("tb_host", [str(TESTBENCH_FOLDER / name) for name in names], sizes | limits)
    needs = ["requests_of_all_units", "what_holds_a_request", "failures", "a_list_beside_the_queues", "wakes"]
    run(block, __name__, needs)
