"""Finds set-up and hold times of flops and of clock gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import GatesError
from gates.cells.bench import LOADS_PF, SETTLE_S, SLEWS_NS, Bench, Event, Script
from gates.cells.measured import Constraint, Edges
from gates.cells.selection import ClockGate, FlipFlop
from gates.cells.spice import VDD_V, Transient, Waveforms

CONSTRAINT_SLEWS_NS = (0.0531329, 0.5)
SEARCH_S = (-1.2e-9, 1.6e-9)
SEARCH_STEPS = 9
"""Set-up and hold times are sought in this range by halving it; 5 ps are left."""

DEGRADATION = 1.1
"""A set-up or hold time is met as long as the clock-to-output delay grows by less than this factor."""

QUIET = 0.1
"""Share of the supply that the output of a clock gate that is off stays below: more would be a glitch."""


@dataclass(frozen=True)
class Search:
    """One set-up or hold time to be measured, of a rising or falling edge of the cell's data pin."""

    hold: bool
    rise: bool
    clock_slew_ns: float
    data_slew_ns: float

    @property
    def value(self) -> bool:
        """What the cell takes over: data before the edge of a hold time, after that of a set-up time."""
        return self.rise != self.hold

    def transient(self, cell: FlipFlop | ClockGate, offset_s: float | None) -> tuple[Transient, Event]:
        """Return the run in which data arrives this long before the clock, or leaves this long after it.

        Args:
            offset_s: None stands for very long.
        """
        asynchronous = cell.asynchronous if isinstance(cell, FlipFlop) else None
        others = {asynchronous: True} if asynchronous else {}
        script = Script({"CLK": False, cell.data: not self.value} | others)
        for _ in range(2):
            script.edge("CLK", SLEWS_NS[0], SETTLE_S)
        clock_s = script.now_s + 4e-9
        middle = {"clock": clock_s, "data": clock_s - 3e-9}
        if offset_s is not None and not self.hold:
            middle["data"] = clock_s - offset_s
        half = {"clock": self.clock_slew_ns * 0.5e-9 / 0.6, "data": self.data_slew_ns * 0.5e-9 / 0.6}
        low, high = VDD_V * (not self.value), VDD_V * self.value
        data = script.corners[cell.data]
        data += [(middle["data"] - half["data"], low), (middle["data"] + half["data"], high)]
        if offset_s is not None and self.hold:
            leaves = max(clock_s + offset_s - half["data"], middle["data"] + half["data"] + 1e-12)
            data += [(leaves, high), (leaves + 2 * half["data"], low)]
        script.corners["CLK"] += [(clock_s - half["clock"], 0.0), (clock_s + half["clock"], VDD_V)]
        end_s = clock_s + half["clock"] + 3e-9
        script.now_s = end_s
        event = Event("CLK", True, clock_s - half["clock"], clock_s, end_s)
        return script.transient(cell.output, LOADS_PF[1]), event

    def delay(self, cell: FlipFlop | ClockGate, event: Event, waves: Waveforms) -> float:
        """Return the delay from the clock, in ns; infinite where the cell takes over the wrong value.

        A clock gate that takes over a 0 has no delay: 1 as long as its output stays down.
        """
        if isinstance(cell, ClockGate) and not self.value:
            during = (waves.time_s > event.start_s) & (waves.time_s < event.end_s)
            quiet = waves.voltages[cell.output][during].max() < QUIET * VDD_V
            return 1.0 if quiet else np.inf
        right = abs(waves.voltage(cell.output, event.end_s - 1e-12) - VDD_V * self.value) < 0.1 * VDD_V
        return event.delay_ns(waves, cell.output) if right else np.inf


def constraints(bench_: Bench) -> tuple[Constraint, ...]:
    """Find set-up and hold times of the data pin by halving a range, all of them side by side.

    Raises:
        GatesError: ngspice fails, or a time lies outside the range.
    """
    cell = bench_.cell
    assert isinstance(cell, FlipFlop | ClockGate)
    searches = [
        Search(hold, rise, clock_slew, data_slew)
        for hold in (False, True)
        for rise in (True, False)
        for clock_slew in CONSTRAINT_SLEWS_NS
        for data_slew in CONSTRAINT_SLEWS_NS
    ]

    def delays(offsets: Sequence[float | None]) -> list[float]:
        runs = [search.transient(cell, offset) for search, offset in zip(searches, offsets, strict=True)]
        waves = bench_.run([run for run, _ in runs])
        return [
            search.delay(cell, event, wave)
            for search, (_, event), wave in zip(searches, runs, waves, strict=True)
        ]

    nominal = delays([None] * len(searches))
    fails = np.full(len(searches), SEARCH_S[0])
    meets = np.full(len(searches), SEARCH_S[1])
    for _ in range(SEARCH_STEPS):
        middle = (fails + meets) / 2
        good = np.array(delays(list(middle))) < DEGRADATION * np.array(nominal)
        meets, fails = np.where(good, middle, meets), np.where(good, fails, middle)
    if not np.isfinite(nominal).all() or (meets == SEARCH_S[1]).any():
        raise GatesError(f"{cell.name}: a set-up or hold time lies outside {SEARCH_S} s")
    shape = (2, 2, len(CONSTRAINT_SLEWS_NS), len(CONSTRAINT_SLEWS_NS))
    times_ns = meets.reshape(shape) * 1e9
    return tuple(
        Constraint(kind, Edges(times_ns[number, 0], times_ns[number, 1]))
        for number, kind in enumerate(("setup_rising", "hold_rising"))
    )
