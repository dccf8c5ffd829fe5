# SPDX-License-Identifier: Apache-2.0
"""Surroundings of one core: host, memory that stalls and fails, events; and a model of its counters."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, Timer, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from common.arrays import Words
from hw.commands import command_list
from hw.interface import COMMAND_BYTES, ENGINE_STATES, ENGINES, ERRORS, REGISTERS
from tb.blocks.structures import Layout, unpack
from tb.blocks.support import CLOCK_NS, Bench, make_rng, parameters, pattern

OKAY, SLVERR, DECERR = 0, 2, 3
PAGE = 4096
EVENTS = 16
CYCLES = 20000
TIMEOUT_NS = 500 * CLOCK_NS
START, SOFT_RESET = 1, 2
DONE, ERROR = 1, 2
WATCH: Layout = (
    *(("store", 3), ("compute", 3), ("load", 3), ("signal", 3), ("wait", 3), ("ar", 1), ("r", 1), ("aw", 1)),
    *(("w", 1), ("run", 1), ("mac_cycle", 1), ("mac_beat", 1), ("soft_reset", 1), ("busy", 1), ("irq", 1)),
)
"""Fields of tb_core's watch_o: engine states, signals and waits offered, handshakes, what is counted."""
COUNTERS = [name for name in REGISTERS if REGISTERS[name][0] >= REGISTERS["cycles"][0]]


@dataclass
class Burst:
    """A burst that memory has taken."""

    number: int  # its ID
    address: int
    beats: int
    served: int = 0
    response: int = OKAY


@dataclass
class Model:
    """What the counters of the core must hold."""

    counts: Counter[str] = field(default_factory=Counter)
    first: int | None = None

    def registers(self) -> dict[str, int]:
        """Return every counter register."""
        values = {name: self.counts[name] for name in COUNTERS}
        for name in ("macs_useful", "macs_offered"):
            values[f"{name}_low"] = self.counts[name] & 0xFFFFFFFF
            values[f"{name}_high"] = self.counts[name] >> 32
        values["array_first"] = self.first or 0
        return values


class CoreBench(Bench):
    """A core in its surroundings; everything but the host runs by itself.

    Args:
        dut: tb_core.
        idle: pattern of the memory's answers.
        stall: pattern of what memory, and the events, take.
        salt: what else random numbers depend on.
    """

    def __init__(self, dut: Any, idle: str, stall: str, *salt: object) -> None:
        super().__init__(dut)
        dut.rst_ni.value = 0
        self.size = parameters()
        self.bytes = self.size["AxiDataBits"] // 8
        self.rng = make_rng(idle, stall, *salt)
        self.pauses = {name: pattern(idle, name, *salt) for name in ("r", "b")}
        self.stalls = {name: pattern(stall, name, *salt) for name in ("ar", "aw", "w", "signal", "wait")}
        self.host = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk_i, dut.rst_ni, reset_active_level=False
        )
        self.memory = bytearray()
        self.refused: dict[int, int] = {}  # response by address of a 16-byte word
        self.closed: set[str] = set()  # channels on which memory does nothing
        self.written: dict[int, int] = {}  # bytes written with a strobe
        self.empty_beats = 0
        self.signals: list[tuple[int, int]] = []
        self.events = Counter[int]()
        self.soft_resets = 0
        self.driven: dict[str, int] = {}
        self.model = Model()
        self.forget()
        for name in ("ar_ready_i", "r_valid_i", "r_id_i", "aw_ready_i", "w_ready_i", "b_valid_i"):
            self.put(name, 0)
        self.put("signal_ready_i", 0)
        self.put("wait_grant_i", 0)

    def forget(self) -> None:
        """Drop what is in flight, as memory does in reset."""
        self.reads: dict[int, deque[Burst]] = {0: deque(), 1: deque()}
        self.beat: Burst | None = None
        self.writes: deque[Burst] = deque()
        self.write_data: deque[tuple[int, int, bool]] = deque()
        self.answers: deque[int] = deque()

    async def start(self) -> None:
        """Reset, and let the surroundings run."""
        await self.reset()
        cocotb.start_soon(self._run())
        await self.drive()

    async def _run(self) -> None:
        while True:
            self.drive_inputs()
            await Timer(1, "ns")
            if self.grant():
                await Timer(1, "ns")
            if int(self.dut.rst_ni.value):
                self.sample()
            else:
                self.forget()
                self.model = Model()
            await FallingEdge(self.dut.clk_i)

    def watch(self) -> dict[str, int]:
        """Return what goes on in this cycle."""
        return unpack(int(self.dut.watch_o.value), WATCH)

    def put(self, name: str, value: int) -> bool:
        """Drive an input; return whether it changes."""
        if self.driven.get(name) == value:
            return False
        self.driven[name] = value
        getattr(self.dut, name).value = value
        return True

    @property
    def quiet(self) -> bool:
        """Memory owes nothing."""
        return not any((*self.reads.values(), self.writes, self.write_data, self.answers))

    # ---------------------------------------------------------------------------------- memory and events
    def drive_inputs(self) -> None:
        """Choose what memory and events do in this cycle."""
        for name in ("ar", "aw", "w"):
            self.put(f"{name}_ready_i", int(not next(self.stalls[name]) and name not in self.closed))
        if self.beat is None and not next(self.pauses["r"]) and "r" not in self.closed:
            bursts = [queue[0] for queue in self.reads.values() if queue]
            if bursts:
                self.beat = bursts[int(self.rng.integers(0, len(bursts)))]
        beat = self.beat
        self.put("r_valid_i", int(beat is not None))
        if beat is not None:
            address = beat.address + beat.served * self.bytes
            self.put("r_id_i", beat.number)
            self.put("r_data_i", int.from_bytes(self.memory[address : address + self.bytes], "little"))
            self.put("r_resp_i", self.refused.get(address & ~15, OKAY))
            self.put("r_last_i", int(beat.served == beat.beats - 1))
        else:
            self.put("r_resp_i", DECERR)
        answer = bool(self.answers) and not next(self.pauses["b"]) and "b" not in self.closed
        self.put("b_valid_i", int(answer))
        self.put("b_resp_i", self.answers[0] if answer else DECERR)
        self.answering = answer
        self.signalling = not next(self.stalls["signal"])
        self.put("signal_ready_i", 7 if self.signalling else 0)
        self.granting = not next(self.stalls["wait"])

    def sample(self) -> None:
        """Follow what happens in this cycle; compare what needs no command list to know."""
        dut = self.dut
        now = self.watch()
        self.count(now)
        if now["r"] and self.beat is not None:
            self.beat.served += 1
            if self.beat.served == self.beat.beats:
                self.reads[self.beat.number].popleft()
            self.beat = None
        for name in ("ar", "aw"):
            if now[name]:
                self.take(name)
        if now["w"]:
            data = (int(dut.w_data_o.value), int(dut.w_strb_o.value), bool(int(dut.w_last_o.value)))
            self.write_data.append(data)
        self.store()
        self.soft_resets += now["soft_reset"]
        signals = now["signal"] if self.signalling else 0
        for engine in range(len(ENGINES)):
            if signals >> engine & 1:
                event = int(dut.signal_event_o.value) >> 8 * engine & 0xFF
                self.signals.append((engine, event))
                self.events[event] += 1

    def take(self, name: str) -> None:
        """Take a burst of a channel."""
        number, address, length = (
            int(getattr(self.dut, f"{name}_{item}_o").value) for item in ("id", "addr", "len")
        )
        burst = Burst(number, address, length + 1)
        assert burst.beats <= 16
        assert address % PAGE + burst.beats * self.bytes <= PAGE, "a burst stays in its page"
        if name == "ar":
            self.reads[number].append(burst)
        else:
            assert number == 0
            self.writes.append(burst)

    def grant(self) -> bool:
        """Grant waits whose event has come often enough, one in a cycle; return whether that changes."""
        dut = self.dut
        valid, grant = self.watch()["wait"], 0
        for engine in range(len(ENGINES)) if valid else ():
            event = int(dut.wait_event_o.value) >> 8 * engine & 0xFF
            amount = int(dut.wait_amount_o.value) >> 8 * engine & 0xFF
            if valid >> engine & 1 and self.granting and not grant and self.events[event] >= amount:
                grant = 1 << engine
                self.events[event] -= amount
        return self.put("wait_grant_i", grant)

    def store(self) -> None:
        """Write the beats whose address is known; answer whole bursts."""
        if self.answering:
            self.answers.popleft()
        while self.writes and self.write_data:
            burst = self.writes[0]
            data, strobe, last = self.write_data.popleft()
            address = burst.address + burst.served * self.bytes
            burst.response = self.refused.get(address & ~15, burst.response)
            self.empty_beats += strobe == 0
            for i in range(self.bytes):
                if strobe >> i & 1:
                    assert address + i not in self.written, "written twice"
                    self.written[address + i] = data >> 8 * i & 0xFF
            burst.served += 1
            assert last == (burst.served == burst.beats), "the last beat of a burst says so"
            if last:
                self.answers.append(burst.response)
                self.writes.popleft()

    def count(self, now: dict[str, int]) -> None:
        """Count as the core must."""
        if not now["run"]:
            return
        model, counts = self.model, self.model.counts
        for engine in ENGINES:
            counts[f"{engine}_{ENGINE_STATES[now[engine]]}"] += 1
        counts["read_beats"] += now["r"]
        counts["write_beats"] += now["w"]
        if now["mac_cycle"]:
            counts["macs_offered"] += self.size["Rows"] * self.size["Cols"]
        if now["mac_beat"]:
            counts["macs_useful"] += int(self.dut.useful_macs_o.value)
            counts["array_last"] = counts["cycles"]
            if model.first is None:
                model.first = counts["cycles"]
        counts["cycles"] += 1

    # ---------------------------------------------------------------------------------- host
    async def write(self, name: str, value: int, lanes: int = 4, lane: int = 0) -> None:
        """Write a register, or some of its bytes."""
        data = value.to_bytes(4, "little")[lane : lane + lanes]
        answer = await with_timeout(self.host.write(REGISTERS[name][0] + lane, data), TIMEOUT_NS, "ns")
        assert answer.resp == AxiResp.OKAY

    async def read(self, name: str) -> int:
        """Read a register."""
        answer = await with_timeout(self.host.read(REGISTERS[name][0], 4), TIMEOUT_NS, "ns")
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    async def fields(self, name: str) -> dict[str, int]:
        """Read a register's fields."""
        value = await self.read(name)
        return {key: value >> lsb & ((1 << bits) - 1) for key, (lsb, bits) in REGISTERS[name][1].items()}

    async def launch(self, commands: Sequence[Words], address: int, count: int | None = None) -> None:
        """Put a list into memory and start it."""
        image = command_list(commands).tobytes()
        self.memory[address : address + len(image)] = image
        self.model = Model()
        self.written.clear()
        await self.write("cmd_address", address)
        await self.write("cmd_count", len(image) // COMMAND_BYTES if count is None else count)
        await self.write("ctrl", START)

    async def finish(self) -> None:
        """Wait for the end of a list by interrupt; check status, counters and the diagnosis."""
        await self.until(lambda: int(self.dut.irq_o.value) == 1, CYCLES, "the interrupt")
        assert int(self.dut.busy_o.value) == 0
        assert await self.read("irq_status") == DONE
        assert await self.fields("status") == {"busy": 0, "done": 1, "error": 0, "stopping": 0}
        await self.write("irq_status", DONE)
        await self.cycles(2)
        assert int(self.dut.irq_o.value) == 0
        await self.check_counters()
        assert await self.read("error_cause") == await self.read("error_command") == 0

    async def fails(self, cause: str, engine: int, index: int) -> None:
        """Wait for the error of a list; check all that says so."""
        await self.until(lambda: int(self.dut.irq_o.value) == 1, CYCLES, "the interrupt")
        assert int(self.dut.busy_o.value) == 1
        assert self.quiet, "traffic after the end"
        assert await self.read("irq_status") == ERROR
        assert await self.fields("status") == {"busy": 0, "done": 0, "error": 1, "stopping": 0}
        error = await self.fields("error_cause")
        assert (ERRORS[error["cause"]], error["engine"]) == (cause, engine)
        assert await self.read("error_command") == index
        await self.write("irq_status", ERROR)
        await self.write("ctrl", START)  # refused
        await self.cycles(20)
        assert await self.fields("status") == {"busy": 0, "done": 0, "error": 1, "stopping": 0}

    async def check_counters(self) -> None:
        """Compare every counter."""
        want = self.model.registers()
        for name in COUNTERS:
            assert await self.read(name) == want[name], name

    async def soft_reset(self) -> None:
        """Reset by the host: the bus ends cleanly, and nothing is left in any register but the counters."""
        before = self.soft_resets
        await self.write("ctrl", SOFT_RESET)
        await self.until(lambda: int(self.dut.busy_o.value) == 0, CYCLES, "ready")
        await Timer(2, "ns")
        assert self.soft_resets == before + 1
        assert self.quiet, "traffic after the end"
        await self.idle()
        await self.write("irq_status", DONE | ERROR)

    async def idle(self) -> None:
        """Check that the core is ready and diagnoses nothing."""
        for name in ("status", "error_cause", "error_command", "diag_load", "diag_compute", "diag_store"):
            assert await self.read(name) == 0, name
        assert await self.read("diag_fetch") == 0
        dut = self.dut
        for name in ("ar_valid_o", "aw_valid_o", "w_valid_o", "signal_valid_o", "wait_valid_o", "busy_o"):
            assert int(getattr(dut, name).value) == 0, name
