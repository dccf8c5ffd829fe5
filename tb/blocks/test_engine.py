# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_engine_ctrl: order, tokens, fences, events and completion of random command streams."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest

from hw.commands import encode
from hw.interface import COMMANDS, ENGINE_STATES, ENGINES
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, join, make_rng, parameters, pattern
from tb.coverage.collect import sample_bench

CONTROL = ("nop", "signal", "wait")
EVENTS = 16
CYCLES = 6000


@dataclass(frozen=True)
class Command:
    """A command and what it must cause."""

    name: str
    vector: int
    index: int
    wait: int
    post: int
    fence: bool
    event: int
    amount: int
    legal: bool


def draw(index: int, rng: np.random.Generator, *, illegal: str = "") -> Command:
    """Return a random command of the engine that is built, with a fault if one is named."""
    engine = parameters()["Engine"]
    sample_bench("commands of an engine", engine=ENGINES[engine], fault=illegal or "none")
    own = [name for name, command in COMMANDS.items() if command[2] == engine]
    foreign = [name for name, command in COMMANDS.items() if command[2] not in (engine, None)]
    wait, post = (int(mask) & ~(1 << engine) for mask in rng.integers(0, 8, 2))
    fields = {f"wait_{other}": wait >> i & 1 for i, other in enumerate(ENGINES)}
    fields |= {f"post_{other}": post >> i & 1 for i, other in enumerate(ENGINES)}
    fields["fence"] = int(rng.integers(0, 2))
    name = str(rng.choice([*own, *CONTROL] if not illegal else own))
    event, amount = int(rng.integers(0, EVENTS)), int(rng.integers(0, 256))
    extra = 0
    if illegal == "engine":
        name = str(rng.choice(foreign))
    elif illegal == "event":
        name, event = "signal", EVENTS
    elif illegal in ("self_wait", "self_post"):
        fields[f"{illegal.removeprefix('self_')}_{ENGINES[engine]}"] = 1
    elif illegal == "field":
        extra = 1 << 511
    elif illegal == "reserved":
        extra = 1 << int(rng.choice([11, 15, *range(19, 32)]))
    if name in ("signal", "wait"):
        fields |= {"event_id": event, "amount": amount}
    vector = join([int(word) for word in encode(name, engine=engine, **fields)], 32) | extra
    if illegal == "opcode":
        vector = vector & ~0xFF | 0x7F
    return Command(name, vector, index, wait, post, bool(fields["fence"]), event, amount, not illegal)


class TB(Bench):
    """Plays dispatch, the other engines, the events and the datapath; follows every command."""

    def __init__(self, dut: Any, idle: str, stall: str, *salt: object) -> None:
        super().__init__(dut, clear="clear_i")
        size = parameters()
        self.depth, self.in_flight = size["QueueDepth"], size["InFlight"]
        self.others = [engine for engine in range(len(ENGINES)) if engine != size["Engine"]]
        self.rng = make_rng(idle, stall, *salt)
        self.pauses = {
            name: pattern(idle, name)
            for name in ("cmd", *(f"token{engine}" for engine in self.others), "done")
        }
        self.stalls = {name: pattern(stall, name) for name in ("post", "signal", "wait", "start")}
        self.source: deque[Command] = deque()
        self.offered = False
        self.forget()
        self.executed: list[int] = []
        self.stopped = False
        for name in ("stop_i", "cmd_valid_i", "token_available_i", "done_i"):
            getattr(dut, name).value = 0

    def forget(self) -> None:
        """Expect an empty block."""
        self.queue: deque[Command] = deque()
        self.flight: deque[Command] = deque()
        self.finished = 0
        self.tokens = [0, 0, 0]

    async def step(self) -> None:
        """One cycle: drive what the surroundings do, compare what the block does."""
        dut = self.dut
        if not self.offered and self.source and not next(self.pauses["cmd"]):
            self.offered = True
        dut.cmd_valid_i.value = int(self.offered)
        if self.offered:
            dut.cmd_i.value = self.source[0].vector
            dut.cmd_index_i.value = self.source[0].index
        for engine in self.others:
            self.tokens[engine] += not next(self.pauses[f"token{engine}"])
        available = sum(1 << engine for engine in self.others if self.tokens[engine])
        ready = {name: not next(stall) for name, stall in self.stalls.items()}
        done = self.finished < len(self.flight) and not next(self.pauses["done"])
        dut.token_available_i.value = available
        dut.post_ready_i.value = int(ready["post"])
        dut.signal_ready_i.value = int(ready["signal"])
        dut.wait_grant_i.value = int(ready["wait"])
        dut.start_ready_i.value = int(ready["start"])
        dut.done_i.value = int(done)
        self.work = str(self.rng.choice(["run", "wait_memory", "wait_drain"]))
        dut.work_i.value = ENGINE_STATES.index(self.work)
        await self.settle()
        self.compare(available, ready)
        self.finished += done
        if self.offered and int(dut.cmd_ready_o.value):
            self.queue.append(self.source.popleft())
            self.offered = False
        await self.drive()

    def compare(self, available: int, ready: dict[str, bool]) -> None:
        """Compare this cycle's outputs and follow the commands."""
        dut = self.dut
        head = self.queue[0] if self.queue else None
        assert int(dut.cmd_ready_o.value) == int(len(self.queue) < self.depth)
        assert int(dut.idle_o.value) == int(not self.queue and not self.flight)
        oldest = self.flight[0].index if self.flight else head.index if head is not None else 0
        assert int(dut.oldest_index_o.value) == oldest
        working = self.finished < len(self.flight)
        assert int(dut.error_index_o.value) == (self.flight[self.finished].index if working else oldest)
        illegal = head is not None and not head.legal and not self.flight and not self.stopped
        assert int(dut.illegal_o.value) == int(illegal), f"illegal_o with {head}"

        may = head is not None and head.legal and not self.stopped and not head.wait & ~available
        control = head is not None and head.name in CONTROL
        must_be_alone = control or (head is not None and head.fence)
        may = may and not (must_be_alone and self.flight)
        start = may and not control and len(self.flight) < self.in_flight
        assert int(dut.start_valid_o.value) == int(start), f"start of {head}, flight {self.flight}"
        signal = may and head is not None and head.name == "signal" and ready["post"]
        waiting = may and head is not None and head.name == "wait" and ready["post"]
        assert int(dut.signal_valid_o.value) == int(signal)
        assert int(dut.wait_valid_o.value) == int(waiting)
        go = (
            (start and ready["start"])
            or (signal and ready["signal"])
            or (waiting and ready["wait"])
            or (may and head is not None and head.name == "nop" and ready["post"])
        )
        assert int(dut.token_take_o.value) == (head.wait if go and head is not None else 0)
        self.compare_diagnosis(head, ready["post"], available, may=bool(may), go=bool(go))
        post = self.finished > 0 or (go and control)
        assert int(dut.post_valid_o.value) == int(post)
        if post:
            who = self.flight[0] if self.flight else head
            assert who is not None
            assert int(dut.post_mask_o.value) == who.post, f"post of {who}"
        if self.finished and ready["post"]:
            self.executed.append(self.flight.popleft().index)
            self.finished -= 1
        if go and head is not None:
            self.go(head, control=control)

    def compare_diagnosis(
        self, head: Command | None, post_ready: bool, available: int, *, may: bool, go: bool
    ) -> None:
        """Compare what the engine says about its state."""
        dut = self.dut
        tokens = 0
        if self.flight:
            all_finished = self.finished == len(self.flight)
            state = ("run" if post_ready else "wait_token") if all_finished else self.work
        elif head is not None:
            state = "run" if go else "wait_token"
            tokens = head.wait & ~available
        else:
            state = "idle"
        assert ENGINE_STATES[int(dut.state_o.value)] == state
        if head is None or head.legal:
            assert int(dut.diag_tokens_o.value) == tokens
        waits = head is not None and head.name == "wait" and may and not go
        assert int(dut.diag_on_event_o.value) == int(waits)
        event = head.vector >> 32 & 0xFF if head is not None else 0
        assert int(dut.diag_event_o.value) == event

    def go(self, head: Command, *, control: bool) -> None:
        """Follow a command that leaves the queue."""
        dut = self.dut
        self.queue.popleft()
        for engine in self.others:
            self.tokens[engine] -= head.wait >> engine & 1
        if head.name == "signal":
            assert int(dut.signal_event_o.value) == head.event
        elif head.name == "wait":
            assert (int(dut.wait_event_o.value), int(dut.wait_amount_o.value)) == (head.event, head.amount)
        if control:
            self.executed.append(head.index)
        else:
            assert int(dut.start_cmd_o.value) == head.vector
            self.flight.append(head)

    async def finish(self, count: int) -> None:
        """Run until a number of commands has been executed, in order."""
        for _ in range(CYCLES):
            if len(self.executed) >= count:
                break
            await self.step()
        assert self.executed == sorted(self.executed)
        assert len(self.executed) == count, f"{len(self.executed)} of {count} commands executed"


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS)
async def streams(dut: Any, idle: str, stall: str) -> None:
    """Random commands are executed once, in order, with their tokens, fences and events."""
    tb = TB(dut, idle, stall)
    await tb.reset()
    tb.source.extend(draw(i, tb.rng) for i in range(60))
    await tb.finish(60)
    for _ in range(5):
        await tb.step()
    assert int(dut.idle_o.value) == 1


@cocotb.test()
@cocotb.parametrize(
    illegal=["engine", "opcode", "event", "self_wait", "self_post", "field", "reserved"], idle=PATTERNS
)
async def illegal_commands(dut: Any, illegal: str, idle: str) -> None:
    """An illegal command is reported when all before it are complete; it and what follows never start."""
    tb = TB(dut, idle, "random", illegal)
    await tb.reset()
    tb.source.extend(draw(i, tb.rng) for i in range(6))
    tb.source.append(draw(6, tb.rng, illegal=illegal))
    tb.source.append(draw(7, tb.rng))
    await tb.finish(6)
    for _ in range(60):
        await tb.step()
    assert tb.executed == list(range(6))
    assert int(dut.illegal_o.value) == 1
    assert int(dut.oldest_index_o.value) == 6


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear"], idle=PATTERNS)
async def broken_off(dut: Any, how: str, idle: str) -> None:
    """After a stop nothing starts; a reset or clear empties the block at any moment."""
    tb = TB(dut, idle, "random", how)
    await tb.reset()
    for round_ in range(6):
        tb.source.extend(draw(100 * round_ + i, tb.rng) for i in range(12))
        for _ in range(int(tb.rng.integers(1, 50))):
            await tb.step()
        if round_ % 2:
            dut.stop_i.value = 1
            tb.stopped = True
            for _ in range(20):
                await tb.step()  # compares that nothing starts
        dut.done_i.value = 0
        await tb.break_off(how)
        dut.stop_i.value = 0
        tb.stopped = False
        tb.forget()
        tb.source.clear()
        tb.offered = False
        dut.cmd_valid_i.value = 0
        await tb.settle()
        assert int(dut.idle_o.value) == 1
    tb.executed.clear()
    tb.source.extend(draw(1000 + i, tb.rng) for i in range(10))
    await tb.finish(10)


@pytest.mark.parametrize(("engine", "depth", "in_flight"), [(0, 2, 1), (1, 4, 4), (2, 4, 2)])
@pytest.mark.rtl
def test_engine_control_keeps_the_order(engine: int, depth: int, in_flight: int) -> None:
    """Every cocotb test of this module, for each engine, with deep and shallow queues."""
    sources = ["npu_fifo.sv", "npu_engine_ctrl.sv"]
    block = Block("tb_engine", sources, {"Engine": engine, "QueueDepth": depth, "InFlight": in_flight})
    run(block, __name__, ["streams", "illegal_commands", "broken_off"])
