# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_events: counters, service order and overflow against a plain model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
import pytest

from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, join, make_rng, parameters, pattern

FULL = 255


@dataclass
class Requests:
    """What is asked for: events to signal, and (event, amount) to wait for, by requester."""

    signals: dict[int, int] = field(default_factory=dict)
    waits: dict[int, tuple[int, int]] = field(default_factory=dict)


class TB(Bench):
    """Compares every answer with the counts, cycle by cycle."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, clear="clear_i")
        size = parameters()
        self.requesters, self.events = size["Requesters"], size["Events"]
        self.count = [0] * self.events
        self.granted = 0
        dut.signal_valid_i.value = 0
        dut.wait_valid_i.value = 0

    async def start(self) -> None:
        """Reset."""
        await self.reset()
        self.forget()

    def forget(self) -> None:
        """Expect all counters at zero."""
        self.count = [0] * self.events

    async def step(self, requests: Requests) -> None:
        """One cycle; requests that were served are removed."""
        dut, everyone = self.dut, range(self.requesters)
        signals, waits = requests.signals, requests.waits
        dut.signal_valid_i.value = sum(1 << r for r in signals)
        dut.signal_event_i.value = join([signals.get(r, 0) for r in everyone], 8)
        dut.wait_valid_i.value = sum(1 << r for r in waits)
        dut.wait_event_i.value = join([waits.get(r, (0, 0))[0] for r in everyone], 8)
        dut.wait_amount_i.value = join([waits.get(r, (0, 0))[1] for r in everyone], 8)
        await self.settle()
        # lowest index first; one signal and one wait per cycle; a full counter holds its signallers only
        signal = next((r for r in sorted(signals) if self.count[signals[r]] < FULL), None)
        grant = next((r for r in sorted(waits) if self.count[waits[r][0]] >= waits[r][1]), None)
        assert int(dut.signal_ready_o.value) == (0 if signal is None else 1 << signal), (
            f"{requests} {self.count}"
        )
        assert int(dut.wait_grant_o.value) == (0 if grant is None else 1 << grant), f"{requests} {self.count}"
        if signal is not None:
            self.count[signals.pop(signal)] += 1
        if grant is not None:
            event, amount = waits.pop(grant)
            self.count[event] -= amount
            self.granted += 1
        await self.drive()


async def traffic(tb: TB, rng: np.random.Generator, idle: str, stall: str, cycles: int, events: int) -> None:
    """Signal and wait at random on the first `events` events."""
    pauses = [pattern(idle, "signal", r) for r in range(tb.requesters)]
    stalls = [pattern(stall, "wait", r) for r in range(tb.requesters)]
    requests = Requests()
    for _ in range(cycles):
        for r in range(tb.requesters):
            if r not in requests.signals and not next(pauses[r]):
                requests.signals[r] = int(rng.integers(0, events))
            if r not in requests.waits and not next(stalls[r]):
                requests.waits[r] = (int(rng.integers(0, events)), int(rng.choice([0, 1, 1, 2, 3, 5])))
        await tb.step(requests)


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS, stall=PATTERNS, events=[2, 16])
async def semaphores(dut: Any, idle: str, stall: str, events: int) -> None:
    """Signals and waits are served in the documented order; no count is lost or taken twice."""
    tb = TB(dut)
    await tb.start()
    await traffic(tb, make_rng(idle, stall, events), idle, stall, 300, events)
    assert tb.granted > 0


@cocotb.test()
async def overflow(dut: Any) -> None:
    """A full counter holds its signallers and no other; a wait for 255 frees it."""
    tb = TB(dut)
    await tb.start()
    for event in (0, 5, tb.events - 1):
        for _ in range(FULL):
            await tb.step(Requests(signals={0: event}))
        requests = Requests(signals={0: event, 1: event, 3: (event + 1) % tb.events})
        await tb.step(requests)
        assert requests.signals.keys() == {0, 1}
        await tb.step(requests)
        assert requests.signals.keys() == {0, 1}
        requests.waits[2] = (event, FULL)
        await tb.step(requests)
        assert not requests.waits
        await tb.step(requests)
        await tb.step(requests)
        assert not requests.signals
        assert tb.count[event] == 2


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear"], idle=PATTERNS)
async def broken_off(dut: Any, how: str, idle: str) -> None:
    """A reset or clear sets all counters to zero, whatever is served in that cycle."""
    tb = TB(dut)
    await tb.start()
    rng = make_rng(how, idle)
    for _ in range(5):
        await traffic(tb, rng, idle, "bursts", int(rng.integers(1, 60)), tb.events)
        await tb.break_off(how)
        tb.forget()
        for event in range(tb.events):  # no counter has a count left
            requests = Requests(waits={0: (event, 1)})
            await tb.step(requests)
            assert requests.waits


@pytest.mark.parametrize(("requesters", "events"), [(6, 16)])
@pytest.mark.rtl
def test_events_are_semaphores(requesters: int, events: int) -> None:
    """Every cocotb test of this module."""
    block = Block("tb_events", ["npu_events.sv"], {"Requesters": requesters, "Events": events})
    run(block, __name__, ["semaphores", "overflow", "broken_off"])
